//! How samples go in.

use thiserror::Error;

use crate::model::{Labels, LabelsError, Metadata, SeriesKey, TimestampMs};

/// A series of one database, for as long as that database is open and the series has recent samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// Why a sample was not taken. The first four are the four refusals; their texts are Prometheus'.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Older than the newest sample of the series.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than anything the head still takes.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the out-of-order window.
    #[error("too old sample")]
    TooOld,
    /// Another value at the time of the newest sample.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// The reference names no series, or one that was dropped; send the labels again.
    #[error("unknown series reference")]
    UnknownSeries,
    /// The labels are no label set.
    #[error("invalid labels: {0}")]
    Labels(#[from] LabelsError),
    /// A label set without labels.
    #[error("empty label set")]
    EmptyLabels,
    /// The log could not be written; nothing of this transaction was taken.
    #[error("write ahead log: {0}")]
    Wal(String),
    /// The database is closed or poisoned.
    #[error("database takes no samples: {0}")]
    Closed(String),
}

/// One transaction. Nothing is visible before [`Appender::commit`]; dropping it rolls back.
pub trait Appender: Send {
    /// The series of `key`, made from `labels` when it is new. `key` must be the key of those labels.
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError>;

    /// Stages one float. A refusal concerns this sample only.
    fn append(&mut self, series: SeriesRef, t: TimestampMs, v: f64) -> Result<(), AppendError>;

    /// Notes what the target says about the metric of `series`.
    fn metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError>;

    /// Labels and float in one call.
    fn append_labels(
        &mut self,
        labels: &Labels,
        t: TimestampMs,
        v: f64,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.series(labels.key(), &mut || Ok(labels.clone()))?;
        self.append(series, t, v)?;
        Ok(series)
    }

    /// Writes the log, then makes every staged sample visible. Samples that lost a race are dropped and counted.
    fn commit(self: Box<Self>) -> Result<(), AppendError>;

    /// Forgets everything staged.
    fn rollback(self: Box<Self>);
}

/// Where transactions come from.
pub trait Appendable: Send + Sync {
    /// Begins a transaction.
    fn appender(&self) -> Box<dyn Appender + '_>;
}
