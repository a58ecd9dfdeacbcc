//! Classic histograms made native ones with custom buckets, as a scrape that converts them does.

use std::collections::BTreeMap;

use crate::model::{Buckets, CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, METRIC_NAME, TimestampMs};
use crate::promql::testing::histogram::buckets_of;
use crate::promql::testing::script::LoadSeries;
use crate::promql::testing::series::SequenceValue;

/// Label of a bucket's upper bound.
const BOUND: &str = "le";

/// What classic series say of one histogram at one time.
#[derive(Debug, Default)]
struct Classic {
    /// Cumulative counts by upper bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

type ByTime<T> = BTreeMap<TimestampMs, T>;

/// The native histograms that classic series of one load amount to.
pub(super) fn native_histograms<'a>(
    loaded: impl Iterator<Item = &'a LoadSeries>,
    step_ms: i64,
) -> Result<BTreeMap<Labels, ByTime<Histogram>>, String> {
    let mut classics: BTreeMap<Labels, ByTime<Classic>> = BTreeMap::new();
    for series in loaded {
        let name = series.labels.metric_name();
        let Some((base, part)) = name.rsplit_once('_') else {
            continue;
        };
        let bound = match part {
            "bucket" => match bound_of(&series.labels)? {
                Some(bound) => bound,
                None => continue,
            },
            "count" | "sum" => 0.0,
            _ => continue,
        };
        let by_time = classics
            .entry(base_labels(&series.labels, base)?)
            .or_default();
        for (value, t) in series.values.iter().zip((0..).map(|i: i64| i * step_ms)) {
            let SequenceValue::Float(v) = *value else {
                continue;
            };
            let classic = by_time.entry(t).or_default();
            match part {
                "bucket" => classic.buckets.push((bound, v)),
                "count" => classic.count = Some(v),
                _ => classic.sum = v,
            }
        }
    }
    let mut natives = BTreeMap::new();
    for (labels, by_time) in classics {
        let mut histograms = BTreeMap::new();
        for (t, classic) in by_time {
            let histogram = classic
                .into_native()
                .map_err(|why| format!("{labels} at {t}: {why}"))?;
            histograms.insert(t, histogram);
        }
        natives.insert(labels, histograms);
    }
    Ok(natives)
}

/// `None` when the bound is no number.
fn bound_of(labels: &Labels) -> Result<Option<f64>, String> {
    let text = labels
        .get(BOUND)
        .ok_or_else(|| format!("{labels} is a bucket without a bound"))?;
    let bound = crate::model::number::parse_go_float(text);
    Ok(bound.filter(|bound| !bound.is_nan()))
}

fn base_labels(labels: &Labels, name: &str) -> Result<Labels, String> {
    let kept = labels
        .iter()
        .filter(|(label, _)| *label != METRIC_NAME && *label != BOUND);
    let pairs: Vec<(&str, &str)> = std::iter::once((METRIC_NAME, name)).chain(kept).collect();
    Labels::new(&pairs).map_err(|error| error.to_string())
}

impl Classic {
    #[expect(
        clippy::float_cmp,
        reason = "the last bucket counts everything, or the conversion fails"
    )]
    fn into_native(mut self) -> Result<Histogram, String> {
        self.buckets
            .sort_by(|left, right| left.0.total_cmp(&right.0));
        self.buckets.dedup_by_key(|bucket| bucket.0);
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or(0.0);
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let mut counted = BTreeMap::new();
        for (index, (bound, cumulative)) in (0..).zip(&self.buckets) {
            if *cumulative < below {
                return Err(format!(
                    "the bucket up to {bound} counts less than the one before"
                ));
            }
            if *cumulative != below {
                counted.insert(index, cumulative - below);
            }
            below = *cumulative;
        }
        if below != count {
            return Err(format!("the last bucket counts {below} of {count}"));
        }
        let bounds = self.buckets.iter().map(|(bound, _)| *bound);
        Ok(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive: buckets_of(&counted),
            negative: Buckets::default(),
            custom_bounds: bounds.filter(|bound| *bound != f64::INFINITY).collect(),
            ..Histogram::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::testing::parse_series;

    fn convert(lines: &[&str]) -> Result<Vec<(Labels, ByTime<Histogram>)>, String> {
        let loaded: Vec<LoadSeries> = lines
            .iter()
            .map(|line| {
                let (labels, values) = parse_series(line).unwrap();
                LoadSeries {
                    labels,
                    values,
                    start_offsets: None,
                }
            })
            .collect();
        native_histograms(loaded.iter(), 10).map(|natives| natives.into_iter().collect())
    }

    #[test]
    fn classic_series_are_one_histogram_at_each_time() {
        let natives = convert(&[
            r#"h_bucket{a="b",le="+Inf"} 7 9"#,
            r#"h_bucket{a="b",le="0.5"} 2 3"#,
            r#"h_bucket{a="b",le="1"} 2 _"#,
            r#"h_bucket{a="b",le="none"} 1"#,
            r#"h_count{a="b"} 7"#,
            r#"h_sum{a="b"} 5.5 6"#,
            "other 1",
        ])
        .unwrap();
        let [(labels, histograms)] = natives.as_slice() else {
            panic!("{natives:?}");
        };
        assert_eq!(labels.to_string(), r#"{__name__="h", a="b"}"#);
        let shown: Vec<_> = histograms
            .iter()
            .map(|(t, h)| {
                (
                    *t,
                    h.count,
                    h.sum,
                    h.custom_bounds.to_vec(),
                    h.positive.counts.clone(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (0, 7.0, 5.5, vec![0.5, 1.0], vec![2.0, 5.0]),
                (10, 9.0, 6.0, vec![0.5], vec![3.0, 6.0]),
            ]
        );
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for lines in [
            [r#"h_bucket{le="1"} 2"#, r#"h_bucket{le="2"} 1"#],
            [r#"h_bucket{le="+Inf"} 2"#, "h_count 3"],
            ["h_bucket 2", "h_count 2"],
        ] {
            assert!(convert(&lines).is_err(), "{lines:?}");
        }
    }
}
