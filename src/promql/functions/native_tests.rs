//! What holds for functions of all histograms.
#![expect(clippy::float_cmp, reason = "exact results are what is tested")]

use proptest::prelude::*;

use crate::model::Histogram;
use crate::model::histogram::testing::{senseless, some};
use crate::promql::functions::native::{fraction, quantile, stddev, stdvar};
use crate::promql::functions::native_trim::{Trim, trim};

/// Apart by rounding at most.
fn is_near(left: f64, right: f64) -> bool {
    left == right || (left - right).abs() <= 1e-9 * left.abs().max(right.abs()).max(1.0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn higher_quantiles_are_not_lower(of_one in some(1), low in 0.0..1.0, high in 0.0..1.0) {
        let histogram = &of_one[0];
        let (low, high) = if low < high { (low, high) } else { (high, low) };
        let (at_low, at_high) = (quantile(low, histogram).0, quantile(high, histogram).0);
        if histogram.count == 0.0 {
            prop_assert!(at_low.is_nan() && at_high.is_nan());
        } else {
            prop_assert!(at_low <= at_high || is_near(at_low, at_high), "{at_low} {at_high}");
        }
    }

    #[test]
    fn fractions_of_neighbouring_ranges_add_up(of_one in some(1), mut at in prop::array::uniform3(-40.0..40.0)) {
        let histogram = &of_one[0];
        prop_assume!(histogram.count > 0.0);
        at.sort_by(f64::total_cmp);
        let of = |lower, upper| fraction(lower, upper, histogram).0;
        prop_assert_eq!(of(f64::NEG_INFINITY, f64::INFINITY), 1.0);
        let parts = of(at[0], at[1]) + of(at[1], at[2]);
        prop_assert!(is_near(parts, of(at[0], at[2])));
    }

    #[test]
    fn what_is_trimmed_on_both_sides_adds_up(of_one in some(1), at in -40.0..40.0) {
        let histogram = &of_one[0];
        let (below, above) = (trim(histogram, at, Trim::Above), trim(histogram, at, Trim::Below));
        if histogram.has_custom_buckets() {
            prop_assert!(below.count <= histogram.count && above.count <= histogram.count);
        } else {
            prop_assert!(is_near(below.count + above.count, histogram.count));
        }
        for part in [&below, &above] {
            let counts: f64 = part.buckets().map(|bucket| bucket.count).sum();
            prop_assert!(is_near(counts, part.count));
        }
    }

    #[test]
    fn histograms_that_make_no_sense_do_no_harm(histogram in senseless(), at in any::<f64>(), part in 0.0..1.0) {
        let look = |histogram: &Histogram| {
            let _ = (quantile(part, histogram), quantile(at, histogram));
            let _ = (fraction(at, at + 1.0, histogram), fraction(f64::NEG_INFINITY, at, histogram));
            prop_assert!(!(stdvar(histogram) >= 0.0 && stddev(histogram).is_nan()));
            Ok(())
        };
        look(&histogram)?;
        look(&trim(&histogram, at, Trim::Above))?;
        look(&trim(&histogram, at, Trim::Below))?;
    }
}
