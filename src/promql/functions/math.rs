//! Functions of one float.

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
            Self::Log10 => f64::log10,
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

/// Exact for powers of two, as Go's is.
fn log2(v: f64) -> f64 {
    v.log2()
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
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
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
}
