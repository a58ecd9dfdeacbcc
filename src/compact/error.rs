//! Why blocks were not made one.

use thiserror::Error;

use crate::block::BlockError;
use crate::chunk::ChunkError;
use crate::foundation::verdict::Verdict;
use crate::model::BlockId;

/// Everything that goes wrong in this room.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompactError {
    /// A source cannot be read.
    #[error("compact block {block}: {source}")]
    Source {
        /// Which one.
        block: BlockId,
        /// What is wrong with it.
        source: BlockError,
    },
    /// Chunks that overlap do not decode, though their checksums hold.
    #[error("join chunks that overlap: {0}")]
    Overlap(ChunkError),
    /// The result cannot be written.
    #[error("write compacted block: {0}")]
    Result(BlockError),
    /// Somebody asked to stop.
    #[error("compaction was canceled")]
    Canceled,
}

impl CompactError {
    /// What the owner of the sources does about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Source { source, .. } => source.verdict(),
            // What is wrong with the result says nothing about the sources.
            Self::Result(_) => Verdict::RetryAfter(std::time::Duration::from_mins(1)),
            Self::Overlap(_) => Verdict::Quarantine,
            Self::Canceled => Verdict::RetryAfter(std::time::Duration::ZERO),
        }
    }

    /// The one source that is to blame, where it is one.
    pub fn culprit(&self) -> Option<BlockId> {
        match self {
            Self::Source { block, .. } => Some(*block),
            Self::Overlap(_) | Self::Result(_) | Self::Canceled => None,
        }
    }
}
