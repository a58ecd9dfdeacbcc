//! Where two versions of Prometheus mean different things, and why.
//!
//! Each difference is judged on the smallest query that still shows it, so that a list of a few names does not excuse
//! what merely stands beside one.

use gauntlet::promql::parse::ast::{AggregateOp, BinaryOp, Expr, ExprKind};
use gauntlet::promql::parse::parse_expr;

use crate::answer::{Answer, Value};
use crate::case::Case;
use crate::leaves::Dialect;
use crate::shrink::children;

/// A difference that is known.
struct Known {
    /// Why the versions differ.
    reason: &'static str,
    /// In which shrunk queries, and in which answers to them.
    holds: fn(&Expr, &Answer, &Answer) -> bool,
}

/// What 3.14 does that we do not repeat.
const NEWEST: &[Known] = &[
    Known {
        reason: "3.14 loses the samples of a subquery with @ when another argument of the function stands beside it",
        holds: |expr, _, _| any(expr, &is_pinned_beside_others),
    },
    Known {
        reason: "3.14.0 reads info series at the evaluation time even where what they are joined to is shifted; later it does not",
        holds: |expr, _, _| any(expr, &|expr| calls(expr, &["info"])) && any(expr, &is_shifted),
    },
    Known {
        reason: "3.14 loses the samples of a selector with @ and offset under timestamp",
        holds: |expr, _, _| {
            any(expr, &|expr| calls(expr, &["timestamp"])) && any(expr, &is_pinned_and_shifted)
        },
    },
    Known {
        reason: "3.14 forgets that a name was to go when two vectors are compared or info is joined: it comes back",
        holds: |expr, ours, theirs| {
            any(expr, &|expr| {
                is_binary(expr, |_| true) || calls(expr, &["info"])
            }) && differ_in_names(ours, theirs)
        },
    },
    Known {
        reason: "3.14 fails on an anchored range as the whole query where a series has no samples",
        holds: |_, _, theirs| is_error(theirs, "index out of range"),
    },
    Known {
        reason: "3.14 sees NaN in a parameter over a range that alone has none",
        holds: |expr, ours, theirs| {
            any(expr, &is_ranking)
                && is_error(theirs, "Parameter value is NaN")
                && !matches!(ours, Answer::Error(_))
        },
    },
];

/// What means one thing in 2.42 and another in 3.14.
const BOTH: &[Known] = &[
    Known {
        reason: "2.42 limits extrapolation to the counter's zero before it looks for a gap at the start, 3.14 after it",
        holds: |expr, ours, theirs| {
            any(expr, &|expr| calls(expr, &["rate", "increase"]))
                && all_values(ours, theirs, is_less_extrapolated)
        },
    },
    Known {
        reason: "2.42 keeps the metric name through atan2",
        holds: |expr, _, _| any(expr, &|expr| is_binary(expr, |op| op == BinaryOp::Atan2)),
    },
    Known {
        reason: "2.42 refuses a k that is no 64-bit integer even where it picks nothing",
        holds: |expr, _, theirs| any(expr, &is_ranking) && is_error(theirs, "flows int64"),
    },
    Known {
        reason: "2.42 takes the worst out of a full heap and puts the new one in, 3.14 replaces it: equals differ",
        holds: |expr, ours, theirs| any(expr, &is_ranking) && has_same_values(ours, theirs),
    },
    Known {
        reason: "2.42 shifts samples pinned by @ with every step when another argument of the function stands beside them",
        holds: |expr, _, _| any(expr, &is_pinned_beside_others),
    },
    Known {
        reason: "2.42 has no deviation of one infinity or NaN, and NaN where a deviation overflows",
        holds: |expr, ours, theirs| {
            any(expr, &is_deviation)
                && all_values(ours, theirs, |ours, theirs| {
                    !ours.is_finite() && (theirs.is_nan() || theirs == 0.0)
                })
        },
    },
    Known {
        reason: "3.14 looks for partners before it compares, 2.42 only for those that compare",
        holds: |expr, ours, _| {
            any(expr, &|expr| is_binary(expr, BinaryOp::is_comparison))
                && is_error(ours, "multiple matches for labels")
        },
    },
    Known {
        reason: "2.42 adds the label of count_values to those it groups by at every step anew, out of order",
        holds: |expr, _, _| any(expr, &is_grouped_count_values),
    },
    Known {
        reason: "3.14 adds up with compensation where 2.42 does not, which shows in labels made of values",
        holds: |expr, _, _| any(expr, &is_count_values) && any(expr, &is_sum),
    },
];

/// The reason why a shrunk case differs; `None` for what must not.
pub(crate) fn reason(
    case: &Case,
    ours: &Answer,
    theirs: &Answer,
    dialect: Dialect,
) -> Option<&'static str> {
    let expr = parse_expr(&case.query).ok()?;
    let known = match dialect {
        Dialect::Both => BOTH,
        Dialect::Newest => NEWEST,
    };
    known
        .iter()
        .find(|known| (known.holds)(&expr, ours, theirs))
        .map(|known| known.reason)
}

/// Does a query stay within what both versions understand alike? The generator's do; a shrunk one may leave it where
/// native histograms lose the function that made floats of them.
pub(crate) fn is_understood_by(dialect: Dialect, case: &Case) -> bool {
    dialect.is_newest()
        || parse_expr(&case.query).is_ok_and(|expr| has_histograms_in_place(&expr, true))
}

fn has_histograms_in_place(expr: &Expr, may_be_here: bool) -> bool {
    let may_be_below = calls(expr, &["histogram_count", "histogram_sum"])
        || (may_be_here
            && (aggregates(expr, &[AggregateOp::Sum]) || matches!(&expr.kind, ExprKind::Paren(_))));
    match &expr.kind {
        ExprKind::Vector(selector) => {
            may_be_here
                || !selector
                    .name
                    .as_deref()
                    .unwrap_or_default()
                    .starts_with("nh")
        }
        _ => children(expr)
            .into_iter()
            .all(|child| has_histograms_in_place(child, may_be_below)),
    }
}

/// Does `holds` for an expression or one inside it?
fn any(expr: &Expr, holds: &dyn Fn(&Expr) -> bool) -> bool {
    holds(expr) || children(expr).into_iter().any(|child| any(child, holds))
}

fn calls(expr: &Expr, names: &[&str]) -> bool {
    matches!(&expr.kind, ExprKind::Call(call) if names.contains(&call.func.name))
}

fn is_binary(expr: &Expr, is_op: fn(BinaryOp) -> bool) -> bool {
    matches!(&expr.kind, ExprKind::Binary(binary) if is_op(binary.op))
}

fn aggregates(expr: &Expr, ops: &[AggregateOp]) -> bool {
    matches!(&expr.kind, ExprKind::Aggregate(aggregate) if ops.contains(&aggregate.op))
}

fn is_ranking(expr: &Expr) -> bool {
    aggregates(expr, &[AggregateOp::Topk, AggregateOp::Bottomk])
}

fn is_count_values(expr: &Expr) -> bool {
    aggregates(expr, &[AggregateOp::CountValues])
}

fn is_grouped_count_values(expr: &Expr) -> bool {
    is_count_values(expr)
        && matches!(&expr.kind, ExprKind::Aggregate(aggregate) if !aggregate.without && !aggregate.grouping.is_empty())
}

fn is_sum(expr: &Expr) -> bool {
    aggregates(expr, &[AggregateOp::Sum, AggregateOp::Avg])
}

fn is_deviation(expr: &Expr) -> bool {
    aggregates(expr, &[AggregateOp::Stddev, AggregateOp::Stdvar])
        || calls(expr, &["stddev_over_time", "stdvar_over_time"])
}

/// A range vector with `@` as one of several arguments.
fn is_pinned_beside_others(expr: &Expr) -> bool {
    let ExprKind::Call(call) = &expr.kind else {
        return false;
    };
    1 < call.args.len()
        && call.args.iter().any(|arg| match &arg.kind {
            ExprKind::Subquery(subquery) => subquery.at.is_some(),
            ExprKind::Matrix(matrix) => matrix.selector.at.is_some(),
            _ => false,
        })
}

/// Something with `offset` or `@`.
fn is_shifted(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Vector(selector) => selector.offset.is_some() || selector.at.is_some(),
        ExprKind::Matrix(matrix) => {
            matrix.selector.offset.is_some() || matrix.selector.at.is_some()
        }
        ExprKind::Subquery(subquery) => subquery.offset.is_some() || subquery.at.is_some(),
        _ => false,
    }
}

fn is_pinned_and_shifted(expr: &Expr) -> bool {
    matches!(&expr.kind, ExprKind::Vector(selector) if selector.offset.is_some() && selector.at.is_some())
}

/// The same series but for a metric name that theirs have.
fn differ_in_names(ours: &Answer, theirs: &Answer) -> bool {
    let (Answer::Series(_, ours), Answer::Series(_, theirs)) = (ours, theirs) else {
        return false;
    };
    let without_name = |labels: &str| {
        let inner = labels.trim_start_matches('{').trim_end_matches('}');
        let mut pairs: Vec<&str> = inner.split(", ").collect();
        pairs.retain(|pair| !pair.starts_with("__name__="));
        pairs.sort_unstable();
        pairs.join(", ")
    };
    let mut left: Vec<String> = ours
        .iter()
        .map(|series| without_name(&series.labels))
        .collect();
    let mut right: Vec<String> = theirs
        .iter()
        .map(|series| without_name(&series.labels))
        .collect();
    left.sort_unstable();
    right.sort_unstable();
    let has_name = |all: &[crate::answer::Series]| {
        all.iter().any(|series| series.labels.contains("__name__="))
    };
    left == right && has_name(theirs) && !has_name(ours)
}

fn is_error(answer: &Answer, part: &str) -> bool {
    matches!(answer, Answer::Error(error) if error.contains(part))
}

/// Half of the mean distance of samples against up to 1.1 of it, of two samples or more.
fn is_less_extrapolated(ours: f64, theirs: f64) -> bool {
    ours < theirs && theirs < 1.41 * ours
}

/// Do all values of two answers that differ differ so?
fn all_values(ours: &Answer, theirs: &Answer, differ_so: fn(f64, f64) -> bool) -> bool {
    let (Answer::Series(_, ours), Answer::Series(_, theirs)) = (ours, theirs) else {
        return false;
    };
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| {
            ours.labels == theirs.labels
                && ours.points.len() == theirs.points.len()
                && ours
                    .points
                    .iter()
                    .zip(&theirs.points)
                    .all(|(ours, theirs)| match (&ours.1, &theirs.1) {
                        (Value::Float(ours), Value::Float(theirs)) => {
                            ours.to_bits() == theirs.to_bits()
                                || (ours.is_nan() && theirs.is_nan())
                                || differ_so(*ours, *theirs)
                        }
                        _ => false,
                    })
        })
}

/// The same values under other labels?
fn has_same_values(ours: &Answer, theirs: &Answer) -> bool {
    let values = |answer: &Answer| match answer {
        Answer::Series(_, series) => {
            let mut bits: Vec<u64> = series
                .iter()
                .flat_map(|series| &series.points)
                .map(|(_, value)| match value {
                    Value::Float(v) if v.is_nan() => f64::NAN.to_bits(),
                    Value::Float(v) => v.to_bits(),
                    Value::Histogram(_) => 0,
                })
                .collect();
            bits.sort_unstable();
            Some(bits)
        }
        Answer::Error(_) | Answer::Text(_) => None,
    };
    values(ours).is_some() && values(ours) == values(theirs)
}
