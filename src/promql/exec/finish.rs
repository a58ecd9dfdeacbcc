//! From columns to an answer: names removed, equal label sets joined, points listed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::{Labels, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::Frame;
use crate::promql::limits::QueryError;
use crate::promql::plan::Grid;
use crate::promql::value::{MatrixSeries, Point, PointValue, VectorSample};

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
            for (step, v) in row.iter() {
                if joined.row(place).get(step).is_some() {
                    return Err(QueryError::execution(clash(first, i)));
                }
                joined.row_mut(place).set(step, v);
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
                value: PointValue::Float(row.get(0)?),
            })
        })
        .collect()
}

/// Every series with its points, in label order.
pub(crate) fn to_matrix(frame: &Frame, grid: Grid) -> Vec<MatrixSeries> {
    let mut matrix: Vec<MatrixSeries> = frame
        .rows()
        .map(|(head, row)| MatrixSeries {
            labels: head.labels.clone(),
            points: row
                .iter()
                .map(|(i, v)| Point {
                    t: grid.time(i),
                    value: PointValue::Float(v),
                })
                .collect(),
        })
        .collect();
    sort_matrix(&mut matrix);
    matrix
}

/// Label order.
pub(crate) fn sort_matrix(matrix: &mut [MatrixSeries]) {
    matrix.sort_by(|left, right| left.labels.cmp(&right.labels));
}
