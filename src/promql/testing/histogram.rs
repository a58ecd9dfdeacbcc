//! Native histograms as scripts write them: `{{schema:1 sum:5 count:3 buckets:[1 2] offset:-1}}`.

use crate::promql::testing::series::parse_number;

/// What `counter_reset_hint` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetHint {
    /// Nothing is known.
    Unknown,
    /// The counter was reset before this sample.
    Reset,
    /// The counter was not reset before this sample.
    NotReset,
    /// Not a counter.
    Gauge,
}

/// A histogram with what was left out at zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramLiteral {
    /// `schema`
    pub schema: i64,
    /// `sum`
    pub sum: f64,
    /// `count`
    pub count: f64,
    /// `z_bucket`
    pub zero_count: f64,
    /// `z_bucket_w`
    pub zero_threshold: f64,
    /// `buckets`
    pub buckets: Vec<f64>,
    /// `offset`
    pub offset: i64,
    /// `n_buckets`
    pub negative_buckets: Vec<f64>,
    /// `n_offset`
    pub negative_offset: i64,
    /// `custom_values`
    pub custom_values: Vec<f64>,
    /// `counter_reset_hint`; expectations compare it only when it is written.
    pub reset_hint: Option<ResetHint>,
}

/// Reads a histogram at the start of `text`; also gives what follows it.
pub(super) fn parse_histogram(text: &str) -> Result<(HistogramLiteral, &str), String> {
    let inner = text
        .strip_prefix("{{")
        .ok_or_else(|| "expected a histogram".to_owned())?;
    let (inner, rest) = inner
        .split_once("}}")
        .ok_or_else(|| "histogram without its closing braces".to_owned())?;
    let mut histogram = HistogramLiteral::default();
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
        set_field(&mut histogram, key, value)?;
        fields = after.trim_start();
    }
    Ok((histogram, rest))
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

fn set_field(histogram: &mut HistogramLiteral, key: &str, value: &str) -> Result<(), String> {
    let wrong = || format!("histogram field {key}: {value:?}");
    let float = || parse_number(value).ok_or_else(wrong);
    let int = || value.parse::<i64>().map_err(|_not_an_integer| wrong());
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
    match key {
        "schema" => histogram.schema = int()?,
        "sum" => histogram.sum = float()?,
        "count" => histogram.count = float()?,
        "z_bucket" => histogram.zero_count = float()?,
        "z_bucket_w" => histogram.zero_threshold = float()?,
        "buckets" => histogram.buckets = floats()?,
        "offset" => histogram.offset = int()?,
        "n_buckets" => histogram.negative_buckets = floats()?,
        "n_offset" => histogram.negative_offset = int()?,
        "custom_values" => histogram.custom_values = floats()?,
        "counter_reset_hint" => {
            histogram.reset_hint = Some(match value {
                "unknown" => ResetHint::Unknown,
                "reset" => ResetHint::Reset,
                "not_reset" => ResetHint::NotReset,
                "gauge" => ResetHint::Gauge,
                _ => return Err(wrong()),
            });
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
        let expect = HistogramLiteral {
            schema: -2,
            sum: -3.5,
            count: 7.0,
            zero_count: 1.0,
            zero_threshold: 0.01,
            buckets: vec![1.0, 2.5],
            offset: -1,
            negative_buckets: vec![3.0],
            negative_offset: 4,
            custom_values: vec![5.0, 10.0, f64::INFINITY],
            reset_hint: Some(ResetHint::Gauge),
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
}
