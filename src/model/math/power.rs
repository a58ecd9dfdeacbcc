//! Powers and remainders.
//!
//! Powers with whole exponents are products of squares, with the power of two kept apart so that nothing overflows on the way;
//! a fraction of the exponent goes through [`exp`] and [`ln`].
#![expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    reason = "special exponents are recognised exactly; a whole exponent is below 2^63 when it is cast"
)]

use crate::model::math::parts::{fraction_and_exponent, times_power_of_two};
use crate::model::math::{NAN, exp, ln};

/// From here on every float is even and no exponent leaves anything but zero, one and infinity.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// `base` to the power of `exponent`.
pub fn pow(base: f64, exponent: f64) -> f64 {
    if let Some(special) = special(base, exponent) {
        return special;
    }
    if exponent == 0.5 {
        return base.sqrt();
    }
    if exponent == -0.5 {
        return 1.0 / base.sqrt();
    }
    let (mut whole, mut rest) = (exponent.abs().trunc(), exponent.abs().fract());
    if rest != 0.0 && base < 0.0 {
        return NAN;
    }
    if whole >= TWO_TO_63 {
        return of_infinite_exponent(base, exponent);
    }
    let mut result = 1.0;
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        result = exp(rest * ln(base));
    }
    let mut power = 0;
    let mut square = fraction_and_exponent(base);
    let mut left = whole as i64;
    while left != 0 {
        if square.1 < -4096 || 4096 < square.1 {
            // Out of the range of floats by far: the rest cannot bring it back.
            power += square.1;
            break;
        }
        if left & 1 == 1 {
            result *= square.0;
            power += square.1;
        }
        square = (square.0 * square.0, square.1 * 2);
        if square.0 < 0.5 {
            square = (square.0 + square.0, square.1 - 1);
        }
        left >>= 1;
    }
    if exponent < 0.0 {
        return times_power_of_two(1.0 / result, -power);
    }
    times_power_of_two(result, power)
}

/// Where one of the two is zero, one, infinite or no number.
fn special(base: f64, exponent: f64) -> Option<f64> {
    let value = if exponent == 0.0 || base == 1.0 {
        1.0
    } else if exponent == 1.0 {
        base
    } else if base.is_nan() || exponent.is_nan() {
        NAN
    } else if base == 0.0 || base.is_infinite() && exponent.is_finite() {
        let size = if (base == 0.0) == (exponent < 0.0) {
            f64::INFINITY
        } else {
            0.0
        };
        if base.is_sign_negative() && is_odd(exponent) {
            -size
        } else {
            size
        }
    } else if exponent.is_infinite() {
        of_infinite_exponent(base, exponent)
    } else {
        return None;
    };
    Some(value)
}

fn of_infinite_exponent(base: f64, exponent: f64) -> f64 {
    if base == -1.0 {
        1.0
    } else if (base.abs() < 1.0) == (exponent > 0.0) {
        0.0
    } else {
        f64::INFINITY
    }
}

fn is_odd(v: f64) -> bool {
    v.abs() % 2.0 == 1.0
}

/// What is left of `x` after whole multiples of `y`, with the sign of `x`.
pub fn remainder(x: f64, y: f64) -> f64 {
    if y == 0.0 || x.is_infinite() || x.is_nan() || y.is_nan() {
        return NAN;
    }
    // The remainder of two floats is a float: every way of computing it gives the same bits.
    x % y
}
