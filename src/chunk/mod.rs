//! Samples in, chunk bytes out, and back.
//!
//! Owns: the chunk encodings and the files that hold them (see `FORMAT.md`).
//! Never: knows a label, or asks what time it is.
//! Tested by: golden bytes, round trips and truncations beside each encoding.
#![doc = include_str!("FORMAT.md")]
mod aggregate;
pub mod bits;
mod columns;
mod decode;
mod edit;
mod error;
mod head_file;
mod histogram;
mod segment;
mod segment_writer;
mod start_time;
#[cfg(test)]
mod tests;
pub mod varbit;
mod xor;
mod xor2;

pub use crate::model::Counts;
pub use aggregate::{AggregateChunk, AggregatePart};
pub use decode::{
    decode_floats, decode_floats_until, decode_floats_with_starts, decode_histograms,
    decode_histograms_with_starts, decode_times, has_start_times, n_samples,
};
pub use edit::{
    EncodedChunk, HISTOGRAM_CHUNK_BYTES, HISTOGRAM_SAMPLES_MIN, SAMPLES_PER_CHUNK, encode_floats,
    encode_floats_with_starts, encode_histograms, with_n_samples, without_intervals,
};
pub use error::ChunkError;
pub use head_file::{
    HEAD_CHUNK_OUT_OF_ORDER, HEAD_CHUNK_OVERHEAD_BYTES_MAX, HEAD_FILE_BYTES_MAX,
    HEAD_FILE_HEADER_BYTES, HeadChunk, check_head_file_header, encode_head_file_header,
};
pub use histogram::{HistogramAppender, ResetHeader};
pub use segment::{
    CHUNK_OVERHEAD_BYTES_MAX, ChunkRef, RawChunk, SEGMENT_BYTES_MAX, SEGMENT_HEADER_BYTES,
    SegmentReader, StoredChunk, decode_chunk, encode_chunk, header_flaw,
};
pub use segment_writer::{SEGMENT_PART_BYTES, SegmentWriter, WrittenSegment};
pub use xor::{XOR_SAMPLE_BYTES_MAX, XorAppender, XorIter};
pub use xor2::{Xor2Appender, Xor2Iter};
