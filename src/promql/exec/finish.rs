//! From columns to an answer: names removed, equal label sets joined, points listed.

#![expect(
    clippy::indexing_slicing,
    reason = "places of series are those they were pushed at"
)]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::model::{Labels, Sample, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::{Booking, Frame};
use crate::promql::limits::{Budget, QueryError};
use crate::promql::plan::Grid;
use crate::promql::value::{HistogramPoint, MatrixSeries, VectorSample};

/// What Prometheus says when two results would have the same labels.
pub(crate) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// The labels that describe a metric rather than a series: they go together.
const METRIC_LABELS: [&str; 3] = ["__name__", "__type__", "__unit__"];

/// Without name, type and unit.
pub(crate) fn without_metric(labels: &Labels) -> Labels {
    labels.filtered(|name| !METRIC_LABELS.contains(&name))
}

/// Takes the names of marked series.
pub(crate) fn remove_names(frame: &mut Frame) {
    for head in frame.heads_mut() {
        if head.drop_name {
            head.labels = without_metric(&head.labels);
            head.drop_name = false;
        }
    }
}

/// No two series may have the same labels.
pub(crate) fn refuse_same_labels(frame: &Frame) -> Result<(), QueryError> {
    let mut seen = HashMap::with_capacity(frame.len());
    for head in frame.heads() {
        if seen.insert(head.labels.key(), ()).is_some() {
            return Err(QueryError::execution(SAME_LABELSET));
        }
    }
    Ok(())
}

impl Evaluator {
    /// Takes the names of marked series; series that are then the same become one unless both have a value at a step.
    pub(crate) fn finish(&self, mut frame: Frame) -> Result<Frame, QueryError> {
        remove_names(&mut frame);
        self.join_same_labels(frame)
    }

    /// Series with the same labels become one; two values at one step are an error.
    pub(crate) fn join_same_labels(&self, frame: Frame) -> Result<Frame, QueryError> {
        self.join_rows(frame, |_, _| SAME_LABELSET)
    }

    /// The same, with an error text of the caller's for the two positions.
    pub(crate) fn join_rows(
        &self,
        frame: Frame,
        clash: impl Fn(usize, usize) -> &'static str,
    ) -> Result<Frame, QueryError> {
        let mut first_of: HashMap<SeriesKey, usize> = HashMap::with_capacity(frame.len());
        let mut joins = Vec::with_capacity(frame.len());
        for (i, head) in frame.heads().iter().enumerate() {
            joins.push(match first_of.entry(head.labels.key()) {
                Entry::Occupied(first) => *first.get(),
                Entry::Vacant(vacant) => *vacant.insert(i),
            });
        }
        if first_of.len() == frame.len() {
            return Ok(frame);
        }
        let mut joined = Frame::new(frame.n_steps(), &self.budget);
        let mut place_of: HashMap<usize, usize> = HashMap::with_capacity(first_of.len());
        for (i, first) in joins.into_iter().enumerate() {
            let row = frame.row(i);
            if i == first {
                place_of.insert(i, joined.len());
                joined.push_row(frame.head(i).clone(), row);
                continue;
            }
            let Some(place) = place_of.get(&first).copied() else {
                continue;
            };
            for (step, cell) in row.cells() {
                if joined.row(place).is_present(step) {
                    return Err(QueryError::execution(clash(first, i)));
                }
                joined.row_mut(place).set_cell(step, cell);
            }
            if let Some(head) = joined.heads_mut().get_mut(place) {
                head.drop_name |= frame.head(i).drop_name;
            }
        }
        joined.settle(&self.budget)?;
        Ok(joined)
    }
}

/// Every series at the only step.
pub(crate) fn to_vector(frame: &Frame, t: i64) -> Vec<VectorSample> {
    frame
        .rows()
        .filter_map(|(head, row)| {
            Some(VectorSample {
                labels: head.labels.clone(),
                t,
                value: row.cell(0)?.to_point(),
            })
        })
        .collect()
}

/// The answer of a range query, slice by slice.
#[derive(Debug)]
pub(crate) struct Matrix {
    series: Vec<MatrixSeries>,
    place_of: HashMap<SeriesKey, usize>,
    booking: Booking,
}

impl Matrix {
    /// No series yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            series: Vec::new(),
            place_of: HashMap::new(),
            booking: Booking::new(budget),
        }
    }

    /// Appends a vector at every step of the next slice.
    pub(crate) fn add(&mut self, frame: Frame, slice: Grid) -> Result<(), QueryError> {
        let mut n = 0;
        for (head, row) in frame.rows() {
            let n_points = row.count();
            n += n_points;
            let series = self.series(&head.labels, n_points);
            series.floats.extend(row.iter().map(|(i, v)| Sample {
                t: slice.time(i),
                v,
            }));
            for (i, histogram) in row.histograms() {
                n += histogram.n_samples();
                series.histograms.push(HistogramPoint {
                    t: slice.time(i),
                    histogram: Arc::clone(histogram),
                });
            }
        }
        // Every point counts once: in the frame until here, from here on in the answer.
        drop(frame);
        self.booking.add(n)
    }

    /// Appends a scalar at every step of the next slice, as a series without labels.
    pub(crate) fn add_scalar(&mut self, values: &[f64], slice: Grid) -> Result<(), QueryError> {
        self.booking.add(values.len())?;
        let series = self.series(&Labels::empty(), values.len());
        series
            .floats
            .extend(values.iter().enumerate().map(|(i, v)| Sample {
                t: slice.time(i),
                v: *v,
            }));
        Ok(())
    }

    fn series(&mut self, labels: &Labels, n_points: usize) -> &mut MatrixSeries {
        let next = self.series.len();
        let place = *self.place_of.entry(labels.key()).or_insert(next);
        if place == next {
            self.series.push(MatrixSeries {
                labels: labels.clone(),
                floats: Vec::with_capacity(n_points),
                histograms: Vec::new(),
            });
        }
        &mut self.series[place]
    }

    /// All series in label order.
    pub(crate) fn into_sorted(mut self) -> Vec<MatrixSeries> {
        sort_matrix(&mut self.series);
        self.series
    }
}

/// Label order.
pub(crate) fn sort_matrix(matrix: &mut [MatrixSeries]) {
    matrix.sort_by(|left, right| left.labels.cmp(&right.labels));
}
