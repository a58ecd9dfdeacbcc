//! Buckets, count and sum of a classic histogram to a native one with listed bounds.

use std::cmp::Ordering;
use std::sync::Arc;

use thiserror::Error;

use crate::model::histogram::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram};

/// A native histogram as a target tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSample {
    /// Buckets, count and sum.
    pub histogram: Histogram,
    /// Whether its counts may be any numbers.
    pub counts: Counts,
}

/// Why a classic histogram is none. The texts are Prometheus'.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub(super) enum ConversionError {
    #[error("bucket boundary must not be NaN")]
    NanBound,
    #[error("bucket count must be non-negative: le={bound}, count={count}")]
    NegativeBucket { bound: f64, count: f64 },
    #[error("count must be non-negative: count={0}")]
    NegativeCount(f64),
    #[error("count is not cumulative: {here} {relation} {neighbour}")]
    NotCumulative {
        here: f64,
        relation: char,
        neighbour: f64,
    },
    #[error("count mismatch: count={count} != le={bound} count={last}")]
    Mismatch { count: f64, bound: f64, last: f64 },
}

/// Collects one classic histogram, its parts in any order.
#[derive(Debug, Clone, Default)]
pub(super) struct Collector {
    /// Bounds ascend; counts are of everything up to the bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
    error: Option<ConversionError>,
}

impl Collector {
    pub(super) fn clear(&mut self) {
        self.buckets.clear();
        self.count = None;
        self.sum = 0.0;
        self.error = None;
    }

    /// Observations up to `bound`; the first that is said of a bound counts.
    pub(super) fn bucket(&mut self, bound: f64, count: f64) {
        if self.error.is_none() {
            self.error = self.insert(bound, count).err();
        }
    }

    fn insert(&mut self, bound: f64, count: f64) -> Result<(), ConversionError> {
        if bound.is_nan() {
            return Err(ConversionError::NanBound);
        }
        if count < 0.0 {
            return Err(ConversionError::NegativeBucket { bound, count });
        }
        let at = match self.buckets.last() {
            Some((last, _)) if bound <= *last => {
                self.buckets.partition_point(|(here, _)| *here < bound)
            }
            _ => self.buckets.len(),
        };
        if self.buckets.get(at).is_some_and(|(here, _)| *here <= bound) {
            return Ok(());
        }
        let before = at.checked_sub(1).and_then(|at| self.buckets.get(at));
        if let Some((_, below)) = before
            && count < *below
        {
            return Err(ConversionError::NotCumulative {
                here: count,
                relation: '<',
                neighbour: *below,
            });
        }
        if let Some((_, above)) = self.buckets.get(at)
            && *above < count
        {
            return Err(ConversionError::NotCumulative {
                here: count,
                relation: '>',
                neighbour: *above,
            });
        }
        self.buckets.insert(at, (bound, count));
        Ok(())
    }

    /// All observations.
    pub(super) fn count(&mut self, count: f64) {
        if self.error.is_none() {
            if count < 0.0 {
                self.error = Some(ConversionError::NegativeCount(count));
            }
            self.count = Some(count);
        }
    }

    /// The sum of all observations.
    pub(super) fn sum(&mut self, sum: f64) {
        self.sum = sum;
    }

    /// The histogram that was collected; the collector is to be cleared then.
    pub(super) fn convert(&mut self) -> Result<HistogramSample, ConversionError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|(_, count)| count)).unwrap_or(0.0);
        if last.is_none_or(|(bound, _)| bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let (bound, last) = self.buckets.last().copied().unwrap_or_default();
        if count.partial_cmp(&last) != Some(Ordering::Equal) {
            return Err(ConversionError::Mismatch { count, bound, last });
        }
        let is_float = self
            .buckets
            .iter()
            .any(|(_, count)| !(count.is_finite() && count.fract() == 0.0));
        let mut below = 0.0;
        let bucket_counts: Vec<f64> = self
            .buckets
            .iter()
            .map(|(_, count)| count - std::mem::replace(&mut below, *count))
            .collect();
        let bounds: Arc<[f64]> = self
            .buckets
            .iter()
            .map(|(bound, _)| *bound)
            .filter(|bound| *bound != f64::INFINITY)
            .collect();
        let length = u32::try_from(bucket_counts.len()).unwrap_or(u32::MAX);
        let mut histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive: Buckets {
                spans: vec![BucketSpan { offset: 0, length }],
                counts: bucket_counts,
            },
            custom_bounds: bounds,
            ..Histogram::default()
        };
        histogram.compact();
        let counts = if is_float {
            Counts::Float
        } else {
            Counts::Whole
        };
        Ok(HistogramSample { histogram, counts })
    }
}

/// What a series of a classic histogram tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Bucket,
    Count,
    Sum,
}

/// The family a series name belongs to, and what it tells of it.
pub(super) fn part_of(name: &str) -> Option<(Part, &str)> {
    [
        ("_bucket", Part::Bucket),
        ("_sum", Part::Sum),
        ("_count", Part::Count),
    ]
    .into_iter()
    .find_map(|(suffix, part)| Some((part, name.strip_suffix(suffix)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(buckets: &[(f64, f64)], count: Option<f64>) -> Result<String, String> {
        let mut collector = Collector::default();
        for (bound, cumulative) in buckets {
            collector.bucket(*bound, *cumulative);
        }
        if let Some(count) = count {
            collector.count(count);
        }
        collector.sum(7.5);
        let sample = collector.convert().map_err(|error| error.to_string())?;
        let HistogramSample { histogram, counts } = sample;
        Ok(format!(
            "{} of {:?} spans {:?} counts {:?} sum {}{}",
            histogram.count,
            histogram.custom_bounds,
            histogram
                .positive
                .spans
                .iter()
                .map(|span| (span.offset, span.length))
                .collect::<Vec<_>>(),
            histogram.positive.counts,
            histogram.sum,
            if counts == Counts::Float {
                " float"
            } else {
                ""
            }
        ))
    }

    #[test]
    fn cumulative_counts_become_counts_of_buckets() {
        const INF: f64 = f64::INFINITY;
        for (buckets, count, expect) in [
            (
                vec![(1.0, 2.0), (2.0, 2.0), (INF, 5.0)],
                Some(5.0),
                "5 of [1.0, 2.0] spans [(0, 1), (1, 1)] counts [2.0, 3.0] sum 7.5",
            ),
            // In any order, and the first word about a bound holds.
            (
                vec![(INF, 5.0), (1.0, 2.0), (1.0, 3.0)],
                None,
                "5 of [1.0] spans [(0, 2)] counts [2.0, 3.0] sum 7.5",
            ),
            // Without a last bucket the count is that bucket's.
            (
                vec![(1.0, 2.0)],
                Some(3.0),
                "3 of [1.0] spans [(0, 2)] counts [2.0, 1.0] sum 7.5",
            ),
            (
                vec![],
                Some(3.0),
                "3 of [] spans [(0, 1)] counts [3.0] sum 7.5",
            ),
            (
                vec![(1.0, 0.5), (INF, 1.0)],
                Some(1.0),
                "1 of [1.0] spans [(0, 2)] counts [0.5, 0.5] sum 7.5 float",
            ),
        ] {
            assert_eq!(converted(&buckets, count).as_deref(), Ok(expect));
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused_in_prometheus_words() {
        for (buckets, count, expect) in [
            (
                vec![(f64::NAN, 1.0)],
                None,
                "bucket boundary must not be NaN",
            ),
            (
                vec![(1.0, -1.0)],
                None,
                "bucket count must be non-negative: le=1, count=-1",
            ),
            (
                vec![(1.0, 1.0)],
                Some(-1.0),
                "count must be non-negative: count=-1",
            ),
            (
                vec![(1.0, 2.0), (2.0, 1.0)],
                None,
                "count is not cumulative: 1 < 2",
            ),
            (
                vec![(2.0, 1.0), (1.0, 2.0)],
                None,
                "count is not cumulative: 2 > 1",
            ),
            (
                vec![(f64::INFINITY, 2.0)],
                Some(3.0),
                "count mismatch: count=3 != le=inf count=2",
            ),
        ] {
            assert_eq!(converted(&buckets, count), Err(expect.to_owned()));
        }
    }
}
