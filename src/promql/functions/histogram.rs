//! Quantiles and fractions of classic histograms.
#![expect(
    clippy::float_cmp,
    reason = "equal bounds and equal counts are recognised exactly on purpose"
)]

use std::cmp::Ordering;

/// Counts may differ by this much, relatively, and still be the same.
const COUNT_TOLERANCE: f64 = 1e-12;

/// A cumulative bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// Upper bound, inclusive.
    pub(crate) bound: f64,
    /// Observations up to it.
    pub(crate) count: f64,
}

/// What was raised to make counts cumulative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Raised {
    /// Lowest bound.
    pub(crate) bound_min: f64,
    /// Highest bound.
    pub(crate) bound_max: f64,
    /// Greatest difference.
    pub(crate) diff_max: f64,
}

/// Sorts buckets and makes one of those with the same bound; `None` without a bucket for everything.
fn in_order(buckets: &mut Vec<Bucket>) -> Option<()> {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets.last()?.bound != f64::INFINITY {
        return None;
    }
    buckets.dedup_by(|next, kept| {
        let is_same = next.bound == kept.bound;
        if is_same {
            kept.count += next.count;
        }
        is_same
    });
    Some(())
}

fn is_almost_equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < COUNT_TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < COUNT_TOLERANCE
}

/// Flattens differences that rounding made and raises counts that fell.
fn make_cumulative(buckets: &mut [Bucket]) -> Option<Raised> {
    let mut raised: Option<Raised> = None;
    let (first, rest) = buckets.split_first_mut()?;
    let mut previous = first.count;
    for bucket in rest {
        if bucket.count == previous {
            continue;
        }
        if is_almost_equal(previous, bucket.count) {
            bucket.count = previous;
        } else if bucket.count < previous {
            let diff = previous - bucket.count;
            let so_far = raised.get_or_insert(Raised {
                bound_min: bucket.bound,
                bound_max: bucket.bound,
                diff_max: diff,
            });
            so_far.bound_min = so_far.bound_min.min(bucket.bound);
            so_far.bound_max = so_far.bound_max.max(bucket.bound);
            so_far.diff_max = so_far.diff_max.max(diff);
            bucket.count = previous;
        } else {
            previous = bucket.count;
        }
    }
    raised
}

/// The value that a part `q` of all observations does not exceed, and what had to be raised to find it.
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Raised>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if in_order(buckets).is_none() {
        return (f64::NAN, None);
    }
    let raised = make_cumulative(buckets);
    (cumulative_quantile(q, buckets).unwrap_or(f64::NAN), raised)
}

fn cumulative_quantile(q: f64, buckets: &[Bucket]) -> Option<f64> {
    let (all, finite) = buckets.split_last()?;
    let highest = finite.last()?;
    if all.count == 0.0 {
        return None;
    }
    let rank = q * all.count;
    let at = finite
        .partition_point(|bucket| bucket.count.partial_cmp(&rank).is_none_or(Ordering::is_lt));
    let Some(bucket) = finite.get(at) else {
        return Some(highest.bound);
    };
    let Some(below) = at.checked_sub(1).and_then(|below| finite.get(below)) else {
        if bucket.bound <= 0.0 {
            return Some(bucket.bound);
        }
        // From a start of 0, which also takes the sign of a zero away.
        return Some(0.0 + bucket.bound * (rank / bucket.count));
    };
    let (count, rank) = (bucket.count - below.count, rank - below.count);
    Some(below.bound + (bucket.bound - below.bound) * (rank / count))
}

/// The part of all observations between `lower` and `upper`.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if in_order(buckets).is_none() {
        return f64::NAN;
    }
    let count = buckets.last().map_or(0.0, |bucket| bucket.count);
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |bound: f64| match rank_at(bound, buckets) {
        Some(rank) if rank > count => count,
        Some(rank) => rank,
        None => count,
    };
    (rank_of(upper) - rank_of(lower)) / count
}

/// How many observations lie below `at`; `None` when all do.
fn rank_at(at: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut rank = 0.0;
    let mut from = f64::NEG_INFINITY;
    for (i, bucket) in buckets.iter().enumerate() {
        if i == 0 && bucket.bound > 0.0 {
            from = 0.0;
        }
        if from >= at {
            return Some(rank);
        }
        if at < bucket.bound {
            if from == f64::NEG_INFINITY {
                // A bucket without a lower bound counts whole: there is no line to follow.
                return Some(bucket.count);
            }
            return Some(rank + (bucket.count - rank) * (at - from) / (bucket.bound - from));
        }
        rank = bucket.count;
        from = bucket.bound;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs
            .iter()
            .map(|(bound, count)| Bucket {
                bound: *bound,
                count: *count,
            })
            .collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_follow_the_line_through_a_bucket() {
        let at = |q, pairs: &[(f64, f64)]| quantile(q, &mut buckets(pairs)).0;
        let pairs = [(0.1, 5.0), (0.2, 7.0), (1e0, 9.0), (INF, 10.0)];
        assert_eq!(at(0.25, &pairs), 0.05);
        assert_eq!(at(0.6, &pairs), 0.15000000000000002);
        assert_eq!(at(0.95, &pairs), 1.0);
        assert_eq!(at(0.1, &[(-1.0, 5.0), (INF, 10.0)]), -1.0);
        assert_eq!((at(-0.1, &pairs), at(1.1, &pairs)), (-INF, INF));
    }

    #[test]
    fn a_histogram_without_the_last_bucket_or_without_observations_has_no_quantile() {
        assert!(
            quantile(0.5, &mut buckets(&[(1.0, 5.0), (2.0, 6.0)]))
                .0
                .is_nan()
        );
        assert!(
            quantile(0.5, &mut buckets(&[(1.0, 0.0), (INF, 0.0)]))
                .0
                .is_nan()
        );
        assert!(quantile(0.5, &mut buckets(&[(INF, 5.0)])).0.is_nan());
    }

    #[test]
    fn counts_that_fall_are_raised_and_told_of() {
        let pairs = [(1.0, 5.0), (2.0, 4.0), (3.0, 8.0), (4.0, 6.5), (INF, 8.0)];
        let (_, raised) = quantile(0.5, &mut buckets(&pairs));
        assert_eq!(
            raised,
            Some(Raised {
                bound_min: 2.0,
                bound_max: 4.0,
                diff_max: 1.5
            })
        );
        let (_, raised) = quantile(0.5, &mut buckets(&[(1.0, 5.0), (INF, 5.0 - 1e-13)]));
        assert_eq!(raised, None);
    }

    #[test]
    fn fractions_count_what_lies_between() {
        let at = |lower, upper, pairs: &[(f64, f64)]| fraction(lower, upper, &mut buckets(pairs));
        let pairs = [(0.1, 5.0), (0.2, 7.0), (INF, 10.0)];
        assert_eq!(at(0.0, 0.2, &pairs), 0.7);
        assert_eq!(at(0.05, 0.1, &pairs), 0.25);
        assert_eq!(at(-INF, INF, &pairs), 1.0);
        assert_eq!(at(0.2, 0.1, &pairs), 0.0);
        assert!(at(f64::NAN, 1.0, &pairs).is_nan());
        assert!(at(0.0, 1.0, &[(0.1, f64::NAN), (INF, 10.0)]).is_nan());
        assert!(at(0.0, 1.0, &[(0.1, 5.0)]).is_nan());
    }
}
