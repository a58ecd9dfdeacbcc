//! Remote write wire bytes to samples.
//!
//! Owns: the readers of remote write 1.0 and 2.0, which copy no label, their limits, what is refused and in which
//! words; the encoder.
//! Never: opens a socket, reads a clock, or keeps a series.
//! Tested by: hand-made requests, truncations and bit flips beside the reader.
mod append;
mod encode;
mod message;
mod read;
mod refusal;
mod snappy;
mod symbols;
mod usual;

#[cfg(test)]
mod rich_tests;
#[cfg(test)]
mod tests;

pub use crate::foundation::proto::ProtoError;
pub use append::{WriteError, WriteLimits, append_write_request};
pub use encode::WriteRequestEncoder;
pub use read::{
    ExemplarMessage, MetadataMessage, RequestItem, RequestReader, SeriesExtras, SeriesReader,
    WriteVersion,
};
pub use refusal::{Refusal, RefusalKind, WriteReport};
pub use snappy::{SnappyError, compress, decompress};
