//! Native histograms in chunks: encodings 2, 3, 5 and 6.
//!
//! Owns: the layout of buckets at the head of such a chunk, the streams behind it, and what may share a chunk.
//! Never: computes with histograms beyond asking whether a bucket fell.
//! Tested by: `tests.rs` (golden bytes of Prometheus' own writer, round trips, damage) and the tests beside each part.
mod append;
mod lane;
mod lanes;
mod layout;
mod read;
mod sameness;
#[cfg(test)]
mod tests;

pub use append::{HistogramAppender, ResetHeader};
pub(super) use read::HistogramIter;
