//! Why the database could not be opened or changed.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error as ThisError;

use crate::block::BlockError;
use crate::compact::CompactError;
use crate::foundation::durable::is_full;
use crate::head::HeadError;
use crate::storage::StorageError;

/// Everything that goes wrong in this room.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum TsdbError {
    /// The file system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{} is in use by another process (its lock file is held); stop that one first", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// Not while the log is replayed.
    #[error("the log is being replayed: {what} once /-/ready says that it is done")]
    Replaying {
        /// What was asked for.
        what: &'static str,
    },
    /// The head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A compaction.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// A block.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl TsdbError {
    /// Whether the disk had no room.
    pub fn is_full(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(is_full) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Whether it was given up because the process is about to end.
    pub fn is_canceled(&self) -> bool {
        matches!(
            self,
            Self::Compact(CompactError::Canceled)
                | Self::Block(BlockError::Source(StorageError::Canceled))
        )
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
