//! Why something was not done to a block.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::block::BlockError;
use crate::bucket::BucketError;
use crate::compact::CompactError;
use crate::model::BlockId;

/// Everything that goes wrong in this room.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The bucket did not do it.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A block cannot be read or written here.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A block could not be made of another.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// A file or directory of this machine.
    #[error("{action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It would do harm, or makes no sense.
    #[error("block {block}: {reason}")]
    Refused {
        /// Which block.
        block: BlockId,
        /// Why.
        reason: String,
    },
}

impl MaintenanceError {
    pub(crate) fn refused(block: BlockId, reason: impl Into<String>) -> Self {
        Self::Refused {
            block,
            reason: reason.into(),
        }
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
