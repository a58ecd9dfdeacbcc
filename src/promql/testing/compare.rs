//! Is a result what was expected? Floats compare with a relative error of a millionth.

use std::collections::BTreeMap;

use crate::model::{Labels, Sample, is_stale};
use crate::promql::testing::script::{EvalCase, Expected, Times};
use crate::promql::testing::series::SequenceValue;
use crate::promql::value::{MatrixSeries, PointValue, QueryValue, VectorSample};

/// Relative error allowed.
const EPSILON: f64 = 1e-6;

/// Equal, both NaN (both stale or neither), or closer than the allowed error.
#[expect(clippy::float_cmp, reason = "exact equality is the first of the rules")]
pub(super) fn almost_equal(left: f64, right: f64) -> bool {
    if is_stale(left) || is_stale(right) {
        return is_stale(left) && is_stale(right);
    }
    if left.is_nan() && right.is_nan() || left == right {
        return true;
    }
    let sum = left.abs() + right.abs();
    let difference = (left - right).abs();
    if left == 0.0 || right == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

/// Compares; value `i` of a series stands at time `i` of `times`. The error says what differs.
pub(super) fn compare(case: &EvalCase, value: &QueryValue, times: Times) -> Result<(), String> {
    match (value, &case.expected) {
        (QueryValue::Scalar { v, .. }, Expected::Scalar(wanted)) => {
            if almost_equal(*v, *wanted) {
                Ok(())
            } else {
                Err(format!("expected scalar {wanted}, got {v}"))
            }
        }
        (QueryValue::String { text, .. }, Expected::Text(wanted)) if text == wanted => Ok(()),
        (QueryValue::Vector(vector), Expected::Series(series)) => {
            compare_vector(vector, series, case.ordered)
        }
        (QueryValue::Matrix(_), Expected::Series(_)) if case.ordered => {
            Err("expected an ordered result, got a matrix".to_owned())
        }
        (QueryValue::Matrix(matrix), Expected::Series(series)) => {
            compare_matrix(matrix, series, times)
        }
        (found, wanted) => Err(format!("expected {wanted:?}, got {found:?}")),
    }
}

fn compare_vector(
    vector: &[VectorSample],
    series: &[(Labels, Vec<SequenceValue>)],
    ordered: bool,
) -> Result<(), String> {
    let wanted: BTreeMap<&Labels, (usize, &SequenceValue)> = series
        .iter()
        .enumerate()
        .filter_map(|(position, (labels, values))| {
            values.first().map(|value| (labels, (position, value)))
        })
        .collect();
    let mut seen = Vec::new();
    for (position, sample) in vector.iter().enumerate() {
        let labels = &sample.labels;
        let PointValue::Float(found) = sample.value else {
            return Err(format!("unexpected histogram for {labels}"));
        };
        let Some((wanted_position, value)) = wanted.get(labels) else {
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
        match value {
            SequenceValue::Float(wanted) if almost_equal(*wanted, found) => (),
            SequenceValue::Float(wanted) => {
                return Err(format!("expected {wanted} for {labels}, got {found}"));
            }
            SequenceValue::Histogram(_) => {
                return Err(format!("expected a histogram for {labels}, got {found}"));
            }
            SequenceValue::Gap => return Err(format!("expected no value for {labels}")),
        }
    }
    match series.iter().find(|(labels, _)| !seen.contains(&labels)) {
        Some((labels, _)) => Err(format!("expected series {labels} is missing")),
        None => Ok(()),
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
        if let Some(point) = found.histograms.first() {
            let labels = &found.labels;
            return Err(format!("unexpected histogram for {labels} at {}", point.t));
        }
        let Some(values) = wanted.get(&found.labels) else {
            let points = show_points(&found.floats);
            return Err(format!("unexpected series {}: {points}", found.labels));
        };
        compare_points(&found.floats, values, times).map_err(|why| {
            format!(
                "{}: {why}; got {}",
                found.labels,
                show_points(&found.floats)
            )
        })?;
    }
    let is_found = |labels: &Labels| matrix.iter().any(|found| found.labels == *labels);
    match series.iter().find(|(labels, _)| !is_found(labels)) {
        Some((labels, _)) => Err(format!("expected series {labels} is missing")),
        None => Ok(()),
    }
}

fn compare_points(points: &[Sample], values: &[SequenceValue], times: Times) -> Result<(), String> {
    let mut found = points.iter();
    let mut t = times.start;
    for value in values {
        if times.end < t {
            return Err("more values are expected than the range has steps".to_owned());
        }
        match value {
            SequenceValue::Gap => (),
            SequenceValue::Histogram(_) => {
                return Err(format!("expected a histogram at {t}"));
            }
            SequenceValue::Float(wanted) => {
                let Some(point) = found.next() else {
                    return Err(format!("expected {wanted} at {t}, got nothing"));
                };
                let v = point.v;
                if point.t != t {
                    return Err(format!("expected a point at {t}, got one at {}", point.t));
                }
                if !almost_equal(*wanted, v) {
                    return Err(format!("expected {wanted} at {t}, got {v}"));
                }
            }
        }
        t += times.step_ms;
    }
    match found.next() {
        Some(point) => Err(format!("unexpected point at {}", point.t)),
        None => Ok(()),
    }
}

fn show_points(points: &[Sample]) -> String {
    let shown: Vec<String> = points
        .iter()
        .map(|point| format!("{}@{}", point.v, point.t))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_nan;

    #[test]
    fn floats_compare_with_a_relative_error_of_a_millionth() {
        for (left, right) in [
            (1.0, 1.0),
            (1.0, 1.000_001),
            (f64::NAN, -f64::NAN),
            (f64::INFINITY, f64::INFINITY),
            (0.0, -0.0),
            (1e300, 1.000_000_5e300),
            (stale_nan(), stale_nan()),
        ] {
            assert!(almost_equal(left, right), "{left} {right}");
        }
        for (left, right) in [
            (1.0, 1.000_003),
            (0.0, 1e-300),
            (f64::INFINITY, f64::NEG_INFINITY),
            (f64::NAN, 1.0),
            (f64::NAN, stale_nan()),
            (1.0, -1.0),
        ] {
            assert!(!almost_equal(left, right), "{left} {right}");
        }
    }
}
