//! Where the windows of a range lie, step by step, and how they slide over samples.
#![expect(
    clippy::indexing_slicing,
    reason = "window positions are searched within the samples"
)]

use std::ops::Range;

use crate::model::Interval;
use crate::promql::exec::source::Samples;
use crate::promql::exec::tally;
use crate::promql::functions::same_times::SameTimes;
use crate::promql::functions::window::Window;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::parse::ast::Extend;
use crate::promql::plan::Grid;
use crate::storage::Windows;

/// Where windows of a range lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slide {
    pub(crate) grid: Grid,
    pub(super) range_ms: i64,
    pub(super) offset_ms: i64,
    pub(crate) at: Option<i64>,
    pub(crate) extend: Option<Extend>,
    /// How much further back a window reaches for one sample; all of it when extended.
    pub(super) before_ms: i64,
    /// How much further forward.
    pub(super) after_ms: i64,
    /// Of the samples before the range only the last counts.
    pub(super) is_last_before: bool,
    /// How far beside the range a raw sample may lie, where windows lie further away than that.
    pub(super) raw_reach_ms: Option<i64>,
}

/// The range of one step, and what its window reaches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// When it is evaluated.
    pub(crate) eval_t: i64,
    /// Where the range begins (exclusive).
    pub(crate) start: i64,
    /// Where the range ends (inclusive).
    pub(crate) end: i64,
    /// Samples after this are in the window.
    from: i64,
    /// Up to this.
    to: i64,
}

impl Slide {
    /// What the windows see.
    pub(super) fn windows(&self) -> Windows {
        let end = self.at.unwrap_or(self.grid.start);
        let end = end.saturating_sub(self.offset_ms);
        let first = Interval {
            min: end
                .saturating_sub(self.range_ms)
                .saturating_sub(self.before_ms),
            max: end.saturating_add(self.after_ms),
        };
        match self.at {
            Some(_) => Windows::of(first),
            None => Windows {
                first,
                step_ms: self.grid.step_ms,
                n: self.grid.n,
            },
        }
    }

    /// After when and until when the window of a step has samples.
    pub(super) fn edges(&self, step: usize) -> (i64, i64) {
        let place = self.place(step);
        (place.from, place.to)
    }

    /// How many samples of the windows, which have `n` in all, no earlier window had.
    pub(super) fn n_read(&self, samples: &Samples, n: u64) -> u64 {
        let (first, last) = (self.place(0), self.place(self.grid.n.saturating_sub(1)));
        if self.grid.n == 1 || first.to - first.from < self.grid.step_ms {
            return n;
        }
        tally::n_within(samples, (first.from, last.to))
    }

    /// Where the window of step `i` lies.
    #[inline]
    pub(crate) fn place(&self, i: usize) -> Place {
        let eval_t = self.grid.time(i);
        let end = self.at.unwrap_or(eval_t).saturating_sub(self.offset_ms);
        let start = end.saturating_sub(self.range_ms);
        Place {
            eval_t,
            start,
            end,
            from: start.saturating_sub(self.before_ms),
            to: end.saturating_add(self.after_ms),
        }
    }

    /// From when to when each step reads: windows that overlap read on where the one before ended.
    pub(super) fn seeks(&self) -> impl Iterator<Item = (i64, i64)> {
        let reach_ms = self.range_ms + self.before_ms + self.after_ms;
        let step_ms = reach_ms.min(self.grid.step_ms);
        (0..self.grid.n).map(move |i| {
            let place = self.place(i);
            let back_ms = if i == 0 { reach_ms } else { step_ms };
            let from = place.to.saturating_sub(back_ms);
            (from, place.to)
        })
    }

    /// Moves `lo` and `hi`, which were those of the step before, to the window among `times`; gives its first position.
    #[inline]
    pub(crate) fn move_to(
        &self,
        place: &Place,
        times: &[i64],
        (lo, hi): (&mut usize, &mut usize),
    ) -> usize {
        while *hi < times.len() && times[*hi] <= place.to {
            *hi += 1;
        }
        while *lo < *hi && times[*lo] <= place.from {
            *lo += 1;
        }
        if !self.is_last_before {
            return *lo;
        }
        let inside = *lo + times[*lo..*hi].partition_point(|t| *t <= place.start);
        inside.saturating_sub(1).max(*lo)
    }

    /// Of a window among `times`, which are those of `samples`, what counts: a sample beside the range that is no further
    /// from it than one of its resolution may be.
    #[inline]
    pub(crate) fn reached(
        &self,
        samples: &Samples,
        times: &[i64],
        place: &Place,
        window: Range<usize>,
    ) -> Range<usize> {
        match self.raw_reach_ms {
            None => window,
            Some(reach_ms) => samples.reached(times, (place.start, place.end, reach_ms), window),
        }
    }

    /// Hands every step's window to `f`, in order; returns the samples in all windows together. What is `kept` of a series
    /// serves the next one that has its times.
    #[inline]
    pub(super) fn each(
        &self,
        samples: &Samples,
        budget: &Budget,
        kept: &mut KeptWindows,
        mut f: impl FnMut(usize, &Window<'_>),
    ) -> Result<u64, QueryError> {
        let (t, v) = (&samples.t, &samples.v);
        let mut hand = |step: usize, place: &Place, window: Range<usize>| {
            f(
                step,
                &Window {
                    t: &t[window.clone()],
                    v: &v[window.clone()],
                    start: place.start,
                    end: place.end,
                    eval_t: place.eval_t,
                    offset: window.start,
                },
            );
        };
        let may_keep = samples.coarse.is_empty() && self.grid.n <= STEPS_KEPT_MAX;
        if may_keep && kept.times.is_of(t) {
            for (step, window) in &kept.windows {
                hand(*step, &self.place(*step), window.clone());
            }
            if kept.n > SAMPLES_BETWEEN_CHECKS {
                budget.check()?;
            }
            return Ok(kept.n);
        }
        let keeps = may_keep && kept.times.is_worth_it(t);
        if keeps {
            kept.times.keep(t);
            kept.windows.clear();
        }
        let (mut lo, mut hi) = (0, 0);
        let mut n = 0;
        let mut next_check = SAMPLES_BETWEEN_CHECKS;
        for i in 0..self.grid.n {
            let place = self.place(i);
            let first = self.move_to(&place, t, (&mut lo, &mut hi));
            let reached = self.reached(samples, t, &place, first..hi);
            if reached.is_empty() {
                continue;
            }
            n += reached.len() as u64;
            if n > next_check {
                next_check = n + SAMPLES_BETWEEN_CHECKS;
                if let Err(error) = budget.check() {
                    // Half of the windows are no windows to keep.
                    *kept = KeptWindows::default();
                    return Err(error);
                }
            }
            if keeps {
                kept.windows.push((i, reached.clone()));
            }
            hand(i, &place, reached);
        }
        if keeps {
            kept.n = n;
        }
        Ok(n)
    }
}

/// Of more steps windows are not kept for the next series.
pub(crate) const STEPS_KEPT_MAX: usize = 1 << 14;

/// The windows of one series, kept for the next that has the same times.
#[derive(Debug, Default)]
pub(crate) struct KeptWindows {
    times: SameTimes,
    /// Of the steps that have one.
    windows: Vec<(usize, Range<usize>)>,
    /// Samples in all of them.
    n: u64,
}

/// Samples in windows before somebody asks whether to go on.
pub(crate) const SAMPLES_BETWEEN_CHECKS: u64 = 1 << 13;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::foundation::{Cancel, SystemClock};

    #[test]
    fn windows_kept_of_one_series_are_those_of_the_next_with_its_times_and_of_no_other() {
        let budget = Budget::new(1 << 20, Cancel::new(), Arc::new(SystemClock), i64::MAX);
        let series = |n: i64, step_ms: i64, from: f64| {
            let t: Vec<i64> = (0..n).map(|i| i * step_ms).collect();
            let v = t
                .iter()
                .map(|t| from + crate::promql::exec::select::seconds(*t));
            Samples {
                v: v.collect(),
                t,
                ..Samples::default()
            }
        };
        for step_ms in [5_000, 15_000, 60_000] {
            let slide = Slide {
                grid: Grid {
                    start: -30_000,
                    step_ms,
                    n: 80,
                },
                range_ms: 45_000,
                offset_ms: 0,
                at: None,
                extend: None,
                before_ms: 0,
                after_ms: 0,
                is_last_before: false,
                raw_reach_ms: None,
            };
            let windows = |samples: &Samples, kept: &mut KeptWindows| {
                let mut seen = Vec::new();
                let n = slide.each(samples, &budget, kept, |step, w| {
                    let edges = (w.start, w.end, w.eval_t, w.offset);
                    seen.push((step, edges, w.t.to_vec(), w.v.to_vec()));
                });
                (seen, n.unwrap())
            };
            let mut kept = KeptWindows::default();
            for samples in [
                series(60, 15_000, 0.5),
                series(60, 15_000, 1.5),
                series(60, 15_000, 2.5),
                series(61, 15_000, 3.5),
                series(60, 14_999, 4.5),
                series(60, 15_000, 5.5),
                series(3, 15_000, 6.5),
                series(3, 15_000, 7.5),
                series(3, 15_000, 8.5),
                series(60, 15_000, 9.5),
                series(0, 15_000, 0.5),
            ] {
                let expect = windows(&samples, &mut KeptWindows::default());
                assert_eq!(windows(&samples, &mut kept), expect);
            }
        }
    }
}
