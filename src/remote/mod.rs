//! Remote write wire bytes to samples.
//!
//! Owns: the zero-copy reader of remote write 1.0, its limits, what is refused and in which words; the encoder.
//! Never: opens a socket, reads a clock, or keeps a series.
//! Tested by: hand-made requests, truncations and bit flips beside the reader.
mod append;
mod encode;
mod read;
mod snappy;

#[cfg(test)]
mod tests;

pub use crate::foundation::proto::ProtoError;
pub use append::{
    FUTURE_MS_MAX, Refusal, RefusalKind, WriteError, WriteLimits, WriteReport, append_write_request,
};
pub use encode::WriteRequestEncoder;
pub use read::{MetadataMessage, RequestItem, RequestReader, SeriesExtras, SeriesReader};
pub use snappy::{SnappyError, compress, decompress};
