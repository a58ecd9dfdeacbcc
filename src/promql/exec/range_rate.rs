//! `rate` and `increase` of floats: the commonest range functions by far, in a loop of their own.
#![expect(
    clippy::indexing_slicing,
    reason = "both ends of a window only move up, and never beyond the number of samples"
)]

use crate::promql::exec::frame::{RowMut, WORD_BITS};
use crate::promql::exec::slide::{SAMPLES_BETWEEN_CHECKS, Slide};
use crate::promql::exec::source::Samples;
use crate::promql::functions::rate::{Falls, extrapolated};
use crate::promql::functions::window::Window;
use crate::promql::limits::{Budget, QueryError};

impl Slide {
    /// The rate, or increase, at every step; returns samples seen and the most in one window. The row must be empty.
    ///
    /// What [`Slide::each`] works out anew for every step is carried along here, and the bits of presence are written
    /// by the word: a window takes half the time.
    pub(crate) fn rates(
        &self,
        samples: &Samples,
        (falls, is_rate): (&mut Falls, bool),
        row: &mut RowMut<'_>,
        budget: &Budget,
    ) -> Result<(u64, usize), QueryError> {
        falls.find(&samples.v, &samples.coarse);
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
        for (slots, word) in row.values.chunks_mut(WORD_BITS).zip(&mut *row.present) {
            for (bit, slot) in slots.iter_mut().enumerate() {
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
                if let Some(v) = extrapolated(&window, Some(falls), is_rate) {
                    *slot = v;
                    *word |= 1 << bit;
                }
                start = start.saturating_add(step_ms);
                end = end.saturating_add(step_ms);
            }
            if n > next_check {
                next_check = n + SAMPLES_BETWEEN_CHECKS;
                budget.check()?;
            }
        }
        Ok((n, widest))
    }
}
