//! Why the log could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::foundation::ShortRead;
use crate::foundation::durable::is_full;
use crate::foundation::file_system::free_bytes;

/// Everything that goes wrong in this room.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalError {
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
    /// An earlier write or fsync failed: what is on disk after it is unknown, so nothing more is written.
    #[error(
        "the log takes no more records since {0}; free space or replace the disk, then restart"
    )]
    Poisoned(String),
    /// There is no room for more; what was written of the records is cut off again.
    #[error(
        "the disk is full: {n_bytes_free} bytes are free for {} ({source}); the samples are refused and those before them \
         are safe; make room, and writing goes on by itself", dir.display()
    )]
    Full {
        /// The directory of the log.
        dir: PathBuf,
        /// What this process may still use there.
        n_bytes_free: u64,
        /// What was tried.
        source: Box<WalError>,
    },
    /// One record would be longer than a reader accepts.
    #[error("record of {bytes} bytes is longer than the limit of {limit}; send smaller requests")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// The compressor failed.
    #[error("compressing a record: {0}")]
    Compress(String),
    /// A record body that does not decode.
    #[error("record: {0}")]
    Record(#[from] ShortRead),
    /// A record body with an impossible value.
    #[error("record: {what} at offset {offset} is {value}")]
    Value {
        /// The field.
        what: &'static str,
        /// Where in the body.
        offset: usize,
        /// What stands there.
        value: String,
    },
}

impl WalError {
    /// Whether there was no room, which may come back.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => is_full(source),
            Self::Poisoned(_)
            | Self::TooLong { .. }
            | Self::Compress(_)
            | Self::Record(_)
            | Self::Value { .. } => false,
        }
    }

    pub(crate) fn full(dir: &Path, source: Self) -> Self {
        Self::Full {
            dir: dir.to_owned(),
            n_bytes_free: free_bytes(dir).unwrap_or(0),
            source: Box::new(source),
        }
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
