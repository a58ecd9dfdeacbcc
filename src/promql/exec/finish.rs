//! From columns to an answer: names removed, equal label sets joined, points listed.

#![expect(
    clippy::indexing_slicing,
    reason = "places of series are those they were pushed at"
)]

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::model::{Labels, Sample, SeriesKey, SortKeys};
use crate::promql::exec::Evaluator;
use crate::promql::exec::booking::Booking;
use crate::promql::exec::frame::{Frame, Head, ones};
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::Hold;
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
pub(crate) fn remove_names(frame: &mut Frame, budget: &Budget) -> Result<(), QueryError> {
    for (i, head) in frame.heads_mut().iter_mut().enumerate() {
        budget.every(i)?;
        if head.drop_name {
            head.labels = without_metric(&head.labels);
            head.drop_name = false;
        }
    }
    Ok(())
}

/// No two series may have the same labels.
pub(crate) fn refuse_same_labels(frame: &Frame, budget: &Budget) -> Result<(), QueryError> {
    let mut seen = HashMap::with_capacity(frame.len());
    for (i, head) in frame.heads().iter().enumerate() {
        budget.every(i)?;
        if seen.insert(head.labels.key(), ()).is_some() {
            return Err(QueryError::execution(SAME_LABELSET));
        }
    }
    Ok(())
}

/// Has every series other labels, and are they in order? Series of a selector are, mostly.
fn in_label_order(frame: &Frame, budget: &Budget) -> Result<bool, QueryError> {
    for (i, pair) in frame.heads().windows(2).enumerate() {
        budget.every(i)?;
        if let [left, right] = pair
            && left.labels >= right.labels
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Below this many series comparing is cheaper than making keys.
const KEYED_MIN: usize = 8;

/// Keys that are made of one series, each of what those behind the last have not in common, before labels are compared.
const KEYS_MAX: usize = 4;

/// Rows in the order of their labels.
fn by_labels(
    heads: &[Head],
    rows: Vec<u32>,
    keys_max: usize,
    budget: &Budget,
) -> Result<Vec<u32>, QueryError> {
    let labels = |row: u32| &heads[row as usize].labels;
    let compared = |rows| sorted(rows, budget, |l: &u32, r: &u32| labels(*l).cmp(labels(*r)));
    if rows.len() < KEYED_MIN || keys_max == 0 {
        return compared(rows);
    }
    let keys = SortKeys::of(rows.iter().map(|row| labels(*row)));
    let mut keyed = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        budget.every(i)?;
        match keys.key(labels(*row)) {
            Some(key) => keyed.push((key, *row)),
            None => return compared(rows),
        }
    }
    let keyed = sorted(keyed, budget, |left, right| left.0.cmp(&right.0))?;
    let mut order = Vec::with_capacity(keyed.len());
    for alike in keyed.chunk_by(|left, right| left.0 == right.0) {
        let rows = alike.iter().map(|(_, row)| *row);
        match alike.len() {
            1 => order.extend(rows),
            _ => order.append(&mut by_labels(heads, rows.collect(), keys_max - 1, budget)?),
        }
    }
    Ok(order)
}

impl Evaluator {
    /// Takes the names of marked series; series that are then the same become one unless both have a value at a step.
    pub(crate) fn finish(&self, mut frame: Frame) -> Result<Frame, QueryError> {
        remove_names(&mut frame, &self.budget)?;
        self.join_same_labels(frame)
    }

    /// The same, and the order of the series by labels.
    pub(crate) fn finish_in_order(
        &self,
        mut frame: Frame,
    ) -> Result<(Frame, Vec<u32>), QueryError> {
        remove_names(&mut frame, &self.budget)?;
        let order = self.label_order(&frame)?;
        let labels = |row: &u32| &frame.heads()[*row as usize].labels;
        if !order.is_sorted_by(|left, right| labels(left) != labels(right)) {
            let joined = self.join_same_labels(frame)?;
            let order = self.label_order(&joined)?;
            return Ok((joined, order));
        }
        Ok((frame, order))
    }

    fn label_order(&self, frame: &Frame) -> Result<Vec<u32>, QueryError> {
        let heads = frame.heads();
        let _keyed = Hold::with(&self.budget, heads.len() * 2 * size_of::<(u128, u32)>())?;
        let rows = (0..).take(heads.len()).collect();
        // Blocks have their series in order.
        let order = if in_label_order(frame, &self.budget)? {
            rows
        } else {
            by_labels(heads, rows, KEYS_MAX, &self.budget)?
        };
        self.answer.add(order.len() * size_of::<u32>())?;
        Ok(order)
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
        if in_label_order(&frame, &self.budget)? {
            return Ok(frame);
        }
        let place_bytes = size_of::<(SeriesKey, usize)>() + size_of::<(usize, usize)>();
        let _places = Hold::with(&self.budget, frame.len().saturating_mul(2 * place_bytes))?;
        let mut first_of: HashMap<SeriesKey, usize> = HashMap::with_capacity(frame.len());
        let mut joins = Vec::with_capacity(frame.len());
        for (i, head) in frame.heads().iter().enumerate() {
            self.budget.every(i)?;
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
            self.budget.every(i)?;
            let row = frame.row(i);
            if i == first {
                place_of.insert(i, joined.len());
                joined.push_row(frame.head(i).clone(), row);
                continue;
            }
            let Some(place) = place_of.get(&first).copied() else {
                continue;
            };
            // The earliest sample decides whether the name stays.
            let is_earlier = ones(row.present).next() < ones(joined.row(place).present).next();
            for (step, cell) in row.cells() {
                if joined.row(place).is_present(step) {
                    return Err(QueryError::execution(clash(first, i)));
                }
                joined.row_mut(place).set_cell(step, cell);
            }
            if let Some(head) = joined.heads_mut().get_mut(place)
                && is_earlier
            {
                head.drop_name = frame.head(i).drop_name;
            }
        }
        joined.settle(&self.budget)?;
        Ok(joined)
    }
}

/// Every series at the only step.
pub(crate) fn to_vector(
    frame: &Frame,
    t: i64,
    budget: &Budget,
) -> Result<Vec<VectorSample>, QueryError> {
    let mut samples = Vec::with_capacity(frame.len());
    for (i, (head, row)) in frame.rows().enumerate() {
        budget.every(i)?;
        samples.extend(row.cell(0).map(|cell| VectorSample {
            labels: head.labels.clone(),
            t,
            value: cell.to_point(),
        }));
    }
    Ok(samples)
}

/// The answer of a range query, slice by slice.
#[derive(Debug)]
pub(crate) struct Matrix<'a> {
    series: Vec<MatrixSeries>,
    place_of: HashMap<SeriesKey, usize>,
    booking: Booking,
    budget: &'a Budget,
    /// What the answer takes.
    held: &'a Hold,
    n_bytes: usize,
}

impl<'a> Matrix<'a> {
    /// No series yet.
    pub(crate) fn new(budget: &'a Arc<Budget>, held: &'a Hold) -> Self {
        Self {
            series: Vec::new(),
            place_of: HashMap::new(),
            booking: Booking::new(budget),
            budget,
            held,
            n_bytes: 0,
        }
    }

    /// Appends a vector at every step of the next slice.
    pub(crate) fn add(&mut self, frame: Frame, slice: Grid) -> Result<(), QueryError> {
        let mut n = 0;
        for (i, (head, row)) in frame.rows().enumerate() {
            self.budget.every(i)?;
            let n_points = row.count();
            n += n_points;
            let histograms = row.histograms();
            self.n_bytes += histograms
                .map(|(_, h)| size_of::<HistogramPoint>() + h.n_bytes())
                .sum::<usize>();
            let series = self.series(&head.labels, n_points)?;
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
        let series = self.series(&Labels::empty(), values.len())?;
        series
            .floats
            .extend(values.iter().enumerate().map(|(i, v)| Sample {
                t: slice.time(i),
                v: *v,
            }));
        Ok(())
    }

    /// The series with these labels, with room for `n_points` more.
    fn series(
        &mut self,
        labels: &Labels,
        n_points: usize,
    ) -> Result<&mut MatrixSeries, QueryError> {
        let next = self.series.len();
        let place = *self.place_of.entry(labels.key()).or_insert(next);
        self.n_bytes += n_points * size_of::<Sample>();
        if place == next {
            self.n_bytes += ANSWER_SERIES_BYTES;
            self.held.prepay(self.n_bytes)?;
            self.series.push(MatrixSeries {
                labels: labels.clone(),
                floats: Vec::with_capacity(n_points),
                histograms: Vec::new(),
            });
        } else {
            self.held.prepay(self.n_bytes)?;
            self.series[place].floats.reserve_exact(n_points);
        }
        Ok(&mut self.series[place])
    }

    /// All series in label order.
    pub(crate) fn into_sorted(self) -> Result<Vec<MatrixSeries>, QueryError> {
        sort_matrix(self.series, self.budget)
    }
}

/// What a series of an answer takes beside its points: itself, and its place among the others.
const ANSWER_SERIES_BYTES: usize =
    size_of::<MatrixSeries>() + size_of::<(SeriesKey, usize)>() + size_of::<usize>();

/// Label order.
pub(crate) fn sort_matrix(
    matrix: Vec<MatrixSeries>,
    budget: &Budget,
) -> Result<Vec<MatrixSeries>, QueryError> {
    sorted(matrix, budget, |left, right| left.labels.cmp(&right.labels))
}

/// Elements that are sorted before somebody asks whether to go on.
const SORTED_BETWEEN_CHECKS: usize = 4096;

/// A stable sort that ends when the query does.
pub(crate) fn sorted<T>(
    items: Vec<T>,
    budget: &Budget,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, QueryError> {
    let mut runs: Vec<Vec<T>> = Vec::new();
    let mut rest = items.into_iter();
    loop {
        let mut run: Vec<T> = rest.by_ref().take(SORTED_BETWEEN_CHECKS).collect();
        if run.is_empty() && !runs.is_empty() {
            break;
        }
        budget.check()?;
        run.sort_by(&compare);
        let is_last = run.len() < SORTED_BETWEEN_CHECKS;
        match runs.last_mut() {
            // What comes in order already, as series of a selector do, is only appended.
            Some(last) if in_order(last, &run, &compare) => last.append(&mut run),
            _ => runs.push(run),
        }
        if is_last {
            break;
        }
    }
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            merged.push(match pairs.next() {
                Some(right) => merge(left, right, budget, &compare)?,
                None => left,
            });
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

fn in_order<T>(left: &[T], right: &[T], compare: impl Fn(&T, &T) -> Ordering) -> bool {
    match (left.last(), right.first()) {
        (Some(last), Some(first)) => compare(last, first).is_le(),
        _ => true,
    }
}

fn merge<T>(
    left: Vec<T>,
    right: Vec<T>,
    budget: &Budget,
    compare: impl Fn(&T, &T) -> Ordering,
) -> Result<Vec<T>, QueryError> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(first), Some(second)) = (left.peek(), right.peek()) {
        if merged.len() % SORTED_BETWEEN_CHECKS == 0 {
            budget.check()?;
        }
        let next = if compare(first, second).is_le() {
            left.next()
        } else {
            right.next()
        };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::Config;

    use super::*;
    use crate::foundation::{Cancel, ManualClock};

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        #[test]
        fn rows_are_ordered_as_their_labels_compare(
            values in prop::collection::vec(
                prop::collection::vec(prop_oneof![
                    4 => "[ab]{0,2}", 2 => "a{15,40}[ab]?", 1 => "[\0a]{1,2}",
                ], 3),
                0..40,
            ),
        ) {
            let heads: Vec<Head> = values
                .iter()
                .map(|v| Head::new(Labels::new(&[("a", &v[0]), ("b", &v[1]), ("c", &v[2])]).unwrap()))
                .collect();
            let clock = Arc::new(ManualClock::new(0));
            let budget = Budget::new(0, Cancel::new(), clock, i64::MAX);
            let rows = (0..).take(heads.len()).collect();
            let order = by_labels(&heads, rows, KEYS_MAX, &budget).unwrap();
            let mut found: Vec<u32> = order.clone();
            found.sort_unstable();
            prop_assert_eq!(found, (0..).take(heads.len()).collect::<Vec<u32>>());
            let labels = order.iter().map(|row| &heads[*row as usize].labels);
            prop_assert!(labels.is_sorted());
        }
    }
}
