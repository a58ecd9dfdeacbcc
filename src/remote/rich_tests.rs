//! What is in requests besides floats, in both versions.

use super::tests::{LIMITS, Memory, send_as};
use crate::exposition::testing::Message;
use crate::foundation::cursor::put_uvarint;
use crate::model::{Metadata, MetricType, ResetHint};
use crate::remote::{WriteReport, WriteVersion};

fn message() -> Message {
    Message::default()
}

/// Schema 1, three observations, one in the zero bucket.
fn histogram() -> Message {
    message()
        .varint(1, 3)
        .double(3, 4.5)
        .signed(4, 1)
        .double(5, 0.001)
        .varint(6, 1)
        .span(11, 2, 1)
        .packed(12, &[2])
        .varint(14, 2)
        .varint(15, 50)
}

fn float_histogram() -> Message {
    let mut counts = Vec::new();
    for count in [0.5f64, 0.25] {
        counts.extend(count.to_bits().to_le_bytes());
    }
    let bounds: Vec<u8> = 1f64.to_bits().to_le_bytes().to_vec();
    message()
        .double(2, 0.75)
        .signed(4, -53)
        .span(11, 0, 2)
        .bytes(13, &counts)
        .varint(15, 60)
        .bytes(16, &bounds)
}

fn sample(t: u64, v: f64) -> Message {
    message().double(1, v).varint(2, t)
}

fn packed(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    for number in numbers {
        put_uvarint(&mut out, *number);
    }
    out
}

/// A series of version 1.
fn series() -> Message {
    message().label("__name__", "h")
}

fn send(series: Vec<Message>) -> (Memory, WriteReport) {
    let memory = Memory::default();
    let request = series
        .into_iter()
        .fold(message(), |all, one| all.message(1, one));
    let report = send_as(WriteVersion::V1, &memory, request.as_bytes()).unwrap();
    (memory, report)
}

const SYMBOLS: [&str; 8] = [
    "",
    "__name__",
    "h",
    "help text",
    "seconds",
    "id",
    "x",
    "job",
];

/// A request of version 2 with those symbols, and one that is not UTF-8.
fn send_v2(series: Vec<Message>) -> (Memory, WriteReport) {
    let memory = Memory::default();
    let symbols = SYMBOLS
        .iter()
        .fold(message(), |all, symbol| all.text(4, symbol))
        .bytes(4, b"\xff");
    let request = series
        .into_iter()
        .fold(symbols, |all, one| all.message(5, one));
    let report = send_as(WriteVersion::V2, &memory, request.as_bytes()).unwrap();
    (memory, report)
}

#[test]
fn native_histograms_of_version_1_are_taken_whole_and_float_and_custom() {
    let (memory, report) = send(vec![
        series()
            .message(4, histogram())
            .message(4, float_histogram()),
    ]);
    assert_eq!(report.refusal_lines(), [""; 0]);
    assert_eq!(
        (report.n_series, report.n_samples, report.n_histograms),
        (1, 0, 2)
    );
    let state = memory.state.lock();
    let shown: Vec<String> = state
        .histograms
        .iter()
        .map(|(_, at, counts, histogram)| format!("{}@{} {counts:?}", histogram, at.t))
        .collect();
    assert_eq!(
        shown,
        [
            "{count:3, sum:4.5, [-0.001,0.001]:1, (1.414213562373095,2]:2}@50 Whole",
            "{count:0.75, sum:0, [-Inf,1]:0.5, (1,+Inf]:0.25}@60 Float",
        ]
    );
    assert_eq!(state.histograms[0].3.reset_hint, ResetHint::NotReset);
}

#[test]
fn finer_schemas_than_ours_are_made_coarser() {
    let fine = message()
        .varint(1, 3)
        .signed(4, 10)
        .span(11, 1, 3)
        .packed(12, &[1, 0, 0])
        .varint(15, 50);
    let (memory, _) = send(vec![series().message(4, fine)]);
    let state = memory.state.lock();
    let histogram = &state.histograms[0].3;
    assert_eq!(
        (histogram.schema, &*histogram.positive.counts),
        (8, &[3.0][..])
    );
}

#[test]
fn a_histogram_that_is_none_is_refused_and_the_rest_is_kept() {
    let broken = message()
        .varint(1, 3)
        .span(11, 0, 2)
        .packed(12, &[3])
        .varint(15, 50);
    let negative = message()
        .varint(1, 1)
        .span(11, 0, 2)
        .packed(12, &[2, -3])
        .varint(15, 51);
    let (memory, report) = send(vec![
        series()
            .message(4, broken)
            .message(4, negative)
            .message(4, histogram())
            .message(2, sample(1, 2.0)),
    ]);
    let lines = report.refusal_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("invalid histogram: positive side: "),
        "{lines:?}"
    );
    assert!(lines[0].ends_with("series {__name__=\"h\"}, timestamp 50 (and 1 more of it)"));
    assert_eq!((report.n_samples, report.n_histograms), (1, 1));
    assert_eq!(memory.state.lock().committed.len(), 1);
}

#[test]
fn exemplars_follow_their_series_and_stale_ones_are_no_error_in_version_1() {
    let exemplar = |t| message().label("id", "x").double(2, 0.5).varint(3, t);
    let minus_one = u64::MAX;
    let too_far = (LIMITS.now_ms + LIMITS.ahead_ms_max + 1).cast_unsigned();
    let (memory, report) = send(vec![
        series()
            .message(2, sample(1, 2.0))
            .message(3, exemplar(7))
            .message(3, exemplar(minus_one))
            .message(3, exemplar(too_far)),
        // Apart from the samples of its series, as Prometheus sends them.
        series().message(3, exemplar(8)),
    ]);
    assert_eq!((report.n_series, report.n_exemplars), (1, 2));
    let lines = report.refusal_lines();
    assert!(
        matches!(lines.as_slice(), [line] if line.starts_with("out of bounds: timestamp is too far")),
        "{lines:?}"
    );
    let state = memory.state.lock();
    let [(first, exemplar), (second, _)] = state.exemplars.as_slice() else {
        panic!("{:?}", state.exemplars)
    };
    assert_eq!(first, second);
    assert_eq!(exemplar.labels.to_string(), "{id=\"x\"}");
    assert_eq!(
        (exemplar.v, exemplar.t, exemplar.has_own_time),
        (0.5, 7, true)
    );
}

#[test]
fn a_request_of_version_2_names_everything_by_symbol() {
    let series = message()
        .bytes(1, &packed(&[7, 6, 1, 2]))
        .message(2, sample(10, 1.5).varint(3, 4))
        .message(3, histogram().varint(17, 5))
        .message(
            4,
            message()
                .bytes(1, &packed(&[5, 6]))
                .double(2, 0.5)
                .varint(3, 9),
        )
        .message(5, message().varint(1, 3).varint(3, 3).varint(4, 4));
    let (memory, report) = send_v2(vec![series]);
    assert_eq!(report.refusal_lines(), [""; 0]);
    assert_eq!(
        (
            report.n_series,
            report.n_samples,
            report.n_histograms,
            report.n_exemplars,
            report.n_metadata
        ),
        (1, 1, 1, 1, 1)
    );
    let state = memory.state.lock();
    assert_eq!(state.labels[0].to_string(), "{__name__=\"h\", job=\"x\"}");
    let (_, at, v) = state.committed[0];
    assert_eq!((at.t, at.start_t, v), (10, 4, 1.5));
    let (_, at, _, _) = &state.histograms[0];
    assert_eq!((at.t, at.start_t), (50, 5));
    assert_eq!(state.exemplars[0].1.labels.to_string(), "{id=\"x\"}");
    let expect = Metadata {
        metric_type: MetricType::Histogram,
        help: "help text".to_owned(),
        unit: "seconds".to_owned(),
    };
    assert_eq!(state.metadata, [(0, expect)]);
}

#[test]
fn series_of_version_2_that_are_none_are_refused_and_the_rest_is_kept() {
    let with = |refs: &[u64]| message().bytes(1, &packed(refs)).message(2, sample(1, 1.0));
    let exemplar = message().bytes(1, &packed(&[5, 6])).varint(3, u64::MAX);
    let (memory, report) = send_v2(vec![
        with(&[1, 99]),
        with(&[1, 8]),
        with(&[1]),
        with(&[7, 6]),
        message().bytes(1, &packed(&[1, 2])),
        with(&[1, 2]).message(4, exemplar),
    ]);
    assert_eq!(
        report.refusal_lines(),
        [
            "invalid labels: a label refers to a symbol that is not there or not valid UTF-8: series {}",
            "invalid labels: a label refers to a symbol that is not there or not valid UTF-8: series {}",
            "invalid labels: labels are not pairs of symbols: series {}",
            "invalid labels: no metric name (label \"__name__\"): series {job=\"x\"}",
            "TimeSeries must contain at least one sample or histogram: series {__name__=\"h\"}",
            "out of order exemplar: series {__name__=\"h\"}, timestamp -1, the newest exemplar of the series is at 9",
        ]
    );
    assert_eq!((report.n_samples, report.n_exemplars), (1, 0));
    assert_eq!(memory.state.lock().committed.len(), 1);
}

#[test]
fn no_truncation_and_no_flipped_bit_of_a_rich_request_panics() {
    let series = message()
        .bytes(1, &packed(&[1, 2]))
        .message(2, sample(10, 1.5))
        .message(3, histogram())
        .message(3, float_histogram())
        .message(4, message().bytes(1, &packed(&[5, 6])).varint(3, 9));
    let request = SYMBOLS
        .iter()
        .fold(message(), |all, symbol| all.text(4, symbol))
        .message(5, series);
    let bytes = request.as_bytes();
    let mut n_errors = 0;
    for version in [WriteVersion::V1, WriteVersion::V2] {
        for len in 0..bytes.len() {
            let report = send_as(version, &Memory::default(), &bytes[..len]);
            n_errors += usize::from(report.is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            n_errors += usize::from(send_as(version, &Memory::default(), &flipped).is_err());
        }
    }
    assert!(100 < n_errors, "{n_errors}");
}
