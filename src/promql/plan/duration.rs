//! Durations that depend on the query.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::model::math;
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::{BinaryOp, DurationExpr, DurationSpec, UnaryOp};
use crate::promql::plan::PlanContext;

/// A range or a step: greater than zero.
pub(crate) fn positive_ms(spec: &DurationSpec, context: &PlanContext) -> Result<i64, QueryError> {
    let ms = any_ms(spec, context)?;
    if ms <= 0 {
        return Err(QueryError::execution("duration must be greater than 0"));
    }
    Ok(ms)
}

/// An offset: any sign.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "checked against the range of milliseconds before it is cast"
)]
pub(crate) fn any_ms(spec: &DurationSpec, context: &PlanContext) -> Result<i64, QueryError> {
    let expr = match spec {
        DurationSpec::Ms(ms) => return Ok(*ms),
        DurationSpec::Expr(expr) => expr,
    };
    let seconds = seconds(expr, context)?;
    if !seconds.is_finite() {
        return Err(QueryError::execution("duration is NaN or infinite"));
    }
    let ms = (seconds * 1000.0).trunc();
    if ms.abs() >= (i64::MAX / 1_000_000) as f64 {
        return Err(QueryError::execution("duration is out of range"));
    }
    Ok(ms as i64)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "steps and ranges are far below 2^53 milliseconds"
)]
fn seconds(expr: &DurationExpr, context: &PlanContext) -> Result<f64, QueryError> {
    Ok(match expr {
        DurationExpr::Number(number, _) => number.value,
        DurationExpr::Step(_) => context.step_ms as f64 / 1000.0,
        DurationExpr::Range(_) => (context.end_ms - context.grid.start) as f64 / 1000.0,
        DurationExpr::Unary(UnaryOp::Plus, inner, _) | DurationExpr::Paren(inner, _) => {
            seconds(inner, context)?
        }
        DurationExpr::Unary(UnaryOp::Minus, inner, _) => -seconds(inner, context)?,
        DurationExpr::MinMax(is_max, left, right, _) => {
            let (left, right) = (seconds(left, context)?, seconds(right, context)?);
            if *is_max {
                left.max(right)
            } else {
                left.min(right)
            }
        }
        DurationExpr::Binary(op, left, right, _) => {
            arithmetic(*op, seconds(left, context)?, seconds(right, context)?)?
        }
    })
}

fn arithmetic(op: BinaryOp, left: f64, right: f64) -> Result<f64, QueryError> {
    Ok(match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        BinaryOp::Div if right == 0.0 => {
            return Err(QueryError::execution("division by zero"));
        }
        BinaryOp::Div => left / right,
        BinaryOp::Mod if right == 0.0 => {
            return Err(QueryError::execution("modulo by zero"));
        }
        BinaryOp::Mod => math::remainder(left, right),
        BinaryOp::Pow => math::pow(left, right),
        other => {
            let text = format!(
                "unexpected duration expression operator \"{}\"",
                other.as_str()
            );
            return Err(QueryError::execution(text));
        }
    })
}
