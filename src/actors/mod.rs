//! WHO DOES IT, AND WHEN.
//!
//! Owns: one actor a file, its messages at the top.
//! Never: computes for more than a millisecond, or formats an answer.
//! Tested by: panics, full gates and shutdown order, in virtual time.
