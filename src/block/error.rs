//! What can be wrong with a block.

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::chunk::ChunkError;
use crate::foundation::verdict::Verdict;
use crate::index::IndexError;
use crate::storage::StorageError;

/// Why a block could not be read or made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A file of the block cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `meta.json` does not say what it must.
    #[error("{}: {problem}", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where the text is no JSON.
        problem: String,
    },
    /// A file is damaged at one place.
    #[error("{}: offset {offset}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The index cannot be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A chunk cannot be read or written.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The series that were to be written did not come.
    #[error("read series for a block: {0}")]
    Source(#[from] StorageError),
}

impl BlockError {
    pub(super) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// What the owner of the block does about it.
    pub fn verdict(&self) -> Verdict {
        let retry = Verdict::RetryAfter(Duration::from_mins(1));
        match self {
            Self::File { source, .. }
            | Self::Index(IndexError::File { source, .. })
            | Self::Chunk(ChunkError::File { source, .. }) => {
                // A file that a block must have is missing for good; anything else may pass.
                if source.kind() == std::io::ErrorKind::NotFound {
                    Verdict::Quarantine
                } else {
                    retry
                }
            }
            Self::Meta { .. } | Self::Damaged { .. } | Self::Index(_) | Self::Chunk(_) => {
                Verdict::Quarantine
            }
            Self::Source(StorageError::Corrupt(_)) => Verdict::Quarantine,
            Self::Source(_) => retry,
        }
    }
}
