//! Samples in, chunk bytes out, and back.
//!
//! Owns: the chunk encodings and the files that hold them (see `FORMAT.md`).
//! Never: knows a label, or asks what time it is.
//! Tested by: golden bytes, round trips and truncations beside each encoding.
#![doc = include_str!("FORMAT.md")]
pub mod bits;
mod decode;
mod edit;
mod error;
#[cfg(test)]
mod tests;
pub mod varbit;
mod xor;
mod xor2;

pub use decode::{decode_floats, n_samples};
pub use edit::{EncodedChunk, SAMPLES_PER_CHUNK, encode_floats, with_n_samples, without_intervals};
pub use error::ChunkError;
pub use xor::{XorAppender, XorIter};
pub use xor2::Xor2Iter;
