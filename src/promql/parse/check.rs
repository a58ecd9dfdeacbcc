//! Types: does every operator and function get what it works on?

use crate::model::METRIC_NAME;
use crate::model::labels::go_quote;
use crate::promql::parse::ast::{
    AggregateExpr, AggregateOp, BinaryExpr, Call, Cardinality, Expr, ExprKind, Span, ValueType,
    VectorMatching, VectorSelector,
};
use crate::promql::parse::error::ParseError;

/// Checks the whole tree, finds the first fault in reading order of the tree, and settles how vectors pair up.
pub(super) fn check(query: &str, expr: &mut Expr) -> Result<ValueType, ParseError> {
    Checker { query }.expr(expr)
}

type Checked<T> = Result<T, ParseError>;

struct Checker<'a> {
    query: &'a str,
}

impl Checker<'_> {
    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Checked<T> {
        Err(ParseError::at(self.query, span, message.into()))
    }

    /// What stands between two sides of an operator, without the blanks around it. The end is the place of the last byte,
    /// as Prometheus reports it here, not the one behind.
    fn between(&self, lhs: &Expr, rhs: &Expr) -> Span {
        let (from, to) = (lhs.span.end, rhs.span.start);
        let text = self.query.get(from..to).unwrap_or_default();
        let is_blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
        Span {
            start: to - text.trim_start_matches(is_blank).len(),
            end: (from + text.trim_end_matches(is_blank).len()).saturating_sub(1),
        }
    }

    fn expr(&self, expr: &mut Expr) -> Checked<ValueType> {
        let span = expr.span;
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => (),
            ExprKind::Paren(inner) => {
                self.expr(inner)?;
            }
            ExprKind::Unary(_, inner) => {
                let found = self.expr(inner)?;
                if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                    return self.fail(
                        span,
                        format!(
                            "unary expression only allowed on expressions of type scalar or instant vector, got \"{found}\""
                        ),
                    );
                }
            }
            ExprKind::Binary(binary) => self.binary(binary, span)?,
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate)?,
            ExprKind::Call(call) => self.call(call, span)?,
            ExprKind::Vector(vector) => self.vector(vector, span)?,
            ExprKind::Matrix(matrix) => self.vector(&matrix.selector, matrix.selector_span)?,
            ExprKind::Subquery(subquery) => {
                let found = self.expr(&mut subquery.expr)?;
                if found != ValueType::Vector {
                    return self.fail(
                        span,
                        format!(
                            "subquery is only allowed on instant vector, got {} instead",
                            found.as_str()
                        ),
                    );
                }
            }
        }
        Ok(expr.value_type())
    }

    fn expect(&self, expr: &mut Expr, wanted: ValueType, place: &str) -> Checked<()> {
        let found = self.expr(expr)?;
        if found != wanted {
            let message = format!("expected type {wanted} in {place}, got {found}");
            return self.fail(expr.span, message);
        }
        Ok(())
    }

    fn aggregate(&self, aggregate: &mut AggregateExpr) -> Checked<()> {
        self.expect(
            &mut aggregate.expr,
            ValueType::Vector,
            "aggregation expression",
        )?;
        if let Some(param) = &mut aggregate.param {
            let wanted = if aggregate.op == AggregateOp::CountValues {
                ValueType::String
            } else {
                ValueType::Scalar
            };
            self.expect(param, wanted, "aggregation parameter")?;
        }
        Ok(())
    }

    fn binary(&self, binary: &mut BinaryExpr, span: Span) -> Checked<()> {
        let lhs = self.expr(&mut binary.lhs)?;
        let rhs = self.expr(&mut binary.rhs)?;
        let op = binary.op;
        if binary.return_bool && !op.is_comparison() {
            return self.fail(
                self.between(&binary.lhs, &binary.rhs),
                "bool modifier can only be used on comparison operators",
            );
        }
        let both_scalars = lhs == ValueType::Scalar && rhs == ValueType::Scalar;
        if op.is_comparison() && !binary.return_bool && both_scalars {
            return self.fail(
                self.between(&binary.lhs, &binary.rhs),
                "comparisons between scalars must use BOOL modifier",
            );
        }
        if let Some(matching) = &mut binary.matching {
            if op.is_set() && matching.card == Cardinality::OneToOne {
                matching.card = Cardinality::ManyToMany;
            }
            let twice = matching
                .labels
                .iter()
                .find(|label| matching.on && matching.include.contains(label));
            if let Some(label) = twice {
                let message = format!(
                    "label {} must not occur in ON and GROUP clause at once",
                    go_quote(label)
                );
                return self.fail(self.between(&binary.lhs, &binary.rhs), message);
            }
        }
        for (found, operand) in [(lhs, &binary.lhs), (rhs, &binary.rhs)] {
            if !matches!(found, ValueType::Scalar | ValueType::Vector) {
                return self.fail(
                    operand.span,
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        if let Some(matching) = &binary.matching {
            if lhs == ValueType::Vector && rhs == ValueType::Vector {
                self.vector_matching(binary, matching, span)?;
            } else {
                self.no_matching(matching, span)?;
                binary.matching = None;
            }
        }
        if op.is_set() && (lhs == ValueType::Scalar || rhs == ValueType::Scalar) {
            let message = format!(
                "set operator \"{}\" not allowed in binary scalar expression",
                op.as_str()
            );
            return self.fail(span, message);
        }
        Ok(())
    }

    /// Modifiers that need a vector on both sides.
    fn no_matching(&self, matching: &VectorMatching, span: Span) -> Checked<()> {
        if !matching.labels.is_empty() {
            return self.fail(span, "vector matching only allowed between instant vectors");
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return self.fail(
                span,
                "filling in missing series only allowed between instant vectors",
            );
        }
        Ok(())
    }

    fn vector_matching(
        &self,
        binary: &BinaryExpr,
        matching: &VectorMatching,
        span: Span,
    ) -> Checked<()> {
        if !binary.op.is_set() {
            return Ok(());
        }
        if matching.card != Cardinality::ManyToMany {
            let message = format!(
                "no grouping allowed for \"{}\" operation",
                binary.op.as_str()
            );
            return self.fail(span, message);
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return self.fail(
                span,
                "filling in missing series not allowed for set operators",
            );
        }
        Ok(())
    }

    fn call(&self, call: &mut Call, span: Span) -> Checked<()> {
        self.arity(call, span)?;
        let func = call.func;
        let place = format!("call to function \"{}\"", func.name);
        let is_info = func.name == "info";
        if is_info && let Some(selector) = call.args.get(1) {
            self.info_selector(selector, span, &place)?;
        }
        for (position, arg) in call.args.iter_mut().enumerate() {
            let Some(wanted) = func.arg_types.get(position).or(func.arg_types.last()) else {
                break;
            };
            if is_info && position == 1 {
                continue;
            }
            self.expect(arg, *wanted, &place)?;
        }
        Ok(())
    }

    fn arity(&self, call: &Call, span: Span) -> Checked<()> {
        let func = call.func;
        let (n_types, n_args) = (func.arg_types.len(), call.args.len());
        if func.variadic == 0 {
            if n_types != n_args {
                let message = format!(
                    "expected {n_types} argument(s) in call to \"{}\", got {n_args}",
                    func.name
                );
                return self.fail(span, message);
            }
            return Ok(());
        }
        let n_min = n_types.saturating_sub(1);
        if n_args < n_min {
            let message = format!(
                "expected at least {n_min} argument(s) in call to \"{}\", got {n_args}",
                func.name
            );
            return self.fail(span, message);
        }
        if let Ok(n_optional) = usize::try_from(func.variadic)
            && n_min + n_optional < n_args
        {
            let message = format!(
                "expected at most {} argument(s) in call to \"{}\", got {n_args}",
                n_min + n_optional,
                func.name
            );
            return self.fail(span, message);
        }
        Ok(())
    }

    /// The second argument of `info` is braces only, and may match everything.
    fn info_selector(&self, selector: &Expr, call_span: Span, place: &str) -> Checked<()> {
        let found = selector.value_type();
        if found != ValueType::Vector {
            let message = format!(
                "expected type {} in {place}, got {found}",
                ValueType::Vector
            );
            return self.fail(call_span, message);
        }
        match &selector.kind {
            ExprKind::Vector(vector) if vector.name.is_none() => Ok(()),
            ExprKind::Vector(_) => self.fail(
                selector.span,
                "expected label selectors only, got vector selector instead",
            ),
            ExprKind::Number(_)
            | ExprKind::String(_)
            | ExprKind::Paren(_)
            | ExprKind::Unary(..)
            | ExprKind::Binary(_)
            | ExprKind::Aggregate(_)
            | ExprKind::Call(_)
            | ExprKind::Matrix(_)
            | ExprKind::Subquery(_) => self.fail(selector.span, "expected label selectors only"),
        }
    }

    fn vector(&self, vector: &VectorSelector, span: Span) -> Checked<()> {
        if let Some(name) = &vector.name {
            // The last matcher is the name's own.
            let mut written = vector.matchers.iter().rev().skip(1).rev();
            if let Some(other) = written.find(|matcher| *matcher.name == *METRIC_NAME) {
                let message = format!(
                    "metric name must not be set twice: {} or {}",
                    go_quote(name),
                    go_quote(&other.value)
                );
                return self.fail(span, message);
            }
            return Ok(());
        }
        if vector
            .matchers
            .iter()
            .all(|matcher| matcher.matches_empty())
        {
            return self.fail(
                span,
                "vector selector must contain at least one non-empty matcher",
            );
        }
        Ok(())
    }
}
