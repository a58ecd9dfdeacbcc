//! Every construct, as Prometheus reads it.

use super::{check, check_openmetrics, check_text, dump};
use crate::exposition::{Entry, LabelBuffer, MediaType, OpenMetricsParser, TextParser};
use crate::model::{NORMAL_NAN_BITS, number};

#[test]
fn text_families_come_out_line_by_line() {
    check_text(
        "# HELP go_gc_duration_seconds A summary of the GC \\\\ pauses.\\nSecond line.\n\
         # TYPE go_gc_duration_seconds summary\n\
         go_gc_duration_seconds{quantile=\"0\"} 4.9351e-05\n\
         go_gc_duration_seconds{quantile=\"1\",} 8.3e-05\n\
         go_gc_duration_seconds_count 99\n\
         # just a comment\n\
         #HELP is a comment without the blank\n\
         # TYPE request_seconds histogram\n\
         request_seconds_bucket{le=\"1\"} 1 1520879607789\n\
         request_seconds_bucket{le=\"+Inf\"} 2\n\
         # TYPE plain untyped\n\
         plain{le=\"1\"} NaN",
        &[
            "help go_gc_duration_seconds \"A summary of the GC \\\\ pauses.\\nSecond line.\"",
            "type go_gc_duration_seconds summary",
            r#"{__name__="go_gc_duration_seconds", quantile="0.0"} 4.9351e-05"#,
            r#"{__name__="go_gc_duration_seconds", quantile="1.0"} 8.3e-05"#,
            r#"{__name__="go_gc_duration_seconds_count"} 99"#,
            "comment",
            "comment",
            "type request_seconds histogram",
            r#"{__name__="request_seconds_bucket", le="1.0"} 1 @1520879607789"#,
            r#"{__name__="request_seconds_bucket", le="+Inf"} 2"#,
            "type plain unknown",
            r#"{__name__="plain", le="1"} NaN"#,
        ],
    );
}

#[test]
fn text_takes_blanks_and_blank_lines_where_prometheus_does() {
    check_text(
        "\n\n\t \n# \tHELP \t a \n#\n# \n# HELP\tb  two blanks\n\
         a { x = \"1\" ,\ty\t=\t\"2\" z=\"3\" } \t 1 \t 5 \t \n\
         a{x=\"1\"}2\na{}3\na{x=\"1\",}4\n",
        &[
            "help a \"\"",
            "comment",
            "comment",
            "help b \" two blanks\"",
            r#"{__name__="a", x="1", y="2", z="3"} 1 @5"#,
            r#"{__name__="a", x="1"} 2"#,
            r#"{__name__="a"} 3"#,
            r#"{__name__="a", x="1"} 4"#,
        ],
    );
    // What stands before the name is a part of it, and a zero byte where a line could start ends everything.
    check_text(" a 1\n", &[r#"{__name__=" a"} 1"#]);
    check_text("a 1\n\0 junk", &[r#"{__name__="a"} 1"#]);
    check_text("#x\0 junk\na 1\n", &[]);
}

#[test]
fn text_values_are_go_floats() {
    for (text, v) in [
        ("+Inf", f64::INFINITY),
        ("-inf", f64::NEG_INFINITY),
        ("Infinity", f64::INFINITY),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("+7", 7.0),
        ("1E3", 1000.0),
        ("-0", -0.0),
        ("1e-400", 0.0),
        ("12345678901234567890", 12345678901234567890.0),
        ("0.1", 0.1),
    ] {
        let line = format!("a {text}\n");
        let (entries, error) = dump(line.as_bytes(), MediaType::Text);
        assert_eq!(error, None, "{text}");
        assert_eq!(
            entries,
            [format!("{{__name__=\"a\"}} {}", number::format_g(v))]
        );
    }
    let mut parser = TextParser::new(b"a nan");
    let Ok(Some(Entry::Series(series))) = parser.next_entry() else {
        panic!("no series");
    };
    assert_eq!(series.v.to_bits(), NORMAL_NAN_BITS);
}

#[test]
fn names_in_quotes_may_be_any_utf8() {
    check_text(
        "# TYPE \"http.status\" counter\n\
         {\"http.status\",\"my label\"=\"a\\\"b\\\\c\\nd\\e\"} 1\n\
         {x=\"1\",\"http.status\"} 2\n{\"käse\"} 3\nplain{\"quoted\"=\"é\"} 4\n{\"a\\\"b\"} 5\n",
        &[
            "type http.status counter",
            r#"{__name__="http.status", "my label"="a\"b\\c\nd\\e"} 1"#,
            r#"{__name__="http.status", x="1"} 2"#,
            r#"{__name__="käse"} 3"#,
            r#"{__name__="plain", quoted="é"} 4"#,
            r#"{__name__="a\"b"} 5"#,
        ],
    );
    check_openmetrics(
        "# TYPE \"http.status\" counter\n{\"http.status_total\",a.b=\"1\"} 1\n"
            .replace("a.b", "\"a.b\"")
            .as_str(),
        &[
            "type http.status counter",
            r#"{__name__="http.status_total", "a.b"="1"} 1"#,
        ],
    );
}

#[test]
fn the_text_of_a_series_is_the_bytes_as_written() {
    for (input, expect) in [
        ("a{x=\"1\", y=\"2\"}   7", "a{x=\"1\", y=\"2\"}"),
        ("a 7", "a"),
        ("a \t{} 7", "a \t{}"),
        ("{\"a\"} 7", "{\"a\"}"),
    ] {
        let mut parser = TextParser::new(input.as_bytes());
        let Ok(Some(Entry::Series(series))) = parser.next_entry() else {
            panic!("no series in {input}");
        };
        assert_eq!(series.text, expect);
        let place = series.text.as_ptr() as usize - input.as_ptr() as usize;
        assert_eq!(place, 0, "borrowed, not copied");
    }
}

#[test]
fn zero_bytes_and_newlines_are_values_in_text() {
    check_text(
        "a{b=\"x\0y\nz\"} 1\n# HELP a b\0c\n# c\0c\n",
        &[
            "{__name__=\"a\", b=\"x\\x00y\\nz\"} 1",
            "help a \"b\\0c\"",
            "comment",
        ],
    );
}

#[test]
fn openmetrics_families_come_out_line_by_line() {
    check_openmetrics(
        "# HELP foo_seconds Counts \\\"things\\\".\n\
         # TYPE foo_seconds counter\n\
         # UNIT foo_seconds seconds\n\
         foo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"KOO5\"} 0.67 1520879607.9\n\
         foo_seconds_total 1 # {} 2\n\
         foo_seconds_created 1520872607.123\n\
         # TYPE hh histogram\n\
         hh_bucket{le=\"1\"} 4 # {x=\"y\"} 3\n\
         # TYPE gh gaugehistogram\n# TYPE ii info\nii_info{a=\"b\"} 1\n# TYPE ss stateset\nss{ss=\"a\"} 0\n\
         # TYPE un unknown\nun 7 -1.5\n# UNIT un \n# HELP un \n",
        &[
            "help foo_seconds \"Counts \\\"things\\\".\"",
            "type foo_seconds counter",
            "unit foo_seconds seconds",
            r#"{__name__="foo_seconds_total", a="b"} 17 @1520879607789 # {trace_id="KOO5"} 0.67 @1520879607900"#,
            r#"{__name__="foo_seconds_total"} 1 # {} 2"#,
            r#"{__name__="foo_seconds_created"} 1.520872607123e+09"#,
            "type hh histogram",
            r#"{__name__="hh_bucket", le="1.0"} 4 # {x="y"} 3"#,
            "type gh gaugehistogram",
            "type ii info",
            r#"{__name__="ii_info", a="b"} 1"#,
            "type ss stateset",
            r#"{__name__="ss", ss="a"} 0"#,
            "type un unknown",
            r#"{__name__="un"} 7 @-1500"#,
            "unit un ",
            "help un \"\"",
        ],
    );
    check(MediaType::OpenMetrics, "# EOF", &[]);
    check_openmetrics("a{b=\"c\",} 1\n", &[r#"{__name__="a", b="c"} 1"#]);
    check(
        MediaType::OpenMetrics,
        "a{b=\"x\0\"} 1\n# EOF",
        &["{__name__=\"a\", b=\"x\\x00\"} 1"],
    );
}

#[test]
fn created_series_become_start_timestamps_when_asked_for() {
    let input = "# TYPE a counter\na_total{x=\"1\"} 5\na_created{x=\"1\"} 12.5\na_total{x=\"2\"} 6\n\
                 # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\nh_created 1.25\n\
                 # TYPE g gauge\ng_created 7\n# EOF\n";
    let mut parser = OpenMetricsParser::new(input.as_bytes(), true);
    let mut labels = LabelBuffer::new();
    let mut seen = Vec::new();
    while let Some(entry) = parser.next_entry().unwrap() {
        if matches!(entry, Entry::Series(_)) {
            parser.labels(&mut labels);
            let name = labels.metric_name().to_owned();
            seen.push((name, parser.start_timestamp()));
        }
    }
    let expect = [
        ("a_total", Some(12_500)),
        ("a_total", None),
        ("h_bucket", Some(1250)),
        ("h_bucket", Some(1250)),
        ("h_count", Some(1250)),
        ("h_sum", Some(1250)),
        ("g_created", None),
    ];
    assert_eq!(seen.len(), expect.len());
    for ((name, start), (name_expect, start_expect)) in seen.iter().zip(expect) {
        assert_eq!((name.as_str(), *start), (name_expect, start_expect));
    }
}
