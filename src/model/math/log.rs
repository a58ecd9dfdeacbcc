//! Logarithms.
//!
//! Method and coefficients are those of `e_log.c` and `s_log1p.c` of Sun's FreeBSD msun: the argument is brought between
//! √½ and √2 by a power of two, and with s = f / (2 + f) the series of ln(1 + f) in s² is cut by a Remez approximation.
#![expect(
    clippy::float_cmp,
    reason = "powers of two and the end of the domain are recognised exactly"
)]

use crate::model::math::NAN;
use crate::model::math::parts::{as_fraction, exponent_bits, fraction_and_exponent};

const LN_2_HIGH: f64 = 0.6931471803691238;
const LN_2_LOW: f64 = 1.9082149292705877e-10;
const L1: f64 = 0.6666666666666735;
const L2: f64 = 0.3999999999940942;
const L3: f64 = 0.2857142874366239;
const L4: f64 = 0.22222198432149784;
const L5: f64 = 0.1818357216161805;
const L6: f64 = 0.15313837699209373;
const L7: f64 = 0.14798198605116586;

/// The natural logarithm. Subnormal numbers are taken as if their leading bit were there, so their logarithms lie between
/// those of 2^-1023 and 2^-1022: that is what the variant for amd64 does.
pub fn ln(x: f64) -> f64 {
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x.is_sign_negative() {
        return NAN;
    }
    if !x.is_finite() {
        return x;
    }
    let mut fraction = as_fraction(x);
    let mut k = f64::from(exponent_bits(x) - 1022);
    if fraction <= std::f64::consts::FRAC_1_SQRT_2 {
        k -= 1.0;
        fraction *= 2.0;
    }
    let f = fraction - 1.0;
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (L1 + s4 * (L3 + s4 * (L5 + s4 * L7)));
    let even = s4 * (L2 + s4 * (L4 + s4 * L6));
    let series = odd + even;
    let half_square = 0.5 * f * f;
    k * LN_2_HIGH - ((half_square - (s * (half_square + series) + k * LN_2_LOW)) - f)
}

/// The logarithm to base two; exact for powers of two.
pub fn log2(x: f64) -> f64 {
    let (fraction, exponent) = fraction_and_exponent(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * std::f64::consts::LOG2_E + f64::from(exponent)
}

/// The logarithm to base ten.
pub fn log10(x: f64) -> f64 {
    ln(x) * std::f64::consts::LOG10_E
}

/// 1 + x as a power of two and a fraction around one, for [`ln_1p`].
struct Reduced {
    k: f64,
    /// The fraction less one.
    f: f64,
    /// What rounding 1 + x lost, relative to it.
    correction: f64,
    /// The fraction is so close to one that a square is all the series needs.
    is_close: bool,
}

/// The natural logarithm of 1 + `x`.
pub fn ln_1p(x: f64) -> f64 {
    const SMALL: f64 = 1.0 / 536_870_912.0;
    const TINY: f64 = 1.0 / 18_014_398_509_481_984.0;
    const SQRT_2_LESS_1: f64 = 0.41421356237309503;
    const SQRT_HALF_LESS_1: f64 = -0.2928932188134525;
    if x < -1.0 || x.is_nan() {
        return NAN;
    }
    if x == -1.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    let magnitude = x.abs();
    if magnitude < TINY {
        return x;
    }
    if magnitude < SMALL {
        return x - x * x * 0.5;
    }
    let reduced = if magnitude < SQRT_2_LESS_1 && x > SQRT_HALF_LESS_1 {
        Reduced {
            k: 0.0,
            f: x,
            correction: 0.0,
            is_close: false,
        }
    } else {
        reduce(x)
    };
    series_of_1p(&reduced)
}

fn reduce(x: f64) -> Reduced {
    const TWO_TO_53: f64 = 9_007_199_254_740_992.0;
    const MANTISSA_MASK: u64 = (1 << 52) - 1;
    const MANTISSA_OF_SQRT_2: u64 = 0x0006_a09e_667f_3bcd;
    let (u, k, correction) = if x.abs() < TWO_TO_53 {
        let u = 1.0 + x;
        let k = exponent_bits(u) - 1023;
        let lost = if k > 0 { 1.0 - (u - x) } else { x - (u - 1.0) };
        (u, k, lost / u)
    } else {
        (x, exponent_bits(x) - 1023, 0.0)
    };
    let mantissa = u.to_bits() & MANTISSA_MASK;
    let (k, u, distance) = if mantissa < MANTISSA_OF_SQRT_2 {
        (k, f64::from_bits(mantissa | 0x3ff << 52), mantissa)
    } else {
        let below = ((1 << 52) - mantissa) >> 2;
        (k + 1, f64::from_bits(mantissa | 0x3fe << 52), below)
    };
    Reduced {
        k: f64::from(k),
        f: u - 1.0,
        correction,
        is_close: distance == 0,
    }
}

fn series_of_1p(reduced: &Reduced) -> f64 {
    let Reduced {
        k,
        f,
        correction,
        is_close,
    } = *reduced;
    let half_square = 0.5 * f * f;
    if is_close {
        if f == 0.0 {
            if k == 0.0 {
                return 0.0;
            }
            return k * LN_2_HIGH + (correction + k * LN_2_LOW);
        }
        let square = half_square * (1.0 - 0.6666666666666666 * f);
        if k == 0.0 {
            return f - square;
        }
        return k * LN_2_HIGH - ((square - (k * LN_2_LOW + correction)) - f);
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let series = z * (L1 + z * (L2 + z * (L3 + z * (L4 + z * (L5 + z * (L6 + z * L7))))));
    if k == 0.0 {
        return f - (half_square - s * (half_square + series));
    }
    let low = s * (half_square + series) + (k * LN_2_LOW + correction);
    k * LN_2_HIGH - ((half_square - low) - f)
}
