//! Ranges with native histograms or start times in them: what every function does with both kinds of sample.

use std::sync::Arc;

use crate::model::{Histogram, TimestampMs};
use crate::promql::annotations::{Annotations, HistogramOperation};
use crate::promql::functions::histogram_mean::HistogramFold;
use crate::promql::functions::window::Window;
use crate::promql::parse::ast::Span;
use crate::promql::value::PointValue;

/// The floats and the histograms of one range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixedWindow<'a> {
    /// The floats, and where the range lies.
    pub(crate) floats: Window<'a>,
    /// Since when each float counts, 0 where that is unknown; empty when no sample of the series says so.
    pub(crate) st: &'a [TimestampMs],
    /// Times of histograms, ascending.
    pub(crate) ht: &'a [TimestampMs],
    /// Histograms, as many as their times; no markers of staleness.
    pub(crate) h: &'a [Arc<Histogram>],
    /// As `st`, of histograms.
    pub(crate) hst: &'a [TimestampMs],
}

/// Who is told what was noticed about a range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remarks<'a> {
    /// Where remarks go.
    pub(crate) notes: &'a Annotations,
    /// The metric's name.
    pub(crate) name: &'a str,
    /// Where the range stands in the query.
    pub(crate) at: Span,
}

impl Remarks<'_> {
    /// Floats and histograms in one range.
    pub(crate) fn mixed(&self) {
        self.notes.mixed_floats_histograms(self.name, self.at);
    }

    /// Exponential and custom buckets in one range.
    pub(crate) fn mixed_schemas(&self) {
        self.notes
            .mixed_exponential_custom_histograms(self.name, self.at);
    }

    /// Bounds were reduced to those that all have.
    pub(crate) fn reconciled(&self, operation: HistogramOperation) {
        self.notes.mismatched_custom_buckets(operation, self.at);
    }

    /// Floats counted, histograms did not.
    pub(crate) fn ignored(&self) {
        self.notes
            .histograms_ignored_in_mixed_range(self.name, self.at);
    }
}

/// One sample of either kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixedSample<'a> {
    /// When.
    pub(crate) t: TimestampMs,
    /// Since when it counts; 0 is unknown.
    pub(crate) st: TimestampMs,
    /// What.
    pub(crate) value: Either<'a>,
}

/// A float or a histogram.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Either<'a> {
    /// A float.
    Float(f64),
    /// A histogram.
    Histogram(&'a Arc<Histogram>),
}

impl Either<'_> {
    fn to_value(self) -> PointValue {
        match self {
            Self::Float(v) => PointValue::Float(v),
            Self::Histogram(histogram) => PointValue::Histogram(Arc::clone(histogram)),
        }
    }
}

impl<'a> MixedWindow<'a> {
    /// Are there floats and histograms?
    pub(crate) fn is_mixed(&self) -> bool {
        !self.floats.t.is_empty() && !self.h.is_empty()
    }

    /// How many samples, histograms by their size.
    pub(crate) fn n_samples(&self) -> usize {
        let histograms: usize = self.h.iter().map(|h| h.n_samples()).sum();
        self.floats.t.len() + histograms
    }

    fn float(&self, i: usize) -> Option<MixedSample<'a>> {
        Some(MixedSample {
            t: *self.floats.t.get(i)?,
            st: self.st.get(i).copied().unwrap_or(0),
            value: Either::Float(*self.floats.v.get(i)?),
        })
    }

    fn histogram(&self, i: usize) -> Option<MixedSample<'a>> {
        Some(MixedSample {
            t: *self.ht.get(i)?,
            st: self.hst.get(i).copied().unwrap_or(0),
            value: Either::Histogram(self.h.get(i)?),
        })
    }

    /// All samples in time order, from these positions on; of two at one time the float comes first.
    pub(crate) fn samples_from(
        &self,
        mut float: usize,
        mut histogram: usize,
    ) -> impl Iterator<Item = MixedSample<'a>> {
        let window = *self;
        std::iter::from_fn(move || {
            let (next_float, next_histogram) = (window.float(float), window.histogram(histogram));
            let is_float = match (&next_float, &next_histogram) {
                (Some(left), Some(right)) => left.t <= right.t,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if is_float {
                float += 1;
                next_float
            } else {
                histogram += 1;
                next_histogram
            }
        })
    }

    /// All samples in time order.
    pub(crate) fn samples(&self) -> impl Iterator<Item = MixedSample<'a>> {
        self.samples_from(0, 0)
    }

    /// The newest two samples, older first.
    pub(crate) fn last_two(&self) -> Option<(MixedSample<'a>, MixedSample<'a>)> {
        let float = self.floats.t.len().saturating_sub(2);
        let histogram = self.h.len().saturating_sub(2);
        let mut last = None;
        let mut before = None;
        for sample in self.samples_from(float, histogram) {
            before = last.replace(sample);
        }
        Some((before?, last?))
    }

    /// Where an anchored range begins: at the newest sample not after its start, whichever kind that is. Nothing when no
    /// sample follows the start.
    fn anchor(&self) -> Option<(usize, usize)> {
        let start = self.floats.start;
        let floats = self.floats.t.partition_point(|t| *t <= start);
        let histograms = self.ht.partition_point(|t| *t <= start);
        if floats == self.floats.t.len() && histograms == self.ht.len() {
            return None;
        }
        let float_t = floats.checked_sub(1).and_then(|i| self.floats.t.get(i));
        let histogram_t = histograms.checked_sub(1).and_then(|i| self.ht.get(i));
        Some(match (float_t, histogram_t) {
            (None, None) => (0, 0),
            (Some(_), None) => (floats - 1, histograms),
            (Some(float), Some(histogram)) if histogram <= float => (floats - 1, histograms),
            (_, Some(_)) => (floats, histograms - 1),
        })
    }

    fn counted(&self, is_anchored: bool) -> Option<impl Iterator<Item = MixedSample<'a>>> {
        let (float, histogram) = if is_anchored { self.anchor()? } else { (0, 0) };
        Some(self.samples_from(float, histogram))
    }

    /// `resets`: how often a counter began anew. A change of kind counts.
    pub(crate) fn resets(&self, is_anchored: bool) -> Option<PointValue> {
        self.count_between(is_anchored, |before, now| {
            let has_begun = is_start_reset(before, now);
            match (before.value, now.value) {
                (Either::Float(left), Either::Float(right)) => right < left || has_begun,
                (Either::Histogram(left), Either::Histogram(right)) => {
                    has_begun || right.detect_reset(left)
                }
                _ => true,
            }
        })
    }

    /// `changes`: how often a value was not the one before. A change of kind counts.
    #[expect(clippy::float_cmp, reason = "a change of the last bit is a change")]
    pub(crate) fn changes(&self, is_anchored: bool) -> Option<PointValue> {
        self.count_between(is_anchored, |before, now| match (before.value, now.value) {
            (Either::Float(left), Either::Float(right)) => {
                left != right && !(left.is_nan() && right.is_nan())
            }
            (Either::Histogram(left), Either::Histogram(right)) => !right.equals(left),
            _ => true,
        })
    }

    fn count_between(
        &self,
        is_anchored: bool,
        counts: impl Fn(&MixedSample<'a>, &MixedSample<'a>) -> bool,
    ) -> Option<PointValue> {
        let mut samples = self.counted(is_anchored)?;
        let mut before = samples.next()?;
        let mut n = 0_u32;
        for after in samples {
            n += u32::from(counts(&before, &after));
            before = after;
        }
        Some(PointValue::Float(f64::from(n)))
    }

    /// `first_over_time`.
    pub(crate) fn first(&self) -> Option<PointValue> {
        // Of a float and a histogram at one time the histogram is taken.
        let (float, histogram) = (self.float(0), self.histogram(0));
        let first = match (float, histogram) {
            (Some(float), Some(histogram)) if float.t < histogram.t => float,
            (_, Some(histogram)) => histogram,
            (float, None) => float?,
        };
        Some(first.value.to_value())
    }

    /// `last_over_time`.
    pub(crate) fn last(&self) -> Option<PointValue> {
        Some(self.samples().last()?.value.to_value())
    }

    /// `count_over_time`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a range has far fewer than 2^53 samples"
    )]
    pub(crate) fn count(&self) -> Option<PointValue> {
        let n = self.floats.t.len() + self.h.len();
        (0 < n).then_some(PointValue::Float(n as f64))
    }

    /// When the first, or the last, sample was taken, in seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "times are far below 2^53 milliseconds"
    )]
    pub(crate) fn time_of(&self, is_last: bool) -> Option<PointValue> {
        let mut samples = self.samples();
        let sample = if is_last {
            samples.last()
        } else {
            samples.next()
        };
        Some(PointValue::Float(sample?.t as f64 / 1000.0))
    }

    /// `sum_over_time` and `avg_over_time` of a range without floats.
    pub(crate) fn fold<F: HistogramFold>(&self, remarks: &Remarks<'_>) -> Option<PointValue> {
        let (first, rest) = self.h.split_first()?;
        let mut fold = F::first(first);
        for histogram in rest {
            if fold.add(histogram).is_err() {
                remarks.mixed_schemas();
                return None;
            }
        }
        let noticed = fold.noticed();
        if noticed.is_collision() {
            remarks
                .notes
                .counter_reset_collision(HistogramOperation::Aggregation, remarks.at);
        }
        if noticed.reconciled {
            remarks.reconciled(HistogramOperation::Aggregation);
        }
        Some(PointValue::Histogram(Arc::new(fold.get())))
    }
}

/// Does `now` say that its counter began after `before` was taken?
pub(crate) fn is_start_reset(before: &MixedSample<'_>, now: &MixedSample<'_>) -> bool {
    if now.st == 0 || now.t <= now.st || now.st < before.t {
        // Unknown, senseless, or begun earlier.
        return false;
    }
    if before.t < now.st {
        return true;
    }
    // It began with the sample before: so do deltas, and so do counters of unknown beginning, whose first sample says
    // that it began when it was taken.
    before.st <= before.t && before.st != 0 && before.st != before.t
}

/// Does `now` say that its counter began before `before` was taken, and not when `before` says it did?
pub(crate) fn is_start_overlap(before: &MixedSample<'_>, now: &MixedSample<'_>) -> bool {
    now.st != 0 && now.st < before.t && now.st != before.st
}
