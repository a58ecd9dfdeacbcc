//! Where buckets begin and end.
#![expect(
    clippy::indexing_slicing,
    reason = "positions in the table are masked by its length"
)]

use std::sync::LazyLock;

use crate::model::histogram::{Bucket, Histogram};
use crate::model::math::times_power_of_two;

/// Bounds of the finest schema between 0.5 and 1.
const N_FRACTIONS: usize = 256;

/// Beyond it a power of two is zero or infinite whatever it is multiplied with.
const EXPONENT_MAX: i64 = 2000;

/// Powers of two between 0.5 and 1, as every Prometheus client has them: products of square roots, the largest factor
/// first, with a square root of two that is one bit short.
static FRACTIONS: LazyLock<[f64; N_FRACTIONS]> = LazyLock::new(|| {
    let mut roots = [std::f64::consts::SQRT_2; N_FRACTIONS.ilog2() as usize];
    for i in 1..roots.len() {
        roots[i] = roots[i - 1].sqrt();
    }
    roots[0] = roots[0].next_down();
    std::array::from_fn(|i| {
        let of_bits = roots.iter().rev().enumerate();
        let mut product = 0.5;
        for (_, root) in of_bits.rev().filter(|(bit, _)| i >> bit & 1 == 1) {
            product *= root;
        }
        product
    })
});

/// `fraction * 2^exponent`, rounded once; the fraction lies between 0.5 and 1.
fn scale_by_power_of_two(fraction: f64, exponent: i64) -> f64 {
    /// Where both the power and the product are normal floats.
    const NORMAL: std::ops::RangeInclusive<i64> = -1021..=1023;
    const BIAS: u64 = 1023;
    const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    if NORMAL.contains(&exponent) {
        let biased = BIAS.wrapping_add_signed(exponent);
        return fraction * f64::from_bits(biased << MANTISSA_BITS);
    }
    let exponent = exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX);
    times_power_of_two(fraction, i32::try_from(exponent).unwrap_or_default())
}

/// The upper bound of bucket `index`. The last one below infinity ends at the largest float.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    /// The bound that would be 2^1024.
    const OVERFLOW: i64 = 1024;
    const FINEST: i32 = N_FRACTIONS.ilog2().cast_signed();
    let index = i64::from(index);
    let schema = schema.clamp(-FINEST, FINEST);
    if schema < 0 {
        let exponent = index << -schema;
        if exponent == OVERFLOW {
            return f64::MAX;
        }
        return scale_by_power_of_two(1.0, exponent);
    }
    let exponent = (index >> schema) + 1;
    let position = (index & ((1 << schema) - 1)) << (FINEST - schema);
    if position == 0 && exponent == OVERFLOW + 1 {
        return f64::MAX;
    }
    scale_by_power_of_two(
        FRACTIONS[usize::try_from(position).unwrap_or_default()],
        exponent,
    )
}

impl Histogram {
    /// The bound that bucket `index` ends at and the next one begins at, without its sign.
    pub(super) fn bound(&self, index: i32) -> f64 {
        if !self.has_custom_buckets() {
            return exponential_bound(index, self.schema);
        }
        match usize::try_from(index) {
            Ok(index) => self
                .custom_bounds
                .get(index)
                .copied()
                .unwrap_or(f64::INFINITY),
            Err(_negative) => f64::NEG_INFINITY,
        }
    }

    /// A bucket of positive or of negative observations.
    pub fn signed_bucket(&self, is_positive: bool, index: i32, count: f64) -> Bucket {
        if is_positive {
            self.positive_bucket(index, count)
        } else {
            self.negative_bucket(index, count)
        }
    }

    /// A bucket of positive observations, or of a custom histogram.
    pub(super) fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
        if self.has_custom_buckets() {
            return Bucket {
                lower,
                upper,
                includes_lower: index == 0,
                includes_upper: true,
                count,
            };
        }
        Bucket::exponential(lower, upper, count)
    }

    /// A bucket of negative observations.
    pub(super) fn negative_bucket(&self, index: i32, count: f64) -> Bucket {
        let (lower, upper) = (-self.bound(index), -self.bound(index.saturating_sub(1)));
        Bucket::exponential(lower, upper, count)
    }

    /// The bucket around zero.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            includes_lower: true,
            includes_upper: true,
            count: self.zero_count,
        }
    }
}

impl Bucket {
    fn exponential(lower: f64, upper: f64, count: f64) -> Self {
        Self {
            lower,
            upper,
            includes_lower: lower < 0.0,
            includes_upper: upper > 0.0,
            count,
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact bounds are what is tested")]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_that_every_client_has() {
        for (index, schema, bound) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (1, 1, std::f64::consts::SQRT_2.next_down()),
            (-1, 1, 0.7071067811865475),
            (1, 2, 1.189207115002721),
            (255, 8, 1.9945921121709396),
            (77, 8, 1.2318112847340759),
            (1, -4, 65536.0),
            (-1, -1, 0.25),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (256, -2, f64::MAX),
            (512, -1, f64::MAX),
            (-1074, 0, 5e-324),
            (-1075, 0, 0.0),
            (i32::MAX, 8, f64::INFINITY),
            (i32::MIN, -4, 0.0),
        ] {
            assert_eq!(exponential_bound(index, schema), bound, "{index} {schema}");
        }
    }
}
