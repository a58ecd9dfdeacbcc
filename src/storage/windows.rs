//! Which times of a selection matter.

use crate::model::{Interval, TimestampMs};

/// Times that matter: intervals of the same length at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The first of them, both ends included.
    pub first: Interval,
    /// From one to the next.
    pub step_ms: i64,
    /// How many.
    pub n: usize,
}

impl Windows {
    /// One interval.
    pub fn of(interval: Interval) -> Self {
        Self {
            first: interval,
            step_ms: 1,
            n: 1,
        }
    }

    /// From the first time that matters to the last.
    pub fn length_ms(&self) -> i64 {
        let steps = i64::try_from(self.n.saturating_sub(1)).unwrap_or(i64::MAX);
        let length = self.first.max.saturating_sub(self.first.min);
        length.saturating_add(steps.saturating_mul(self.step_ms))
    }

    /// Does a chunk between `min` and `max` hold times that matter?
    pub fn touch(&self, min: TimestampMs, max: TimestampMs) -> bool {
        self.within(min, max).is_some()
    }

    /// Are there times between the first and the last that do not matter?
    pub fn have_gaps(&self) -> bool {
        1 < self.n
            && self
                .first
                .max
                .saturating_sub(self.first.min)
                .saturating_add(1)
                < self.step_ms
    }

    /// Those that share a time with `interval`; `None` where there are none.
    #[must_use]
    pub fn narrowed(&self, interval: Interval) -> Option<Self> {
        let touched = self.within(interval.min, interval.max)?;
        let step_ms = self.step_ms.max(1);
        let n_skipped = touched.min.saturating_sub(self.first.min) / step_ms;
        let n_passed = touched.max.saturating_sub(self.first.max) / step_ms;
        let n = usize::try_from(n_passed.saturating_sub(n_skipped)).unwrap_or(0) + 1;
        Some(Self {
            first: Interval {
                min: touched.min,
                max: self
                    .first
                    .max
                    .saturating_add(n_skipped.saturating_mul(step_ms)),
            },
            step_ms: self.step_ms,
            n: n.min(self.n),
        })
    }

    /// Of a chunk between `min` and `max`, the first and the last time that may matter; `None` where it lies in a gap.
    pub fn within(&self, min: TimestampMs, max: TimestampMs) -> Option<Interval> {
        let steps_max = i64::try_from(self.n.checked_sub(1)?).unwrap_or(i64::MAX);
        if max < self.first.min {
            return None;
        }
        let step_ms = self.step_ms.max(1);
        let nth = |time: i64, n: i64| time.saturating_add(n.min(steps_max).saturating_mul(step_ms));
        // The last window that begins in time is the one that ends last.
        let end = nth(self.first.max, max.saturating_sub(self.first.min) / step_ms);
        if end < min {
            return None;
        }
        // The first that ends in time.
        let before_ms = min.saturating_sub(self.first.max).max(0);
        let n_before = before_ms / step_ms + i64::from(before_ms % step_ms != 0);
        Some(Interval {
            min: nth(self.first.min, n_before),
            max: end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_narrowed_to_those_that_share_a_time_with_an_interval() {
        let windows = Windows {
            first: Interval { min: 100, max: 110 },
            step_ms: 50,
            n: 4,
        };
        for ((min, max), expect) in [
            ((0, 1_000), Some((100, 4))),
            ((111, 149), None),
            ((110, 150), Some((100, 2))),
            ((111, 209), Some((150, 2))),
            ((155, 157), Some((150, 1))),
            ((255, 999), Some((250, 1))),
            ((261, 999), None),
        ] {
            let narrowed = windows.narrowed(Interval { min, max });
            let found = narrowed.map(|narrowed| (narrowed.first.min, narrowed.n));
            assert_eq!(found, expect, "{min}..={max}");
            assert!(narrowed.is_none_or(|narrowed| narrowed.first.max == narrowed.first.min + 10));
        }
        let all = Windows::of(Interval::ALL);
        let narrowed = all.narrowed(Interval { min: 5, max: 7 });
        assert_eq!(narrowed, Some(all));
    }

    #[test]
    fn chunks_in_gaps_between_windows_are_known() {
        let windows = Windows {
            first: Interval { min: 100, max: 110 },
            step_ms: 50,
            n: 3,
        };
        for (chunk, expect) in [
            ((0, 99), None),
            ((0, 100), Some((100, 110))),
            ((105, 149), Some((100, 110))),
            ((111, 149), None),
            ((111, 150), Some((150, 160))),
            ((105, 170), Some((100, 160))),
            ((0, 1_000), Some((100, 210))),
            ((210, 1_000), Some((200, 210))),
            ((211, 1_000), None),
        ] {
            let expect = expect.map(|(min, max)| Interval { min, max });
            assert_eq!(windows.within(chunk.0, chunk.1), expect, "{chunk:?}");
        }
        assert_eq!(Windows { n: 0, ..windows }.within(0, 1_000), None);
        let all = Windows::of(Interval::ALL);
        assert_eq!(all.within(i64::MIN, i64::MAX), Some(Interval::ALL));
    }
}
