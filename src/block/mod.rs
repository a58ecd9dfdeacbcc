//! An immutable directory of series.
//!
//! Owns: meta.json, tombstones, the block reader and writer, merging and verifying (see `FORMAT.md`).
//! Never: changes a block after its meta.json is written.
//! Tested by: round trips, damage at every byte, fixtures beside the code.
