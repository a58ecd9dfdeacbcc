//! Writes all numbers of a histogram behind those of the one before.

use crate::chunk::bits::BitWriter;
use crate::chunk::histogram::lane::{FloatLaneWriter, WholeLane};
use crate::chunk::varbit::{put_varbit_int, put_varbit_uint};
use crate::model::Histogram;

/// A lane for every number; buckets are the positive ones, then the negative ones.
#[derive(Debug, Clone)]
pub(super) enum Lanes {
    Whole {
        count: WholeLane,
        zero_count: WholeLane,
        sum: FloatLaneWriter,
        buckets: Vec<WholeLane>,
    },
    Float {
        count: FloatLaneWriter,
        zero_count: FloatLaneWriter,
        sum: FloatLaneWriter,
        buckets: Vec<FloatLaneWriter>,
    },
}

impl Lanes {
    pub(super) fn whole() -> Self {
        Self::Whole {
            count: WholeLane::default(),
            zero_count: WholeLane::default(),
            sum: FloatLaneWriter::default(),
            buckets: Vec::new(),
        }
    }

    pub(super) fn float() -> Self {
        Self::Float {
            count: FloatLaneWriter::default(),
            zero_count: FloatLaneWriter::default(),
            sum: FloatLaneWriter::default(),
            buckets: Vec::new(),
        }
    }

    pub(super) fn put_first(
        &mut self,
        out: &mut BitWriter,
        histogram: &Histogram,
        (positive_counts, negative_counts): (&[f64], &[f64]),
    ) {
        match self {
            Self::Whole {
                count,
                zero_count,
                sum,
                buckets,
            } => {
                *count = WholeLane::new(whole(histogram.count));
                *zero_count = WholeLane::new(whole(histogram.zero_count));
                put_varbit_uint(out, count.value.cast_unsigned());
                put_varbit_uint(out, zero_count.value.cast_unsigned());
                *sum = FloatLaneWriter::first(out, histogram.sum);
                *buckets = differences(positive_counts)
                    .chain(differences(negative_counts))
                    .map(WholeLane::new)
                    .collect();
                for bucket in buckets {
                    put_varbit_int(out, bucket.value);
                }
            }
            Self::Float {
                count,
                zero_count,
                sum,
                buckets,
            } => {
                *count = FloatLaneWriter::first(out, histogram.count);
                *zero_count = FloatLaneWriter::first(out, histogram.zero_count);
                *sum = FloatLaneWriter::first(out, histogram.sum);
                *buckets = positive_counts
                    .iter()
                    .chain(negative_counts)
                    .map(|&value| FloatLaneWriter::first(out, value))
                    .collect();
            }
        }
    }

    pub(super) fn put_later(
        &mut self,
        out: &mut BitWriter,
        histogram: &Histogram,
        (positive_counts, negative_counts): (&[f64], &[f64]),
    ) {
        match self {
            Self::Whole {
                count,
                zero_count,
                sum,
                buckets,
            } => {
                if histogram.is_stale() {
                    count.put_nothing_new(out);
                    zero_count.put_nothing_new(out);
                    return sum.put(out, histogram.sum);
                }
                count.put(out, whole(histogram.count));
                zero_count.put(out, whole(histogram.zero_count));
                sum.put(out, histogram.sum);
                let values = differences(positive_counts).chain(differences(negative_counts));
                for (lane, value) in buckets.iter_mut().zip(values) {
                    lane.put(out, value);
                }
            }
            Self::Float {
                count,
                zero_count,
                sum,
                buckets,
            } => {
                count.put(out, histogram.count);
                zero_count.put(out, histogram.zero_count);
                sum.put(out, histogram.sum);
                if histogram.is_stale() {
                    return;
                }
                let values = positive_counts.iter().chain(negative_counts);
                for (lane, value) in buckets.iter_mut().zip(values) {
                    lane.put(out, *value);
                }
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`is_whole` was asked first, or the number came from a chunk of integers"
)]
fn whole(count: f64) -> i64 {
    count as i64
}

/// What integer histograms store of buckets.
fn differences(counts: &[f64]) -> impl Iterator<Item = i64> {
    counts.iter().scan(0i64, |before, &count| {
        let count = whole(count);
        let difference = count.wrapping_sub(*before);
        *before = count;
        Some(difference)
    })
}
