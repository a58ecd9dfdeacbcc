//! The notation for series: `metric{label="value"} 1 2 _x3 4+1x10 stale {{sum:5 count:2}}`.

use std::sync::Arc;

use crate::model::{Histogram, Labels, METRIC_NAME, MatchType, stale_nan};
use crate::promql::parse::parse_selector_matchers;
use crate::promql::testing::histogram::{parse_histogram, step};

/// More values in one series are a typing mistake.
const VALUES_MAX: u64 = 1_000_000;

/// One value of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum SequenceValue {
    /// `_`: no sample.
    Gap,
    /// A number, or `stale`.
    Float(f64),
    /// `{{…}}`
    Histogram(HistogramValue),
}

/// A native histogram of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramValue {
    /// The histogram.
    pub histogram: Arc<Histogram>,
    /// `counter_reset_hint` was written, so an expectation compares it.
    pub hint_is_written: bool,
}

/// Splits a line into the labels and the text of the values.
pub(super) fn split_metric(line: &str) -> Result<(Labels, &str), String> {
    let end = metric_end(line);
    let (metric, values) = line.split_at_checked(end).unwrap_or((line, ""));
    Ok((parse_metric(metric)?, values))
}

/// Where the metric ends: at white space outside quotes and braces.
fn metric_end(line: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut in_braces = false;
    for (at, c) in line.char_indices() {
        match quote {
            Some(open) => {
                if escaped {
                    escaped = false;
                } else if c == '\\' && open != '`' {
                    escaped = true;
                } else if c == open {
                    quote = None;
                }
            }
            None => match c {
                '"' | '\'' | '`' => quote = Some(c),
                '{' => in_braces = true,
                '}' => in_braces = false,
                c if c.is_whitespace() && !in_braces => return at,
                _ => (),
            },
        }
    }
    line.len()
}

/// `name{label="value"}` as labels.
pub fn parse_metric(text: &str) -> Result<Labels, String> {
    let matchers = parse_selector_matchers(text).map_err(|error| error.to_string())?;
    let mut pairs = Vec::with_capacity(matchers.len());
    for matcher in &matchers {
        if matcher.match_type != MatchType::Equal {
            return Err(format!("{text}: a series has labels, not matchers"));
        }
        pairs.push((&*matcher.name, &*matcher.value));
    }
    let is_named_twice = pairs
        .iter()
        .filter(|(name, _)| *name == METRIC_NAME)
        .count()
        > 1;
    if is_named_twice {
        return Err(format!("{text}: two metric names"));
    }
    Labels::new(&pairs).map_err(|error| error.to_string())
}

/// A whole line.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<SequenceValue>), String> {
    let (labels, rest) = split_metric(line)?;
    let mut values = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        let end = item_end(rest);
        let (item, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
        push_item(item, &mut values).map_err(|why| format!("series value {item:?}: {why}"))?;
        rest = after.trim_start();
    }
    Ok((labels, values))
}

/// Where an item ends: at white space outside `{{…}}`.
fn item_end(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && depth == 0 => return at,
            _ => (),
        }
    }
    text.len()
}

fn push_item(item: &str, values: &mut Vec<SequenceValue>) -> Result<(), String> {
    if let Some(rest) = item.strip_prefix('_') {
        let times = match rest {
            "" => 1,
            _ => repetition(rest)?,
        };
        values.extend((0..times).map(|_| SequenceValue::Gap));
        return Ok(());
    }
    if item == "stale" {
        values.push(SequenceValue::Float(stale_nan()));
        return Ok(());
    }
    if item.starts_with("{{") {
        return push_histograms(item, values);
    }
    let (first, rest) = signed_number(item)?;
    if rest.is_empty() {
        values.push(SequenceValue::Float(first));
        return Ok(());
    }
    let (delta, rest) = if rest.starts_with('x') {
        (None, rest)
    } else if rest.starts_with(['+', '-']) {
        let (delta, rest) = signed_number(rest)?;
        (Some(delta), rest)
    } else {
        return Err(format!("unexpected {rest:?}"));
    };
    let mut value = first;
    for _ in 0..=repetition(rest)? {
        values.push(SequenceValue::Float(value));
        if let Some(delta) = delta {
            value += delta;
        }
    }
    Ok(())
}

/// `xN`
fn repetition(text: &str) -> Result<u64, String> {
    let digits = text
        .strip_prefix('x')
        .ok_or_else(|| format!("expected a repetition like x5, got {text:?}"))?;
    let times: u64 = digits
        .parse()
        .map_err(|_not_a_count| format!("invalid repetition {text:?}"))?;
    if VALUES_MAX < times {
        return Err(format!("repeats more than {VALUES_MAX} times"));
    }
    Ok(times)
}

/// A number at the start of `text`, and what follows it.
fn signed_number(text: &str) -> Result<(f64, &str), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let n_sign = text.len() - unsigned.len();
    let mut end = 0;
    let mut previous = ' ';
    for c in unsigned.chars() {
        let is_exponent_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
        let is_word = unsigned.starts_with(|first: char| first.is_ascii_alphabetic());
        let is_part = if is_word {
            c.is_ascii_alphabetic()
        } else {
            c.is_ascii_digit() || matches!(c, '.' | '_' | 'e' | 'E') || is_exponent_sign
        };
        if !is_part {
            break;
        }
        previous = c;
        end += c.len_utf8();
    }
    let digits = unsigned.get(..end).unwrap_or_default();
    let rest = unsigned.get(end..).unwrap_or_default();
    let value = parse_number(digits).ok_or_else(|| format!("not a number: {text:?}"))?;
    let is_negative = n_sign > 0 && text.starts_with('-');
    Ok((if is_negative { -value } else { value }, rest))
}

/// A number as expressions have it, with a sign allowed.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let value = crate::promql::parse::number_value(unsigned).ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

fn push_histograms(item: &str, values: &mut Vec<SequenceValue>) -> Result<(), String> {
    let (base, rest) = parse_histogram(item)?;
    let value = |histogram: Histogram, hint_is_written| {
        SequenceValue::Histogram(HistogramValue {
            histogram: Arc::new(histogram),
            hint_is_written,
        })
    };
    if rest.is_empty() || rest.starts_with('x') {
        let times = match rest {
            "" => 0,
            _ => repetition(rest)?,
        };
        let value = value(base.histogram, base.hint_is_written);
        values.extend((0..=times).map(|_| value.clone()));
        return Ok(());
    }
    let is_falling = rest.starts_with('-');
    let increment = rest
        .strip_prefix(['+', '-'])
        .ok_or_else(|| format!("unexpected {rest:?}"))?;
    let (increment, rest) = parse_histogram(increment)?;
    let times = repetition(rest)?;
    let mut histogram = base.histogram;
    // Only the last hint counts, for all of them.
    values.push(value(histogram.clone(), increment.hint_is_written));
    for _ in 0..times {
        histogram = step(&histogram, &increment.histogram, is_falling)?;
        values.push(value(histogram.clone(), increment.hint_is_written));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, labels: &str, expect: &[&str]) {
        let (found, values) = parse_series(line).unwrap();
        assert_eq!(found.to_string(), labels);
        let shown: Vec<String> = values
            .iter()
            .map(|value| match value {
                SequenceValue::Gap => "_".to_owned(),
                SequenceValue::Float(v) if crate::model::is_stale(*v) => "stale".to_owned(),
                SequenceValue::Float(v) => crate::model::number::format_g(*v),
                SequenceValue::Histogram(histogram) => {
                    let hint = if histogram.hint_is_written { "!" } else { "" };
                    format!("h{}{hint}", histogram.histogram.sum)
                }
            })
            .collect();
        assert_eq!(shown, expect, "{line}");
    }

    #[test]
    fn series_are_read_as_written() {
        check("up 1 2.5 -3", r#"{__name__="up"}"#, &["1", "2.5", "-3"]);
        check(
            r#"up{job="a b", q='it"s'}  _ 1 _x2 stale"#,
            r#"{__name__="up", job="a b", q="it\"s"}"#,
            &["_", "1", "_", "_", "stale"],
        );
        check(
            "{} 1+2x3 10-5x2",
            "{}",
            &["1", "3", "5", "7", "10", "5", "0"],
        );
        check(
            "{} 7x2 1e-2 +Inf NaN -inf",
            "{}",
            &["7", "7", "7", "0.01", "+Inf", "NaN", "-Inf"],
        );
        check("{} -1-2x1 1e2+1e1x1", "{}", &["-1", "-3", "100", "110"]);
        check(
            r#"{"a.b","c d"="e"} 1"#,
            r#"{__name__="a.b", "c d"="e"}"#,
            &["1"],
        );
        check("up", r#"{__name__="up"}"#, &[]);
    }

    #[test]
    fn histograms_are_read_and_repeated() {
        check("h {{}}", r#"{__name__="h"}"#, &["h0"]);
        check(
            "h {{sum:1 count:2}}x2 _ {{sum:3}}+{{sum:2 buckets:[1 2]}}x2 {{}}-{{sum:1 counter_reset_hint:gauge}}x1",
            r#"{__name__="h"}"#,
            &["h1", "h1", "h1", "_", "h3", "h5", "h7", "h0!", "h-1!"],
        );
    }

    #[test]
    fn what_is_no_series_is_refused() {
        for line in [
            "up 1x",
            "up 1+2",
            "up a",
            "up 1y2",
            "up{job!=\"a\"} 1",
            "up{ 1",
            "up _2",
            "up {{nope:1}}",
            "up {{sum:1",
            "up stalex2",
            "up 1 2x-3",
            "up 1x99999999999",
            "a{__name__=\"b\"} 1",
        ] {
            assert!(parse_series(line).is_err(), "{line}");
        }
    }
}
