//! Records to pages to segments, and back.
//!
//! Owns: the write-ahead log: record bodies, pages, segments, repair, checkpoint files (see `FORMAT.md`).
//! Never: interprets a sample or deletes a segment on its own.
//! Tested by: golden bytes, every truncation of a segment, and the crash tests.
