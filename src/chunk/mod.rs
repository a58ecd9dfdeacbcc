//! Samples in, chunk bytes out, and back.
//!
//! Owns: the chunk encodings and the segment files that hold them (see `FORMAT.md`).
//! Never: knows a label, or asks what time it is.
//! Tested by: golden bytes, round trips and truncations beside each encoding.
