//! Makes a failing query smaller while it still fails.

use gauntlet::model::TimestampMs;
use gauntlet::promql::parse::ast::{
    AtModifier, DurationSpec, Expr, ExprKind, ValueType, VectorSelector,
};
use gauntlet::promql::parse::parse_expr;

use crate::case::{Case, Times};

/// Questions asked for one failure.
const TRIES_MAX: usize = 400;

/// The smallest case found for which `fails` still holds.
pub(crate) fn shrink(case: &Case, fails: &dyn Fn(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut tries = 0;
    'again: loop {
        for candidate in candidates(&best) {
            tries += 1;
            if TRIES_MAX < tries {
                return best;
            }
            if fails(&candidate) {
                best = candidate;
                continue 'again;
            }
        }
        return best;
    }
}

/// Smaller cases, the smallest first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    let with = |query: String, times: Times| Case { query, times };
    let Ok(expr) = parse_expr(&case.query) else {
        return found;
    };
    let is_range = case.times.step_ms != 0;
    let mut smaller: Vec<String> = smaller(&expr)
        .into_iter()
        .filter(|expr| !is_range || is_column(expr))
        .map(|expr| expr.to_string())
        .filter(|text| *text != case.query && parse_expr(text).is_ok())
        .collect();
    smaller.sort_by_key(String::len);
    smaller.dedup();
    found.extend(smaller.into_iter().map(|query| with(query, case.times)));
    found.extend(unrolled(&expr, case.times));
    found.extend(
        fewer_steps(case.times)
            .into_iter()
            .map(|times| with(case.query.clone(), times)),
    );
    found
}

/// What stands in a subquery, at the times the subquery looks at it.
fn unrolled(expr: &Expr, times: Times) -> Vec<Case> {
    let ExprKind::Subquery(subquery) = &expr.kind else {
        return children(expr)
            .into_iter()
            .flat_map(|child| unrolled(child, times))
            .collect();
    };
    let ms = |spec: &DurationSpec| match spec {
        DurationSpec::Ms(ms) => Some(*ms),
        DurationSpec::Expr(_) => None,
    };
    let (Some(range_ms), Some(offset_ms), Some(step_ms)) = (
        ms(&subquery.range),
        subquery.offset.as_ref().map_or(Some(0), ms),
        subquery.step.as_ref().map_or(Some(60_000), ms),
    ) else {
        return Vec::new();
    };
    let at = match subquery.at {
        Some(AtModifier::Timestamp(t)) => t,
        Some(AtModifier::End) => times.end,
        Some(AtModifier::Start) | None => times.start,
    };
    let end = at - offset_ms;
    let start = ((end - range_ms).div_euclid(step_ms) + 1) * step_ms;
    let times = Times {
        start,
        end,
        step_ms,
    };
    let query = subquery.expr.to_string();
    if times.step_ms <= 0 || end < start || !is_column(&subquery.expr) {
        return Vec::new();
    }
    vec![Case { query, times }]
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar)
}

/// Each step alone, and half of the range.
fn fewer_steps(times: Times) -> Vec<Times> {
    let Times {
        start,
        end,
        step_ms,
    } = times;
    if step_ms == 0 {
        return Vec::new();
    }
    let steps: Vec<TimestampMs> = (0..)
        .map(|n| start + n * step_ms)
        .take_while(|t| *t <= end)
        .collect();
    let mut all: Vec<Times> = steps
        .iter()
        .map(|&t| Times {
            start: t,
            end: t,
            step_ms: 0,
        })
        .collect();
    if 1 < steps.len() {
        let middle = steps[steps.len() / 2];
        all.push(Times {
            start,
            end: steps[steps.len() / 2 - 1],
            step_ms,
        });
        all.push(Times {
            start: middle,
            end,
            step_ms,
        });
        all.extend(steps.iter().map(|&t| Times {
            start: t,
            end: t,
            step_ms,
        }));
    }
    all
}

/// Expressions with one thing less.
fn smaller(expr: &Expr) -> Vec<Expr> {
    let mut found = simpler(expr);
    for (position, child) in children(expr).into_iter().enumerate() {
        found.push(child.clone());
        for simpler in smaller(child) {
            if simpler.value_type() == child.value_type() {
                let mut copy = expr.clone();
                *children_mut(&mut copy)[position] = simpler;
                found.push(copy);
            }
        }
    }
    found
}

/// The same operator with fewer modifiers.
fn simpler(expr: &Expr) -> Vec<Expr> {
    let with = |kind: ExprKind| Expr {
        kind,
        span: expr.span,
    };
    match &expr.kind {
        ExprKind::Vector(selector) => fewer_modifiers(selector)
            .into_iter()
            .map(|selector| with(ExprKind::Vector(selector)))
            .collect(),
        ExprKind::Matrix(matrix) => fewer_modifiers(&matrix.selector)
            .into_iter()
            .map(|selector| {
                let mut matrix = matrix.clone();
                matrix.selector = selector;
                with(ExprKind::Matrix(matrix))
            })
            .collect(),
        ExprKind::Subquery(subquery) => {
            let (mut no_offset, mut no_at) = (subquery.clone(), subquery.clone());
            no_offset.offset = None;
            no_at.at = None;
            vec![
                with(ExprKind::Subquery(no_offset)),
                with(ExprKind::Subquery(no_at)),
            ]
        }
        ExprKind::Aggregate(aggregate) => (0..aggregate.grouping.len())
            .map(|position| {
                let mut fewer = aggregate.clone();
                fewer.grouping.remove(position);
                with(ExprKind::Aggregate(fewer))
            })
            .collect(),
        ExprKind::Binary(binary) => {
            let Some(matching) = &binary.matching else {
                return Vec::new();
            };
            (0..matching.labels.len())
                .map(|position| {
                    let (mut fewer, mut matching) = (binary.clone(), matching.clone());
                    matching.labels.remove(position);
                    fewer.matching = Some(matching);
                    with(ExprKind::Binary(fewer))
                })
                .collect()
        }
        ExprKind::Number(_)
        | ExprKind::String(_)
        | ExprKind::Paren(_)
        | ExprKind::Unary(..)
        | ExprKind::Call(_) => Vec::new(),
    }
}

fn fewer_modifiers(selector: &VectorSelector) -> Vec<VectorSelector> {
    let mut found = Vec::new();
    let mut add = |change: &dyn Fn(&mut VectorSelector)| {
        let mut fewer = selector.clone();
        change(&mut fewer);
        found.push(fewer);
    };
    add(&|fewer| fewer.offset = None);
    add(&|fewer| fewer.at = None);
    add(&|fewer| fewer.extend = None);
    for position in 0..selector.matchers.len() {
        add(&|fewer| drop(fewer.matchers.remove(position)));
    }
    found
}

pub(crate) fn children(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => {
            Vec::new()
        }
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => vec![inner],
        ExprKind::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        ExprKind::Aggregate(aggregate) => aggregate.param.iter().chain([&aggregate.expr]).collect(),
        ExprKind::Call(call) => call.args.iter().collect(),
        ExprKind::Subquery(subquery) => vec![&subquery.expr],
    }
}

fn children_mut(expr: &mut Expr) -> Vec<&mut Expr> {
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => {
            Vec::new()
        }
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => vec![inner],
        ExprKind::Binary(binary) => vec![&mut binary.lhs, &mut binary.rhs],
        ExprKind::Aggregate(aggregate) => aggregate
            .param
            .iter_mut()
            .chain([&mut aggregate.expr])
            .collect(),
        ExprKind::Call(call) => call.args.iter_mut().collect(),
        ExprKind::Subquery(subquery) => vec![&mut subquery.expr],
    }
}
