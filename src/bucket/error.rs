//! What can go wrong with a bucket, and what to do about it.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::foundation::verdict::Verdict;

/// How long to leave a bucket alone that did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a bucket did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BucketError {
    /// No such object.
    #[error("{bucket} has no {key}")]
    NotFound {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
    },
    /// Not a name an object can have.
    #[error("{key:?} is not a name for an object in {bucket}")]
    Key {
        /// The bucket.
        bucket: String,
        /// The name.
        key: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object is larger than what the reader can take.
    #[error("{key} in {bucket} has {size} bytes, at most {size_max} are read")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
        /// Its size.
        size: u64,
        /// The reader's limit.
        size_max: u64,
    },
    /// Fewer bytes than asked for.
    #[error("{key} in {bucket}: {need} bytes at {offset} asked for, {have} came")]
    Short {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
        /// Where the read began.
        offset: u64,
        /// Bytes asked for.
        need: u64,
        /// Bytes that came.
        have: u64,
    },
    /// Credentials or rights do not suffice.
    #[error("{action} {key} in {bucket}: access denied")]
    Denied {
        /// The bucket.
        bucket: String,
        /// What was attempted.
        action: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The settings do not make a bucket.
    #[error("open bucket {bucket}")]
    Settings {
        /// The bucket.
        bucket: String,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file to be uploaded or downloaded could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The local file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store did not answer or did not do it.
    #[error("{action} {key} in {bucket}")]
    Unavailable {
        /// The bucket.
        bucket: String,
        /// What was attempted.
        action: &'static str,
        /// The object.
        key: String,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BucketError {
    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::NotFound { .. } => Verdict::Missing,
            Self::Key { .. } | Self::Denied { .. } | Self::Settings { .. } => Verdict::Refuse,
            Self::TooLarge { .. } | Self::Short { .. } => Verdict::Quarantine,
            Self::File { .. } | Self::Unavailable { .. } => Verdict::RetryAfter(PAUSE),
        }
    }

    /// Is the object simply not there?
    pub fn is_not_found(&self) -> bool {
        self.verdict() == Verdict::Missing
    }

    /// The error and its causes as one sentence.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
