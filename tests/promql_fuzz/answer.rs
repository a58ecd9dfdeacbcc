//! Answers of both sides in one form, and when two are the same.

use std::sync::Arc;

use gauntlet::model::{Histogram, TimestampMs, number};
use gauntlet::promql::{MatrixSeries, PointValue, QueryError, QueryOutput, QueryValue};
use serde_json::Value as Json;

/// Answers whose numbers differ by no more than this part are close.
pub(crate) const CLOSE: f64 = 1e-12;

/// The value of a series at one time.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    /// Count, sum, and what is in the buckets that hold anything, from the lowest on.
    Histogram(Vec<f64>),
}

/// One series with its points.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: String,
    pub(crate) points: Vec<(TimestampMs, Value)>,
}

/// What a query was answered with.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Error(String),
    Text(String),
    /// The kind of result, and its series by labels; a scalar is one without labels.
    Series(String, Vec<Series>),
}

/// How two answers compare.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Agreement {
    /// To the last bit.
    Same,
    /// By less than [`CLOSE`].
    Close,
    /// Where one side answers now so, now so.
    Unsteady,
    /// In this.
    Different(String),
}

fn from_lists(matrix: Vec<MatrixSeries>) -> Vec<Series> {
    matrix
        .into_iter()
        .map(|series| {
            let floats = series
                .floats
                .iter()
                .map(|sample| (sample.t, Value::Float(sample.v)));
            let histograms = series
                .histograms
                .iter()
                .map(|point| (point.t, histogram(&point.histogram)));
            let mut points: Vec<_> = floats.chain(histograms).collect();
            points.sort_by_key(|(t, _)| *t);
            Series {
                labels: series.labels.to_string(),
                points,
            }
        })
        .collect()
}

impl Answer {
    /// What our engine said.
    pub(crate) fn ours(result: Result<QueryOutput, QueryError>) -> Self {
        let output = match result {
            Ok(output) => output,
            Err(error) => return Self::Error(error.to_string()),
        };
        let kind = output.value.type_name().to_owned();
        let series = match output.value {
            QueryValue::String { text, .. } => return Self::Text(text),
            QueryValue::Scalar { t, v } => vec![Series {
                labels: String::new(),
                points: vec![(t, Value::Float(v))],
            }],
            QueryValue::Vector(samples) => samples
                .into_iter()
                .map(|sample| Series {
                    labels: sample.labels.to_string(),
                    points: vec![(
                        sample.t,
                        match sample.value {
                            PointValue::Float(v) => Value::Float(v),
                            PointValue::Histogram(h) => histogram(&h),
                        },
                    )],
                })
                .collect(),
            QueryValue::Columns(columns) => from_lists(columns.to_matrix()),
            QueryValue::Matrix(matrix) => from_lists(matrix),
        };
        Self::sorted(kind, series)
    }

    /// What a Prometheus said over HTTP.
    pub(crate) fn theirs(body: &str) -> Self {
        let json: Json =
            serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        if json["status"] != "success" {
            return Self::Error(json["error"].as_str().unwrap_or_default().to_owned());
        }
        let data = &json["data"];
        let kind = data["resultType"].as_str().unwrap().to_owned();
        let result = &data["result"];
        match kind.as_str() {
            "string" => Self::Text(result[1].as_str().unwrap().to_owned()),
            "scalar" => Self::sorted(
                kind,
                vec![Series {
                    labels: String::new(),
                    points: vec![point(result)],
                }],
            ),
            _ => {
                let series = result.as_array().unwrap().iter().map(one_series).collect();
                Self::sorted(kind, series)
            }
        }
    }

    fn sorted(kind: String, mut series: Vec<Series>) -> Self {
        series.sort_by(|left, right| left.labels.cmp(&right.labels));
        Self::Series(kind, series)
    }

    /// On a few lines.
    pub(crate) fn print(&self) -> String {
        match self {
            Self::Error(error) => format!("error: {error}"),
            Self::Text(text) => format!("{text:?}"),
            Self::Series(kind, all) => {
                let mut text = format!("{kind} of {}", all.len());
                for series in all.iter().take(12) {
                    text.push_str(&format!("\n      {}", series.labels));
                    for (t, value) in series.points.iter().take(12) {
                        text.push_str(&format!(" {}@{t}", print_value(value)));
                    }
                }
                text
            }
        }
    }
}

fn print_value(value: &Value) -> String {
    match value {
        Value::Float(v) => number::format_f(*v),
        Value::Histogram(numbers) => format!("{numbers:?}"),
    }
}

fn histogram(histogram: &Arc<Histogram>) -> Value {
    let mut numbers = vec![histogram.count, histogram.sum];
    numbers.extend(histogram.negative.counts.iter().rev());
    // As the API shows it.
    if 0.0 < histogram.zero_count {
        numbers.push(histogram.zero_count);
    }
    numbers.extend(&histogram.positive.counts);
    let mut position = 0;
    numbers.retain(|n| {
        position += 1;
        position <= 2 || *n != 0.0
    });
    Value::Histogram(numbers)
}

fn one_series(json: &Json) -> Series {
    let pairs: Vec<(String, String)> = json["metric"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let labels = gauntlet::model::Labels::new(&pairs).unwrap().to_string();
    let mut points = Vec::new();
    for field in ["value", "histogram"] {
        points.extend(json.get(field).map(point));
    }
    for field in ["values", "histograms"] {
        let list = json.get(field).and_then(Json::as_array);
        points.extend(list.into_iter().flatten().map(point));
    }
    points.sort_by_key(|(t, _)| *t);
    Series { labels, points }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "times of the data set have 13 digits"
)]
fn point(json: &Json) -> (TimestampMs, Value) {
    let t = (json[0].as_f64().unwrap() * 1000.0).round() as i64;
    let value = match &json[1] {
        Json::String(text) => Value::Float(float(text)),
        histogram => {
            let mut numbers = vec![
                float(histogram["count"].as_str().unwrap()),
                float(histogram["sum"].as_str().unwrap()),
            ];
            let buckets = histogram.get("buckets").and_then(Json::as_array);
            numbers.extend(
                buckets
                    .into_iter()
                    .flatten()
                    .map(|bucket| float(bucket[3].as_str().unwrap())),
            );
            Value::Histogram(numbers)
        }
    };
    (t, value)
}

fn float(text: &str) -> f64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Compares two answers.
pub(crate) fn compare(ours: &Answer, theirs: &Answer) -> Agreement {
    match (ours, theirs) {
        (Answer::Error(_), Answer::Error(_)) => Agreement::Same,
        (Answer::Text(left), Answer::Text(right)) if left == right => Agreement::Same,
        (Answer::Series(left_kind, left), Answer::Series(right_kind, right))
            if left_kind == right_kind =>
        {
            compare_series(left, right)
        }
        _ => Agreement::Different("the kind of answer".to_owned()),
    }
}

fn compare_series(left: &[Series], right: &[Series]) -> Agreement {
    let mut all = Agreement::Same;
    if left.len() != right.len() {
        return Agreement::Different(format!("{} series, not {}", left.len(), right.len()));
    }
    for (left, right) in left.iter().zip(right) {
        if left.labels != right.labels {
            return Agreement::Different(format!(
                "the labels {} and {}",
                left.labels, right.labels
            ));
        }
        if left.points.len() != right.points.len() {
            return Agreement::Different(format!("the number of points of {}", left.labels));
        }
        for ((t, value), (other_t, other)) in left.points.iter().zip(&right.points) {
            if t != other_t {
                return Agreement::Different(format!("the times of {}", left.labels));
            }
            match compare_values(value, other) {
                Agreement::Same | Agreement::Unsteady => (),
                Agreement::Close => all = Agreement::Close,
                Agreement::Different(why) => {
                    return Agreement::Different(format!("{} at {t}: {why}", left.labels));
                }
            }
        }
    }
    all
}

fn compare_values(left: &Value, right: &Value) -> Agreement {
    let (left, right) = match (left, right) {
        (Value::Float(left), Value::Float(right)) => {
            (std::slice::from_ref(left), std::slice::from_ref(right))
        }
        (Value::Histogram(left), Value::Histogram(right)) => (left.as_slice(), right.as_slice()),
        _ => return Agreement::Different("a float and a histogram".to_owned()),
    };
    if left.len() != right.len() {
        return Agreement::Different(format!("{left:?} and {right:?}"));
    }
    let mut all = Agreement::Same;
    for (left, right) in left.iter().zip(right) {
        match (left.is_nan(), right.is_nan()) {
            (true, true) => continue,
            (false, false) if left.to_bits() == right.to_bits() => continue,
            _ => (),
        }
        let distance = (left - right).abs();
        if distance <= CLOSE * left.abs().max(right.abs()) {
            all = Agreement::Close;
        } else {
            return Agreement::Different(format!("{left} and {right}"));
        }
    }
    all
}

#[test]
fn answers_differ_by_labels_times_values_and_signs_of_zero() {
    let answer = |labels: &str, t, v| {
        Answer::Series(
            "vector".to_owned(),
            vec![Series {
                labels: labels.to_owned(),
                points: vec![(t, Value::Float(v))],
            }],
        )
    };
    let one = answer("a", 1, 1.0);
    assert_eq!(compare(&one, &answer("a", 1, 1.0)), Agreement::Same);
    assert_eq!(
        compare(&one, &answer("a", 1, 1.0 + 1e-14)),
        Agreement::Close
    );
    assert_eq!(
        compare(&answer("a", 1, 0.0), &answer("a", 1, -0.0)),
        Agreement::Close
    );
    assert_eq!(
        compare(&answer("a", 1, f64::NAN), &answer("a", 1, f64::NAN)),
        Agreement::Same
    );
    for other in [
        answer("b", 1, 1.0),
        answer("a", 2, 1.0),
        answer("a", 1, 1.1),
        answer("a", 1, f64::NAN),
    ] {
        assert!(
            matches!(compare(&one, &other), Agreement::Different(_)),
            "{other:?}"
        );
    }
    assert!(matches!(
        compare(&one, &Answer::Error(String::new())),
        Agreement::Different(_)
    ));
}
