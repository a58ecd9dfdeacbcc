//! The print for people: what does not fit a line is broken and indented, as Prometheus' formatter does.

use crate::promql::parse::ast::{Expr, ExprKind};
use crate::promql::parse::print::{aggregate_text, operator_text, subquery_suffix};

/// An expression longer than this is broken, whatever its indent.
const LINE_BYTES_MAX: usize = 100;

const INDENT: &str = "  ";

/// `expr` on as many lines as it needs.
pub fn pretty(expr: &Expr) -> String {
    pretty_at(expr, 0)
}

fn pretty_at(expr: &Expr, level: usize) -> String {
    let indent = INDENT.repeat(level);
    let line = expr.to_string();
    match &expr.kind {
        ExprKind::Unary(op, inner) => {
            let child = pretty_at(inner, level);
            return format!("{indent}{}{}", op.as_str(), child.trim());
        }
        // A subquery that fits is not indented; its expression otherwise indents itself.
        ExprKind::Subquery(_) if line.len() <= LINE_BYTES_MAX => return line,
        ExprKind::Subquery(subquery) => {
            let inner = pretty_at(&subquery.expr, level);
            return format!("{inner}{}", subquery_suffix(subquery));
        }
        ExprKind::Number(_)
        | ExprKind::String(_)
        | ExprKind::Vector(_)
        | ExprKind::Matrix(_)
        | ExprKind::Paren(_)
        | ExprKind::Binary(_)
        | ExprKind::Aggregate(_)
        | ExprKind::Call(_) => (),
    }
    if line.len() <= LINE_BYTES_MAX {
        return format!("{indent}{line}");
    }
    broken(expr, level).unwrap_or_else(|| format!("{indent}{line}"))
}

/// `None` for what has no place to break.
fn broken(expr: &Expr, level: usize) -> Option<String> {
    let indent = INDENT.repeat(level);
    Some(match &expr.kind {
        ExprKind::Paren(inner) => {
            format!("{indent}(\n{}\n{indent})", pretty_at(inner, level + 1))
        }
        ExprKind::Binary(binary) => format!(
            "{}\n{indent}{}\n{}",
            pretty_at(&binary.lhs, level + 1),
            operator_text(binary),
            pretty_at(&binary.rhs, level + 1)
        ),
        ExprKind::Aggregate(aggregate) => {
            let mut out = format!("{indent}{}(\n", aggregate_text(aggregate));
            if let Some(param) = &aggregate.param {
                out.push_str(&pretty_at(param, level + 1));
                out.push_str(",\n");
            }
            out.push_str(&pretty_at(&aggregate.expr, level + 1));
            out.push('\n');
            out.push_str(&indent);
            out.push(')');
            out
        }
        ExprKind::Call(call) => {
            let args: Vec<String> = call
                .args
                .iter()
                .map(|arg| pretty_at(arg, level + 1))
                .collect();
            format!(
                "{indent}{}(\n{}\n{indent})",
                call.func.name,
                args.join(",\n")
            )
        }
        ExprKind::Number(_)
        | ExprKind::String(_)
        | ExprKind::Vector(_)
        | ExprKind::Matrix(_)
        | ExprKind::Unary(..)
        | ExprKind::Subquery(_) => return None,
    })
}
