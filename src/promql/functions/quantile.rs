//! Quantiles of values that are all known.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "ranks are between 0 and the number of values less one"
)]

use std::cmp::Ordering;

/// Ascending, what is no number first.
pub(crate) fn nan_first(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b)
        .unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The `q`-quantile, linear between neighbours; moves `values` about.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let weight = rank - rank.floor();
    // Two neighbours in order are all that matters of the order: the least of what is not below the lower is the upper.
    let (_, at_lower, above) = values.select_nth_unstable_by(lower, |a, b| nan_first(*a, *b));
    let at_lower = *at_lower;
    let at_upper = above.iter().copied().min_by(|a, b| nan_first(*a, *b));
    at_lower * (1.0 - weight) + at_upper.unwrap_or(at_lower) * weight
}

/// The median of distances from the median.
pub(crate) fn median_absolute_deviation(values: &mut [f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    let median = quantile(0.5, values);
    for v in values.iter_mut() {
        *v = (*v - median).abs();
    }
    quantile(0.5, values)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let at = |q| quantile(q, &mut [4.0, 0.0, 1.0]);
        assert_eq!(at(0.0), 0.0);
        assert_eq!(at(0.5), 1.0);
        assert_eq!(at(0.75), 2.5);
        assert_eq!((at(-1.0), at(2.0)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(at(f64::NAN).is_nan());
        assert!(quantile(0.1, &mut [1.0, f64::NAN]).is_nan());
    }

    #[test]
    fn the_median_distance_ignores_outliers() {
        let mut values = [4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0];
        assert_eq!(median_absolute_deviation(&mut values), 1.0);
        assert!(median_absolute_deviation(&mut [1.0, f64::NAN]).is_nan());
    }
}
