//! Functions of one native histogram.

use crate::model::math::{exp2, log2};
use crate::model::{Bucket, Histogram, Slot};
use crate::promql::functions::kahan::Kahan;

/// What observations that are no numbers do to a quantile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nans {
    /// The quantile lies among them.
    AreResult,
    /// They count as larger than all numbers.
    Skew,
}

/// Where a value lies in a bucket, from 0 to 1; it is strictly inside and the bounds are finite.
pub(crate) fn part_below(bucket: &Bucket, v: f64, is_linear: bool) -> f64 {
    if is_linear {
        return (v - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let lower = log2(bucket.lower.abs());
    let upper = log2(bucket.upper.abs());
    let v_log = log2(v.abs());
    if v > 0.0 {
        (v_log - lower) / (upper - lower)
    } else {
        1.0 - (v_log - upper) / (lower - upper)
    }
}

/// The bucket around zero ends at zero on a side where there are no buckets.
fn one_sided(histogram: &Histogram, bucket: &mut Bucket) {
    let has_negative = !histogram.negative.counts.is_empty();
    let has_positive = !histogram.positive.counts.is_empty();
    if !has_negative && has_positive {
        bucket.lower = 0.0;
    } else if !has_positive && has_negative {
        bucket.upper = 0.0;
    }
}

/// The value that a part `q` of all observations does not exceed.
pub(crate) fn quantile(q: f64, histogram: &Histogram) -> (f64, Option<Nans>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let slots = histogram.slots();
    let may_have_nans = histogram.sum.is_nan();
    // From whichever end is nearer. Observations that are no numbers are in no bucket, so then only from below.
    let is_forward = may_have_nans || q < 0.5;
    let (rank, found) = if is_forward {
        let rank = q * histogram.count;
        (rank, search(slots.iter(), rank))
    } else {
        let rank = (1.0 - q) * histogram.count;
        (rank, search(slots.iter().rev(), rank))
    };
    let Some((slot, count, n_seen)) = found else {
        let nothing = Bucket::default();
        return in_bucket(histogram, &nothing, [rank, 0.0], is_forward, &[]);
    };
    let rest = if is_forward {
        slots.get(n_seen..).unwrap_or_default()
    } else {
        &[]
    };
    let bucket = histogram.bucket(slot);
    in_bucket(histogram, &bucket, [rank, count], is_forward, rest)
}

/// The first slot up to which there are `rank` observations, or the last one; how many there are, and its position.
fn search<'a>(slots: impl Iterator<Item = &'a Slot>, rank: f64) -> Option<(Slot, f64, usize)> {
    let mut count = 0.0;
    let mut last = None;
    for (position, slot) in slots.enumerate() {
        last = Some((*slot, count, position + 1));
        if slot.count == 0.0 {
            continue;
        }
        count += slot.count;
        last = Some((*slot, count, position + 1));
        if count >= rank {
            break;
        }
    }
    last
}

/// The quantile in the bucket it was found in: `count` observations lie up to its end, seen from where the search began.
fn in_bucket(
    histogram: &Histogram,
    bucket: &Bucket,
    [rank, count]: [f64; 2],
    is_forward: bool,
    rest: &[Slot],
) -> (f64, Option<Nans>) {
    let is_custom = histogram.has_custom_buckets();
    let mut bucket = *bucket;
    if is_custom {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(histogram, &mut bucket);
    }
    // Rounding may have made more of them than there are.
    let mut count = count.min(histogram.count);
    if count < rank {
        return if histogram.sum.is_nan() {
            (f64::NAN, Some(Nans::AreResult))
        } else {
            (bucket.upper, None)
        };
    }
    let rank = if is_forward {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let mut nans = None;
    if histogram.sum.is_nan() {
        count = rest.iter().fold(count, |count, slot| count + slot.count);
        if count < histogram.count {
            nans = Some(Nans::Skew);
        }
        // Prometheus interpolates in the last bucket it looked at, which after this count is the highest.
        if let Some(last) = rest.last() {
            bucket = histogram.bucket(*last);
        }
    }
    let part = rank / bucket.count;
    if is_custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return (bucket.lower + (bucket.upper - bucket.lower) * part, nans);
    }
    let lower = log2(bucket.lower.abs());
    let upper = log2(bucket.upper.abs());
    let v = if bucket.lower > 0.0 {
        exp2(lower + (upper - lower) * part)
    } else {
        -exp2(upper + (lower - upper) * (1.0 - part))
    };
    (v, nans)
}

/// One of the two bounds of a fraction while buckets go by.
struct Bound {
    at: f64,
    rank: Option<f64>,
}

impl Bound {
    /// How many observations lie below, once the bucket says so; `rank` of them lie below the bucket.
    fn look(&mut self, bucket: &Bucket, rank: f64, is_linear: bool) {
        if self.rank.is_some() {
            return;
        }
        if bucket.lower >= self.at {
            self.rank = Some(rank);
        } else if bucket.upper > self.at {
            self.rank = Some(if is_linear && bucket.lower == f64::NEG_INFINITY {
                // A bucket without a lower bound counts whole: there is no line to follow.
                bucket.count
            } else {
                rank + bucket.count * part_below(bucket, self.at, is_linear)
            });
        }
    }
}

/// The part of all observations between `lower` and `upper`, and whether some are no numbers and so in no part.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let mut bounds = [lower, upper].map(|at| Bound { at, rank: None });
    let mut rank = 0.0;
    for mut bucket in histogram.buckets() {
        let is_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if is_zero {
            one_sided(histogram, &mut bucket);
        }
        for bound in &mut bounds {
            bound.look(&bucket, rank, is_zero || histogram.has_custom_buckets());
        }
        if bounds.iter().all(|bound| bound.rank.is_some()) {
            break;
        }
        rank += bucket.count;
    }
    let mut count = histogram.count;
    let mut has_nans = false;
    if histogram.sum.is_nan() {
        let slots = histogram.slots();
        count = slots.iter().fold(0.0, |count, slot| count + slot.count);
        has_nans = count < histogram.count;
    }
    let [lower, upper] = bounds.map(|bound| match bound.rank {
        Some(rank) if rank > count => count,
        Some(rank) => rank,
        None => count,
    });
    ((upper - lower) / histogram.count, has_nans)
}

/// The mean of all observations.
pub(crate) fn avg(histogram: &Histogram) -> f64 {
    histogram.sum / histogram.count
}

/// The variance of all observations, each taken for the middle of its bucket.
pub(crate) fn stdvar(histogram: &Histogram) -> f64 {
    let mean = avg(histogram);
    let mut variance = Kahan::default();
    for bucket in histogram.buckets().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.has_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        variance.add(bucket.count * delta * delta);
    }
    variance.total() / histogram.count
}

/// The standard deviation of all observations, each taken for the middle of its bucket.
pub(crate) fn stddev(histogram: &Histogram) -> f64 {
    stdvar(histogram).sqrt()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;
    use crate::model::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA};

    const INF: f64 = f64::INFINITY;

    fn buckets(offset: i32, counts: &[f64]) -> Buckets {
        Buckets {
            spans: vec![BucketSpan {
                offset,
                length: u32::try_from(counts.len()).unwrap(),
            }],
            counts: counts.to_vec(),
        }
    }

    /// (1, 2], (2, 4], (4, 8] and a zero bucket.
    fn exponential() -> Histogram {
        Histogram {
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 10.0,
            sum: 25.0,
            positive: buckets(1, &[4.0, 0.0, 4.0]),
            ..Histogram::default()
        }
    }

    fn custom() -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 10.0,
            sum: 25.0,
            positive: buckets(0, &[2.0, 4.0, 4.0]),
            custom_bounds: [5.0, 10.0].into(),
            ..Histogram::default()
        }
    }

    #[test]
    fn quantiles_follow_the_logarithm_through_exponential_buckets() {
        let at = |q| quantile(q, &exponential());
        assert_eq!(at(0.1), (0.25, None));
        assert!((at(0.4).0 - std::f64::consts::SQRT_2).abs() < 1e-15);
        assert_eq!(at(0.6), (4.0, None));
        assert_eq!(at(1.0), (8.0, None));
        assert_eq!((at(-0.1).0, at(1.1).0), (-INF, INF));
        assert!(at(f64::NAN).0.is_nan());
        assert!(quantile(0.5, &Histogram::default()).0.is_nan());
        let mut mirrored = exponential();
        std::mem::swap(&mut mirrored.positive, &mut mirrored.negative);
        assert_eq!(quantile(0.4, &mirrored).0, -4.0);
        assert!((quantile(0.9, &mirrored).0 + 0.25).abs() < 1e-15);
    }

    #[test]
    fn quantiles_follow_the_line_through_custom_buckets() {
        let at = |q| quantile(q, &custom()).0;
        assert_eq!((at(0.1), at(0.4), at(0.9)), (2.5, 7.5, 10.0));
        let mut below_zero = custom();
        below_zero.custom_bounds = [-5.0, 10.0].into();
        assert_eq!(quantile(0.1, &below_zero).0, -5.0);
    }

    #[test]
    fn observations_that_are_no_numbers_lie_above_all_others() {
        let with_nans = Histogram {
            count: 20.0,
            sum: f64::NAN,
            ..exponential()
        };
        let (v, nans) = quantile(0.9, &with_nans);
        assert!(v.is_nan() && nans == Some(Nans::AreResult));
        assert_eq!(quantile(0.5, &with_nans), (8.0, Some(Nans::Skew)));
        let infinities_only = Histogram {
            sum: f64::NAN,
            ..exponential()
        };
        assert_eq!(quantile(1.0, &infinities_only), (8.0, None));
        assert_eq!(fraction(-INF, INF, &with_nans), (0.5, true));
        let of_nothing = Histogram {
            zero_count: 0.0,
            positive: buckets(1, &[-0.0]),
            ..with_nans
        };
        let (part, _) = fraction(-INF, 1.0, &of_nothing);
        assert_eq!(part.to_bits(), 0.0_f64.to_bits());
        // Ten times a half of the unit in the last place: added one by one they are lost.
        let half = f64::EPSILON * 8.0;
        let mut counts = vec![half; 11];
        counts[0] = 16.0;
        let lost_in_sums = Histogram {
            count: 16.0 + 10.0 * half,
            sum: f64::NAN,
            positive: buckets(1, &counts),
            ..Histogram::default()
        };
        assert_eq!(quantile(0.5, &lost_in_sums).1, Some(Nans::Skew));
    }

    #[test]
    fn fractions_count_what_lies_between() {
        let at = |lower, upper| fraction(lower, upper, &exponential()).0;
        assert_eq!(at(-INF, INF), 1.0);
        assert_eq!(at(0.25, 2.0), 0.5);
        assert_eq!(at(-INF, std::f64::consts::SQRT_2), 0.4);
        assert_eq!(at(2.0, 2.0), 0.0);
        assert!(at(f64::NAN, 1.0).is_nan());
        let at = |lower, upper| fraction(lower, upper, &custom()).0;
        assert_eq!(
            (at(0.0, 2.5), at(7.5, 20.0), at(-INF, 20.0)),
            (0.1, 0.2, 0.6)
        );
    }

    #[test]
    fn deviations_take_observations_for_the_middle_of_their_bucket() {
        assert_eq!(avg(&exponential()), 2.5);
        let middles = [(0.0, 2.0), (2.0_f64.sqrt(), 4.0), (32.0_f64.sqrt(), 4.0)];
        let expect: f64 = middles.iter().map(|(v, n)| n * (v - 2.5) * (v - 2.5)).sum();
        assert!((stdvar(&exponential()) - expect / 10.0).abs() < 1e-12);
        assert_eq!(stddev(&exponential()), stdvar(&exponential()).sqrt());
        let mut finite = custom();
        finite.count = 4.0;
        finite.sum = 28.0;
        finite.positive = buckets(1, &[4.0]);
        assert_eq!(stdvar(&finite), 0.25);
    }
}
