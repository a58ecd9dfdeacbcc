//! `rate` and `increase` of floats: the commonest range functions by far, in a loop of their own.
#![expect(
    clippy::indexing_slicing,
    reason = "both ends of a window only move up, and never beyond the number of samples"
)]

use crate::promql::exec::frame::RowMut;
use crate::promql::exec::slide::{SAMPLES_BETWEEN_CHECKS, STEPS_KEPT_MAX, Slide};
use crate::promql::exec::source::Samples;
use crate::promql::functions::rate::{Falls, Laid, extrapolated};
use crate::promql::functions::window::Window;
use crate::promql::limits::{Budget, QueryError};

/// What is worked out for one series and serves the next.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    falls: Falls,
    laid: Laid,
}

impl Slide {
    /// The rate, or increase, at every step; returns samples seen and the most in one window. The row must be empty.
    ///
    /// What [`Slide::each`] works out anew for every step is carried along here, and where series have their times in
    /// common, windows are looked for once.
    pub(crate) fn rates(
        &self,
        samples: &Samples,
        (counter, is_rate): (&mut Counter, bool),
        row: &mut RowMut<'_>,
        budget: &Budget,
    ) -> Result<(u64, usize), QueryError> {
        let Counter { falls, laid } = counter;
        falls.find(&samples.v, &samples.coarse);
        let is_kept = samples.coarse.is_empty() && self.grid.n <= STEPS_KEPT_MAX;
        if is_kept && !laid.is_of(&samples.t) && laid.is_worth_it(&samples.t) {
            laid.begin(&samples.t);
            self.windows_of(samples, budget, |step, w| laid.add(step, w, is_rate))?;
        }
        if is_kept && laid.is_of(&samples.t) {
            laid.changes(&samples.v, falls, row.values);
            laid.steps().for_each(|steps| row.mark(steps));
            let (n, widest) = laid.extent();
            if n > SAMPLES_BETWEEN_CHECKS {
                budget.check()?;
            }
            return Ok((n, widest));
        }
        let mut floats = row.floats();
        self.windows_of(samples, budget, |step, w| {
            if let Some(v) = extrapolated(w, Some(falls), is_rate) {
                floats.set(step, v);
            }
        })
    }

    /// Hands the window of every step to `each`; returns samples seen and the most in one window.
    #[inline]
    fn windows_of(
        &self,
        samples: &Samples,
        budget: &Budget,
        mut each: impl FnMut(usize, &Window<'_>),
    ) -> Result<(u64, usize), QueryError> {
        let (times, values) = (samples.t.as_slice(), samples.v.as_slice());
        let first = self.place(0);
        let (mut start, mut end) = (first.start, first.end);
        let step_ms = if self.at.is_some() {
            0
        } else {
            self.grid.step_ms
        };
        let (mut lo, mut hi) = (0, 0);
        let (mut n, mut widest) = (0, 0);
        let mut next_check = SAMPLES_BETWEEN_CHECKS;
        for step in 0..self.grid.n {
            while hi < times.len() && times[hi] <= end {
                hi += 1;
            }
            while lo < hi && times[lo] <= start {
                lo += 1;
            }
            n += (hi - lo) as u64;
            widest = widest.max(hi - lo);
            let window = Window {
                t: &times[lo..hi],
                v: &values[lo..hi],
                start,
                end,
                eval_t: end,
                offset: lo,
            };
            each(step, &window);
            start = start.saturating_add(step_ms);
            end = end.saturating_add(step_ms);
            if n > next_check {
                next_check = n + SAMPLES_BETWEEN_CHECKS;
                budget.check()?;
            }
        }
        Ok((n, widest))
    }
}
