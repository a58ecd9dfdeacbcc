//! Why a scrape fails.

use thiserror::Error;

use crate::exposition::{NegotiationError, ParseError};
use crate::model::LabelsError;
use crate::scrape::client::FetchError;
use crate::storage::AppendError;

/// Why a scrape gave nothing. The texts are Prometheus' where it has one.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// Nothing was fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The format of the answer is not known.
    #[error(transparent)]
    Format(#[from] NegotiationError),
    /// The answer is not in its format.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A series is without a name.
    #[error("missing metric name (__name__ label)")]
    NoName,
    /// A name that is not allowed.
    #[error("invalid metric name or label names: {0}")]
    Names(String),
    /// A label set that is none.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// More samples than `sample_limit`.
    #[error("sample limit exceeded")]
    SampleLimit,
    /// A native histogram with more buckets than `native_histogram_bucket_limit`, even at the coarsest.
    #[error("histogram bucket limit exceeded")]
    BucketLimit,
    /// One of the label limits.
    #[error("{0}")]
    LabelLimit(String),
    /// More targets than `target_limit`.
    #[error("target_limit exceeded (number of targets: {n_targets}, limit: {limit})")]
    TargetLimit {
        /// Targets of the job.
        n_targets: usize,
        /// As configured.
        limit: usize,
    },
    /// The database takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The work panicked; the next scrape starts over.
    #[error("scrape work panicked")]
    Panicked,
}
