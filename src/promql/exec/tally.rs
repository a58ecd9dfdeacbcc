//! What evaluation counts: samples handed to operators, in all and, where somebody asked for it, step by step.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Histogram, TimestampMs};
use crate::promql::exec::frame::Row;
use crate::promql::exec::source::Samples;
use crate::promql::plan::Grid;

/// Samples handed to operators; a histogram counts by its size.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    queried: AtomicU64,
    steps: Option<Steps>,
}

/// The same by step of the query.
#[derive(Debug)]
struct Steps {
    grid: Grid,
    queried: Vec<AtomicU64>,
}

impl Tally {
    /// Nothing counted; `per_step` says whether steps of `grid` are told apart.
    pub(crate) fn new(grid: Grid, per_step: bool) -> Self {
        Self {
            queried: AtomicU64::new(0),
            steps: per_step.then(|| Steps {
                grid,
                queried: (0..grid.n).map(|_| AtomicU64::new(0)).collect(),
            }),
        }
    }

    /// All samples.
    pub(crate) fn queried(&self) -> u64 {
        self.queried.load(Ordering::Relaxed)
    }

    /// Does anybody want to know by step?
    pub(crate) fn is_per_step(&self) -> bool {
        self.steps.is_some()
    }

    /// Counts samples of no particular step.
    pub(crate) fn add(&self, n: u64) {
        self.queried.fetch_add(n, Ordering::Relaxed);
    }

    /// Tells apart what [`Self::add`] counted: `n` of it were of the step at `t`.
    pub(crate) fn at(&self, t: TimestampMs, n: u64) {
        let Some(steps) = &self.steps else { return };
        let behind = t.saturating_sub(steps.grid.start) / steps.grid.step_ms;
        let step = usize::try_from(behind).unwrap_or(usize::MAX);
        if let Some(count) = steps.queried.get(step) {
            count.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// The values of a selector's row, each of the step at its time.
    pub(crate) fn row(&self, row: Row<'_>, grid: Grid) {
        for (step, _) in row.iter() {
            self.at(grid.time(step), 1);
        }
        for (step, histogram) in row.histograms() {
            self.at(grid.time(step), histogram.n_samples() as u64);
        }
    }

    /// The samples of every step's window, from after `edges.0` to `edges.1`.
    pub(crate) fn windows(
        &self,
        samples: &Samples,
        grid: Grid,
        edges: impl Fn(usize) -> (TimestampMs, TimestampMs),
    ) {
        let within = |times: &[i64], (from, to): (i64, i64)| {
            times.partition_point(|t| *t <= from)..times.partition_point(|t| *t <= to)
        };
        for step in 0..grid.n {
            let edges = edges(step);
            let floats = within(&samples.t, edges).len() as u64;
            let window = samples.h.get(within(&samples.ht, edges));
            let histograms = window.into_iter().flatten().map(|h| sized(h)).sum::<u64>();
            self.at(grid.time(step), floats + histograms);
        }
    }

    /// By step, when that was asked for.
    pub(crate) fn steps(&self) -> Vec<(TimestampMs, u64)> {
        let Some(steps) = &self.steps else {
            return Vec::new();
        };
        let counts = steps.queried.iter().map(|n| n.load(Ordering::Relaxed));
        steps.grid.times().zip(counts).collect()
    }
}

fn sized(histogram: &Histogram) -> u64 {
    histogram.n_samples() as u64
}
