//! Range functions over series with native histograms or start times.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "window positions are searched within the samples"
)]

use std::ops::Range;

use crate::model::Labels;
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::RowMut;
use crate::promql::exec::range::{Job, Scratch};
use crate::promql::exec::slide::Slide;
use crate::promql::exec::source::Samples;
use crate::promql::functions::RangeFn;
use crate::promql::functions::histogram_mean::{HistogramMean, HistogramSum};
use crate::promql::functions::mixed::{MixedWindow, Remarks};
use crate::promql::functions::native_rate::{self, Kind};
use crate::promql::functions::window::Window;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::parse::ast::Extend;
use crate::promql::value::PointValue;

/// Windows between two looks at whether to go on.
const WINDOWS_BETWEEN_CHECKS: usize = 64;

/// The part of `column` that belongs to `window`; all of nothing when nothing is known.
fn part(column: &[i64], window: Range<usize>) -> &[i64] {
    column.get(window).unwrap_or_default()
}

impl Slide {
    /// Hands every step's window to `f`, in order; returns the samples in all windows together, histograms by their size.
    pub(crate) fn each_mixed(
        &self,
        samples: &Samples,
        budget: &Budget,
        mut f: impl FnMut(usize, &MixedWindow<'_>),
    ) -> Result<u64, QueryError> {
        let (mut lo, mut hi) = (0, 0);
        let (mut histogram_lo, mut histogram_hi) = (0, 0);
        let mut n = 0;
        for i in 0..self.grid.n {
            if i % WINDOWS_BETWEEN_CHECKS == 0 {
                budget.check()?;
            }
            let place = self.place(i);
            let first = self.move_to(&place, &samples.t, (&mut lo, &mut hi));
            let limits = (&mut histogram_lo, &mut histogram_hi);
            let first_histogram = self.move_to(&place, &samples.ht, limits);
            let floats = self.reached(samples, &samples.t, &place, first..hi);
            let histograms = first_histogram..histogram_hi;
            let histograms = self.reached(samples, &samples.ht, &place, histograms);
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            let window = MixedWindow {
                floats: Window {
                    t: &samples.t[floats.clone()],
                    v: &samples.v[floats.clone()],
                    start: place.start,
                    end: place.end,
                    eval_t: place.eval_t,
                    offset: floats.start,
                },
                st: part(&samples.st, floats),
                ht: &samples.ht[histograms.clone()],
                h: &samples.h[histograms.clone()],
                hst: part(&samples.hst, histograms),
            };
            n += window.n_samples() as u64;
            f(i, &window);
        }
        Ok(n)
    }
}

impl Job {
    /// Evaluates every window; returns samples seen and the most in one window.
    pub(crate) fn fill_mixed(
        &self,
        samples: &Samples,
        evaluator: &Evaluator,
        (labels, scratch): (&Labels, &mut Scratch),
        row: &mut RowMut<'_>,
    ) -> Result<(u64, usize), QueryError> {
        let remarks = Remarks {
            notes: &evaluator.notes,
            name: labels.metric_name(),
            at: self.span,
        };
        let appeared_t = samples.t.first().copied().unwrap_or_default();
        let mut widest = 0;
        let mut refused = None;
        let n = self.slide.each_mixed(samples, &evaluator.budget, |i, w| {
            widest = widest.max(w.n_samples());
            refused = refused.take().or_else(|| self.refusal(i));
            let value = match self.of_both(w, &remarks) {
                Verdict::Value(value) => value,
                Verdict::OfFloats => {
                    let floats = &w.floats;
                    if floats.t.is_empty() {
                        return;
                    }
                    match self.slide.extend {
                        Some(extend) => self.extended(floats, extend, scratch),
                        None => self.general(i, (floats, appeared_t), scratch),
                    }
                    .map(PointValue::Float)
                }
            };
            match value {
                Some(PointValue::Float(v)) => row.set(i, v),
                Some(PointValue::Histogram(histogram)) => row.set_histogram(i, histogram),
                None => (),
            }
        })?;
        match refused {
            Some(refused) => Err(refused),
            None => Ok((n, widest)),
        }
    }

    /// What functions do that have a meaning for histograms or start times; the others are left to the floats.
    fn of_both(&self, w: &MixedWindow<'_>, remarks: &Remarks<'_>) -> Verdict {
        let is_anchored = self.slide.extend == Some(Extend::Anchored);
        let kind = |is_counter, is_rate| Kind {
            is_counter,
            is_rate,
        };
        Verdict::Value(match self.func {
            RangeFn::Rate => return self.rate(w, kind(true, true), remarks),
            RangeFn::Increase => return self.rate(w, kind(true, false), remarks),
            RangeFn::Delta => return self.rate(w, kind(false, false), remarks),
            RangeFn::Irate => native_rate::instant(w, true, remarks),
            RangeFn::Idelta => native_rate::instant(w, false, remarks),
            RangeFn::Resets => w.resets(is_anchored),
            RangeFn::Changes => w.changes(is_anchored),
            RangeFn::CountOverTime => w.count(),
            RangeFn::PresentOverTime => w.count().map(|_| PointValue::Float(1.0)),
            RangeFn::FirstOverTime => w.first(),
            RangeFn::LastOverTime => w.last(),
            RangeFn::TsOfFirstOverTime => w.time_of(false),
            RangeFn::TsOfLastOverTime => w.time_of(true),
            RangeFn::SumOverTime | RangeFn::AvgOverTime if w.is_mixed() => {
                remarks.mixed();
                None
            }
            RangeFn::SumOverTime if !w.h.is_empty() => w.fold::<HistogramSum>(remarks),
            RangeFn::AvgOverTime if !w.h.is_empty() => w.fold::<HistogramMean>(remarks),
            _ => {
                if w.is_mixed() {
                    remarks.ignored();
                }
                return Verdict::OfFloats;
            }
        })
    }

    fn rate(&self, w: &MixedWindow<'_>, kind: Kind, remarks: &Remarks<'_>) -> Verdict {
        let Some(extend) = self.slide.extend else {
            return Verdict::Value(native_rate::extrapolated(w, kind, remarks));
        };
        if w.h.is_empty() {
            return Verdict::OfFloats;
        }
        let is_smoothed = extend == Extend::Smoothed;
        Verdict::Value(native_rate::extended(w, is_smoothed, kind, remarks))
    }
}

/// Who has the last word about a window.
enum Verdict {
    /// This is the result, if any.
    Value(Option<PointValue>),
    /// The function is one of floats.
    OfFloats,
}
