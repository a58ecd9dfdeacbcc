//! Why the log could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::foundation::ShortRead;

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
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
