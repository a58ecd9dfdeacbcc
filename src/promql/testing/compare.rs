//! Is a result what was expected?

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Buckets, Histogram, Labels, Sample, TimestampMs, is_stale};
use crate::promql::testing::histogram::counted;
use crate::promql::testing::script::{EvalCase, Expected, Times};
use crate::promql::testing::series::{HistogramValue, SequenceValue};
use crate::promql::value::{HistogramPoint, MatrixSeries, PointValue, QueryValue, VectorSample};

/// Relative error allowed by [`Tolerance::Millionth`].
const EPSILON: f64 = 1e-6;

/// How far a float may be from what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// Not at all.
    Exact,
    /// It may be the next float up or down.
    Neighbour,
    /// By a millionth of it: what scripts allow.
    Millionth,
}

impl Tolerance {
    /// Is `found` close enough? NaN is equal to NaN, and a stale marker to a stale marker only.
    #[expect(clippy::float_cmp, reason = "exact equality is the first of the rules")]
    pub fn accepts(self, wanted: f64, found: f64) -> bool {
        if is_stale(wanted) || is_stale(found) {
            return is_stale(wanted) && is_stale(found);
        }
        if wanted.is_nan() && found.is_nan() || wanted == found {
            return true;
        }
        match self {
            Self::Exact => false,
            Self::Neighbour => wanted.next_up() == found || wanted.next_down() == found,
            Self::Millionth => {
                let sum = wanted.abs() + found.abs();
                let difference = (wanted - found).abs();
                if wanted == 0.0 || found == 0.0 || sum < f64::MIN_POSITIVE {
                    return difference < EPSILON * f64::MIN_POSITIVE;
                }
                difference / sum.min(f64::MAX) < EPSILON
            }
        }
    }

    /// The same for histograms: bounds and schema are equal, counts and sums close, empty buckets count for nothing.
    pub fn accepts_histogram(self, wanted: &HistogramValue, found: &Histogram) -> bool {
        let hint = wanted.histogram.reset_hint;
        let wanted_hint = wanted.hint_is_written.then_some(hint);
        let wanted = &*wanted.histogram;
        wanted_hint.is_none_or(|hint| hint == found.reset_hint)
            && wanted.schema == found.schema
            && has_same_bits(&wanted.custom_bounds, &found.custom_bounds)
            && has_same_bits(&[wanted.zero_threshold], &[found.zero_threshold])
            && self.accepts(wanted.count, found.count)
            && self.accepts(wanted.sum, found.sum)
            && self.accepts(wanted.zero_count, found.zero_count)
            && self.accepts_buckets(&wanted.positive, &found.positive)
            && self.accepts_buckets(&wanted.negative, &found.negative)
    }

    fn accepts_buckets(self, wanted: &Buckets, found: &Buckets) -> bool {
        let (wanted, found) = (counted(wanted), counted(found));
        wanted.len() == found.len()
            && wanted
                .iter()
                .zip(&found)
                .all(|(wanted, found)| wanted.0 == found.0 && self.accepts(*wanted.1, *found.1))
    }
}

fn has_same_bits(left: &[f64], right: &[f64]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| left.to_bits() == right.to_bits() || *left == 0.0 && *right == 0.0)
}

/// Compares; value `i` of a series stands at time `i` of `times`. The error says what differs.
pub(super) fn compare(case: &EvalCase, value: &QueryValue, times: Times) -> Result<(), String> {
    match (value, &case.expected) {
        (QueryValue::Scalar { v, .. }, Expected::Scalar(wanted)) => {
            if Tolerance::Millionth.accepts(*wanted, *v) {
                Ok(())
            } else {
                Err(format!("expected scalar {wanted}, got {v}"))
            }
        }
        (QueryValue::String { text, .. }, Expected::Text(wanted)) if text == wanted => Ok(()),
        (QueryValue::Vector(vector), Expected::Series(series)) => {
            let wanted: Vec<(&Labels, &SequenceValue)> = series
                .iter()
                .filter_map(|(labels, values)| Some((labels, values.first()?)))
                .collect();
            compare_vector(vector, &wanted, case.ordered, Tolerance::Millionth)
        }
        (QueryValue::Matrix(_), Expected::Series(_)) if case.ordered => {
            Err("expected an ordered result, got a matrix".to_owned())
        }
        (QueryValue::Matrix(matrix), Expected::Series(series)) => {
            compare_matrix(matrix, series, times)
        }
        (QueryValue::Columns(columns), Expected::Series(_)) => {
            let lists = QueryValue::Matrix(columns.to_matrix());
            compare(case, &lists, times)
        }
        (found, wanted) => Err(format!("expected {wanted:?}, got {found:?}")),
    }
}

/// Compares an instant vector with the series that are expected, each once. The error says what differs.
pub fn compare_vector(
    vector: &[VectorSample],
    wanted: &[(&Labels, &SequenceValue)],
    ordered: bool,
    tolerance: Tolerance,
) -> Result<(), String> {
    let places: BTreeMap<&Labels, (usize, &SequenceValue)> = wanted
        .iter()
        .enumerate()
        .map(|(position, (labels, value))| (*labels, (position, *value)))
        .collect();
    let mut seen = Vec::new();
    for (position, sample) in vector.iter().enumerate() {
        let labels = &sample.labels;
        let Some((wanted_position, value)) = places.get(labels) else {
            let found = show(&sample.value);
            return Err(format!("unexpected series {labels} with value {found}"));
        };
        if seen.contains(&labels) {
            return Err(format!("series {labels} is in the result twice"));
        }
        seen.push(labels);
        if ordered && *wanted_position != position {
            return Err(format!(
                "expected {labels} at position {wanted_position}, it is at {position}"
            ));
        }
        compare_value(value, &sample.value, tolerance).map_err(|why| format!("{labels}: {why}"))?;
    }
    match wanted.iter().find(|(labels, _)| !seen.contains(labels)) {
        Some((labels, _)) => Err(format!("expected series {labels} is missing")),
        None => Ok(()),
    }
}

fn compare_value(
    wanted: &SequenceValue,
    found: &PointValue,
    tolerance: Tolerance,
) -> Result<(), String> {
    let shown = match (wanted, found) {
        (SequenceValue::Float(wanted), PointValue::Float(v)) if tolerance.accepts(*wanted, *v) => {
            return Ok(());
        }
        (SequenceValue::Histogram(wanted), PointValue::Histogram(h))
            if tolerance.accepts_histogram(wanted, h) =>
        {
            return Ok(());
        }
        (SequenceValue::Float(wanted), _) => wanted.to_string(),
        (SequenceValue::Histogram(wanted), _) => format!("{:?}", wanted.histogram),
        (SequenceValue::Gap, _) => "no value".to_owned(),
    };
    Err(format!("expected {shown}, got {}", show(found)))
}

fn show(value: &PointValue) -> String {
    match value {
        PointValue::Float(v) => v.to_string(),
        PointValue::Histogram(h) => format!("{h:?}"),
    }
}

fn compare_matrix(
    matrix: &[MatrixSeries],
    series: &[(Labels, Vec<SequenceValue>)],
    times: Times,
) -> Result<(), String> {
    if !matrix.is_sorted_by(|left, right| left.labels < right.labels) {
        return Err("the matrix is not sorted by labels, or has a series twice".to_owned());
    }
    let wanted: BTreeMap<&Labels, &Vec<SequenceValue>> = series
        .iter()
        .map(|(labels, values)| (labels, values))
        .collect();
    for found in matrix {
        let points = points_of(&found.floats, &found.histograms)?;
        let Some(values) = wanted.get(&found.labels) else {
            let points = show_points(&points);
            return Err(format!("unexpected series {}: {points}", found.labels));
        };
        compare_points(&points, values, times)
            .map_err(|why| format!("{}: {why}; got {}", found.labels, show_points(&points)))?;
    }
    let is_found = |labels: &Labels| matrix.iter().any(|found| found.labels == *labels);
    match series.iter().find(|(labels, _)| !is_found(labels)) {
        Some((labels, _)) => Err(format!("expected series {labels} is missing")),
        None => Ok(()),
    }
}

type Points = BTreeMap<TimestampMs, PointValue>;

/// Floats and histograms of a series by time, which has one of them or the other.
fn points_of(floats: &[Sample], histograms: &[HistogramPoint]) -> Result<Points, String> {
    let floats = floats
        .iter()
        .map(|sample| (sample.t, PointValue::Float(sample.v)));
    let histograms = histograms
        .iter()
        .map(|point| (point.t, PointValue::Histogram(Arc::clone(&point.histogram))));
    let mut points = Points::new();
    for (t, value) in floats.chain(histograms) {
        if points.insert(t, value).is_some() {
            return Err(format!("two points at {t}"));
        }
    }
    Ok(points)
}

fn compare_points(points: &Points, values: &[SequenceValue], times: Times) -> Result<(), String> {
    let mut n_wanted = 0;
    let mut t = times.start;
    for value in values {
        if times.end < t {
            return Err("more values are expected than the range has steps".to_owned());
        }
        match (value, points.get(&t)) {
            (SequenceValue::Gap, None) => (),
            (SequenceValue::Gap, Some(found)) => {
                return Err(format!("at {t}: expected no value, got {}", show(found)));
            }
            (_, None) => return Err(format!("expected a point at {t}, got nothing")),
            (_, Some(found)) => {
                n_wanted += 1;
                compare_value(value, found, Tolerance::Millionth)
                    .map_err(|why| format!("at {t}: {why}"))?;
            }
        }
        t += times.step_ms;
    }
    if points.len() == n_wanted {
        Ok(())
    } else {
        Err(format!(
            "{n_wanted} points are expected, got {}",
            points.len()
        ))
    }
}

fn show_points(points: &Points) -> String {
    let shown: Vec<String> = points
        .iter()
        .map(|(t, value)| format!("{}@{t}", show(value)))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_nan;
    use crate::promql::testing::parse_series;

    #[test]
    fn floats_compare_with_the_tolerance_asked_for() {
        use Tolerance::{Exact, Millionth, Neighbour};
        for (tolerance, left, right, expect) in [
            (Millionth, 1.0, 1.0, true),
            (Millionth, 1.0, 1.000_001, true),
            (Millionth, f64::NAN, -f64::NAN, true),
            (Millionth, f64::INFINITY, f64::INFINITY, true),
            (Millionth, 0.0, -0.0, true),
            (Millionth, 1e300, 1.000_000_5e300, true),
            (Millionth, stale_nan(), stale_nan(), true),
            (Millionth, 1.0, 1.000_003, false),
            (Millionth, 0.0, 1e-300, false),
            (Millionth, f64::INFINITY, f64::NEG_INFINITY, false),
            (Millionth, f64::NAN, 1.0, false),
            (Millionth, f64::NAN, stale_nan(), false),
            (Millionth, 1.0, -1.0, false),
            (Exact, 1.0, 1.0, true),
            (Exact, f64::NAN, f64::NAN, true),
            (Exact, 1.0, 1.0f64.next_up(), false),
            (Neighbour, 1.0, 1.0f64.next_up(), true),
            (Neighbour, 1.0, 1.0f64.next_down(), true),
            (Neighbour, 1.0, 1.0f64.next_up().next_up(), false),
        ] {
            assert_eq!(
                tolerance.accepts(left, right),
                expect,
                "{tolerance:?} {left} {right}"
            );
        }
    }

    #[track_caller]
    fn check_histogram(wanted: &str, found: &str, expect: bool) {
        let value = |text: &str| {
            let (_, mut values) = parse_series(&format!("h {text}")).unwrap();
            match values.pop() {
                Some(SequenceValue::Histogram(value)) => value,
                other => panic!("{other:?}"),
            }
        };
        let (wanted, found) = (value(wanted), value(found));
        let is_accepted = Tolerance::Millionth.accepts_histogram(&wanted, &found.histogram);
        assert_eq!(is_accepted, expect, "{wanted:?} {found:?}");
    }

    #[test]
    fn histograms_compare_by_what_counts() {
        let base =
            "{{schema:1 sum:5 count:3 z_bucket:1 z_bucket_w:0.5 buckets:[1 0 2] n_buckets:[4]}}";
        check_histogram(base, base, true);
        check_histogram("{{buckets:[0 1 0]}}", "{{buckets:[1] offset:1}}", true);
        check_histogram("{{sum:1}}", "{{sum:1.0000001}}", true);
        check_histogram("{{}}", "{{counter_reset_hint:gauge}}", true);
        check_histogram(
            "{{counter_reset_hint:unknown}}",
            "{{counter_reset_hint:gauge}}",
            false,
        );
        check_histogram("{{buckets:[1]}}", "{{buckets:[1.1]}}", false);
        check_histogram("{{buckets:[1]}}", "{{buckets:[1] offset:1}}", false);
        for other in [
            base.replace("schema:1", "schema:2"),
            base.replace("sum:5", "sum:6"),
            base.replace("count:3", "count:4"),
            base.replace("z_bucket:1", "z_bucket:2"),
            base.replace("z_bucket_w:0.5", "z_bucket_w:0.25"),
            base.replace("[4]", "[4 1]"),
            base.replace("}}", " custom_values:[1]}}"),
        ] {
            check_histogram(base, &other, false);
        }
    }
}
