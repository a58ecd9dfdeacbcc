//! Why a block was not downsampled.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use crate::block::BlockError;
use crate::bucket::BucketError;
use crate::chunk::ChunkError;
use crate::foundation::verdict::Verdict;
use crate::model::{Aggregate, BlockId, IncompatibleSchemas};

/// Everything that goes wrong in this room.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownsampleError {
    /// The source cannot be read.
    #[error("downsample block {block}: {source}")]
    Source {
        /// Which one.
        block: BlockId,
        /// What is wrong with it.
        source: BlockError,
    },
    /// The samples of a series are not what their chunks say.
    #[error("downsample block {block}: series {series}: {flaw}")]
    Series {
        /// Which block.
        block: BlockId,
        /// Which of its series.
        series: u32,
        /// What is wrong with it.
        flaw: SeriesFlaw,
    },
    /// There is nothing coarser, or nobody knows how coarse it is.
    #[error(
        "downsample block {block}: its resolution is {resolution_ms} ms, and only 0 and 300000 become coarser"
    )]
    Resolution {
        /// Which one.
        block: BlockId,
        /// What its meta.json says.
        resolution_ms: i64,
    },
    /// The result cannot be written.
    #[error("write downsampled block: {0}")]
    Result(BlockError),
    /// The result was written and is not as it should be.
    #[error("downsampled block {block} was read back and is damaged: {problem}")]
    Unhealthy {
        /// The result's name; its directory is gone.
        block: BlockId,
        /// The first thing that is wrong.
        problem: String,
    },
    /// The bucket does not give the source, or does not take the result.
    #[error("downsample block {block}: {}", source.chain())]
    Bucket {
        /// Which one.
        block: BlockId,
        /// What the bucket said.
        source: BucketError,
    },
    /// Somebody asked to stop.
    #[error("downsampling was canceled")]
    Canceled,
}

/// What is wrong with one series.
#[derive(Debug, Error)]
pub enum SeriesFlaw {
    /// A chunk does not decode.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// Buckets that cannot be added.
    #[error("histograms of listed and of computed buckets cannot be added")]
    Histograms,
    /// Aggregates of the same samples end at other times.
    #[error("aggregates count and {} have other windows", .0.name())]
    Unaligned(Aggregate),
}

impl From<IncompatibleSchemas> for SeriesFlaw {
    fn from(_: IncompatibleSchemas) -> Self {
        Self::Histograms
    }
}

impl DownsampleError {
    /// The directory in which blocks are worked on cannot be made.
    pub fn scratch(block: BlockId, path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        Self::Source {
            block,
            source: BlockError::File { path, source },
        }
    }

    /// What the owner of the source does about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Source { source, .. } => source.verdict(),
            Self::Bucket { source, .. } => source.verdict(),
            Self::Series { .. } => Verdict::Quarantine,
            Self::Resolution { .. } => Verdict::Refuse,
            // What is wrong with the result says nothing about the source.
            Self::Result(_) | Self::Unhealthy { .. } => Verdict::RetryAfter(Duration::from_mins(1)),
            Self::Canceled => Verdict::RetryAfter(Duration::ZERO),
        }
    }
}
