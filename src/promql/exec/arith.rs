//! Operators between two floats.
#![expect(
    clippy::float_cmp,
    reason = "PromQL compares floats exactly on purpose"
)]

use crate::model::math;
use crate::promql::parse::ast::BinaryOp;

/// What an operator makes of two floats: the value, or whether it keeps the left one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kernel {
    /// A new value.
    Compute(fn(f64, f64) -> f64),
    /// The left value where this holds.
    Keep(fn(f64, f64) -> bool),
}

/// The kernel of an operator; none for set operators and for those that only histograms have.
pub(crate) fn kernel(op: BinaryOp) -> Option<Kernel> {
    Some(match op {
        BinaryOp::Add => Kernel::Compute(|a, b| a + b),
        BinaryOp::Sub => Kernel::Compute(|a, b| a - b),
        BinaryOp::Mul => Kernel::Compute(|a, b| a * b),
        BinaryOp::Div => Kernel::Compute(|a, b| a / b),
        BinaryOp::Mod => Kernel::Compute(math::remainder),
        BinaryOp::Pow => Kernel::Compute(math::pow),
        BinaryOp::Atan2 => Kernel::Compute(math::atan2),
        BinaryOp::Eq => Kernel::Keep(|a, b| a == b),
        BinaryOp::Ne => Kernel::Keep(|a, b| a != b),
        BinaryOp::Gt => Kernel::Keep(|a, b| a > b),
        BinaryOp::Lt => Kernel::Keep(|a, b| a < b),
        BinaryOp::Ge => Kernel::Keep(|a, b| a >= b),
        BinaryOp::Le => Kernel::Keep(|a, b| a <= b),
        BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Unless
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => return None,
    })
}

/// An operator between two scalars; comparisons give 0 or 1.
pub(crate) fn scalar_binary(op: BinaryOp, left: f64, right: f64) -> Option<f64> {
    Some(match kernel(op)? {
        Kernel::Compute(compute) => compute(left, right),
        Kernel::Keep(keep) => f64::from(u8::from(keep(left, right))),
    })
}

/// Operators whose result is no longer the metric.
pub(crate) fn changes_metric(op: BinaryOp) -> bool {
    matches!(kernel(op), Some(Kernel::Compute(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_follow_the_floats() {
        let of = |op, a, b| scalar_binary(op, a, b).unwrap();
        assert_eq!(of(BinaryOp::Mod, -7.0, 4.0), -3.0);
        assert!(of(BinaryOp::Mod, 1.0, 0.0).is_nan());
        assert_eq!(of(BinaryOp::Pow, 2.0, -1.0), 0.5);
        assert_eq!(of(BinaryOp::Div, 1.0, 0.0), f64::INFINITY);
        assert_eq!(of(BinaryOp::Ge, 2.0, 2.0), 1.0);
        assert_eq!(of(BinaryOp::Ne, f64::NAN, f64::NAN), 1.0);
        assert_eq!(of(BinaryOp::Atan2, 0.0, -1.0), std::f64::consts::PI);
    }

    #[test]
    fn set_and_trim_operators_are_not_for_floats() {
        assert_eq!(scalar_binary(BinaryOp::And, 1.0, 1.0), None);
        assert!(changes_metric(BinaryOp::Mod) && !changes_metric(BinaryOp::Gt));
    }
}
