//! The tree as JSON, for pages that show how a query is read. Keys are in alphabetical order.

use serde_json::{Value, json};

use crate::model::number::format_f;
use crate::promql::parse::ast::{
    AtModifier, Call, Cardinality, DurationExpr, DurationSpec, Expr, ExprKind, Extend,
    MatrixSelector, SubqueryExpr, UnaryOp, ValueType, VectorMatching, VectorSelector,
};

/// The tree under `expr`.
pub fn tree_json(expr: &Expr) -> Value {
    // The parts come first, so that only this small frame is on the stack once per level.
    let parts = children(expr).into_iter().map(tree_json).collect();
    node_json(expr, parts)
}

/// An object whose parts are moved, not copied.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Vector(_) | ExprKind::Matrix(_) => {
            Vec::new()
        }
        ExprKind::Paren(inner) | ExprKind::Unary(_, inner) => vec![&**inner],
        ExprKind::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        ExprKind::Aggregate(aggregate) => {
            let mut parts = vec![&aggregate.expr];
            parts.extend(&aggregate.param);
            parts
        }
        ExprKind::Call(call) => call.args.iter().collect(),
        ExprKind::Subquery(subquery) => vec![&subquery.expr],
    }
}

/// One node around the JSON of its [`children`].
fn node_json(expr: &Expr, parts: Vec<Value>) -> Value {
    if let ExprKind::Call(call) = &expr.kind {
        return call_json(call, parts);
    }
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    let second = parts.next().unwrap_or_default();
    match &expr.kind {
        ExprKind::Number(number) => {
            json!({"type": "numberLiteral", "val": format_f(number.value)})
        }
        ExprKind::String(text) => json!({"type": "stringLiteral", "val": text}),
        ExprKind::Paren(_) => object([("expr", first), ("type", json!("parenExpr"))]),
        ExprKind::Unary(op, _) => object([
            ("expr", first),
            ("op", json!(op.as_str())),
            ("type", json!("unaryExpr")),
        ]),
        ExprKind::Binary(binary) => object([
            ("bool", json!(binary.return_bool)),
            ("lhs", first),
            (
                "matching",
                json!(binary.matching.as_ref().map(matching_json)),
            ),
            ("op", json!(binary.op.as_str())),
            ("rhs", second),
            ("type", json!("binaryExpr")),
        ]),
        ExprKind::Aggregate(aggregate) => object([
            ("expr", first),
            ("grouping", json!(aggregate.grouping)),
            ("op", json!(aggregate.op.as_str())),
            ("param", second),
            ("type", json!("aggregation")),
            ("without", json!(aggregate.without)),
        ]),
        ExprKind::Call(call) => call_json(call, Vec::new()),
        ExprKind::Vector(vector) => vector_json(vector),
        ExprKind::Matrix(matrix) => matrix_json(matrix),
        ExprKind::Subquery(subquery) => subquery_json(subquery, first),
    }
}

fn matching_json(matching: &VectorMatching) -> Value {
    let card = match matching.card {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({
        "card": card,
        "fillValues": {
            "lhs": matching.fill_left.map(number_json),
            "rhs": matching.fill_right.map(number_json),
        },
        "include": matching.include,
        "labels": matching.labels,
        "on": matching.on,
    })
}

/// Whole numbers without a fraction, as Go writes them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "the cast is kept only when it is exact"
)]
fn number_json(value: f64) -> Value {
    let whole = value as i64;
    if whole as f64 == value && value.abs() < 1e15 {
        json!(whole)
    } else {
        json!(value)
    }
}

fn call_json(call: &Call, args: Vec<Value>) -> Value {
    let arg_types: Vec<&str> = call
        .func
        .arg_types
        .iter()
        .map(|wanted: &ValueType| wanted.as_str())
        .collect();
    let func = json!({
        "argTypes": arg_types,
        "name": call.func.name,
        "returnType": call.func.return_type.as_str(),
        "variadic": call.func.variadic,
    });
    object([
        ("args", Value::Array(args)),
        ("func", func),
        ("type", json!("call")),
    ])
}

fn vector_json(vector: &VectorSelector) -> Value {
    json!({
        "anchored": vector.extend == Some(Extend::Anchored),
        "matchers": matchers_json(vector),
        "name": vector.name.as_deref().unwrap_or_default(),
        "offset": literal_ms(vector.offset.as_ref()),
        "offsetExpr": duration_json(vector.offset.as_ref()),
        "smoothed": vector.extend == Some(Extend::Smoothed),
        "startOrEnd": start_or_end(vector.at),
        "timestamp": timestamp(vector.at),
        "type": "vectorSelector",
    })
}

fn matrix_json(matrix: &MatrixSelector) -> Value {
    let selector = &matrix.selector;
    json!({
        "anchored": selector.extend == Some(Extend::Anchored),
        "matchers": matchers_json(selector),
        "name": selector.name.as_deref().unwrap_or_default(),
        "offset": literal_ms(selector.offset.as_ref()),
        "offsetExpr": duration_json(selector.offset.as_ref()),
        "range": literal_ms(Some(&matrix.range)),
        "rangeExpr": duration_json(Some(&matrix.range)),
        "smoothed": selector.extend == Some(Extend::Smoothed),
        "startOrEnd": start_or_end(selector.at),
        "timestamp": timestamp(selector.at),
        "type": "matrixSelector",
    })
}

fn subquery_json(subquery: &SubqueryExpr, expr: Value) -> Value {
    object([
        ("expr", expr),
        ("offset", json!(literal_ms(subquery.offset.as_ref()))),
        ("offsetExpr", json!(duration_json(subquery.offset.as_ref()))),
        ("range", json!(literal_ms(Some(&subquery.range)))),
        ("rangeExpr", json!(duration_json(Some(&subquery.range)))),
        ("startOrEnd", json!(start_or_end(subquery.at))),
        ("step", json!(literal_ms(subquery.step.as_ref()))),
        ("stepExpr", json!(duration_json(subquery.step.as_ref()))),
        ("timestamp", json!(timestamp(subquery.at))),
        ("type", json!("subquery")),
    ])
}

fn matchers_json(vector: &VectorSelector) -> Vec<Value> {
    vector
        .matchers
        .iter()
        .map(|matcher| {
            json!({
                "name": &*matcher.name,
                "type": matcher.match_type.as_str(),
                "value": &*matcher.value,
            })
        })
        .collect()
}

fn start_or_end(at: Option<AtModifier>) -> Option<&'static str> {
    match at? {
        AtModifier::Start => Some("start"),
        AtModifier::End => Some("end"),
        AtModifier::Timestamp(_) => None,
    }
}

fn timestamp(at: Option<AtModifier>) -> Option<i64> {
    match at? {
        AtModifier::Timestamp(ms) => Some(ms),
        AtModifier::Start | AtModifier::End => None,
    }
}

/// Milliseconds of a literal; zero where there is none or where it has to be computed.
fn literal_ms(duration: Option<&DurationSpec>) -> i64 {
    match duration {
        Some(DurationSpec::Ms(ms)) => *ms,
        Some(DurationSpec::Expr(_)) | None => 0,
    }
}

fn duration_json(duration: Option<&DurationSpec>) -> Option<Value> {
    match duration? {
        DurationSpec::Ms(_) => None,
        DurationSpec::Expr(expr) => Some(duration_expr_json(expr, false)),
    }
}

fn duration_expr_json(expr: &DurationExpr, wrapped: bool) -> Value {
    let (op, lhs, rhs) = match expr {
        DurationExpr::Number(number, _) if !wrapped => {
            return json!({
                "duration": number.is_duration,
                "type": "numberLiteral",
                "val": format_f(number.value),
            });
        }
        // A number in parentheses is shown as a sum of one.
        DurationExpr::Number(..) => ("+", None, Some(expr)),
        DurationExpr::Step(_) => ("step", None, None),
        DurationExpr::Range(_) => ("range", None, None),
        DurationExpr::Unary(UnaryOp::Plus, inner, _) => ("+", None, Some(&**inner)),
        DurationExpr::Unary(UnaryOp::Minus, inner, _) => ("-", None, Some(&**inner)),
        DurationExpr::Binary(op, lhs, rhs, _) => (op.as_str(), Some(&**lhs), Some(&**rhs)),
        DurationExpr::MinMax(is_max, lhs, rhs, _) => {
            let word = if *is_max { "max_of" } else { "min_of" };
            (word, Some(&**lhs), Some(&**rhs))
        }
        DurationExpr::Paren(inner, _) => return duration_expr_json(inner, true),
    };
    json!({
        "lhs": lhs.map(|side| duration_expr_json(side, false)),
        "op": op,
        "rhs": rhs.map(|side| duration_expr_json(side, false)),
        "type": "durationExpr",
        "wrapped": wrapped,
    })
}
