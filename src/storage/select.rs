//! How series come out.

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

use crate::foundation::{Cancel, Pool};
use crate::model::{Encoding, Interval, Labels, Matcher, TimestampMs};
use crate::storage::resolution::{Receipt, ResolutionBounds};
use crate::storage::tally::Tally;
use crate::storage::windows::Windows;

/// Why a source could not answer.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The asker went away or ran out of time.
    #[error("canceled")]
    Canceled,
    /// A limit of the source; the text names limit and amount.
    #[error("{0}")]
    Limit(String),
    /// Bytes that do not decode; the text names file and offset.
    #[error("{0}")]
    Corrupt(String),
    /// The source is not there.
    #[error("{0}")]
    Unavailable(String),
}

/// A run of samples of one series, still encoded.
#[derive(Debug, Clone)]
pub struct ChunkSlice {
    /// Time of the first sample.
    pub min_t: TimestampMs,
    /// Time of the last sample.
    pub max_t: TimestampMs,
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// The chunk's bytes without length, encoding byte and checksum; a slice of a mapped file where there is one.
    pub data: Bytes,
}

/// One series and its chunks.
///
/// Chunks are sorted by `min_t`. They may overlap after a merge; then a reader takes every timestamp once, from the
/// chunk that comes first. Deleted samples are already gone; committed samples only.
#[derive(Debug, Clone)]
pub struct ChunkSeries {
    /// Who.
    pub labels: Labels,
    /// What; empty when only labels were asked for.
    pub chunks: Vec<ChunkSlice>,
}

/// What the query will do with the series, so that a source can do less.
#[derive(Debug, Clone)]
pub struct SelectHints {
    /// Times wanted, closed on both ends. Chunks that touch it come back whole.
    pub interval: Interval,
    /// Where only parts of `interval` matter: chunks that lie in the gaps may be left out.
    pub windows: Option<Windows>,
    /// Only labels are wanted: chunks stay empty.
    pub skip_chunks: bool,
    /// At most this many series; zero means all.
    pub limit: usize,
    /// Series may come in any order, until somebody calls [`SeriesSet::sort`].
    pub any_order: bool,
    /// Distance of evaluations; zero for an instant query.
    pub step_ms: i64,
    /// Length of the range selector; zero for none.
    pub range_ms: i64,
    /// The function or aggregation around the selector, empty for none.
    pub func: String,
    /// All that matters is whether there is a sample less than so many milliseconds before a time that is not a marker of
    /// staleness: where a source has that from nobody else, it may leave out samples and say zero instead of values.
    pub presence_ms: Option<i64>,
    /// How coarse samples may be. Chunks of different resolutions never overlap: each time has one.
    pub resolutions: ResolutionBounds,
    /// Where the source says how coarse they are.
    pub receipt: Receipt,
    /// Raised when nobody waits for the answer any more.
    pub cancel: Cancel,
    /// What sources took for this answer so far.
    pub tally: Tally,
    /// Threads that may help where there is much to collect; without them the asker does it alone.
    pub helpers: Option<Pool>,
}

impl SelectHints {
    /// Everything in `interval`, as it was scraped.
    pub fn new(interval: Interval) -> Self {
        Self {
            interval,
            resolutions: ResolutionBounds::RAW_ONLY,
            receipt: Receipt::default(),
            windows: None,
            skip_chunks: false,
            limit: 0,
            any_order: false,
            step_ms: 0,
            range_ms: 0,
            func: String::new(),
            presence_ms: None,
            cancel: Cancel::new(),
            tally: Tally::default(),
            helpers: None,
        }
    }

    /// For a source that `is_alone` in what it has, the same; for others whole series.
    pub fn whole_unless(&self, is_alone: impl FnOnce() -> bool) -> Cow<'_, Self> {
        if self.presence_ms.is_none() || is_alone() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            presence_ms: None,
            ..self.clone()
        })
    }

    /// All times that matter.
    pub fn times(&self) -> Windows {
        self.windows.unwrap_or_else(|| Windows::of(self.interval))
    }
}

/// Bounds of a question for label names or values.
#[derive(Debug, Clone)]
pub struct LabelHints {
    /// Times wanted, closed on both ends.
    pub interval: Interval,
    /// At most this many; zero means all.
    pub limit: usize,
    /// Raised when nobody waits for the answer any more.
    pub cancel: Cancel,
    /// What sources took for this answer so far.
    pub tally: Tally,
}

impl LabelHints {
    /// Everything in `interval`.
    pub fn new(interval: Interval) -> Self {
        Self {
            interval,
            limit: 0,
            cancel: Cancel::new(),
            tally: Tally::default(),
        }
    }
}

/// Sorted unique names or values, and what could not be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelAnswer {
    /// Sorted, unique.
    pub values: Vec<String>,
    /// Sources that failed while others answered.
    pub warnings: Vec<String>,
}

/// What is asked about labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelQuestion<'a> {
    /// Their names.
    Names,
    /// The values of this one.
    Values(&'a str),
}

impl LabelQuestion<'_> {
    /// What `source` has to say, over series that match.
    pub fn ask(
        self,
        source: &(impl Queryable + ?Sized),
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        match self {
            Self::Names => source.label_names(matchers, hints),
            Self::Values(name) => source.label_values(name, matchers, hints),
        }
    }
}

/// An answer that may still be on its way; the call waits for it.
pub type LabelsComing<'a> = Box<dyn FnOnce() -> Result<LabelAnswer, StorageError> + 'a>;

/// Series in label order, unless [`SelectHints::any_order`] allowed another; each label set once.
pub trait SeriesSet: Send {
    /// The next series, or the end.
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>>;

    /// Puts the series in label order; called before the first `next` or not at all.
    fn sort(&mut self) {}

    /// Is it known that there are no series?
    fn is_empty(&self) -> bool {
        false
    }

    /// What went wrong without ending the answer; complete once `next` has returned `None`.
    fn warnings(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Whoever holds series.
pub trait Queryable: Send + Sync {
    /// Series that match all of `matchers`, in label order.
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError>;

    /// The same for an asker who will turn to other sources before he reads: what has to be waited for may be begun and
    /// left to the first `next`, its errors too.
    fn select_ahead(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.select(matchers, hints)
    }

    /// At most how many series match in `interval`, where that is known at once: without reading anything that lies on a
    /// disk or elsewhere, or walking over series.
    fn series_at_most(&self, _matchers: &[&Matcher], _interval: Interval) -> Option<usize> {
        None
    }

    /// Names of labels of series that match.
    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError>;

    /// Values of label `name` over series that match.
    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError>;

    /// The same for an asker who will turn to other sources before he takes the answer: what has to be waited for may be
    /// begun.
    fn labels_ahead<'a>(
        &'a self,
        question: LabelQuestion<'a>,
        matchers: &'a [Matcher],
        hints: &'a LabelHints,
    ) -> LabelsComing<'a> {
        Box::new(move || question.ask(self, matchers, hints))
    }
}

/// Series that are all there already.
#[derive(Debug, Default)]
pub struct VecSeriesSet {
    series: std::vec::IntoIter<ChunkSeries>,
    warnings: Vec<String>,
}

impl VecSeriesSet {
    /// Sorts by labels; the labels must be unique.
    pub fn new(series: Vec<ChunkSeries>, warnings: Vec<String>) -> Self {
        let mut set = Self::unsorted(series);
        set.sort();
        set.warnings = warnings;
        set
    }

    /// In the order given; for askers who allow any. The labels must be unique.
    pub fn unsorted(series: Vec<ChunkSeries>) -> Self {
        Self {
            series: series.into_iter(),
            warnings: Vec::new(),
        }
    }
}

impl SeriesSet for VecSeriesSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        self.series.next().map(Ok)
    }

    fn sort(&mut self) {
        let mut series: Vec<ChunkSeries> = std::mem::take(&mut self.series).collect();
        series.sort_by(|left, right| left.labels.cmp(&right.labels));
        self.series = series.into_iter();
    }

    fn is_empty(&self) -> bool {
        self.series.len() == 0
    }

    fn warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }
}
