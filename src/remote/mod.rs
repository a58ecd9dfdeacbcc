//! Remote write wire bytes to samples.
//!
//! Owns: the zero-copy reader of remote write 1.0 and its limits.
//! Never: opens a socket, reads a clock, or keeps a series.
//! Tested by: hand-made requests, truncations and bit flips beside the reader.
