//! Which time a scrape stands for.

use crate::model::TimestampMs;

/// A scrape this late or less still stands for the time it was due.
const TOLERANCE_MS_MAX: i64 = 2;

/// The grid of one target: due times are a whole number of intervals apart, so that timestamps compress well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    due_ms: TimestampMs,
    interval_ms: i64,
}

impl Grid {
    /// The grid begins now.
    pub(super) fn new(now_ms: TimestampMs, interval_ms: i64) -> Self {
        Self {
            due_ms: now_ms,
            interval_ms: interval_ms.max(1),
        }
    }

    /// The timestamp of a scrape at `now_ms`: the due time when it is close enough, `now_ms` otherwise.
    pub(super) fn timestamp(&mut self, now_ms: TimestampMs) -> TimestampMs {
        let behind = now_ms.saturating_sub(self.due_ms);
        if behind >= self.interval_ms {
            self.due_ms += behind - behind % self.interval_ms;
        }
        let late = now_ms.saturating_sub(self.due_ms);
        if late <= TOLERANCE_MS_MAX.min(self.interval_ms / 100) {
            self.due_ms
        } else {
            now_ms
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(interval_ms: i64, now_ms: &[i64], expect: &[i64]) {
        let mut grid = Grid::new(1_000, interval_ms);
        let read: Vec<_> = now_ms
            .iter()
            .map(|now_ms| grid.timestamp(*now_ms))
            .collect();
        assert_eq!(read, expect);
    }

    #[test]
    fn up_to_two_milliseconds_late_is_on_time() {
        check(
            15_000,
            &[1_000, 16_001, 31_002, 46_003, 61_001],
            &[1_000, 16_000, 31_000, 46_003, 61_000],
        );
    }

    #[test]
    fn short_intervals_tolerate_a_hundredth() {
        check(100, &[1_000, 1_101, 1_202], &[1_000, 1_100, 1_202]);
    }

    #[test]
    fn skipped_ticks_do_not_shift_the_grid() {
        check(1_000, &[1_000, 5_001, 5_999], &[1_000, 5_000, 5_999]);
    }
}
