//! The local database and the timeline.
//!
//! Owns: head and local blocks under one directory lock; the one snapshot a query reads.
//! Never: speaks a protocol.
//! Tested by: the seams: a sample is seen once while its block moves.
