//! Golden expositions, malformed ones, every truncation.

mod golden;
mod mutations;
mod refused;

use crate::exposition::{Entry, Exemplar, LabelBuffer, MediaType, ParseError, Parser};
use crate::model::number;

/// One line per entry, so that a golden test is a list of lines.
fn dump(input: &[u8], media_type: MediaType) -> (Vec<String>, Option<ParseError>) {
    let mut parser = Parser::new(input, media_type);
    let mut labels = LabelBuffer::new();
    let mut exemplar = Exemplar::default();
    let mut out = Vec::new();
    loop {
        let entry = match parser.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return (out, None),
            Err(error) => return (out, Some(error)),
        };
        out.push(match entry {
            Entry::Type { name, metric_type } => format!("type {name} {}", metric_type.as_str()),
            Entry::Help { name, help } => format!("help {name} {help:?}"),
            Entry::Unit { name, unit } => format!("unit {name} {unit}"),
            Entry::Comment => "comment".to_owned(),
            Entry::Series(series) => {
                parser.labels(&mut labels);
                let set = labels.to_labels().unwrap();
                let mut line = format!("{set} {}", number::format_g(series.v));
                if let Some(t) = series.t {
                    line.push_str(&format!(" @{t}"));
                }
                if parser.exemplar(&mut exemplar) {
                    let set = exemplar.labels.to_labels().unwrap();
                    line.push_str(&format!(" # {set} {}", exemplar.v));
                    if let Some(t) = exemplar.t {
                        line.push_str(&format!(" @{t}"));
                    }
                }
                line
            }
        });
    }
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
