//! Why the bucket's blocks could not be brought up to date.

use std::time::Duration;

use thiserror::Error;

use crate::bucket::BucketError;
use crate::foundation::verdict::Verdict;

/// Why a sync ended early; what was loaded before stays loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The bucket cannot be listed or read; the text carries every cause, as it is shown on one line.
    #[error("sync blocks of the bucket: {}", .0.chain())]
    Bucket(BucketError),
}

impl From<BucketError> for GatewayError {
    fn from(error: BucketError) -> Self {
        Self::Bucket(error)
    }
}

impl GatewayError {
    /// What to do about it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Bucket(error) => match error.verdict() {
                // One object, among all blocks: the next sync looks again.
                Verdict::Missing | Verdict::Quarantine => {
                    Verdict::RetryAfter(Duration::from_secs(30))
                }
                verdict @ (Verdict::RetryAfter(_) | Verdict::Refuse) => verdict,
            },
        }
    }
}
