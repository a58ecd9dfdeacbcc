//! Floats as a fraction and a power of two.

const MANTISSA_BITS: u32 = 52;
const EXPONENT_MASK: u64 = 0x7ff << MANTISSA_BITS;
const EXPONENT_BIAS: i32 = 1023;
const TWO_TO_52: f64 = 4_503_599_627_370_496.0;

/// The biased exponent, which is zero for subnormal numbers.
pub(super) fn exponent_bits(v: f64) -> i32 {
    i32::try_from((v.to_bits() & EXPONENT_MASK) >> MANTISSA_BITS).unwrap_or(0)
}

/// The number with this biased exponent and without a mantissa: two to the power of `biased - 1023`.
pub(super) fn power_of_two(biased: i32) -> f64 {
    f64::from_bits(u64::from(biased.clamp(0, 0x7ff).unsigned_abs()) << MANTISSA_BITS)
}

/// `v` with its exponent replaced: at least one half and below one.
pub(super) fn as_fraction(v: f64) -> f64 {
    f64::from_bits(v.to_bits() & !EXPONENT_MASK | 0x3fe << MANTISSA_BITS)
}

/// A fraction of at least one half and below one, and the power of two that makes `v` of it. Zero, infinities and NaN are
/// their own fractions.
pub fn fraction_and_exponent(v: f64) -> (f64, i32) {
    if v == 0.0 || !v.is_finite() {
        return (v, 0);
    }
    let (v, shift) = if v.is_subnormal() {
        (v * TWO_TO_52, 52)
    } else {
        (v, 0)
    };
    (as_fraction(v), exponent_bits(v) - EXPONENT_BIAS + 1 - shift)
}

/// `v` times two to the power of `exponent`, rounded once.
pub fn times_power_of_two(v: f64, exponent: i32) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let (fraction, own) = fraction_and_exponent(v);
    // A fraction is below one: its leading bit stands for half of it.
    let exponent = exponent.saturating_add(own).saturating_sub(1);
    let sign = 1.0_f64.copysign(v);
    if exponent < -1075 {
        return 0.0 * sign;
    }
    if exponent > EXPONENT_BIAS {
        return f64::INFINITY * sign;
    }
    let leading = fraction * 2.0;
    if exponent < 1 - EXPONENT_BIAS {
        return leading * power_of_two(exponent + EXPONENT_BIAS + 53) * (1.0 / (2.0 * TWO_TO_52));
    }
    leading * power_of_two(exponent + EXPONENT_BIAS)
}
