//! Angles of sines, cosines and tangents.
//!
//! The arc tangent has method and coefficients of S. Moshier's Cephes library (`atan.c`): a rational function up to 0.66, and
//! two identities beyond. The others are arc tangents of quotients.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, PI};

use crate::model::math::{NAN, polynomial};

/// What π/2 as a float falls short of π/2.
const FRAC_PI_2_REST: f64 = 6.123233995736766e-17;

/// The angle between -π/2 and π/2 whose tangent is `x`.
pub fn atan(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    if x > 0.0 {
        atan_of_positive(x)
    } else {
        -atan_of_positive(-x)
    }
}

fn atan_of_positive(x: f64) -> f64 {
    const TAN_3_PI_8: f64 = 2.414213562373095;
    if x <= 0.66 {
        return atan_near_zero(x);
    }
    if x > TAN_3_PI_8 {
        return FRAC_PI_2 - atan_near_zero(1.0 / x) + FRAC_PI_2_REST;
    }
    FRAC_PI_4 + atan_near_zero((x - 1.0) / (x + 1.0)) + 0.5 * FRAC_PI_2_REST
}

fn atan_near_zero(x: f64) -> f64 {
    const P: [f64; 5] = [
        -0.8750608600031904,
        -16.157537187333652,
        -75.00855792314705,
        -122.88666844901361,
        -64.85021904942025,
    ];
    const Q: [f64; 6] = [
        1.0,
        24.858464901423062,
        165.02700983169885,
        432.88106049129027,
        485.3903996359137,
        194.5506571482614,
    ];
    let z = x * x;
    let z = z * polynomial(z, P) / polynomial(z, Q);
    x * z + x
}

/// The angle between -π/2 and π/2 whose sine is `x`.
pub fn asin(x: f64) -> f64 {
    if x == 0.0 {
        return x;
    }
    let sine = if x < 0.0 { -x } else { x };
    if sine > 1.0 {
        return NAN;
    }
    let cosine = (1.0 - sine * sine).sqrt();
    let angle = if sine > 0.7 {
        FRAC_PI_2 - atan_of_positive(cosine / sine)
    } else {
        atan_of_positive(sine / cosine)
    };
    if x < 0.0 { -angle } else { angle }
}

/// The angle between 0 and π whose cosine is `x`.
pub fn acos(x: f64) -> f64 {
    FRAC_PI_2 - asin(x)
}

/// The angle between -π and π of the point (`x`, `y`).
pub fn atan2(y: f64, x: f64) -> f64 {
    if y.is_nan() || x.is_nan() {
        return NAN;
    }
    if y == 0.0 {
        let angle = if x.is_sign_positive() { 0.0 } else { PI };
        return angle.copysign(y);
    }
    if x == 0.0 {
        return FRAC_PI_2.copysign(y);
    }
    let angle = match (x.is_infinite(), y.is_infinite()) {
        (true, true) if x > 0.0 => FRAC_PI_4,
        (true, true) => 3.0 * FRAC_PI_4,
        (true, false) if x > 0.0 => 0.0,
        (true, false) => PI,
        (false, true) => FRAC_PI_2,
        (false, false) => return atan_of_quotient(y, x),
    };
    angle.copysign(y)
}

fn atan_of_quotient(y: f64, x: f64) -> f64 {
    let angle = atan(y / x);
    if x >= 0.0 {
        angle
    } else if angle <= 0.0 {
        angle + PI
    } else {
        angle - PI
    }
}
