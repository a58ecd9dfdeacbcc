//! Extremes of windows that only move forward: each sample is looked at twice at most, however many windows hold it.
//!
//! The positions that may still be an extreme wait in a queue whose values fall from front to back (rise, for the least):
//! a sample that comes in takes away the worse ones before it, for they leave the window earlier.
#![expect(
    clippy::indexing_slicing,
    reason = "positions in the queue are below the end of the last window, which lies within the values"
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

/// The queue of one series; its memory serves the next one.
#[derive(Debug, Default)]
pub(crate) struct Extremes {
    queue: Vec<usize>,
    /// Where the queue begins.
    front: usize,
    /// The first position no window has held yet.
    next: usize,
}

impl Extremes {
    /// Before the first window of a series.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.front = 0;
        self.next = 0;
    }

    /// The extreme of a window of `values`, the first among equals; what is not a number counts only where nothing else
    /// is there. Both ends of windows must ascend, and a window holds a sample at least.
    #[inline]
    pub(crate) fn of(&mut self, extreme: Extreme, values: &[f64], w: &Window<'_>) -> f64 {
        let end = w.offset + w.v.len();
        for position in self.next.max(w.offset)..end {
            let v = values[position];
            if v.is_nan() {
                continue;
            }
            while self.queue.len() > self.front {
                let waiting = values[self.queue[self.queue.len() - 1]];
                let is_worse = match extreme {
                    Extreme::Min => v < waiting,
                    Extreme::Max => waiting < v,
                };
                if !is_worse {
                    break;
                }
                self.queue.pop();
            }
            self.queue.push(position);
        }
        self.next = end;
        while self.front < self.queue.len() && self.queue[self.front] < w.offset {
            self.front += 1;
        }
        match self.queue.get(self.front) {
            Some(position) => values[*position],
            None => values[end - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::functions::over_time;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_queue_tells_what_a_look_at_every_sample_tells(
            values in proptest::collection::vec(
                prop_oneof![Just(f64::NAN), Just(0.0), Just(-0.0), Just(f64::INFINITY), (-4..4i32).prop_map(f64::from)],
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
