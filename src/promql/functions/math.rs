//! Functions of one float, rounding and bounds.

use crate::model::math;

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
            Self::Exp => math::exp,
            Self::Ln => math::ln,
            Self::Log2 => math::log2,
            Self::Log10 => math::log10,
            Self::Sqrt => f64::sqrt,
            Self::Sgn => sgn,
            Self::Sin => math::sin,
            Self::Cos => math::cos,
            Self::Tan => math::tan,
            Self::Asin => math::asin,
            Self::Acos => math::acos,
            Self::Atan => math::atan,
            Self::Sinh => math::sinh,
            Self::Cosh => math::cosh,
            Self::Tanh => math::tanh,
            Self::Asinh => math::asinh,
            Self::Acosh => math::acosh,
            Self::Atanh => math::atanh,
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
    } else if a.total_cmp(&b).is_lt() {
        // Of two zeros the positive one is the greater.
        b
    } else {
        a
    }
}

/// `min`, unless one of them is not a number: then that.
pub(crate) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if b.total_cmp(&a).is_lt() {
        b
    } else {
        a
    }
}

/// Between `min` and `max`, which must be in order.
pub(crate) fn clamp(v: f64, min: f64, max: f64) -> f64 {
    go_max(min, go_min(max, v))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact values are what is tested")]
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
    fn minus_zero_is_less_than_zero() {
        for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(go_max(a, b).is_sign_positive());
            assert!(go_min(a, b).is_sign_negative());
        }
    }

    #[test]
    fn the_sign_of_what_has_none_is_itself() {
        let sgn = MathFn::Sgn.kernel();
        assert_eq!([sgn(-3.0), sgn(0.0), sgn(9.0)], [-1.0, 0.0, 1.0]);
        assert!(sgn(f64::NAN).is_nan());
        assert_eq!(MathFn::Deg.kernel()(std::f64::consts::PI), 180.0);
    }

    #[test]
    fn every_name_has_its_function() {
        for (name, x, bits) in [
            ("abs", -2.5, 0x4004_0000_0000_0000_u64),
            ("ceil", 1.25, 0x4000_0000_0000_0000_u64),
            ("floor", -1.25, 0xc000_0000_0000_0000_u64),
            ("exp", 1.5, 0x4011_ed3f_e64f_c542_u64),
            ("ln", 77.4627, 0x4011_6631_0fc5_7f9c_u64),
            ("log2", 8.91465, 0x4009_3fda_5565_5498_u64),
            ("log10", 77.4627, 0x3ffe_39b9_31ae_f688_u64),
            ("sqrt", 2.0, 0x3ff6_a09e_667f_3bcd_u64),
            ("sin", 0.9, 0x3fe9_1103_985d_a841_u64),
            ("cos", 0.9, 0x3fe3_e43a_9692_e21d_u64),
            ("tan", 0.9, 0x3ff4_299b_a9c2_a137_u64),
            ("asin", 0.9, 0x3ff1_ea93_705f_a172_u64),
            ("acos", 0.9, 0x3fdc_dd9f_8f92_2e98_u64),
            ("atan", 0.9, 0x3fe7_7338_a806_03be_u64),
            ("sinh", 0.9, 0x3ff0_6c9c_cd5b_6af8_u64),
            ("cosh", 0.9, 0x3ff6_edeb_fd5d_8680_u64),
            ("tanh", 0.9, 0x3fe6_ebe9_82d6_605d_u64),
            ("asinh", 0.9, 0x3fe9_e23c_e96e_38d4_u64),
            ("acosh", 1.9, 0x3ff4_1d79_5efe_a940_u64),
            ("atanh", 0.9, 0x3ff7_8e36_0604_b32d_u64),
        ] {
            let kernel = MathFn::by_name(name).unwrap().kernel();
            assert_eq!(kernel(x).to_bits(), bits, "{name}");
        }
    }
}
