//! What became of a request: what is taken, what is refused and in which words.

use std::fmt;

use crate::model::{Label, TimestampMs};
use crate::storage::AppendError;

/// Labels of a refused series that are shown; the rest of a longer text is cut.
const SHOWN_BYTES_MAX: usize = 1024;

/// Refusals that are told with their series; of the others only the number is told.
const REFUSALS_MAX: usize = 10;

/// Why a sample or a series was not taken while the rest of the request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// Older than the newest sample of its series.
    OutOfOrder,
    /// Older than what is still taken.
    OutOfBounds,
    /// Further ahead of the clock than is believed.
    TooFarAhead,
    /// Older than the out-of-order window.
    TooOld,
    /// Another value at the time of a sample that is there.
    Duplicate,
    /// A histogram that is none.
    InvalidHistogram,
    /// An exemplar that is older than the newest of its series, or whose labels are too long.
    Exemplar,
    /// The labels are no label set with a metric name.
    InvalidLabels,
}

impl RefusalKind {
    /// `None` for what concerns more than one sample.
    pub(super) fn of(error: &AppendError) -> Option<Self> {
        Some(match error {
            AppendError::OutOfOrder { .. } => Self::OutOfOrder,
            AppendError::OutOfBounds { .. } => Self::OutOfBounds,
            AppendError::TooFarAhead { .. } => Self::TooFarAhead,
            AppendError::TooOld { .. } => Self::TooOld,
            AppendError::Duplicate => Self::Duplicate,
            AppendError::Histogram(_) => Self::InvalidHistogram,
            AppendError::OutOfOrderExemplar { .. } | AppendError::ExemplarLabels { .. } => {
                Self::Exemplar
            }
            AppendError::Labels(_) | AppendError::EmptyLabels => Self::InvalidLabels,
            AppendError::UnknownSeries | AppendError::Wal(_) | AppendError::Closed(_) => {
                return None;
            }
        })
    }
}

/// The bound that was crossed and the setting that moves it.
fn limit_of(error: &AppendError) -> Option<String> {
    Some(match error {
        AppendError::OutOfOrder { newest } => format!(
            "the newest sample of the series is at {newest} (head.out_of_order_window is 0)"
        ),
        AppendError::OutOfBounds { oldest } => {
            format!("the oldest time taken is {oldest} (half of head.block_range back)")
        }
        AppendError::TooOld { oldest } => {
            format!("the oldest time taken is {oldest} (head.out_of_order_window)")
        }
        AppendError::TooFarAhead { newest } => {
            format!("the newest time taken is {newest} (http.write_ahead_max)")
        }
        AppendError::OutOfOrderExemplar { newest } => {
            format!("the newest exemplar of the series is at {newest}")
        }
        AppendError::Duplicate
        | AppendError::Histogram(_)
        | AppendError::ExemplarLabels { .. }
        | AppendError::UnknownSeries
        | AppendError::Labels(_)
        | AppendError::EmptyLabels
        | AppendError::Wal(_)
        | AppendError::Closed(_) => return None,
    })
}

/// The first sample of a series that was refused for one reason, and how many there were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub kind: RefusalKind,
    /// In words.
    pub text: String,
    /// Labels of the series it happened to.
    pub series: String,
    /// Time of the first sample it happened to; `None` when it was the series itself.
    pub t: Option<TimestampMs>,
    /// The bound that was crossed and the setting that moves it.
    pub limit: Option<String>,
    /// Samples it happened to.
    pub count: u64,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: series {}", self.text, self.series)?;
        if let Some(t) = self.t {
            write!(f, ", timestamp {t}")?;
        }
        if let Some(limit) = &self.limit {
            write!(f, ", {limit}")?;
        }
        match self.count {
            1 => Ok(()),
            count => write!(f, " (and {} more of it)", count - 1),
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteReport {
    /// Series of which samples or histograms were taken.
    pub n_series: u64,
    /// Floats taken.
    pub n_samples: u64,
    /// Native histograms taken.
    pub n_histograms: u64,
    /// Exemplars taken.
    pub n_exemplars: u64,
    /// Metadata that was noted with a series of the request.
    pub n_metadata: u64,
    /// Metadata of families that no series of the request belongs to.
    pub n_metadata_unmatched: u64,
    /// The first refusals, by series and reason.
    pub refusals: Vec<Refusal>,
    /// Refused samples and series beyond those.
    pub n_more_refused: u64,
}

impl WriteReport {
    /// What was refused, a line each, and how much more there was; empty when everything was taken.
    pub fn refusal_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.refusals.iter().map(ToString::to_string).collect();
        if self.n_more_refused > 0 {
            lines.push(format!("and {} more refusals", self.n_more_refused));
        }
        lines
    }

    /// Notes a sample that was not taken.
    pub(super) fn refuse(
        &mut self,
        kind: RefusalKind,
        error: &AppendError,
        labels: &[Label<'_>],
        t: TimestampMs,
    ) {
        self.push(|| Refusal {
            kind,
            text: error.to_string(),
            series: shown(labels),
            t: Some(t),
            limit: limit_of(error),
            count: 1,
        });
    }

    /// Notes another sample of the series that was refused last; false when that was for another reason.
    pub(super) fn refuse_again(&mut self, kind: RefusalKind) -> bool {
        let is_told = self.n_more_refused == 0;
        match self.refusals.last_mut() {
            Some(last) if is_told && last.kind == kind && last.t.is_some() => {
                last.count += 1;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Notes a series that was not taken.
    pub(super) fn refuse_series(&mut self, text: String, labels: &[Label<'_>]) {
        self.push(|| Refusal {
            kind: RefusalKind::InvalidLabels,
            text,
            series: shown(labels),
            t: None,
            limit: None,
            count: 1,
        });
    }

    fn push(&mut self, refusal: impl FnOnce() -> Refusal) {
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.push(refusal());
        } else {
            self.n_more_refused += 1;
        }
    }
}

/// The labels as they would be printed, duplicates and all.
fn shown(labels: &[Label<'_>]) -> String {
    let mut out = String::from("{");
    for (position, (name, value)) in labels.iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        if SHOWN_BYTES_MAX < out.len() + name.len() + value.len() {
            out.push('…');
            break;
        }
        out.push_str(&format!("{name}={value:?}"));
    }
    out.push('}');
    out
}
