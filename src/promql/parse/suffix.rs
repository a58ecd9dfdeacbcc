//! What stands behind a selector or subquery: brackets, `offset`, `@`, `anchored` and `smoothed`.

use crate::promql::parse::ast::{
    AtModifier, DurationExpr, DurationSpec, Expr, ExprKind, Extend, MatrixSelector, Span,
    SubqueryExpr,
};
use crate::promql::parse::parser::{Parse, Parser, Sub};

/// The two modifiers a selector, range selector or subquery carries.
struct TimeModifiers<'a> {
    offset: &'a mut Option<DurationSpec>,
    at: &'a mut Option<AtModifier>,
}

fn time_modifiers(expr: &mut Expr) -> Option<TimeModifiers<'_>> {
    let (offset, at) = match &mut expr.kind {
        ExprKind::Vector(vector) => (&mut vector.offset, &mut vector.at),
        ExprKind::Matrix(matrix) => (&mut matrix.selector.offset, &mut matrix.selector.at),
        ExprKind::Subquery(subquery) => (&mut subquery.offset, &mut subquery.at),
        ExprKind::Number(_)
        | ExprKind::String(_)
        | ExprKind::Paren(_)
        | ExprKind::Unary(..)
        | ExprKind::Binary(_)
        | ExprKind::Aggregate(_)
        | ExprKind::Call(_) => return None,
    };
    Some(TimeModifiers { offset, at })
}

impl Parser<'_> {
    /// `selector[range]`
    pub(super) fn matrix(&self, sub: Sub, open: Span, range: DurationExpr) -> Parse<Sub> {
        let Sub { expr, height } = sub;
        let brackets = Span {
            start: open.start,
            end: self.last_end(),
        };
        let ExprKind::Vector(selector) = expr.kind else {
            return self.fail(brackets, "ranges only allowed for vector selectors");
        };
        if selector.offset.is_some() {
            return self.fail(brackets, "no offset modifiers allowed before range");
        }
        if selector.at.is_some() {
            return self.fail(brackets, "no @ modifiers allowed before range");
        }
        let matrix = MatrixSelector {
            selector,
            selector_span: expr.span,
            range: range.into_spec(),
        };
        let span = Span {
            start: expr.span.start,
            end: brackets.end,
        };
        let kind = ExprKind::Matrix(Box::new(matrix));
        Ok(Sub {
            expr: Expr { kind, span },
            height,
        })
    }

    /// `expr[range:step]`
    pub(super) fn subquery(
        &self,
        sub: Sub,
        range: DurationExpr,
        step: Option<DurationExpr>,
    ) -> Parse<Sub> {
        let span = Span {
            start: sub.expr.span.start,
            end: self.last_end(),
        };
        let height = self.grow(sub.height, span)?;
        let subquery = SubqueryExpr {
            expr: sub.expr,
            range: range.into_spec(),
            step: step.map(DurationExpr::into_spec),
            offset: None,
            at: None,
        };
        let kind = ExprKind::Subquery(Box::new(subquery));
        Ok(Sub {
            expr: Expr { kind, span },
            height,
        })
    }

    pub(super) fn set_offset(&self, expr: &mut Expr, offset: DurationExpr) -> Parse<()> {
        let span = expr.span;
        let end = self.last_end();
        let Some(modifiers) = time_modifiers(expr) else {
            return self.fail(
                span,
                "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            );
        };
        if modifiers.offset.is_some() {
            return self.fail(span, "offset may not be set multiple times");
        }
        *modifiers.offset = Some(offset.into_spec()).filter(|spec| *spec != DurationSpec::Ms(0));
        expr.span.end = end;
        Ok(())
    }

    /// The time a number behind `@` names.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the bounds are checked, and float casts saturate"
    )]
    pub(super) fn timestamp(&self, target: &Expr, seconds: f64) -> Parse<AtModifier> {
        const SECONDS_LIMIT: f64 = 9_223_372_036_854_775_808.0;
        if seconds.is_nan() || SECONDS_LIMIT <= seconds.abs() {
            let shown = match seconds {
                v if v.is_nan() => "NaN".to_owned(),
                v if v.is_infinite() => if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                v => format!("{v:.6}"),
            };
            let message = format!("timestamp out of bounds for @ modifier: {shown}");
            return self.fail(target.span, message);
        }
        Ok(AtModifier::Timestamp((seconds * 1000.0).round() as i64))
    }

    pub(super) fn set_at(&self, expr: &mut Expr, at: AtModifier) -> Parse<()> {
        let span = expr.span;
        let end = self.last_end();
        let Some(modifiers) = time_modifiers(expr) else {
            return self.fail(
                span,
                "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
            );
        };
        if modifiers.at.is_some() {
            return self.fail(span, "@ <timestamp> may not be set multiple times");
        }
        *modifiers.at = Some(at);
        expr.span.end = end;
        Ok(())
    }

    pub(super) fn set_extend(&self, expr: &mut Expr, extend: Extend) -> Parse<()> {
        let span = expr.span;
        let word = match extend {
            Extend::Anchored => "anchored",
            Extend::Smoothed => "smoothed",
        };
        let slot = match &mut expr.kind {
            ExprKind::Vector(vector) => &mut vector.extend,
            ExprKind::Matrix(matrix) => &mut matrix.selector.extend,
            ExprKind::Subquery(_) => {
                let message = format!("{word} modifier is not supported for subqueries");
                return self.fail(span, message);
            }
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Paren(_)
            | ExprKind::Unary(..)
            | ExprKind::Binary(_)
            | ExprKind::Aggregate(_)
            | ExprKind::Call(_) => {
                // In Prometheus' words, which clients compare.
                let message = concat!("modifier not ", "implemented");
                return self.fail(span, format!("{word} {message}"));
            }
        };
        if slot.is_some_and(|before| before != extend) {
            return self.fail(
                span,
                "anchored and smoothed modifiers cannot be used together",
            );
        }
        *slot = Some(extend);
        Ok(())
    }
}
