//! The evaluation times of an expression.

use crate::model::TimestampMs;

/// `n` times, `step_ms` apart; an instant is one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The first time.
    pub(crate) start: TimestampMs,
    /// The distance; at least 1.
    pub(crate) step_ms: i64,
    /// How many times.
    pub(crate) n: usize,
}

impl Grid {
    /// One time.
    pub(crate) fn instant(t: TimestampMs) -> Self {
        Self {
            start: t,
            step_ms: 1,
            n: 1,
        }
    }

    /// From `start` to `end`, both inclusive; empty when `end` is before `start`.
    pub(crate) fn range(start: TimestampMs, end: TimestampMs, step_ms: i64) -> Self {
        let step_ms = step_ms.max(1);
        let n = if end < start {
            0
        } else {
            let last = (i128::from(end) - i128::from(start)) / i128::from(step_ms);
            usize::try_from(last + 1).unwrap_or(usize::MAX)
        };
        Self { start, step_ms, n }
    }

    /// The time of step `i`.
    pub(crate) fn time(&self, i: usize) -> TimestampMs {
        let i = i64::try_from(i).unwrap_or(i64::MAX);
        self.start.saturating_add(self.step_ms.saturating_mul(i))
    }

    /// The last time; the first one when there is none.
    pub(crate) fn end(&self) -> TimestampMs {
        self.time(self.n.saturating_sub(1))
    }

    /// All times in order.
    pub(crate) fn times(self) -> impl Iterator<Item = TimestampMs> {
        (0..self.n).map(move |i| self.time(i))
    }

    /// The times a subquery is evaluated at so that all of these times find their range: multiples of `step_ms`,
    /// the first one after the first range begins, the last one not after the last range ends.
    pub(crate) fn subquery(
        &self,
        range_ms: i64,
        offset_ms: i64,
        at: Option<TimestampMs>,
        step_ms: i64,
    ) -> Self {
        let step_ms = step_ms.max(1);
        let (first, last) = match at {
            Some(at) => (at, at),
            None => (self.start, self.end()),
        };
        let after = first.saturating_sub(offset_ms).saturating_sub(range_ms);
        let start = (after.div_euclid(step_ms) + 1).saturating_mul(step_ms);
        Self::range(start, last.saturating_sub(offset_ms), step_ms)
    }

    /// These times in runs of at most `steps`.
    pub(crate) fn slices(self, steps: usize) -> impl Iterator<Item = Self> {
        let steps = steps.max(1);
        (0..self.n).step_by(steps).map(move |from| Self {
            start: self.time(from),
            step_ms: self.step_ms,
            n: steps.min(self.n - from),
        })
    }

    /// Only the first time.
    pub(crate) fn first(&self) -> Self {
        Self::instant(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_inclusive_and_only_reached_by_whole_steps() {
        assert_eq!(
            Grid::range(0, 25, 10).times().collect::<Vec<_>>(),
            [0, 10, 20]
        );
        assert_eq!(Grid::range(0, 30, 10).n, 4);
        assert_eq!(Grid::range(5, 5, 10).end(), 5);
        assert_eq!(Grid::range(5, 4, 10).n, 0);
    }

    #[test]
    fn slices_are_the_whole_in_order() {
        let grid = Grid::range(5, 75, 10);
        let slices: Vec<Grid> = grid.slices(3).collect();
        assert_eq!(
            slices.iter().map(|slice| slice.n).collect::<Vec<_>>(),
            [3, 3, 2]
        );
        let times: Vec<i64> = slices.iter().flat_map(|slice| slice.times()).collect();
        assert_eq!(times, grid.times().collect::<Vec<_>>());
    }

    #[test]
    fn a_subquery_stands_on_multiples_of_its_step_after_the_open_end() {
        let inner = Grid::range(100, 130, 15).subquery(60, 10, None, 10);
        assert_eq!((inner.start, inner.end()), (40, 120));
        let inner = Grid::instant(0).subquery(60, 0, None, 25);
        assert_eq!((inner.start, inner.end()), (-50, 0));
        let pinned = Grid::range(100, 130, 15).subquery(60, 0, Some(200), 30);
        assert_eq!((pinned.start, pinned.end()), (150, 180));
    }
}
