//! Exponential functions.
//!
//! [`exp`] follows N. Shibata, "Efficient evaluation methods of elementary functions suitable for SIMD computation" (2010):
//! the argument is reduced by a multiple of ln 2 and divided by sixteen, a Taylor polynomial gives e^r - 1, and four
//! doublings undo the division. Multiplications and additions are fused where they are written as [`f64::mul_add`].
//!
//! [`exp2`] follows the `exp` of Sun's FreeBSD msun (`e_exp.c`), whose coefficients it has.
#![expect(
    clippy::cast_possible_truncation,
    reason = "compared with the bounds of the type, or below 1100, when it is cast"
)]

use std::f64::consts::LOG2_E;

use crate::model::math::parts::{power_of_two, times_power_of_two};

/// ln 2 in two parts; the first has so few digits that multiples of it are exact.
const LN_2_UPPER: f64 = 0.693147180559663;
const LN_2_LOWER: f64 = 2.8235290563031577e-13;
/// Above this the result is infinite.
const EXP_MAX: f64 = 709.782712893384;

/// 1/8! down to 1/2!, and 1/1!, of e^r - 1 = r + r²/2! + …, with one r taken out.
const TAYLOR: [f64; 8] = [
    2.48015873015873e-05,
    0.0001984126984126984,
    0.001388888888888889,
    0.008333333333333333,
    0.041666666666666664,
    0.16666666666666666,
    0.5,
    1.0,
];

/// e to the power of `x`.
pub fn exp(x: f64) -> f64 {
    if !x.is_finite() {
        return if x == f64::NEG_INFINITY { 0.0 } else { x };
    }
    if x > EXP_MAX {
        return f64::INFINITY;
    }
    let n = nearest(LOG2_E * x);
    let n_float = f64::from(n);
    let rest = (-n_float).mul_add(LN_2_UPPER, x);
    let rest = (-n_float).mul_add(LN_2_LOWER, rest);
    let r = rest * 0.0625;
    let mut sum = 0.0;
    for (i, coefficient) in TAYLOR.into_iter().enumerate() {
        sum = if i == 0 {
            coefficient
        } else {
            sum.mul_add(r, coefficient)
        };
    }
    // With y = e^r - 1, e^2r - 1 is y(y + 2).
    let mut y = r * sum;
    for _doubling in 0..3 {
        y *= y + 2.0;
    }
    let power = (y + 2.0).mul_add(y, 1.0);
    scaled(power, n)
}

/// To the nearest whole number, halves to the even one; what no `i32` can hold becomes the smallest.
fn nearest(v: f64) -> i32 {
    let whole = v.round_ties_even();
    if (-2_147_483_648.0..=2_147_483_647.0).contains(&whole) {
        whole as i32
    } else {
        i32::MIN
    }
}

/// `power` times two to the power of `n`; below the smallest subnormal number it is zero without rounding.
fn scaled(power: f64, n: i32) -> f64 {
    let biased = n + 1023;
    if biased <= 0 {
        if biased < -52 {
            return 0.0;
        }
        return power * power_of_two(biased + 1022) * f64::MIN_POSITIVE;
    }
    if biased >= 0x7ff {
        return f64::INFINITY;
    }
    power * power_of_two(biased)
}

/// Two to the power of `x`.
pub fn exp2(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.6931471803691238;
    const LN_2_LOW: f64 = 1.9082149292705877e-10;
    if x.is_nan() {
        return x;
    }
    if x > 1023.9999999999999 {
        return f64::INFINITY;
    }
    if x < -1074.0 {
        return 0.0;
    }
    let k = if x > 0.0 {
        (x + 0.5).trunc()
    } else if x < 0.0 {
        (x - 0.5).trunc()
    } else {
        0.0
    };
    let t = x - k;
    msun(t * LN_2_HIGH, -t * LN_2_LOW, k as i32)
}

/// e^(high - low) times 2^k, by the rational approximation of `e_exp.c`.
fn msun(high: f64, low: f64, k: i32) -> f64 {
    const P1: f64 = 0.16666666666666666;
    const P2: f64 = -0.0027777777777015593;
    const P3: f64 = 6.613756321437934e-05;
    const P4: f64 = -1.6533902205465252e-06;
    const P5: f64 = 4.1381367970572385e-08;
    let r = high - low;
    let t = r * r;
    let c = r - t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * P5))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    times_power_of_two(y, k)
}
