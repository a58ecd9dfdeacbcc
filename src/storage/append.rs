//! How samples go in.

use std::sync::Arc;

use thiserror::Error;

use crate::model::{
    Counts, EXEMPLAR_CHARS_MAX, Exemplar, Histogram, HistogramError, Labels, LabelsError, Metadata,
    SampleTime, SeriesKey, Spelling, TimestampMs,
};

/// A series of one database, for as long as that database is open and the series has recent samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// Set in references to series of a young head.
const YOUNG: u64 = 1 << 63;

impl SeriesRef {
    /// A series of the young head of a database, which takes samples while the log is replayed. No other head knows the
    /// reference.
    pub fn young(series: u64) -> Self {
        Self(series | YOUNG)
    }

    /// Its number there, if it is one of those.
    pub fn of_young(self) -> Option<u64> {
        (self.0 & YOUNG != 0).then_some(self.0 & !YOUNG)
    }
}

/// Why a sample was not taken. The first five concern one sample; their texts begin as Prometheus' do.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Older than the newest sample of the series.
    #[error("out of order sample")]
    OutOfOrder {
        /// Time of the newest sample of the series.
        newest: TimestampMs,
    },
    /// Older than anything the head still takes.
    #[error("out of bounds")]
    OutOfBounds {
        /// The oldest time that is taken.
        oldest: TimestampMs,
    },
    /// Newer than whoever hands samples in believes.
    #[error("out of bounds: timestamp is too far in the future")]
    TooFarAhead {
        /// The newest time that is taken.
        newest: TimestampMs,
    },
    /// Older than the out-of-order window.
    #[error("too old sample")]
    TooOld {
        /// The oldest time that is taken.
        oldest: TimestampMs,
    },
    /// Another value at the time of the newest sample.
    #[error("duplicate sample for timestamp")]
    Duplicate,
    /// Not what a native histogram can be.
    #[error("invalid histogram: {0}")]
    Histogram(#[from] HistogramError),
    /// Older than the newest exemplar of the series.
    #[error("out of order exemplar")]
    OutOfOrderExemplar {
        /// Time of the newest exemplar of the series.
        newest: TimestampMs,
    },
    /// The labels of an exemplar are too long.
    #[error(
        "label length for exemplar exceeds maximum of {EXEMPLAR_CHARS_MAX} UTF-8 characters: {n_chars}"
    )]
    ExemplarLabels {
        /// Characters of all names and values.
        n_chars: usize,
    },
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

    /// Finds series by how a sender writes their labels, as far as [`Appender::learn`] has said it; pushes one entry for
    /// each. They are then expected in this order, as by [`Appender::expect`].
    fn by_spelling(&mut self, spellings: &[Spelling], found: &mut Vec<Option<SeriesRef>>) {
        found.extend(spellings.iter().map(|_| None));
    }

    /// `spelling` is how a sender writes the labels of `series`.
    fn learn(&mut self, _spelling: Spelling, _series: SeriesRef) {}

    /// Samples of these series come next, in this order. Whoever says so helps to look them up together; nothing depends
    /// on whether it is true.
    fn expect(&mut self, _series: &[SeriesRef]) {}

    /// Stages one float. A refusal concerns this sample only.
    fn append(&mut self, series: SeriesRef, t: TimestampMs, v: f64) -> Result<(), AppendError> {
        self.append_at(series, SampleTime::from(t), v)
    }

    /// Stages one float that may say since when it counts.
    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError>;

    /// Stages one native histogram; with whole counts only if it has them.
    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError>;

    /// From now on a sample that would come out of order is refused even where the database takes those, and is not
    /// counted as refused: what marks the end or the beginning of a series is worth nothing behind newer samples.
    fn discard_out_of_order(&mut self, discards: bool);

    /// Notes an observation behind a sample of `series`. One that is known already is taken silently.
    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError>;

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
