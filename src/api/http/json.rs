//! JSON as Prometheus writes it, straight into bytes.
//!
//! Two ways of quoting, because there are two there: labels are written plainly, every other text has `<`, `>`, `&`
//! and the two line separators escaped so that it can stand inside HTML.

use crate::api::http::columns::{Manner, Rows, Written, write_rows};
use crate::api::http::pace::Pace;
use crate::api::http::plain::is_plain;
use crate::api::http::portions::Pieces;
use crate::foundation::append::append_short;
use crate::model::{Histogram, Label, TimestampMs, number};
use crate::promql::{Held, MatrixSeries, PointValue, QueryError, QueryValue, VectorSample};

/// Appends `text` in quotes; HTML is escaped.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_quoted(out, text, true);
}

/// Appends a name or a value as it is, if nothing of it has to be escaped.
#[inline]
fn push_plain(out: &mut Vec<u8>, text: &str) -> bool {
    if !is_plain(text.as_bytes()) {
        return false;
    }
    append_short(out, text.as_bytes());
    true
}

fn push_quoted(out: &mut Vec<u8>, text: &str, escapes_html: bool) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at).copied() {
        let is_html = matches!(byte, b'<' | b'>' | b'&');
        // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
        let is_separator =
            byte == 0xe2 && matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9]));
        let is_special = byte < 0x20 || matches!(byte, b'"' | b'\\');
        if !is_special && !(escapes_html && (is_html || is_separator)) {
            at += 1;
            continue;
        }
        out.extend_from_slice(bytes.get(done..at).unwrap_or_default());
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xe2 => {
                let is_line = bytes.get(at + 2) == Some(&0xa8);
                out.extend_from_slice(if is_line { b"\\u2028" } else { b"\\u2029" });
                at += 2;
            }
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        at += 1;
        done = at;
    }
    out.extend_from_slice(bytes.get(done..).unwrap_or_default());
    out.push(b'"');
}

/// Appends an object of labels in the order given.
pub(super) fn push_labels<'a>(out: &mut Vec<u8>, labels: impl IntoIterator<Item = Label<'a>>) {
    out.push(b'{');
    for (position, (name, value)) in labels.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        let begin = out.len();
        out.push(b'"');
        let is_plain = push_plain(out, name) && {
            out.extend_from_slice(b"\":\"");
            push_plain(out, value)
        };
        if is_plain {
            out.push(b'"');
        } else {
            out.truncate(begin);
            push_quoted(out, name, false);
            out.push(b':');
            push_quoted(out, value, false);
        }
    }
    out.push(b'}');
}

/// Appends an array of texts.
pub(super) fn push_texts<T: AsRef<str>>(out: &mut Vec<u8>, texts: &[T]) {
    push_array(out, texts, |out, text| push_text(out, text.as_ref()));
}

/// Appends an array, item by item.
pub(super) fn push_array<T>(out: &mut Vec<u8>, items: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

/// Appends a decimal integer.
pub(super) fn push_int(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write;
    write!(out, "{value}").ok();
}

/// Appends a bare float as Go's `encoding/json` does: an exponent below a millionth and from 1e21 on.
pub(super) fn push_float(out: &mut Vec<u8>, v: f64) {
    let mut text = String::new();
    push_number(&mut text, v);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn push_number(out: &mut String, v: f64) {
    let magnitude = v.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        number::push_e(out, v);
    } else {
        number::push_f(out, v);
    }
}

/// Appends milliseconds as seconds with three digits, or none when there is no fraction.
pub(super) fn push_timestamp(out: &mut Vec<u8>, t: TimestampMs) {
    let magnitude = t.unsigned_abs();
    if t < 0 {
        out.push(b'-');
    }
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(magnitude / 1000).as_bytes());
    let fraction = magnitude % 1000;
    if fraction > 0 {
        out.push(b'.');
        // A thousand more, so that zeros in front are written; its own digit is left out.
        let text = digits.format(fraction + 1000).as_bytes();
        out.extend_from_slice(text.get(1..).unwrap_or_default());
    }
}

/// What a time looks like where Prometheus goes through a float: no zeros at the end of the fraction.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus loses the same digits"
)]
pub(super) fn push_float_timestamp(out: &mut Vec<u8>, t: TimestampMs) {
    push_float(out, t as f64 / 1000.0);
}

/// Appends a float as a JSON text.
fn push_quoted_number(out: &mut Vec<u8>, v: f64, scratch: &mut String) {
    out.push(b'"');
    if !number::push_common(out, v) {
        scratch.clear();
        push_number(scratch, v);
        out.extend_from_slice(scratch.as_bytes());
    }
    out.push(b'"');
}

/// Appends `{"count":…,"sum":…,"buckets":[[rule,lower,upper,count],…]}`; empty buckets are left out, and the key where
/// there are no others.
fn push_histogram(out: &mut Vec<u8>, histogram: &Histogram, scratch: &mut String) {
    out.extend_from_slice(b"{\"count\":");
    push_quoted_number(out, histogram.count, scratch);
    out.extend_from_slice(b",\"sum\":");
    push_quoted_number(out, histogram.sum, scratch);
    let populated = histogram.buckets().filter(|bucket| bucket.count != 0.0);
    let mut has_buckets = false;
    for bucket in populated {
        out.extend_from_slice(if has_buckets {
            b",["
        } else {
            b",\"buckets\":[["
        });
        has_buckets = true;
        out.push(match (bucket.includes_lower, bucket.includes_upper) {
            (false, true) => b'0',
            (true, false) => b'1',
            (false, false) => b'2',
            (true, true) => b'3',
        });
        for number in [bucket.lower, bucket.upper, bucket.count] {
            out.push(b',');
            push_quoted_number(out, number, scratch);
        }
        out.push(b']');
    }
    if has_buckets {
        out.push(b']');
    }
    out.push(b'}');
}

/// Appends `[time,value]`.
fn push_point(out: &mut Vec<u8>, t: TimestampMs, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'[');
    push_timestamp(out, t);
    out.push(b',');
    push(out);
    out.push(b']');
}

/// Points written before it is asked whether a portion is full.
const POINTS_BETWEEN_PORTIONS: usize = 1024;

/// Appends `"resultType":…,"result":…`; of a vector or matrix at most as many series as are asked for. Tells whether any
/// were left out.
pub(super) async fn push_result(
    text: &mut Pieces,
    (value, held): (QueryValue, &Held),
    manner: Manner<'_>,
) -> Result<bool, QueryError> {
    let out = &mut text.out;
    let mut pace = Pace::new(held);
    out.extend_from_slice(b"\"resultType\":\"");
    out.extend_from_slice(value.type_name().as_bytes());
    out.extend_from_slice(b"\",\"result\":");
    let n_max = match manner.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let mut scratch = String::new();
    Ok(match value {
        QueryValue::Scalar { t, v } => {
            out.push(b'[');
            push_float_timestamp(out, t);
            out.extend_from_slice(b",\"");
            number::push_f(&mut scratch, v);
            out.extend_from_slice(scratch.as_bytes());
            out.extend_from_slice(b"\"]");
            false
        }
        QueryValue::String { t, text } => {
            out.push(b'[');
            push_float_timestamp(out, t);
            out.push(b',');
            push_text(out, &text);
            out.push(b']');
            false
        }
        QueryValue::Vector(samples) => {
            out.push(b'[');
            push_samples(out, samples.get(..n_max).unwrap_or(&samples), &mut pace).await?;
            out.push(b']');
            n_max < samples.len()
        }
        QueryValue::Columns(columns) if columns.has_histograms() => {
            push_lists(out, &columns.to_matrix(), n_max, &mut pace).await?;
            n_max < columns.len()
        }
        QueryValue::Columns(columns) => {
            push_rows(text, Rows::Columns(columns), (held, manner)).await?
        }
        QueryValue::Matrix(lists) if lists.iter().any(|one| !one.histograms.is_empty()) => {
            push_lists(out, &lists, n_max, &mut pace).await?;
            n_max < lists.len()
        }
        QueryValue::Matrix(lists) => push_rows(text, Rows::Lists(lists), (held, manner)).await?,
    })
}

async fn push_rows(
    text: &mut Pieces,
    rows: Rows,
    (held, manner): (&Held, Manner<'_>),
) -> Result<bool, QueryError> {
    let (written, is_cut) = write_rows(rows, held, manner).await?;
    match written {
        Written::Parts(parts) => text.extend(parts),
        Written::Stream(stream) => text.stream(stream),
    }
    Ok(is_cut)
}

/// Appends series among whose points there are histograms.
async fn push_lists(
    out: &mut Vec<u8>,
    lists: &[MatrixSeries],
    n_max: usize,
    pace: &mut Pace<'_>,
) -> Result<(), QueryError> {
    let mut scratch = String::new();
    out.push(b'[');
    for (position, one) in lists.iter().take(n_max).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"metric\":");
        push_labels(out, &one.labels);
        push_points(out, one, &mut scratch, pace).await?;
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

/// Appends the series of an instant vector.
async fn push_samples(
    out: &mut Vec<u8>,
    samples: &[VectorSample],
    pace: &mut Pace<'_>,
) -> Result<(), QueryError> {
    let mut scratch = String::new();
    for (position, sample) in samples.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"metric\":");
        push_labels(out, &sample.labels);
        match &sample.value {
            PointValue::Float(v) => {
                out.extend_from_slice(b",\"value\":");
                push_point(out, sample.t, |out| {
                    push_quoted_number(out, *v, &mut scratch);
                });
            }
            PointValue::Histogram(histogram) => {
                out.extend_from_slice(b",\"histogram\":");
                push_point(out, sample.t, |out| {
                    push_histogram(out, histogram, &mut scratch);
                });
            }
        }
        out.push(b'}');
        pace.written(out.len()).await?;
    }
    Ok(())
}

/// Appends `,"values":[…]` and `,"histograms":[…]`, of which either is left out when there are none.
async fn push_points(
    out: &mut Vec<u8>,
    series: &MatrixSeries,
    scratch: &mut String,
    pace: &mut Pace<'_>,
) -> Result<(), QueryError> {
    for (position, sample) in series.floats.iter().enumerate() {
        out.extend_from_slice(if position == 0 {
            b",\"values\":["
        } else {
            b","
        });
        push_point(out, sample.t, |out| {
            push_quoted_number(out, sample.v, scratch);
        });
        if position % POINTS_BETWEEN_PORTIONS == POINTS_BETWEEN_PORTIONS - 1 {
            pace.written(out.len()).await?;
        }
    }
    if !series.floats.is_empty() {
        out.push(b']');
    }
    for (position, point) in series.histograms.iter().enumerate() {
        out.extend_from_slice(if position == 0 {
            b",\"histograms\":["
        } else {
            b","
        });
        push_point(out, point.t, |out| {
            push_histogram(out, &point.histogram, scratch);
        });
        pace.written(out.len()).await?;
    }
    if !series.histograms.is_empty() {
        out.push(b']');
    }
    pace.written(out.len()).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix_web::body::to_bytes;
    use futures::executor::block_on;

    use super::*;
    use crate::model::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Labels, Sample};
    use crate::promql::HistogramPoint;

    #[track_caller]
    fn check(push: impl FnOnce(&mut Vec<u8>), expect: &str) {
        let mut out = Vec::new();
        push(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    fn text_of(pieces: Pieces) -> String {
        let body = block_on(to_bytes(pieces.into_body())).unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn result(value: &QueryValue) -> String {
        let mut text = Pieces::default();
        let manner = Manner {
            limit: 0,
            helpers: None,
            whole_bytes_max: usize::MAX,
        };
        let value = (value.clone(), &Held::default());
        block_on(push_result(&mut text, value, manner)).unwrap();
        text_of(text)
    }

    #[test]
    fn texts_are_escaped_for_html_and_labels_are_not() {
        let text = "<a>&\u{2028}\u{2029} é\u{1}\"\\\n\r\t\u{7f}";
        check(
            |out| push_text(out, text),
            "\"\\u003ca\\u003e\\u0026\\u2028\\u2029 é\\u0001\\\"\\\\\\n\\r\\t\u{7f}\"",
        );
        check(
            |out| push_labels(out, [("a<", text)]),
            "{\"a<\":\"<a>&\u{2028}\u{2029} é\\u0001\\\"\\\\\\n\\r\\t\u{7f}\"}",
        );
        check(|out| push_texts(out, &["a", "â\u{20ac}"]), "[\"a\",\"â€\"]");
        check(|out| push_texts::<&str>(out, &[]), "[]");
    }

    #[test]
    fn timestamps_have_three_digits_or_none() {
        for (t, expect) in [
            (0, "0"),
            (1500, "1.500"),
            (-1500, "-1.500"),
            (-1, "-0.001"),
            (1_435_781_451_781, "1435781451.781"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            check(|out| push_timestamp(out, t), expect);
        }
    }

    #[test]
    fn values_take_an_exponent_below_a_millionth_and_from_1e21() {
        for (v, expect) in [
            (0.0, "0"),
            (1e-7, "1e-07"),
            (1e-6, "0.000001"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-0.5, "-0.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            let vector = QueryValue::Vector(vec![VectorSample {
                labels: Labels::empty(),
                t: 1000,
                value: PointValue::Float(v),
            }]);
            let expect = format!(
                "\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\"value\":[1,\"{expect}\"]}}]"
            );
            assert_eq!(result(&vector), expect);
        }
        let scalar = QueryValue::Scalar { t: 1500, v: 1e-7 };
        assert_eq!(
            result(&scalar),
            "\"resultType\":\"scalar\",\"result\":[1.5,\"0.0000001\"]"
        );
        let string = QueryValue::String {
            t: 1000,
            text: "<".to_owned(),
        };
        assert_eq!(
            result(&string),
            "\"resultType\":\"string\",\"result\":[1,\"\\u003c\"]"
        );
    }

    #[test]
    fn matrices_list_points_by_series_and_stop_at_the_limit() {
        let labels = Labels::new(&[("__name__", "up"), ("job", "a")]).unwrap();
        let series = MatrixSeries {
            labels,
            floats: vec![Sample { t: 1000, v: 1.0 }, Sample { t: 2500, v: 0.25 }],
            histograms: Vec::new(),
        };
        let matrix = QueryValue::Matrix(vec![series.clone(), series]);
        let mut text = Pieces::default();
        let held = Held::default();
        let manner = Manner {
            limit: 1,
            helpers: None,
            whole_bytes_max: usize::MAX,
        };
        assert!(block_on(push_result(&mut text, (matrix, &held), manner)).unwrap());
        assert_eq!(
            text_of(text),
            "\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"__name__\":\"up\",\"job\":\"a\"},\
             \"values\":[[1,\"1\"],[2.500,\"0.25\"]]}]"
        );
        assert_eq!(
            result(&QueryValue::Matrix(Vec::new())),
            "\"resultType\":\"matrix\",\"result\":[]"
        );
    }

    #[test]
    fn histograms_list_populated_buckets_and_which_bounds_they_include() {
        let histogram = Histogram {
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 2.0,
            count: 7.5,
            sum: -1e-7,
            positive: buckets(&[1.0, 0.0, 2.5]),
            negative: buckets(&[2.0]),
            ..Histogram::default()
        };
        let vector = QueryValue::Vector(vec![VectorSample {
            labels: Labels::empty(),
            t: 1000,
            value: PointValue::Histogram(Arc::new(histogram)),
        }]);
        assert_eq!(
            result(&vector),
            "\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"histogram\":[1,{\"count\":\"7.5\",\"sum\":\"-1e-07\",\"buckets\":[\
             [1,\"-1\",\"-0.7071067811865475\",\"2\"],[3,\"-0.001\",\"0.001\",\"2\"],\
             [0,\"0.7071067811865475\",\"1\",\"1\"],[0,\"1.414213562373095\",\"2\",\"2.5\"]]}]}]"
        );
        let custom = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            sum: 4.0,
            positive: buckets(&[1.0, 2.0]),
            custom_bounds: [5.0].into(),
            ..Histogram::default()
        };
        let matrix = QueryValue::Matrix(vec![MatrixSeries {
            labels: Labels::empty(),
            floats: vec![Sample { t: 1000, v: 1.0 }],
            histograms: [custom, Histogram::default()]
                .map(|histogram| HistogramPoint {
                    t: 2000,
                    histogram: Arc::new(histogram),
                })
                .into(),
        }]);
        assert_eq!(
            result(&matrix),
            "\"resultType\":\"matrix\",\"result\":[{\"metric\":{},\"values\":[[1,\"1\"]],\"histograms\":[\
             [2,{\"count\":\"3\",\"sum\":\"4\",\"buckets\":[[3,\"-Inf\",\"5\",\"1\"],[0,\"5\",\"+Inf\",\"2\"]]}],\
             [2,{\"count\":\"0\",\"sum\":\"0\"}]]}]"
        );
    }

    fn buckets(counts: &[f64]) -> Buckets {
        Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: u32::try_from(counts.len()).unwrap(),
            }],
            counts: counts.to_vec(),
        }
    }
}
