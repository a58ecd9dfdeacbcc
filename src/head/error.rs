//! Why the head could not be opened or shortened.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::wal::WalError;

/// Everything that goes wrong here beside a refused sample.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadError {
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
    /// The log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The log takes nothing now.
    #[error("{0}")]
    Refused(String),
    /// The snapshot does not hold what it says; the log does.
    #[error("head snapshot: {0}")]
    Snapshot(String),
    /// A chunk file came out wrong.
    #[error("head chunk files: {0}")]
    ChunkFiles(String),
}
