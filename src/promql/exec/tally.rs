//! What evaluation counts: samples handed to operators and samples read, in all and, where somebody asked for it, step
//! by step. Both as `promql/engine.go` of Prometheus 3.14 counts them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Histogram, TimestampMs};
use crate::promql::exec::frame::Row;
use crate::promql::exec::source::Samples;
use crate::promql::plan::Grid;

/// From after when to when.
type Edges = (TimestampMs, TimestampMs);

/// Samples handed to operators, and how many of them no earlier step had; a histogram counts by its size.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    queried: AtomicU64,
    read: AtomicU64,
    steps: Option<Steps>,
}

/// The same by step of the query.
#[derive(Debug)]
struct Steps {
    grid: Grid,
    queried: Vec<AtomicU64>,
    read: Vec<AtomicU64>,
}

impl Tally {
    /// Nothing counted; `per_step` says whether steps of `grid` are told apart.
    pub(crate) fn new(grid: Grid, per_step: bool) -> Self {
        let counts = || (0..grid.n).map(|_| AtomicU64::new(0)).collect();
        Self {
            steps: per_step.then(|| Steps {
                grid,
                queried: counts(),
                read: counts(),
            }),
            ..Self::default()
        }
    }

    /// All samples that operators were handed.
    pub(crate) fn queried(&self) -> u64 {
        self.queried.load(Ordering::Relaxed)
    }

    /// The same, each counted at the first step it was there for.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Does anybody want to know by step?
    pub(crate) fn is_per_step(&self) -> bool {
        self.steps.is_some()
    }

    /// Counts samples of no particular step: handed over, and read for it.
    pub(crate) fn add(&self, queried: u64, read: u64) {
        self.queried.fetch_add(queried, Ordering::Relaxed);
        self.read.fetch_add(read, Ordering::Relaxed);
    }

    /// Tells apart what [`Self::add`] counted: so many of them were of the step at `t`.
    pub(crate) fn at(&self, t: TimestampMs, queried: u64, read: u64) {
        let Some(steps) = &self.steps else { return };
        let behind = t.saturating_sub(steps.grid.start) / steps.grid.step_ms;
        let step = usize::try_from(behind).unwrap_or(usize::MAX);
        for (counts, n) in [(&steps.queried, queried), (&steps.read, read)] {
            if let Some(count) = counts.get(step) {
                count.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// The values of a selector's row, each of the step at its time.
    pub(crate) fn row(&self, row: Row<'_>, grid: Grid) {
        for (step, _) in row.iter() {
            self.at(grid.time(step), 1, 1);
        }
        for (step, histogram) in row.histograms() {
            let n = sized(histogram);
            self.at(grid.time(step), n, n);
        }
    }

    /// The samples of every step's window.
    pub(crate) fn windows(
        &self,
        samples: &Samples,
        grid: Grid,
        edges: impl Fn(usize) -> Edges,
        reads: bool,
    ) {
        let mut end = TimestampMs::MIN;
        for step in 0..grid.n {
            let (from, to) = edges(step);
            let read = if reads {
                n_within(samples, (from.max(end), to))
            } else {
                0
            };
            self.at(grid.time(step), n_within(samples, (from, to)), read);
            end = end.max(to);
        }
    }

    /// Takes over what `subquery` read, evaluated on a grid of its own for windows of `range_ms` that end `offset_ms` before
    /// each time of `grid`: every read counts at the first of these times whose window may have it. What lies between the
    /// windows does not count.
    pub(crate) fn add_subquery(&self, subquery: &Self, grid: Grid, (range_ms, offset_ms): Edges) {
        let Some(steps) = subquery.steps.as_ref().filter(|_| 1 < grid.n) else {
            self.add(0, subquery.read());
            return self.at(grid.start, 0, subquery.read());
        };
        for (t, read) in steps.grid.times().zip(&steps.read) {
            let read = read.load(Ordering::Relaxed);
            let t = t.saturating_add(offset_ms);
            let behind = t.saturating_sub(grid.start).max(0);
            let step = behind.div_euclid(grid.step_ms) + i64::from(behind % grid.step_ms != 0);
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            let user = grid.time(step.min(grid.n - 1));
            if user.saturating_sub(range_ms) < t {
                self.add(0, read);
                self.at(user, 0, read);
            }
        }
    }

    /// What operators were handed, by step, when that was asked for.
    pub(crate) fn queried_steps(&self) -> Vec<(TimestampMs, u64)> {
        self.told(|steps| &steps.queried)
    }

    /// What was read, by step, when that was asked for.
    pub(crate) fn read_steps(&self) -> Vec<(TimestampMs, u64)> {
        self.told(|steps| &steps.read)
    }

    fn told(&self, which: impl Fn(&Steps) -> &[AtomicU64]) -> Vec<(TimestampMs, u64)> {
        let Some(steps) = &self.steps else {
            return Vec::new();
        };
        let counts = which(steps).iter().map(|n| n.load(Ordering::Relaxed));
        steps.grid.times().zip(counts).collect()
    }
}

/// Samples between the edges.
pub(crate) fn n_within(samples: &Samples, edges: Edges) -> u64 {
    let floats = within(&samples.t, edges).len() as u64;
    if samples.ht.is_empty() {
        return floats;
    }
    let window = samples.h.get(within(&samples.ht, edges));
    floats + window.into_iter().flatten().map(|h| sized(h)).sum::<u64>()
}

fn within(times: &[TimestampMs], (from, to): Edges) -> Range<usize> {
    let from = times.partition_point(|t| *t <= from);
    from..times.partition_point(|t| *t <= to).max(from)
}

fn sized(histogram: &Histogram) -> u64 {
    histogram.n_samples() as u64
}
