//! Golden expositions, malformed ones, every truncation.

mod golden;
mod histograms;
mod mutations;
mod refused;

use crate::exposition::{
    Entry, Exemplar, HistogramSample, LabelBuffer, MediaType, ParseError, Parser, ParserOptions,
};
use crate::model::histogram::{Buckets, Counts, ResetHint};
use crate::model::{TimestampMs, number};

/// One line per entry, so that a golden test is a list of lines.
fn dump(input: &[u8], media_type: MediaType) -> (Vec<String>, Option<ParseError>) {
    dump_with(input, media_type, ParserOptions::default())
}

/// Read twice: the second time the parser is told what comes, and says the same.
fn dump_with(
    input: &[u8],
    media_type: MediaType,
    options: ParserOptions,
) -> (Vec<String>, Option<ParseError>) {
    let mut texts = Vec::new();
    let read = dump_knowing(input, (media_type, options), &[], &mut texts);
    let again = dump_knowing(input, (media_type, options), &texts, &mut Vec::new());
    assert_eq!(again, read, "{:?}", String::from_utf8_lossy(input));
    read
}

/// The parser is told `known` before one series after the other; `texts` are those of the series that were there.
fn dump_knowing(
    input: &[u8],
    (media_type, options): (MediaType, ParserOptions),
    known: &[String],
    texts: &mut Vec<String>,
) -> (Vec<String>, Option<ParseError>) {
    let mut parser = Parser::new(input, media_type, options);
    let mut out = Vec::new();
    loop {
        let known = known.get(texts.len()).map_or("", String::as_str);
        let (shown, t) = match parser.next_entry_like(known) {
            Ok(Some(entry)) => match entry {
                Entry::Type { name, metric_type } => {
                    out.push(format!("type {name} {}", metric_type.as_str()));
                    continue;
                }
                Entry::Help { name, help } => {
                    out.push(format!("help {name} {help:?}"));
                    continue;
                }
                Entry::Unit { name, unit } => {
                    out.push(format!("unit {name} {unit}"));
                    continue;
                }
                Entry::Comment => {
                    out.push("comment".to_owned());
                    continue;
                }
                Entry::Series(line) => (number::format_g(line.v), line.t),
                Entry::Histogram(line) => (shown_histogram(&line.sample), line.t),
            },
            Ok(None) => return (out, None),
            Err(error) => return (out, Some(error)),
        };
        texts.push(parser.text().to_owned());
        out.push(series_line(&mut parser, &shown, t, options));
    }
}

#[test]
fn whatever_a_parser_is_told_it_reads_what_is_there() {
    let lines = [
        "a 1",
        "a  1",
        " a 1",
        "a\t1",
        "a1 1",
        "a{} 1",
        "a {} 1",
        "a{x=\"1\"} 1",
        "a {x=\"1\"} 1",
        "a{x=\"1\"}1",
        "a{x=\"1\"}  1",
        "a{x=\"1\"} {",
        "a{x=\"1\",} 1",
        "a{x=\"1} 1\"} 2",
        "a{x=\"1\"} 1 5",
        "a{x=\"1\"} 1 # {b=\"c\"} 2",
        "{\"a\"} 1",
        "{\"a\",x=\"1\"} 1",
        "a",
        "a ",
        "",
    ];
    for media_type in [MediaType::Text, MediaType::OpenMetrics] {
        let format = (media_type, ParserOptions::default());
        let pages = lines.map(|line| format!("{line}\n# EOF\n"));
        let mut texts = Vec::new();
        for page in &pages {
            let mut found = Vec::new();
            dump_knowing(page.as_bytes(), format, &[], &mut found);
            texts.append(&mut found);
        }
        assert!(8 < texts.len(), "{texts:?}");
        for page in &pages {
            let read = dump_knowing(page.as_bytes(), format, &[], &mut Vec::new());
            for known in &texts {
                let known = std::slice::from_ref(known);
                let again = dump_knowing(page.as_bytes(), format, known, &mut Vec::new());
                assert_eq!(again, read, "{page:?} {known:?}");
            }
        }
    }
}

/// Labels, value, time, start timestamp and exemplars of the series that was yielded last.
fn series_line(
    parser: &mut Parser<'_>,
    shown: &str,
    t: Option<TimestampMs>,
    options: ParserOptions,
) -> String {
    let mut labels = LabelBuffer::new();
    let mut exemplar = Exemplar::default();
    parser.labels(&mut labels);
    let mut line = format!("{} {shown}", labels.to_labels().unwrap());
    if let Some(t) = t {
        line.push_str(&format!(" @{t}"));
    }
    if options.start_timestamps
        && let Some(start) = parser.start_timestamp()
    {
        line.push_str(&format!(" since {start}"));
    }
    while parser.next_exemplar(&mut exemplar) {
        let set = exemplar.labels.to_labels().unwrap();
        line.push_str(&format!(" # {set} {}", exemplar.v));
        if let Some(t) = exemplar.t {
            line.push_str(&format!(" @{t}"));
        }
    }
    line
}

fn shown_histogram(sample: &HistogramSample) -> String {
    let HistogramSample { histogram, counts } = sample;
    let side = |buckets: &Buckets| {
        let pairs: Vec<String> = buckets
            .iter()
            .map(|(index, count)| format!("{index}:{count}"))
            .collect();
        pairs.join(" ")
    };
    let mut out = format!(
        "{}histogram schema {} count {} sum {} zero {} up to {} positive [{}] negative [{}]",
        if *counts == Counts::Float {
            "float "
        } else {
            ""
        },
        histogram.schema,
        histogram.count,
        histogram.sum,
        histogram.zero_count,
        histogram.zero_threshold,
        side(&histogram.positive),
        side(&histogram.negative),
    );
    if histogram.has_custom_buckets() {
        out.push_str(&format!(" bounds {:?}", histogram.custom_bounds));
    }
    if histogram.reset_hint == ResetHint::Gauge {
        out.push_str(" gauge");
    }
    out
}

#[track_caller]
fn check(media_type: MediaType, input: &str, expect: &[&str]) {
    let (entries, error) = dump(input.as_bytes(), media_type);
    assert_eq!(error, None, "{input:?}");
    assert_eq!(entries, expect, "{input:?}");
}

#[track_caller]
fn check_text(input: &str, expect: &[&str]) {
    check(MediaType::Text, input, expect);
}

#[track_caller]
fn check_openmetrics(input: &str, expect: &[&str]) {
    check(MediaType::OpenMetrics, &format!("{input}# EOF\n"), expect);
}

#[track_caller]
fn refuse(media_type: MediaType, input: &[u8], expect: &str) {
    let (_, error) = dump(input, media_type);
    let error = error.map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some(expect), "{}", input.escape_ascii());
}

#[track_caller]
fn refuse_with(input: &[u8], options: ParserOptions, expect: &str) {
    let (_, error) = dump_with(input, MediaType::Protobuf, options);
    let error = error.map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some(expect), "{}", input.escape_ascii());
}
