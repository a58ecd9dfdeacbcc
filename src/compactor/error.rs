//! Why a piece of the compactor's work was not done.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::block::BlockError;
use crate::bucket::BucketError;
use crate::compact::CompactError;
use crate::foundation::Verdict;
use crate::model::BlockId;

/// Everything that goes wrong in this room; the text carries every cause, as it is shown on one line.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompactorError {
    /// The bucket refused or did not answer.
    #[error("{}", .0.chain())]
    Bucket(#[from] BucketError),
    /// Blocks did not become one.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// A block of the bucket is not what it must be.
    #[error("block {block}: {problem}")]
    Damaged {
        /// Which.
        block: BlockId,
        /// What is wrong with it.
        problem: String,
    },
    /// What was written is not what can be read: it is thrown away, and its sources stay.
    #[error("read back block {block}: {problem}")]
    ReadBack {
        /// The new block.
        block: BlockId,
        /// What is wrong with it.
        problem: String,
    },
    /// The scratch directory cannot be used.
    #[error("{action} {}: {source}", path.display())]
    Local {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A local file of the result cannot be read.
    #[error("read the block that was made: {0}")]
    Result(BlockError),
    /// The threads that do it take no more work, or it panicked there.
    #[error("{0}")]
    Threads(String),
    /// Somebody asked to stop.
    #[error("canceled")]
    Canceled,
}

impl CompactorError {
    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        let soon = Verdict::RetryAfter(Duration::from_mins(1));
        match self {
            Self::Bucket(error) => match error.verdict() {
                Verdict::Missing | Verdict::Quarantine => soon,
                verdict @ (Verdict::RetryAfter(_) | Verdict::Refuse) => verdict,
            },
            Self::Compact(error) => error.verdict(),
            Self::Damaged { .. } => Verdict::Quarantine,
            Self::ReadBack { .. } | Self::Local { .. } | Self::Result(_) | Self::Threads(_) => soon,
            Self::Canceled => Verdict::RetryAfter(Duration::ZERO),
        }
    }

    /// The block that is to blame, where one is, and what is wrong with it.
    pub fn culprit(&self) -> Option<(BlockId, String)> {
        match self {
            Self::Damaged { block, problem } => Some((*block, problem.clone())),
            Self::Compact(CompactError::Source { block, source })
                if source.verdict() == Verdict::Quarantine =>
            {
                Some((*block, source.to_string()))
            }
            Self::Bucket(_)
            | Self::Compact(_)
            | Self::ReadBack { .. }
            | Self::Local { .. }
            | Self::Result(_)
            | Self::Threads(_)
            | Self::Canceled => None,
        }
    }

    pub(crate) fn local(
        action: &'static str,
        path: &std::path::Path,
        source: std::io::Error,
    ) -> Self {
        Self::Local {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
