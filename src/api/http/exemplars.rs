//! `/query_exemplars`: the observations behind samples.

use crate::api::http::call::{Call, Outcome, Reply};
use crate::api::http::error::ApiError;
use crate::api::http::json::{push_array, push_float, push_labels, push_timestamp};
use crate::api::http::params::{MAX_TIME, MIN_TIME};
use crate::model::{Interval, Matcher};
use crate::promql::parse::ast::{Expr, ExprKind, VectorSelector};
use crate::promql::parse::parse_expr;

pub(super) async fn exemplars(call: Call) -> Result<Outcome, ApiError> {
    let start = call.form.time("start", MIN_TIME)?;
    let end = call.form.time("end", MAX_TIME)?;
    if end < start {
        return Err(ApiError::bad_data(
            "end timestamp must not be before start timestamp",
        ));
    }
    let expr = parse_expr(call.form.value("query"))
        .map_err(|error| ApiError::bad_data(error.to_string()))?;
    let mut selectors = Vec::new();
    collect(&expr, &mut selectors);
    if selectors.is_empty() {
        return Ok(Outcome::Empty);
    }
    let interval = Interval {
        min: start,
        max: end,
    };
    let found = call.state.query.exemplars(selectors, interval).await?;
    Ok(Reply::with(move |out| {
        push_array(out, &found, |out, series| {
            out.extend_from_slice(b"{\"seriesLabels\":");
            push_labels(out, &series.labels);
            out.extend_from_slice(b",\"exemplars\":");
            push_array(out, &series.exemplars, |out, exemplar| {
                out.extend_from_slice(b"{\"labels\":");
                push_labels(out, &exemplar.labels);
                out.extend_from_slice(b",\"value\":\"");
                push_float(out, exemplar.v);
                out.extend_from_slice(b"\",\"timestamp\":");
                push_timestamp(out, exemplar.t);
                out.push(b'}');
            });
            out.push(b'}');
        });
    }))
}

/// The matchers of every selector in `expr`.
fn collect(expr: &Expr, out: &mut Vec<Vec<Matcher>>) {
    let matchers = |selector: &VectorSelector| {
        let matchers = selector.matchers.iter();
        matchers.map(|matcher| Matcher::clone(matcher)).collect()
    };
    match &expr.kind {
        ExprKind::Vector(selector) => out.push(matchers(selector)),
        ExprKind::Matrix(matrix) => out.push(matchers(&matrix.selector)),
        ExprKind::Number(_) | ExprKind::String(_) => (),
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => collect(inner, out),
        ExprKind::Binary(binary) => {
            collect(&binary.lhs, out);
            collect(&binary.rhs, out);
        }
        ExprKind::Aggregate(aggregate) => {
            collect(&aggregate.expr, out);
            if let Some(param) = &aggregate.param {
                collect(param, out);
            }
        }
        ExprKind::Call(call) => {
            for arg in &call.args {
                collect(arg, out);
            }
        }
        ExprKind::Subquery(subquery) => collect(&subquery.expr, out),
    }
}
