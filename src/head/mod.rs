//! The newest samples.
//!
//! Owns: the series map, append with its four refusals, isolation, chunk cutting, truncation, replay.
//! Never: deletes a block or talks to a bucket.
//! Tested by: model and crash tests beside the code.
