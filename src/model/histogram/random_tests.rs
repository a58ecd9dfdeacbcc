//! What holds for all histograms, and that nothing panics even where they make no sense.
#![expect(
    clippy::float_cmp,
    reason = "whole counts add up exactly, and that is tested"
)]

use proptest::prelude::*;

use crate::model::histogram::testing::{senseless, some};
use crate::model::histogram::{Bucket, Histogram, KahanHistogram, ResetHint};

/// Compacted, so that only populated buckets are compared.
fn compacted(mut histogram: Histogram) -> Histogram {
    histogram.compact();
    histogram
}

fn sum(left: &Histogram, right: &Histogram) -> Histogram {
    let mut sum = left.clone();
    sum.add(right).unwrap();
    sum
}

/// Nothing, in the layout of `histogram`.
fn emptied(histogram: &Histogram) -> Histogram {
    histogram.scale(0.0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_do_not_depend_on_the_order(of_both in some(2)) {
        let (left, right) = (&of_both[0], &of_both[1]);
        prop_assert_eq!(compacted(sum(left, right)), compacted(sum(right, left)));
    }

    #[test]
    fn what_was_added_can_be_taken_away(of_both in some(2)) {
        let (left, right) = (&of_both[0], &of_both[1]);
        let mut back = sum(left, right);
        back.sub(right).unwrap();
        prop_assert_eq!(compacted(back.clone()).to_string(), compacted(sum(left, &emptied(&back))).to_string());
        prop_assert_eq!(back.count, left.count);
    }

    #[test]
    fn no_observation_is_lost_in_a_sum(of_all in some(4)) {
        let mut sum = of_all[0].clone();
        let mut kahan = KahanHistogram::new(&of_all[0]);
        for histogram in &of_all[1..] {
            let merged = sum.add(histogram).unwrap();
            prop_assert_eq!(kahan.add(histogram), Ok(merged));
        }
        prop_assert_eq!(compacted(kahan.total()), compacted(sum.clone()));
        let counts: f64 = sum.buckets().map(|bucket| bucket.count).sum();
        prop_assert_eq!(counts, of_all.iter().map(|histogram| histogram.count).sum::<f64>());
    }

    #[test]
    fn more_observations_are_no_reset_and_fewer_are_one(of_both in some(2)) {
        let (before, new) = (&of_both[0], &of_both[1]);
        let after = sum(before, new);
        prop_assert!(!after.detect_reset(before));
        prop_assert!(!before.detect_reset(before));
        prop_assert!(!compacted(after.clone()).detect_reset(before));
        if new.count > 0.0 {
            prop_assert!(before.detect_reset(&after));
        }
    }

    #[test]
    fn buckets_ascend_and_do_not_overlap(of_both in some(2)) {
        for histogram in [&of_both[0], &sum(&of_both[0], &of_both[1])] {
            let buckets: Vec<Bucket> = histogram.buckets().collect();
            prop_assert!(buckets.iter().all(|bucket| bucket.lower < bucket.upper || bucket.lower == 0.0));
            prop_assert!(buckets.is_sorted_by(|left, right| left.upper <= right.lower));
        }
    }

    #[test]
    fn compacting_changes_no_populated_bucket(of_one in some(1)) {
        let histogram = &of_one[0];
        let compact = compacted(histogram.clone());
        prop_assert_eq!(compact.to_string(), histogram.to_string());
        prop_assert!(compact.positive.counts.iter().all(|count| *count != 0.0));
        prop_assert_eq!(compacted(compact.clone()), compact);
    }

    #[test]
    fn histograms_that_make_no_sense_do_no_harm(left in senseless(), right in senseless(), factor in any::<f64>()) {
        for (left, right) in [(&left, &right), (&right, &left), (&left, &left)] {
            let mut other = left.clone();
            let mut kahan = KahanHistogram::new(left);
            let is_sum = other.add(right).is_ok();
            prop_assert_eq!(kahan.add(right).is_ok(), is_sum);
            prop_assert_eq!(other.sub(right).is_ok(), is_sum);
            other.compact();
            kahan.scale(factor);
            kahan.divide(factor);
            for histogram in [&other, &kahan.total(), &left.scale(factor), &left.divide(factor)] {
                let is_closed = histogram.to_string().ends_with('}');
                prop_assert!(is_closed);
                prop_assert!(histogram.n_samples() > 0);
                prop_assert_eq!(histogram.equals(left), left.equals(histogram));
            }
            prop_assert!(left.zero_threshold.is_nan() || left.equals(left));
            prop_assert!(left.reset_hint != ResetHint::NotReset || !left.detect_reset(right));
            prop_assert!(left.buckets().count() <= left.positive.counts.len() + left.negative.counts.len() + 1);
        }
    }
}
