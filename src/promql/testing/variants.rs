//! The same question asked otherwise: pinned with `@`, then at other times.

use crate::model::TimestampMs;
use crate::promql::parse::ast::{AtModifier, Expr, ExprKind};
use crate::promql::parse::parse_expr;

/// Functions whose result depends on the evaluation time although their arguments do not.
const TIME_DEPENDENT: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "end",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
];

/// Functions of the query's bounds: a range query answers otherwise.
const BOUND_DEPENDENT: [&str; 4] = ["start()", "end()", "range()", "step()"];

/// The query with `@ t` on everything that lacks a time, and the times to ask it at: all have to answer alike.
pub(super) fn pinned(query: &str, t: TimestampMs) -> Option<(String, Vec<TimestampMs>)> {
    let mut expr = parse_expr(query).ok()?;
    let mut is_time_dependent = false;
    pin(&mut expr, t, &mut is_time_dependent);
    if is_time_dependent {
        return None;
    }
    let times = if t == 0 {
        vec![-1000, 0, 1000]
    } else {
        vec![-10 * t, 0, t / 5, t, 10 * t]
    };
    Some((expr.to_string(), times))
}

/// Does the query name its own bounds?
pub(super) fn names_its_bounds(query: &str) -> bool {
    BOUND_DEPENDENT.iter().any(|call| query.contains(call))
}

fn pin(expr: &mut Expr, t: TimestampMs, is_time_dependent: &mut bool) {
    let at = |slot: &mut Option<AtModifier>| {
        if !matches!(slot, Some(AtModifier::Timestamp(_))) {
            *slot = Some(AtModifier::Timestamp(t));
        }
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => (),
        ExprKind::Vector(vector) => at(&mut vector.at),
        ExprKind::Matrix(matrix) => at(&mut matrix.selector.at),
        // What is inside a pinned subquery is pinned by it.
        ExprKind::Subquery(subquery) => at(&mut subquery.at),
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => pin(inner, t, is_time_dependent),
        ExprKind::Binary(binary) => {
            pin(&mut binary.lhs, t, is_time_dependent);
            pin(&mut binary.rhs, t, is_time_dependent);
        }
        ExprKind::Aggregate(aggregate) => {
            pin(&mut aggregate.expr, t, is_time_dependent);
            if let Some(param) = &mut aggregate.param {
                pin(param, t, is_time_dependent);
            }
        }
        ExprKind::Call(call) => {
            *is_time_dependent |= TIME_DEPENDENT.contains(&call.func.name);
            for arg in &mut call.args {
                pin(arg, t, is_time_dependent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expect: Option<&str>) {
        let found = pinned(query, 50_000);
        assert_eq!(found.as_ref().map(|(query, _)| query.as_str()), expect);
        if let Some((_, times)) = found {
            assert_eq!(times, [-500_000, 0, 10_000, 50_000, 500_000]);
        }
    }

    #[test]
    fn everything_without_a_time_is_pinned() {
        check(
            "foo + rate(bar[5m])",
            Some("foo @ 50.000 + rate(bar[5m] @ 50.000)"),
        );
        check(
            "foo @ 10 + bar @ end()",
            Some("foo @ 10.000 + bar @ 50.000"),
        );
        check(
            "max_over_time(vector(1)[5m:1m] offset 1m)",
            Some("max_over_time(vector(1)[5m:1m] @ 50.000 offset 1m)"),
        );
        check("timestamp(foo)", None);
        check("vector(time())", None);
    }
}
