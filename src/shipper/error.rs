//! Why a block did not go up.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::block::BlockError;
use crate::bucket::BucketError;
use crate::foundation::verdict::Verdict;
use crate::model::BlockId;

/// Why a block did not go up; the text carries every cause, as it is shown on one line.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShipError {
    /// Blocks of several appliances in one bucket are told apart by these labels.
    #[error("ship blocks: no external labels are set, so nobody could tell whose blocks these are")]
    NoExternalLabels,
    /// The local directory cannot be read or its state not written.
    #[error("{action} {}: {cause}", path.display())]
    Local {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The local block is damaged.
    #[error("ship block {block}: {cause}")]
    Damaged {
        /// The block.
        block: BlockId,
        /// What is wrong with it.
        cause: BlockError,
    },
    /// The bucket refused or did not answer.
    #[error("ship block {block}: {}", cause.chain())]
    Bucket {
        /// The block.
        block: BlockId,
        /// What the bucket said.
        cause: BucketError,
    },
    /// After the upload the bucket holds something else.
    #[error("ship block {block}: {file} has {local} bytes here and {remote:?} in the bucket")]
    Unequal {
        /// The block.
        block: BlockId,
        /// The file.
        file: String,
        /// Its size here.
        local: u64,
        /// Its size there, if it is there.
        remote: Option<u64>,
    },
    /// The bucket refused a part of the log or did not answer.
    #[error("ship the log: {}", cause.chain())]
    LogBucket {
        /// What the bucket said.
        cause: BucketError,
    },
    /// An object of the log is not what it must be.
    #[error("ship the log: {key}: {problem}")]
    Log {
        /// The object.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A part of the log does not count, because one before it did not get there.
    #[error("ship the log: {key}: what comes before it did not get there")]
    LogBehind {
        /// The part.
        key: String,
    },
    /// The log cannot be restored like this.
    #[error("restore: {problem}")]
    Restore {
        /// What is in the way, and the way out.
        problem: String,
    },
}

impl ShipError {
    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::NoExternalLabels | Self::Restore { .. } => Verdict::Refuse,
            Self::LogBucket { cause } => cause.verdict(),
            Self::Local { .. }
            | Self::Unequal { .. }
            | Self::Log { .. }
            | Self::LogBehind { .. } => Verdict::RetryAfter(Duration::from_secs(30)),
            Self::Damaged { .. } => Verdict::Quarantine,
            Self::Bucket { cause, .. } => cause.verdict(),
        }
    }
}
