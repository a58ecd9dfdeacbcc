//! The protobuf format, and classic histograms that become native ones in every format.

use super::{dump_with, refuse_with};
use crate::exposition::testing::{
    COUNTER, GAUGE, GAUGE_HISTOGRAM, HISTOGRAM, Message, SUMMARY, UNTYPED, family,
};
use crate::exposition::{HistogramOptions, LabelBuffer, MediaType, Parser, ParserOptions};

const NATIVE: ParserOptions = ParserOptions {
    histograms: HistogramOptions {
        native: true,
        keeps_classic: false,
        converts_classic: false,
    },
    start_timestamps: true,
};

const CONVERTING: ParserOptions = with(HistogramOptions {
    converts_classic: true,
    ..NATIVE.histograms
});

const fn with(histograms: HistogramOptions) -> ParserOptions {
    ParserOptions {
        histograms,
        ..NATIVE
    }
}

fn message() -> Message {
    Message::default()
}

#[track_caller]
fn check(input: &[u8], options: ParserOptions, expect: &[&str]) {
    let (entries, error) = dump_with(input, MediaType::Protobuf, options);
    assert_eq!(error, None);
    assert_eq!(entries, expect);
}

#[track_caller]
fn check_lines(media_type: MediaType, input: &str, options: ParserOptions, expect: &[&str]) {
    let (entries, error) = dump_with(input.as_bytes(), media_type, options);
    assert_eq!(error, None);
    let samples: Vec<&str> = entries
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with('{'))
        .collect();
    assert_eq!(samples, expect);
}

#[test]
fn families_of_single_values_come_out_like_lines_of_text() {
    let exemplar = message()
        .label("trace_id", "x")
        .double(2, 0.5)
        .timestamp(3, 12, 345_999_999);
    let counter = message()
        .double(1, 7.0)
        .message(2, exemplar)
        .timestamp(3, 5, 250_000_000);
    let mut input = Message::default()
        .text(1, "requests_total")
        .text(2, "Requests.")
        .text(5, "requests")
        .message(
            4,
            message()
                .label("b", "2")
                .label("a", "1")
                .message(3, counter),
        )
        .message(
            4,
            message()
                .varint(6, 1500)
                .message(3, message().double(1, 8.0)),
        )
        .delimited();
    input.extend(family("none", GAUGE, Vec::new()));
    input.extend(family(
        "g",
        GAUGE,
        vec![message().message(2, message().double(1, -1.5))],
    ));
    input.extend(family("u", UNTYPED, vec![message()]));
    check(
        &input,
        NATIVE,
        &[
            "help requests_total \"Requests.\"",
            "unit requests_total requests",
            "type requests_total counter",
            r#"{__name__="requests_total", a="1", b="2"} 7 since 5250 # {trace_id="x"} 0.5 @12345"#,
            r#"{__name__="requests_total"} 8 @1500"#,
            "help g \"Help.\"",
            "type g gauge",
            r#"{__name__="g"} -1.5"#,
            "help u \"Help.\"",
            "type u unknown",
            r#"{__name__="u"} 0"#,
        ],
    );
}

#[test]
fn a_summary_is_count_sum_and_quantiles() {
    let quantile = |q, v| message().double(1, q).double(2, v);
    let summary = message()
        .varint(1, 10)
        .double(2, 2.5)
        .message(3, quantile(0.5, 0.1))
        .message(3, quantile(1.0, f64::NAN))
        .timestamp(4, 9, 0);
    let bare = message().varint(1, 3);
    let metrics = vec![
        message().label("a", "b").message(4, summary),
        message().message(4, bare),
    ];
    check(
        &family("s", SUMMARY, metrics),
        NATIVE,
        &[
            "help s \"Help.\"",
            "type s summary",
            r#"{__name__="s_count", a="b"} 10 since 9000"#,
            r#"{__name__="s_sum", a="b"} 2.5 since 9000"#,
            r#"{__name__="s", a="b", quantile="0.5"} 0.1 since 9000"#,
            r#"{__name__="s", a="b", quantile="1.0"} NaN since 9000"#,
            r#"{__name__="s_count"} 3"#,
            r#"{__name__="s_sum"} 0"#,
        ],
    );
}

/// Native and classic at once; the first exemplar of each kind says no time.
fn both() -> Message {
    let exemplar = |v: f64| message().label("id", "e").double(2, v);
    let classic = message()
        .varint(1, 2)
        .double(2, 1.0)
        .message(3, exemplar(0.75).timestamp(3, 7, 0));
    message()
        .varint(1, 6)
        .double(2, 12.5)
        .message(3, classic)
        .signed(5, -1)
        .double(6, 0.001)
        .varint(7, 1)
        .span(12, -2, 1)
        .span(12, 3, 2)
        .packed(13, &[2, -2, 2])
        .span(9, 0, 1)
        .signed(10, 1)
        .timestamp(15, 4, 0)
        .message(16, exemplar(1.0))
        .message(16, exemplar(2.0).timestamp(3, 8, 1_000_000))
        .message(16, exemplar(3.0).timestamp(3, 9, 0))
}

const NATIVE_LINE: &str =
    "histogram schema -1 count 6 sum 12.5 zero 1 up to 0.001 positive [-2:2 3:2] negative [0:1]";

#[test]
fn a_native_histogram_is_one_entry_with_all_its_exemplars() {
    let metric = || message().label("a", "b").message(7, both());
    let line = format!(
        r#"{{__name__="h", a="b"}} {NATIVE_LINE} since 4000 # {{id="e"}} 2 @8001 # {{id="e"}} 3 @9000"#
    );
    let head = ["help h \"Help.\"", "type h histogram"];
    let input = family("h", HISTOGRAM, vec![metric()]);
    check(&input, NATIVE, &[head[0], head[1], &line]);
    let keeping = with(HistogramOptions {
        keeps_classic: true,
        ..NATIVE.histograms
    });
    let classic = [
        r#"{__name__="h_count", a="b"} 6 since 4000"#,
        r#"{__name__="h_sum", a="b"} 12.5 since 4000"#,
        r#"{__name__="h_bucket", a="b", le="1.0"} 2 since 4000 # {id="e"} 0.75 @7000"#,
        r#"{__name__="h_bucket", a="b", le="+Inf"} 6 since 4000"#,
    ];
    let mut expect = vec![head[0], head[1], &line];
    expect.extend(classic);
    check(&input, keeping, &expect);
    // Nobody wants native ones: the classic part is all there is.
    let without = with(HistogramOptions {
        native: false,
        ..NATIVE.histograms
    });
    let mut expect = head.to_vec();
    expect.extend(classic);
    check(&input, without, &expect);
    // The same metric twice in a family, then one that is not native.
    let plain = message().message(7, message().varint(1, 1).bucket(f64::INFINITY, 1));
    let input = family("h", HISTOGRAM, vec![metric(), metric(), plain]);
    let expect = [
        head[0],
        head[1],
        &line,
        &line,
        r#"{__name__="h_count"} 1"#,
        r#"{__name__="h_sum"} 0"#,
        r#"{__name__="h_bucket", le="+Inf"} 1"#,
    ];
    check(&input, NATIVE, &expect);
}

#[test]
fn without_exemplars_of_its_own_a_native_histogram_has_those_of_its_buckets_that_say_when() {
    let exemplar = |v: f64| message().double(2, v);
    let histogram = message()
        .span(12, 0, 1)
        .packed(13, &[1])
        .varint(1, 1)
        .message(3, message().double(2, 1.0).message(3, exemplar(0.5)))
        .message(
            3,
            message()
                .double(2, 2.0)
                .message(3, exemplar(1.5).timestamp(3, 1, 0)),
        );
    let input = family("h", HISTOGRAM, vec![message().message(7, histogram)]);
    let line = r#"{__name__="h"} histogram schema 0 count 1 sum 0 zero 0 up to 0 positive [0:1] negative [] # {} 1.5 @1000"#;
    check(
        &input,
        NATIVE,
        &["help h \"Help.\"", "type h histogram", line],
    );
}

#[test]
fn float_and_gauge_histograms_are_told_apart() {
    let histogram = message()
        .double(4, 1.5)
        .double(8, 0.5)
        .double(6, 0.25)
        .span(12, 1, 2)
        .double(14, 0.75)
        .double(14, 0.25);
    let input = family("h", GAUGE_HISTOGRAM, vec![message().message(7, histogram)]);
    let line = r#"{__name__="h"} float histogram schema 0 count 1.5 sum 0 zero 0.5 up to 0.25 positive [1:0.75 2:0.25] negative [] gauge"#;
    check(
        &input,
        NATIVE,
        &["help h \"Help.\"", "type h gaugehistogram", line],
    );
    // A span without buckets says that a histogram without observations is native.
    let empty = message().span(12, 0, 0);
    let input = family("h", HISTOGRAM, vec![message().message(7, empty)]);
    let line =
        r#"{__name__="h"} histogram schema 0 count 0 sum 0 zero 0 up to 0 positive [] negative []"#;
    check(
        &input,
        NATIVE,
        &["help h \"Help.\"", "type h histogram", line],
    );
}

#[test]
fn a_classic_histogram_is_converted_in_every_format_alike() {
    let line = r#"{__name__="h", a="b"} histogram schema -53 count 5 sum 9.5 zero 0 up to 0 positive [0:2 2:3] negative [] bounds [1.0, 2.0] since 4000"#;
    let exemplar = r#" # {id="e"} 0.5 @7000"#;
    let with_exemplar = format!("{line}{exemplar}");
    let bucket = message().varint(1, 2).double(2, 1.0).message(
        3,
        message().label("id", "e").double(2, 0.5).timestamp(3, 7, 0),
    );
    let histogram = message()
        .varint(1, 5)
        .double(2, 9.5)
        .message(3, bucket)
        .bucket(2.0, 2)
        .timestamp(15, 4, 0);
    let input = family(
        "h",
        HISTOGRAM,
        vec![message().label("a", "b").message(7, histogram)],
    );
    let head = ["help h \"Help.\"", "type h histogram"];
    check(&input, CONVERTING, &[head[0], head[1], &with_exemplar]);
    let openmetrics = "# TYPE h histogram\n\
        h_bucket{a=\"b\",le=\"1\"} 2 # {id=\"e\"} 0.5 7\nh_bucket{a=\"b\",le=\"2.0\"} 2\n\
        h_bucket{a=\"b\",le=\"+Inf\"} 5\nh_sum{a=\"b\"} 9.5\nh_count{a=\"b\"} 5\nh_created{a=\"b\"} 4\n\
        # TYPE g gauge\ng 1\n# EOF\n";
    let gauge = r#"{__name__="g"} 1"#;
    check_lines(
        MediaType::OpenMetrics,
        openmetrics,
        CONVERTING,
        &[&with_exemplar, gauge],
    );
    let text = openmetrics
        .replace(" # {id=\"e\"} 0.5 7", "")
        .replace("h_created{a=\"b\"} 4\n", "")
        .replace("# EOF\n", "");
    let line = line.replace(" since 4000", "");
    check_lines(MediaType::Text, &text, CONVERTING, &[&line, gauge]);
    // Kept classic series stand in front of what they became.
    let keeping = with(HistogramOptions {
        keeps_classic: true,
        ..CONVERTING.histograms
    });
    let classic = [
        r#"{__name__="h_bucket", a="b", le="1.0"} 2"#,
        r#"{__name__="h_bucket", a="b", le="2.0"} 2"#,
        r#"{__name__="h_bucket", a="b", le="+Inf"} 5"#,
        r#"{__name__="h_sum", a="b"} 9.5"#,
        r#"{__name__="h_count", a="b"} 5"#,
    ];
    let mut expect = classic.to_vec();
    expect.extend([line.as_str(), gauge]);
    check_lines(MediaType::Text, &text, keeping, &expect);
}

#[test]
fn histograms_of_a_family_are_told_apart_by_their_labels() {
    let text = "# TYPE h histogram\n\
        h_bucket{a=\"1\",le=\"+Inf\"} 1\nh_count{a=\"1\"} 1\nh_sum{a=\"1\"} 2\n\
        h_bucket{a=\"2\",le=\"+Inf\"} 3 1500\nh_count{a=\"2\"} 3 1500\nh_sum{a=\"2\"} 4 1500\n\
        h_other 5\n# HELP x y\nh_bucket{a=\"3\",le=\"+Inf\"} 1\nx 9\n";
    let line = |a, rest| {
        format!(r#"{{__name__="h", a="{a}"}} histogram schema -53 {rest} negative [] bounds []"#)
    };
    check_lines(
        MediaType::Text,
        text,
        CONVERTING,
        &[
            &line(1, "count 1 sum 2 zero 0 up to 0 positive [0:1]"),
            &format!(
                "{} @1500",
                line(2, "count 3 sum 4 zero 0 up to 0 positive [0:3]")
            ),
            r#"{__name__="h_other"} 5"#,
            &line(3, "count 1 sum 0 zero 0 up to 0 positive [0:1]"),
            r#"{__name__="x"} 9"#,
        ],
    );
}

#[test]
fn what_cannot_be_converted_vanishes_from_text_and_fails_protobuf() {
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"2\"} 1\nh_count 2\n\
                # TYPE i histogram\ni_bucket{le=\"x\"} 1\ni_total 1\ng 1\n";
    check_lines(
        MediaType::Text,
        text,
        CONVERTING,
        &[
            r#"{__name__="i_bucket", le="x"} 1"#,
            r#"{__name__="i_total"} 1"#,
            r#"{__name__="g"} 1"#,
        ],
    );
    let histogram = message().bucket(1.0, 2).bucket(2.0, 1).varint(1, 2);
    let input = family("h", HISTOGRAM, vec![message().message(7, histogram)]);
    refuse_with(
        &input,
        CONVERTING,
        "histogram \"h\": count is not cumulative: 1 < 2 at offset 17",
    );
}

#[test]
fn native_histograms_are_not_converted() {
    let input = family("h", HISTOGRAM, vec![message().message(7, both())]);
    let (native, _) = dump_with(&input, MediaType::Protobuf, NATIVE);
    let (converting, _) = dump_with(&input, MediaType::Protobuf, CONVERTING);
    assert_eq!(native, converting);
    let options = with(HistogramOptions {
        native: false,
        ..CONVERTING.histograms
    });
    let (entries, _) = dump_with(&input, MediaType::Protobuf, options);
    assert!(entries[2].contains("schema -53 count 6"), "{entries:?}");
}

#[test]
fn a_series_has_a_text_of_its_own() {
    let metric = |name, value| {
        message()
            .label(name, value)
            .message(3, message().double(1, 1.0))
    };
    let input = family(
        "a",
        COUNTER,
        vec![
            metric("b", "c"),
            metric("b", "d"),
            metric("bc", ""),
            metric("b", "c"),
        ],
    );
    let mut parser = Parser::new(&input, MediaType::Protobuf, NATIVE);
    let mut texts = Vec::new();
    let mut labels = LabelBuffer::new();
    while parser.next_entry().unwrap().is_some() {
        parser.labels(&mut labels);
        texts.push(parser.text().to_owned());
    }
    let texts = &texts[2..];
    assert_eq!(texts.len(), 4);
    assert_eq!(texts[0], texts[3]);
    assert!(texts[0] != texts[1] && texts[0] != texts[2] && texts[1] != texts[2]);
}

#[test]
fn malformed_messages_are_refused_at_their_place() {
    let histogram = |histogram| family("h", HISTOGRAM, vec![message().message(7, histogram)]);
    let bad_label = message()
        .message(1, message().text(1, "a").bytes(2, b"\xff"))
        .message(3, message());
    for (input, expect) in [
        (
            vec![5],
            "protobuf: length beyond the end in exposition at offset 1",
        ),
        (
            vec![0xff; 20],
            "protobuf: integer of more than 64 bits in exposition at offset 0",
        ),
        (
            message().text(2, "x").message(4, message()).delimited(),
            "invalid metric name:  at offset 0",
        ),
        (
            family("a", 9, vec![message()]),
            "unknown metric type for metric \"a\": 9 at offset 0",
        ),
        (
            message()
                .text(1, "a")
                .bytes(2, b"\xff")
                .message(4, message())
                .delimited(),
            "invalid help for metric \"a\": \\xff at offset 0",
        ),
        (
            family("a", COUNTER, vec![bad_label]),
            "invalid label value: \\xff at offset 15",
        ),
        (
            family("a", COUNTER, vec![message().label("", "x")]),
            "invalid label name:  at offset 15",
        ),
        (
            family("a", COUNTER, vec![message().varint(3, 1)]),
            "protobuf: wrong wire type in Metric at offset 17",
        ),
        (
            histogram(message().span(12, 0, 2).packed(13, &[1])),
            "histogram \"h\": positive side: spans require 2 buckets, have 1 at offset 17",
        ),
        (
            histogram(message().span(9, 0, 4_000_000_000).packed(10, &[1])),
            "histogram \"h\": negative side: spans require 4000000000 buckets, have 1 at offset 17",
        ),
        (
            histogram(message().span(12, 0, 1).bytes(13, &[0x80])),
            "histogram \"h\": protobuf: unexpected end in packed deltas at offset 25",
        ),
    ] {
        refuse_with(&input, NATIVE, expect);
    }
}

#[test]
fn every_truncation_of_a_protobuf_exposition_is_refused() {
    let whole = family("h", HISTOGRAM, vec![message().message(7, both())]);
    for len in 1..whole.len() {
        let (_, error) = dump_with(&whole[..len], MediaType::Protobuf, NATIVE);
        assert!(error.is_some(), "{len}");
    }
}
