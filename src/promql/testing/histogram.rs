//! Native histograms as series notation has them: `{{schema:1 sum:5 count:3 buckets:[1 2] offset:-1}}`.

use std::collections::BTreeMap;

use crate::model::histogram::IncompatibleSchemas;
use crate::model::{BucketSpan, Buckets, Histogram, ResetHint};
use crate::promql::testing::series::parse_number;

/// A histogram as it was written; what was left out is zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct HistogramLiteral {
    pub(super) histogram: Histogram,
    /// `counter_reset_hint` was written, so an expectation compares it.
    pub(super) hint_is_written: bool,
}

/// Reads a histogram at the start of `text`; also gives what follows it.
pub(super) fn parse_histogram(text: &str) -> Result<(HistogramLiteral, &str), String> {
    let inner = text
        .strip_prefix("{{")
        .ok_or_else(|| "expected a histogram".to_owned())?;
    let (inner, rest) = inner
        .split_once("}}")
        .ok_or_else(|| "histogram without its closing braces".to_owned())?;
    let mut literal = HistogramLiteral::default();
    let mut offsets = Offsets::default();
    let mut seen: Vec<&str> = Vec::new();
    let mut fields = inner.trim();
    while !fields.is_empty() {
        let (key, after) = fields
            .split_once(':')
            .ok_or_else(|| format!("missing `:` in {fields:?}"))?;
        let (value, after) = field_value(after)?;
        if seen.contains(&key) {
            return Err(format!("duplicate key {key:?} in histogram"));
        }
        seen.push(key);
        set_field(&mut literal, &mut offsets, key, value)?;
        fields = after.trim_start();
    }
    let histogram = &mut literal.histogram;
    histogram.positive.spans = one_span(offsets.positive, histogram.positive.counts.len());
    histogram.negative.spans = one_span(offsets.negative, histogram.negative.counts.len());
    Ok((literal, rest))
}

/// `offset` and `n_offset`
#[derive(Default)]
struct Offsets {
    positive: i32,
    negative: i32,
}

fn one_span(offset: i32, n_buckets: usize) -> Vec<BucketSpan> {
    match u32::try_from(n_buckets) {
        Ok(length) if 0 < length => vec![BucketSpan { offset, length }],
        Ok(_) | Err(_) => Vec::new(),
    }
}

/// The buckets that count anything, by index.
pub(super) fn counted(buckets: &Buckets) -> BTreeMap<i64, f64> {
    let mut next = 0i64;
    let indexes = buckets.spans.iter().flat_map(|span| {
        let from = next + i64::from(span.offset);
        next = from + i64::from(span.length);
        from..next
    });
    let counted = indexes.zip(buckets.counts.iter().copied());
    counted.filter(|(_, count)| *count != 0.0).collect()
}

/// Mirror of [`counted`].
pub(super) fn buckets_of(counted: &BTreeMap<i64, f64>) -> Buckets {
    let mut buckets = Buckets::default();
    let mut next = 0i64;
    for (&index, &count) in counted {
        match buckets.spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => buckets.spans.push(BucketSpan {
                // Indexes come from spans of 32 bits.
                offset: i32::try_from(index - next).unwrap_or(i32::MAX),
                length: 1,
            }),
        }
        buckets.counts.push(count);
        next = index + 1;
    }
    buckets
}

/// The next histogram of `a+bxN` or `a-bxN`.
pub(super) fn step(
    histogram: &Histogram,
    increment: &Histogram,
    is_falling: bool,
) -> Result<Histogram, String> {
    if increment.schema < histogram.schema {
        return Err(format!(
            "error combining histograms: cannot merge from schema {} to {}",
            increment.schema, histogram.schema
        ));
    }
    let mut next = histogram.clone();
    let merged = if is_falling {
        next.sub(increment)
    } else {
        next.add(increment)
    };
    match merged {
        Ok(_) => Ok(next),
        Err(IncompatibleSchemas) => Err("cannot combine exponential and custom buckets".to_owned()),
    }
}

/// The text of one value and what follows it.
fn field_value(text: &str) -> Result<(&str, &str), String> {
    if text.starts_with('[') {
        let end = text
            .find(']')
            .ok_or_else(|| format!("missing `]` in {text:?}"))?;
        return Ok(text.split_at_checked(end + 1).unwrap_or((text, "")));
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    Ok(text.split_at_checked(end).unwrap_or((text, "")))
}

fn set_field(
    literal: &mut HistogramLiteral,
    offsets: &mut Offsets,
    key: &str,
    value: &str,
) -> Result<(), String> {
    let wrong = || format!("histogram field {key}: {value:?}");
    let float = || parse_number(value).ok_or_else(wrong);
    let int = || value.parse::<i32>().map_err(|_not_an_integer| wrong());
    let floats = || {
        let inner = value
            .strip_prefix('[')
            .and_then(|value| value.strip_suffix(']'))
            .ok_or_else(wrong)?;
        inner
            .split_whitespace()
            .map(|word| parse_number(word).ok_or_else(wrong))
            .collect::<Result<Vec<f64>, String>>()
    };
    let histogram = &mut literal.histogram;
    match key {
        "schema" => histogram.schema = int()?,
        "sum" => histogram.sum = float()?,
        "count" => histogram.count = float()?,
        "z_bucket" => histogram.zero_count = float()?,
        "z_bucket_w" => histogram.zero_threshold = float()?,
        "buckets" => histogram.positive.counts = floats()?,
        "offset" => offsets.positive = int()?,
        "n_buckets" => histogram.negative.counts = floats()?,
        "n_offset" => offsets.negative = int()?,
        "custom_values" => histogram.custom_bounds = floats()?.into(),
        "counter_reset_hint" => {
            literal.hint_is_written = true;
            histogram.reset_hint = match value {
                "unknown" => ResetHint::Unknown,
                "reset" => ResetHint::Reset,
                "not_reset" => ResetHint::NotReset,
                "gauge" => ResetHint::Gauge,
                _ => return Err(wrong()),
            };
        }
        _ => return Err(format!("bad histogram descriptor found: {key:?}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_read() {
        let text = "{{schema:-2 sum:-3.5 count:7 z_bucket:1 z_bucket_w:0.01 buckets:[1 2.5] offset:-1 \
                    n_buckets:[3] n_offset:4 custom_values:[5 10 Inf] counter_reset_hint:gauge}}x5";
        let buckets = |offset, counts: &[f64]| Buckets {
            spans: one_span(offset, counts.len()),
            counts: counts.to_vec(),
        };
        let expect = HistogramLiteral {
            histogram: Histogram {
                schema: -2,
                sum: -3.5,
                count: 7.0,
                zero_count: 1.0,
                zero_threshold: 0.01,
                positive: buckets(-1, &[1.0, 2.5]),
                negative: buckets(4, &[3.0]),
                custom_bounds: [5.0, 10.0, f64::INFINITY].into(),
                reset_hint: ResetHint::Gauge,
            },
            hint_is_written: true,
        };
        assert_eq!(parse_histogram(text), Ok((expect, "x5")));
    }

    #[test]
    fn unknown_and_repeated_fields_are_refused() {
        for text in [
            "{{sum:1 sum:2}}",
            "{{median:1}}",
            "{{sum:a}}",
            "{{schema:1.5}}",
            "{{buckets:[1}}",
            "{{counter_reset_hint:maybe}}",
            "{{sum}}",
            "{{",
        ] {
            assert!(parse_histogram(text).is_err(), "{text}");
        }
    }

    #[test]
    fn buckets_without_counts_are_left_out() {
        let buckets = Buckets {
            spans: one_span(-2, 6),
            counts: vec![0.0, 1.0, 2.0, 0.0, 3.0, -0.0],
        };
        let left = buckets_of(&counted(&buckets));
        assert_eq!(left.counts, [1.0, 2.0, 3.0]);
        let spans: Vec<_> = left.spans.iter().map(|s| (s.offset, s.length)).collect();
        assert_eq!(spans, [(-1, 2), (1, 1)]);
        assert_eq!(counted(&left), counted(&buckets));
    }
}
