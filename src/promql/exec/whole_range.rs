//! Range vectors by themselves, and the points of subqueries.

use std::sync::Arc;

use crate::model::{Histogram, ResetHint, Sample};
use crate::promql::exec::Evaluator;
use crate::promql::exec::booking::Booking;
use crate::promql::exec::finish::{sort_matrix, without_metric};
use crate::promql::exec::frame::{Cell, Head};
use crate::promql::exec::source::Samples;
use crate::promql::exec::tally::Tally;
use crate::promql::functions::{RangeFn, extended};
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::Extend;
use crate::promql::plan::{Grid, Range, RangeSource, Subquery};
use crate::promql::value::{HistogramPoint, MatrixSeries};
use crate::storage::Windows;

impl Evaluator {
    /// A range vector by itself, at the only time of an instant query.
    pub(crate) fn whole_range(
        &self,
        range: &Range,
        grid: Grid,
    ) -> Result<Vec<MatrixSeries>, QueryError> {
        let slide = self.slide(range, grid, RangeFn::LastOverTime);
        let mut matrix = Vec::new();
        let mut booking = Booking::new(&self.budget);
        let mut living = Samples::default();
        let (mut anchored_t, mut anchored_v) = (Vec::new(), Vec::new());
        let mut add = |head: Head, samples: &Samples| {
            samples.copy_without_stale(&mut living);
            let mut floats = Vec::new();
            let mut histograms = Vec::new();
            let n = slide.each_mixed(&living, &self.budget, |_, w| {
                let (mut t, mut v) = (w.floats.t, w.floats.v);
                if let Some(extend) = slide.extend
                    && !t.is_empty()
                {
                    let is_smoothed = extend == Extend::Smoothed;
                    extended::anchor(&w.floats, is_smoothed, &mut anchored_t, &mut anchored_v);
                    (t, v) = (&anchored_t, &anchored_v);
                }
                floats.extend(t.iter().zip(v).map(|(t, v)| Sample { t: *t, v: *v }));
                histograms.extend(w.ht.iter().zip(w.h).map(|(t, h)| HistogramPoint {
                    t: *t,
                    histogram: Arc::clone(h),
                }));
            })?;
            if !histograms.is_empty()
                && let Some(extend) = slide.extend
            {
                return Err(no_histograms(extend));
            }
            if let RangeSource::Samples(_) = &range.source {
                self.tally.add(n, n);
                self.tally.at(grid.start, n, n);
            }
            let (n_held, n_bytes) = held(&floats, &histograms);
            booking.add(n_held)?;
            self.answer.add(n_bytes)?;
            if !floats.is_empty() || !histograms.is_empty() {
                let labels = if head.drop_name {
                    without_metric(&head.labels)
                } else {
                    head.labels
                };
                matrix.push(MatrixSeries {
                    labels,
                    floats,
                    histograms,
                });
            }
            Ok(())
        };
        match &range.source {
            RangeSource::Samples(leaf) => {
                let selected = self.selected.get(leaf.selector);
                let mut scratch = Samples::booked(&self.budget);
                for series in selected.iter().flat_map(|selected| &selected.series) {
                    self.budget.check()?;
                    let Some(selected) = selected else { break };
                    let what = (Windows::of(selected.interval()), leaf.reading);
                    let samples = selected.samples(series, &mut scratch, what)?;
                    add(Head::new(series.labels.clone()), samples)?;
                }
            }
            RangeSource::Subquery(subquery) => {
                let n = self.over_subquery(range, subquery, grid, add)?;
                self.tally.add(n, 0);
                self.tally.at(grid.start, n, 0);
            }
        }
        sort_matrix(matrix, &self.budget)
    }

    /// Hands over the points of every series of a subquery, in order. Tells how many samples were read for them, which do
    /// not count beside the points themselves.
    pub(crate) fn over_subquery(
        &self,
        range: &Range,
        subquery: &Subquery,
        grid: Grid,
        mut each: impl FnMut(Head, &Samples) -> Result<(), QueryError>,
    ) -> Result<u64, QueryError> {
        let inner_grid = grid.subquery(
            range.range_ms,
            subquery.offset_ms,
            subquery.at,
            subquery.step_ms,
        );
        let has_gaps = range.range_ms < grid.step_ms;
        let tells_steps = 1 < grid.n && (has_gaps || self.tally.is_per_step());
        let evaluator = self.apart(Tally::new(inner_grid, tells_steps));
        // Booked before anything is evaluated: one series at all these times is the least it takes.
        let mut samples = Samples::booked(&self.budget);
        samples.book_floats(inner_grid.n)?;
        let inner = evaluator.vector(&subquery.expr, inner_grid)?;
        for (head, row) in inner.rows() {
            self.budget.check()?;
            samples.clear();
            for (i, cell) in row.cells() {
                match cell {
                    Cell::Float(v) => {
                        samples.t.push(inner_grid.time(i));
                        samples.v.push(v);
                    }
                    Cell::Histogram(histogram) => {
                        samples.ht.push(inner_grid.time(i));
                        samples.h.push(forget_reset(histogram));
                    }
                }
            }
            each(head.clone(), &samples)?;
        }
        let shift = (range.range_ms, subquery.offset_ms);
        self.tally.add_subquery(&evaluator.tally, grid, shift);
        Ok(evaluator.tally.queried())
    }
}

/// What a sample says of the one before it is not true of the points of a subquery: some samples are left out, others
/// come twice.
fn forget_reset(histogram: &Arc<Histogram>) -> Arc<Histogram> {
    match histogram.reset_hint {
        ResetHint::Reset | ResetHint::NotReset => Arc::new(Histogram {
            reset_hint: ResetHint::Unknown,
            ..Histogram::clone(histogram)
        }),
        ResetHint::Unknown | ResetHint::Gauge => Arc::clone(histogram),
    }
}

/// Samples and bytes of the points of one series; histograms by their size.
fn held(floats: &[Sample], histograms: &[HistogramPoint]) -> (usize, usize) {
    let mut n_samples = floats.len();
    let mut n_bytes = size_of::<MatrixSeries>() + size_of_val(floats);
    for point in histograms {
        n_samples += point.histogram.n_samples();
        n_bytes += point.histogram.n_bytes();
    }
    (n_samples, n_bytes)
}

fn no_histograms(extend: Extend) -> QueryError {
    let modifier = match extend {
        Extend::Anchored => "anchored",
        Extend::Smoothed => "smoothed",
    };
    QueryError::Execution(format!(
        "{modifier} modifier is not supported with histograms"
    ))
}
