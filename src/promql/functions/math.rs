//! Functions of one float, and powers.
#![expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "special exponents are recognised exactly; a whole exponent is positive and below 2^63 when it is cast"
)]

/// One float to one float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MathFn {
    Abs,
    Ceil,
    Floor,
    Exp,
    Ln,
    Log2,
    Log10,
    Sqrt,
    Sgn,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Deg,
    Rad,
}

impl MathFn {
    /// The function of this name.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Abs,
            "ceil" => Self::Ceil,
            "floor" => Self::Floor,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            "log2" => Self::Log2,
            "log10" => Self::Log10,
            "sqrt" => Self::Sqrt,
            "sgn" => Self::Sgn,
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" => Self::Tan,
            "asin" => Self::Asin,
            "acos" => Self::Acos,
            "atan" => Self::Atan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "asinh" => Self::Asinh,
            "acosh" => Self::Acosh,
            "atanh" => Self::Atanh,
            "deg" => Self::Deg,
            "rad" => Self::Rad,
            _ => return None,
        })
    }

    /// The computation, chosen once per call and not once per value.
    pub(crate) fn kernel(self) -> fn(f64) -> f64 {
        match self {
            Self::Abs => f64::abs,
            Self::Ceil => f64::ceil,
            Self::Floor => f64::floor,
            Self::Exp => f64::exp,
            Self::Ln => f64::ln,
            Self::Log2 => log2,
            Self::Log10 => log10,
            Self::Sqrt => f64::sqrt,
            Self::Sgn => sgn,
            Self::Sin => f64::sin,
            Self::Cos => f64::cos,
            Self::Tan => f64::tan,
            Self::Asin => f64::asin,
            Self::Acos => f64::acos,
            Self::Atan => f64::atan,
            Self::Sinh => f64::sinh,
            Self::Cosh => f64::cosh,
            Self::Tanh => f64::tanh,
            Self::Asinh => f64::asinh,
            Self::Acosh => f64::acosh,
            Self::Atanh => f64::atanh,
            Self::Deg => |v| v * 180.0 / std::f64::consts::PI,
            Self::Rad => |v| v * std::f64::consts::PI / 180.0,
        }
    }
}

fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// A fraction of at least one half and below one, and the power of two that makes `v` of it; for finite `v` but zero.
fn fraction_and_exponent(v: f64) -> (f64, i32) {
    const EXPONENT_MASK: u64 = 0x7ff << 52;
    let (v, shift) = if v.abs() < f64::MIN_POSITIVE {
        (v * 4_503_599_627_370_496.0, -52)
    } else {
        (v, 0)
    };
    let bits = v.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let fraction = f64::from_bits(bits & !EXPONENT_MASK | 1022 << 52);
    (fraction, exponent - 1022 + shift)
}

/// `v` times two to the power of `exponent`, rounded once.
fn times_power_of_two(v: f64, exponent: i32) -> f64 {
    const STEP: i32 = 1000;
    let power = |exponent: i32| f64::from_bits(u64::try_from(exponent + 1023).unwrap_or(0) << 52);
    let exponent = exponent.clamp(-2 * STEP, 2 * STEP);
    if exponent > STEP {
        v * power(STEP) * power(exponent - STEP)
    } else if exponent < -STEP {
        v * power(-STEP) * power(exponent + STEP)
    } else {
        v * power(exponent)
    }
}

/// The way Prometheus' language computes it: exact for powers of two, the fraction's logarithm apart.
fn log2(v: f64) -> f64 {
    if v.is_nan() || v <= 0.0 || v.is_infinite() {
        return v.log2();
    }
    let (fraction, exponent) = fraction_and_exponent(v);
    if fraction.to_bits() == 0.5_f64.to_bits() {
        return f64::from(exponent - 1);
    }
    fraction.ln() * (1.0 / std::f64::consts::LN_2) + f64::from(exponent)
}

/// From the logarithm to base two, as Prometheus' language does.
fn log10(v: f64) -> f64 {
    log2(v) * std::f64::consts::LOG10_2
}

/// `base` to the power of `exponent` by squaring, as Prometheus' language computes it; the last digit depends on it.
pub(crate) fn pow(base: f64, exponent: f64) -> f64 {
    const WHOLE_MAX: f64 = 9_223_372_036_854_775_808.0;
    let is_special = !base.is_finite() || base == 0.0 || exponent == 0.0 || exponent == 1.0;
    if is_special || exponent.is_nan() || exponent.abs() >= WHOLE_MAX {
        return base.powf(exponent);
    }
    if exponent == 0.5 {
        return base.sqrt();
    }
    if exponent == -0.5 {
        return 1.0 / base.sqrt();
    }
    let (mut whole, mut rest) = (exponent.abs().trunc(), exponent.abs().fract());
    if rest != 0.0 && base < 0.0 {
        return f64::NAN;
    }
    let mut result = 1.0;
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        result = (rest * base.ln()).exp();
    }
    let mut result_exponent = 0_i32;
    let (mut square, mut square_exponent) = fraction_and_exponent(base);
    let mut left = whole as u64;
    while left != 0 {
        if !(-4096..=4096).contains(&square_exponent) {
            // Over or under the range of floats by far: the rest only decides which.
            result_exponent = result_exponent.saturating_add(square_exponent);
            break;
        }
        if left & 1 == 1 {
            result *= square;
            result_exponent += square_exponent;
        }
        square *= square;
        square_exponent *= 2;
        if square < 0.5 {
            square += square;
            square_exponent -= 1;
        }
        left >>= 1;
    }
    if exponent < 0.0 {
        result = 1.0 / result;
        result_exponent = -result_exponent;
    }
    times_power_of_two(result, result_exponent)
}

/// To the nearest multiple of `to_nearest`; a half goes up, also below zero.
pub(crate) fn round(v: f64, to_nearest: f64) -> f64 {
    let inverse = 1.0 / to_nearest;
    (v * inverse + 0.5).floor() / inverse
}

/// `max`, unless one of them is not a number: then that.
pub(crate) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// `min`, unless one of them is not a number: then that.
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.min(b)
    }
}

/// Between `min` and `max`, which must be in order.
pub(crate) fn clamp(v: f64, min: f64, max: f64) -> f64 {
    go_max(min, go_min(max, v))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_up_on_both_sides_of_zero() {
        assert_eq!(
            [2.5, -2.5, 0.49, -0.5].map(|v| round(v, 1.0)),
            [3.0, -2.0, 0.0, 0.0]
        );
        assert_eq!(round(0.33, 0.1).to_bits(), (3.0_f64 / 10.0).to_bits());
    }

    #[test]
    fn clamping_lets_nan_through() {
        assert!(clamp(f64::NAN, 0.0, 1.0).is_nan());
        assert_eq!(clamp(f64::INFINITY, 0.0, 1.0), 1.0);
        assert!(go_max(f64::NAN, f64::INFINITY).is_infinite());
    }

    #[test]
    fn the_sign_of_what_has_none_is_itself() {
        let sgn = MathFn::Sgn.kernel();
        assert_eq!([sgn(-3.0), sgn(0.0), sgn(9.0)], [-1.0, 0.0, 1.0]);
        assert!(sgn(f64::NAN).is_nan());
        assert_eq!(MathFn::Deg.kernel()(std::f64::consts::PI), 180.0);
    }

    #[test]
    fn powers_and_logarithms_have_prometheus_last_digit() {
        assert_eq!(pow(-34.4655, 9.0), -68_621_664_739_658.63);
        assert_eq!(pow(-33.88052, 8.0), 1_736_203_143_790.612_3);
        assert_eq!(log2(8.91465), 3.156_178_157_000_408);
        assert_eq!(log2(8.0), 3.0);
        assert_eq!(log10(77.4627), 1.889_092_630_458_806_7);
        assert!(log10(-1.0).is_nan() && log2(0.0).is_infinite());
    }

    #[test]
    fn powers_at_the_rims_of_floats_are_those_of_ieee() {
        for (base, exponent) in [
            (0.0, -1.0),
            (-0.0, 3.0),
            (f64::INFINITY, -2.0),
            (f64::NEG_INFINITY, 3.0),
            (2.0, f64::INFINITY),
            (0.5, f64::NEG_INFINITY),
            (1.0, f64::INFINITY),
            (10.0, 400.0),
            (10.0, -400.0),
            (2.0, -1074.0),
            (2.0, 1023.0),
            (-8.0, 1e300),
            (5e-324, 2.0),
            (9.0, 0.5),
        ] {
            let (ours, ieee): (f64, f64) = (pow(base, exponent), base.powf(exponent));
            assert_eq!(ours, ieee, "{base} ^ {exponent}");
        }
        assert!(pow(-2.0, 0.3).is_nan() && pow(f64::NAN, 2.0).is_nan());
        assert_eq!(pow(f64::NAN, 0.0), 1.0);
    }
}
