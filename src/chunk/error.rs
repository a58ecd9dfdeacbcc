//! What can be wrong with a chunk.

use std::path::PathBuf;

use thiserror::Error;

use crate::foundation::ShortRead;
use crate::model::{Aggregate, Encoding};

/// Why chunk bytes could not be read or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// A field before the bit stream is missing.
    #[error("chunk header: {0}")]
    Header(#[from] ShortRead),
    /// The bit stream ends before the samples that the header promises.
    #[error("chunk of {n_bytes} bytes ends inside sample {sample} of {n_samples}")]
    Short {
        /// Which sample, from zero.
        sample: usize,
        /// How many the header promises.
        n_samples: usize,
        /// Length of the chunk.
        n_bytes: usize,
    },
    /// A value's window does not fit 64 bits.
    #[error(
        "sample {sample}: a window of {leading} leading and {significant} significant bits exceeds 64"
    )]
    Window {
        /// Which sample, from zero.
        sample: usize,
        /// Leading zero bits.
        leading: u32,
        /// Significant bits.
        significant: u32,
    },
    /// The chunk holds native histograms.
    #[error("chunk encoding {0:?} holds native histograms, not floats")]
    NotFloats(Encoding),
    /// The chunk holds floats.
    #[error("chunk encoding {0:?} holds floats, not native histograms")]
    NotHistograms(Encoding),
    /// The chunk holds aggregates, not samples.
    #[error(
        "a chunk of aggregates has no samples of its own: one of its aggregates must be chosen"
    )]
    Aggregates,
    /// A part of a chunk of aggregates says that it is one too.
    #[error("aggregate {} is itself a chunk of aggregates", .0.name())]
    NestedAggregate(Aggregate),
    /// The buckets of a histogram chunk make no sense.
    #[error("layout of histogram buckets: {problem}")]
    Layout {
        /// What is wrong.
        problem: &'static str,
    },
    /// The encoding byte is none that is known.
    #[error("unknown chunk encoding {0}")]
    UnknownEncoding(u8),
    /// Stored and computed CRC-32C differ.
    #[error("checksum is {computed:08x} but {stored:08x} was stored")]
    Checksum {
        /// As the file says.
        stored: u32,
        /// As the bytes say.
        computed: u32,
    },
    /// The first bytes are not those of a head chunk file of a known version.
    #[error("magic number {magic:08x}, version {version}: not a head chunk file of version 1")]
    HeadFileHeader {
        /// As found.
        magic: u32,
        /// As found.
        version: u8,
    },
    /// No further sample fits the count in the header.
    #[error("chunk is full: it holds {0} samples")]
    Full(usize),
    /// A file of chunks is damaged at one place.
    #[error("{}: offset {offset}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A file of chunks cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
