//! Extremes of windows that only move forward: each sample is looked at twice at most, however many windows hold it, and
//! without asking which of two is greater in a way that a processor could guess wrong.
//!
//! A window lies on both sides of a middle: of the samples before it the extremes from each position on are kept, of those
//! behind it the one so far. When a window begins behind the middle, the middle moves to its end.
#![expect(
    clippy::indexing_slicing,
    reason = "positions lie in the last window, and those that are kept are of samples from the first kept one on"
)]

use crate::promql::functions::window::Window;

/// Which end of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extreme {
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// What is kept of the windows of one series; its memory serves the next one.
#[derive(Debug)]
pub(crate) struct Extremes {
    /// Of the samples from each position to the middle the greatest rank, beginning at `from`.
    before: Vec<f64>,
    from: usize,
    middle: usize,
    /// The greatest rank behind the middle.
    behind: f64,
    /// The first position no window has held yet.
    next: usize,
}

/// What ranks below every number.
const NONE: f64 = f64::NEG_INFINITY;

impl Default for Extremes {
    fn default() -> Self {
        Self {
            before: Vec::new(),
            from: 0,
            middle: 0,
            behind: NONE,
            next: 0,
        }
    }
}

impl Extremes {
    /// Before the first window of a series.
    pub(crate) fn clear(&mut self) {
        self.before.clear();
        (self.from, self.middle, self.next) = (0, 0, 0);
        self.behind = NONE;
    }

    /// The extreme of a window of `values`, the first among equals; what is not a number counts only where nothing else
    /// is there. Both ends of windows must ascend, and a window holds a sample at least.
    #[inline]
    pub(crate) fn of(&mut self, extreme: Extreme, values: &[f64], w: &Window<'_>) -> f64 {
        // The least is the greatest of what is negated, which loses nothing.
        let sign = match extreme {
            Extreme::Min => 1 << 63,
            Extreme::Max => 0,
        };
        let (start, end) = (w.offset, w.offset + w.v.len());
        if self.middle <= start {
            self.move_middle(start, &values[start..end], sign);
        } else {
            for v in &values[self.next..end] {
                self.behind = first_greatest(self.behind, rank(*v, sign));
            }
        }
        self.next = end;
        let greatest = first_greatest(self.before[start - self.from], self.behind);
        if greatest == NONE {
            return lowest(w.v, sign);
        }
        f64::from_bits(greatest.to_bits() ^ sign)
    }

    /// To the end of `values`, which begin at `from`.
    fn move_middle(&mut self, from: usize, values: &[f64], sign: u64) {
        (self.from, self.middle) = (from, from + values.len());
        self.behind = NONE;
        self.before.clear();
        self.before.resize(values.len(), NONE);
        let mut greatest = NONE;
        for (kept, v) in self.before.iter_mut().zip(values).rev() {
            greatest = first_greatest(rank(*v, sign), greatest);
            *kept = greatest;
        }
    }
}

/// The later one only where it is greater; neither is NaN.
#[inline]
fn first_greatest(first: f64, later: f64) -> f64 {
    if first < later { later } else { first }
}

#[inline]
fn rank(v: f64, sign: u64) -> f64 {
    if v.is_nan() {
        NONE
    } else {
        f64::from_bits(v.to_bits() ^ sign)
    }
}

/// Of values that all rank lowest: a number if there is one, else the last.
#[cold]
fn lowest(values: &[f64], sign: u64) -> f64 {
    if values.iter().all(|v| v.is_nan()) {
        return values[values.len() - 1];
    }
    f64::from_bits(NONE.to_bits() ^ sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::functions::over_time;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn two_halves_tell_what_a_look_at_every_sample_tells(
            values in proptest::collection::vec(
                prop_oneof![Just(f64::NAN), Just(0.0), Just(-0.0), Just(f64::INFINITY),
                    Just(f64::NEG_INFINITY), (-4..4i32).prop_map(f64::from)],
                1..60,
            ),
            moves in proptest::collection::vec((0..4usize, 0..4usize), 1..40),
        ) {
            for (extreme, plain) in [
                (Extreme::Min, over_time::min as fn(&Window<'_>) -> Option<f64>),
                (Extreme::Max, over_time::max),
            ] {
                let mut extremes = Extremes::default();
                let (mut lo, mut hi) = (0, 0);
                for (step_lo, step_hi) in &moves {
                    hi = (hi + step_hi).min(values.len());
                    lo = (lo + step_lo).min(hi);
                    if lo == hi {
                        continue;
                    }
                    let window = Window {
                        t: &[],
                        v: &values[lo..hi],
                        start: 0,
                        end: 0,
                        eval_t: 0,
                        offset: lo,
                    };
                    let expect = plain(&window).unwrap();
                    prop_assert_eq!(extremes.of(extreme, &values, &window).to_bits(), expect.to_bits());
                }
            }
        }
    }
}
