//! Hyperbolic functions and their inverses.
//!
//! `sinh` near zero is the rational function 2029 of J. F. Hart and E. W. Cheney, "Computer Approximations" (1968), `tanh`
//! near zero that of S. Moshier's Cephes library (`tanh.c`); elsewhere they are exponentials. The inverses are the logarithms
//! of Sun's FreeBSD msun (`s_asinh.c`, `e_acosh.c`, `e_atanh.c`).
#![expect(
    clippy::float_cmp,
    reason = "the ends of domains are recognised exactly"
)]

use std::f64::consts::LN_2;

use crate::model::math::{NAN, exp, ln, ln_1p, polynomial};

const TWO_TO_28: f64 = 268_435_456.0;

/// The hyperbolic sine.
pub fn sinh(x: f64) -> f64 {
    const P: [f64; 4] = [
        -26.30563213397497,
        -2894.211355989564,
        -89912.72022039509,
        -630767.3640497717,
    ];
    const Q: [f64; 4] = [
        1.0,
        -173.6789535582337,
        15215.17378790019,
        -630767.3640497717,
    ];
    let magnitude = if x < 0.0 { -x } else { x };
    let value = if magnitude > 21.0 {
        exp(magnitude) * 0.5
    } else if magnitude > 0.5 {
        let power = exp(magnitude);
        (power - 1.0 / power) * 0.5
    } else {
        let square = magnitude * magnitude;
        polynomial(square, P) * magnitude / polynomial(square, Q)
    };
    if x < 0.0 { -value } else { value }
}

/// The hyperbolic cosine.
pub fn cosh(x: f64) -> f64 {
    let power = exp(x.abs());
    if x.abs() > 21.0 {
        return power * 0.5;
    }
    (power + 1.0 / power) * 0.5
}

/// The hyperbolic tangent.
pub fn tanh(x: f64) -> f64 {
    /// Half of ln 2^127.
    const ONE_FROM: f64 = 0.5 * 88.02969191113305;
    const P: [f64; 3] = [-0.9643991794250523, -99.28772310019185, -1614.6876844170845];
    const Q: [f64; 4] = [
        1.0,
        112.81167849163293,
        2235.4883906010045,
        4844.063053251255,
    ];
    let magnitude = x.abs();
    if magnitude > ONE_FROM {
        return 1.0_f64.copysign(x);
    }
    if magnitude >= 0.625 {
        let power = exp(2.0 * magnitude);
        return (1.0 - 2.0 / (power + 1.0)).copysign(x);
    }
    if x == 0.0 {
        return x;
    }
    let square = x * x;
    x + x * square * polynomial(square, P) / polynomial(square, Q)
}

/// The number whose hyperbolic sine is `x`.
pub fn asinh(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    let sine = if x < 0.0 { -x } else { x };
    let value = if sine > TWO_TO_28 {
        ln(sine) + LN_2
    } else if sine > 2.0 {
        ln(2.0 * sine + 1.0 / ((sine * sine + 1.0).sqrt() + sine))
    } else if sine < 1.0 / TWO_TO_28 {
        sine
    } else {
        ln_1p(sine + sine * sine / (1.0 + (1.0 + sine * sine).sqrt()))
    };
    if x < 0.0 { -value } else { value }
}

/// The number of at least zero whose hyperbolic cosine is `x`.
pub fn acosh(x: f64) -> f64 {
    if x < 1.0 || x.is_nan() {
        return NAN;
    }
    if x == 1.0 {
        return 0.0;
    }
    if x >= TWO_TO_28 {
        return ln(x) + LN_2;
    }
    if x > 2.0 {
        return ln(2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt()));
    }
    let t = x - 1.0;
    ln_1p(t + (2.0 * t + t * t).sqrt())
}

/// The number whose hyperbolic tangent is `x`.
pub fn atanh(x: f64) -> f64 {
    if x.abs() == 1.0 {
        return f64::INFINITY.copysign(x);
    }
    if x.abs() > 1.0 || x.is_nan() {
        return NAN;
    }
    let tangent = if x < 0.0 { -x } else { x };
    let value = if tangent < 1.0 / TWO_TO_28 {
        tangent
    } else if tangent < 0.5 {
        let twice = tangent + tangent;
        0.5 * ln_1p(twice + twice * tangent / (1.0 - tangent))
    } else {
        0.5 * ln_1p((tangent + tangent) / (1.0 - tangent))
    };
    if x < 0.0 { -value } else { value }
}
