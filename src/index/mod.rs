//! Label pairs to postings to series to chunk references.
//!
//! Owns: the block index, versions 1 to 3 read and 2 written, and the index header (see `FORMAT.md`).
//! Never: decodes a chunk or asks what time it is.
//! Tested by: golden bytes, round trips, truncations and bit flips beside the code.
