//! The canonical print: one line, as Prometheus writes an expression.

use std::fmt::{self, Display, Formatter, Write};

use crate::model::duration::format_duration;
use crate::model::labels::{go_quote, is_legacy_label_name};
use crate::model::number::{format_f, format_g};
use crate::model::{METRIC_NAME, MatchType, Matcher};
use crate::promql::parse::ast::{
    AggregateExpr, AtModifier, BinaryExpr, Cardinality, DurationExpr, DurationSpec, Expr, ExprKind,
    Extend, MatrixSelector, NumberLiteral, SubqueryExpr, UnaryOp, VectorSelector,
};

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(text) => f.write_str(&go_quote(text)),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary(op, inner) => write!(f, "{}{inner}", op.as_str()),
            ExprKind::Binary(binary) => {
                write!(f, "{} {} {}", binary.lhs, operator_text(binary), binary.rhs)
            }
            ExprKind::Aggregate(aggregate) => {
                f.write_str(&aggregate_text(aggregate))?;
                f.write_char('(')?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Call(call) => {
                write!(f, "{}(", call.func.name)?;
                for (position, arg) in call.args.iter().enumerate() {
                    if position > 0 {
                        f.write_str(", ")?;
                    }
                    arg.fmt(f)?;
                }
                f.write_char(')')
            }
            ExprKind::Vector(vector) => vector.fmt(f),
            ExprKind::Matrix(matrix) => matrix.fmt(f),
            ExprKind::Subquery(subquery) => {
                write!(f, "{}{}", subquery.expr, subquery_suffix(subquery))
            }
        }
    }
}

impl UnaryOp {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

/// A duration as the millisecond it is in.
#[expect(
    clippy::cast_possible_truncation,
    reason = "float casts saturate, and what is printed is below a millisecond anyway"
)]
fn duration_text(seconds: f64) -> String {
    format_duration((seconds * 1e9) as i64 / 1_000_000)
}

impl Display for NumberLiteral {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.is_duration {
            return f.write_str(&format_f(self.value));
        }
        if self.value < 0.0 {
            write!(f, "-{}", duration_text(-self.value))
        } else {
            f.write_str(&duration_text(self.value))
        }
    }
}

/// The operator of a binary expression with all its modifiers.
pub(super) fn operator_text(binary: &BinaryExpr) -> String {
    let mut out = binary.op.as_str().to_owned();
    if binary.return_bool {
        out.push_str(" bool");
    }
    let Some(matching) = &binary.matching else {
        return out;
    };
    let group = match matching.card {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !matching.labels.is_empty() || matching.on || group.is_some() {
        let word = if matching.on { "on" } else { "ignoring" };
        write!(out, " {word} ({})", label_list(&matching.labels)).ok();
    }
    if let Some(word) = group {
        write!(out, " {word} ({})", label_list(&matching.include)).ok();
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if same_fill(left, right) => {
            write!(out, " fill ({})", format_g(left)).ok();
        }
        (left, right) => {
            if let Some(value) = left {
                write!(out, " fill_left ({})", format_g(value)).ok();
            }
            if let Some(value) = right {
                write!(out, " fill_right ({})", format_g(value)).ok();
            }
        }
    }
    out
}

/// `fill (NaN)` prints as two fills, because NaN is not equal to itself.
#[expect(clippy::float_cmp, reason = "prints one number only if both are it")]
fn same_fill(left: f64, right: f64) -> bool {
    left == right
}

/// An aggregation up to its arguments.
pub(super) fn aggregate_text(aggregate: &AggregateExpr) -> String {
    let mut out = aggregate.op.as_str().to_owned();
    if aggregate.without {
        write!(out, " without ({}) ", label_list(&aggregate.grouping)).ok();
    } else if !aggregate.grouping.is_empty() {
        write!(out, " by ({}) ", label_list(&aggregate.grouping)).ok();
    }
    out
}

fn label_list(labels: &[String]) -> String {
    let mut out = String::new();
    for (position, label) in labels.iter().enumerate() {
        if position > 0 {
            out.push_str(", ");
        }
        if is_legacy_label_name(label) {
            out.push_str(label);
        } else {
            out.push_str(&go_quote(label));
        }
    }
    out
}

impl Display for AtModifier {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timestamp(ms) => {
                let sign = if *ms < 0 { "-" } else { "" };
                let (seconds, millis) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
                write!(f, " @ {sign}{seconds}.{millis:03}")
            }
            Self::Start => f.write_str(" @ start()"),
            Self::End => f.write_str(" @ end()"),
        }
    }
}

impl Extend {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anchored => "anchored",
            Self::Smoothed => "smoothed",
        }
    }
}

impl Display for DurationSpec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ms(ms) => f.write_str(&format_duration(*ms)),
            Self::Expr(expr) => expr.fmt(f),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number, _) => number.fmt(f),
            Self::Step(_) => f.write_str("step()"),
            Self::Range(_) => f.write_str("range()"),
            Self::Unary(UnaryOp::Plus, inner, _) => inner.fmt(f),
            Self::Unary(UnaryOp::Minus, inner, _) => write!(f, "-{inner}"),
            Self::Binary(op, lhs, rhs, _) => write!(f, "{lhs} {} {rhs}", op.as_str()),
            Self::MinMax(is_max, left, right, _) => {
                let word = if *is_max { "max_of" } else { "min_of" };
                write!(f, "{word}({left}, {right})")
            }
            Self::Paren(inner, _) => write!(f, "({inner})"),
        }
    }
}

fn push_offset(out: &mut String, offset: Option<&DurationSpec>) {
    if let Some(offset) = offset {
        write!(out, " offset {offset}").ok();
    }
}

fn push_at(out: &mut String, at: Option<&AtModifier>) {
    if let Some(at) = at {
        write!(out, "{at}").ok();
    }
}

fn push_extend(out: &mut String, extend: Option<Extend>) {
    if let Some(extend) = extend {
        write!(out, " {}", extend.as_str()).ok();
    }
}

impl VectorSelector {
    /// Name and braces, without modifiers; the matchers sorted.
    fn plain_text(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        let is_own_name = |matcher: &Matcher| {
            *matcher.name == *METRIC_NAME
                && matcher.match_type == MatchType::Equal
                && *matcher.value == *name
                && !name.is_empty()
        };
        let mut matchers: Vec<String> = self
            .matchers
            .iter()
            .filter(|matcher| !is_own_name(matcher))
            .map(ToString::to_string)
            .collect();
        matchers.sort_unstable();
        if matchers.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", matchers.join(","))
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = self.plain_text();
        push_at(&mut out, self.at.as_ref());
        push_extend(&mut out, self.extend);
        push_offset(&mut out, self.offset.as_ref());
        f.write_str(&out)
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = format!("{}[{}]", self.selector.plain_text(), self.range);
        push_extend(&mut out, self.selector.extend);
        push_at(&mut out, self.selector.at.as_ref());
        push_offset(&mut out, self.selector.offset.as_ref());
        f.write_str(&out)
    }
}

/// What a subquery adds behind its expression.
pub(super) fn subquery_suffix(subquery: &SubqueryExpr) -> String {
    let mut out = format!("[{}:", subquery.range);
    if let Some(step) = &subquery.step {
        write!(out, "{step}").ok();
    }
    out.push(']');
    push_at(&mut out, subquery.at.as_ref());
    push_offset(&mut out, subquery.offset.as_ref());
    out
}
