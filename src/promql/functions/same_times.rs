//! Series of one target have their times in common: what was worked out from the times of one serves the next.

use std::ops::Range;

/// Longer series are not kept: what is worked out for them is little beside reading them.
const TIMES_MAX: usize = 1 << 14;

/// The times of a series, kept for the next.
#[derive(Debug, Default)]
pub(crate) struct SameTimes {
    times: Vec<i64>,
    /// How many times the last series had, the first and the last of them: where the next one has the same, it is worth
    /// keeping what is worked out.
    last: Option<(usize, i64, i64)>,
}

impl SameTimes {
    /// Are these the times of the series that is kept?
    pub(crate) fn is_of(&self, times: &[i64]) -> bool {
        !times.is_empty() && self.times == times
    }

    /// Has the next series probably the times of this one?
    pub(crate) fn is_worth_it(&mut self, times: &[i64]) -> bool {
        let now = times.first().zip(times.last());
        let now = now.map(|(first, last)| (times.len(), *first, *last));
        let is_again = now.is_some() && self.last == now && times.len() <= TIMES_MAX;
        self.last = now;
        is_again
    }

    /// A series of `times` is kept from now on.
    pub(crate) fn keep(&mut self, times: &[i64]) {
        self.times.clear();
        self.times.extend_from_slice(times);
    }
}

/// Steps that follow each other, and samples that lie as far behind each other as those of the steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first step.
    pub(crate) step: usize,
    /// How many.
    pub(crate) n_steps: usize,
    /// The sample of the first step.
    pub(crate) from: usize,
    /// How many samples further that of each next step is.
    pub(crate) stride: usize,
}

impl Run {
    /// Of one step.
    pub(crate) fn new(step: usize, from: usize) -> Self {
        Self {
            step,
            n_steps: 1,
            from,
            stride: 0,
        }
    }

    /// One step more, if its sample lies where the next one would; samples only move up.
    pub(crate) fn takes(&mut self, step: usize, from: usize) -> bool {
        if step != self.step + self.n_steps {
            return false;
        }
        if self.n_steps == 1 {
            self.stride = from.saturating_sub(self.from);
        }
        let is_next = from == self.from + self.n_steps * self.stride;
        self.n_steps += usize::from(is_next);
        is_next
    }

    /// Its steps.
    pub(crate) fn steps(&self) -> Range<usize> {
        self.step..self.step + self.n_steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_as_it_began() {
        let mut run = Run::new(3, 10);
        for (step, from, expect) in [
            (5, 12, false),
            (4, 12, true),
            (5, 14, true),
            (6, 15, false),
            (6, 17, false),
            (7, 18, false),
            (6, 16, true),
        ] {
            assert_eq!(run.takes(step, from), expect, "{step} {from}");
        }
        assert_eq!((run.steps(), run.from, run.stride), (3..7, 10, 2));
        let mut same = Run::new(0, 4);
        assert!(same.takes(1, 4) && same.takes(2, 4) && !same.takes(3, 5));
    }
}
