//! Syntax tree to plan: parentheses gone, durations and bounds known, functions found.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use std::sync::Arc;

use crate::model::{Interval, Matcher};
use crate::promql::functions::Func;
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::{
    AggregateExpr, AtModifier, BinaryExpr, Call as CallExpr, DurationSpec, Expr, ExprKind,
    MatrixSelector, Span, SubqueryExpr, UnaryOp, VectorSelector,
};
use crate::promql::plan::{
    Aggregate, Binary, Call, Leaf, Node, Plan, PlanContext, Range, RangeSource, Reading, Selector,
    Subquery, duration,
};

/// The plan of `expr`, one selector per leaf.
pub(crate) fn build(expr: &Expr, context: &PlanContext) -> Result<Plan, QueryError> {
    let mut builder = Builder {
        context,
        selectors: Vec::new(),
    };
    let root = builder.node(expr)?;
    Ok(Plan {
        root,
        selectors: builder.selectors,
    })
}

struct Builder<'a> {
    context: &'a PlanContext,
    selectors: Vec<Selector>,
}

impl Builder<'_> {
    fn node(&mut self, expr: &Expr) -> Result<Node, QueryError> {
        Ok(match &expr.kind {
            ExprKind::Number(number) => Node::Number(number.value),
            ExprKind::String(text) => Node::Text(Arc::from(text.as_str())),
            ExprKind::Paren(inner) | ExprKind::Unary(UnaryOp::Plus, inner) => self.node(inner)?,
            ExprKind::Unary(UnaryOp::Minus, inner) => Node::Negate(Box::new(self.node(inner)?)),
            ExprKind::Binary(binary) => self.binary(binary, expr.span)?,
            ExprKind::Aggregate(aggregate) => self.aggregate(aggregate, expr.span)?,
            ExprKind::Call(call) => self.call(call, expr.span)?,
            ExprKind::Vector(selector) => Node::Select(self.leaf(selector, expr.span)?),
            ExprKind::Matrix(matrix) => self.matrix(matrix, expr.span)?,
            ExprKind::Subquery(subquery) => self.subquery(subquery, expr.span)?,
        })
    }

    fn at(&self, at: Option<AtModifier>) -> Option<i64> {
        at.map(|at| match at {
            AtModifier::Timestamp(t) => t,
            AtModifier::Start => self.context.grid.start,
            AtModifier::End => self.context.end_ms,
        })
    }

    fn leaf(&mut self, selector: &VectorSelector, span: Span) -> Result<Leaf, QueryError> {
        let offset_ms = match &selector.offset {
            Some(offset) => duration::any_ms(offset, self.context)?,
            None => 0,
        };
        self.selectors.push(Selector {
            matchers: selector.matchers.clone(),
            interval: Interval { min: 0, max: 0 },
            windows: None,
            func: "",
            range_ms: 0,
            resolutions: self.context.resolutions,
            presence_ms: None,
            n_leaves: 1,
            span,
            is_folded: false,
        });
        Ok(Leaf {
            selector: self.selectors.len() - 1,
            offset_ms,
            at: self.at(selector.at),
            extend: selector.extend,
            only_stats: false,
            reading: Reading::default(),
            span,
        })
    }

    fn matrix(&mut self, matrix: &MatrixSelector, span: Span) -> Result<Node, QueryError> {
        let range_ms = duration::positive_ms(&matrix.range, self.context)?;
        let leaf = self.leaf(&matrix.selector, span)?;
        Ok(Node::Range(Range {
            source: RangeSource::Samples(leaf),
            range_ms,
            span,
        }))
    }

    fn subquery(&mut self, subquery: &SubqueryExpr, span: Span) -> Result<Node, QueryError> {
        let range_ms = duration::positive_ms(&subquery.range, self.context)?;
        let step_ms = match &subquery.step {
            Some(DurationSpec::Ms(0)) | None => self.context.subquery_step_ms,
            Some(step) => duration::positive_ms(step, self.context)?,
        };
        let offset_ms = match &subquery.offset {
            Some(offset) => duration::any_ms(offset, self.context)?,
            None => 0,
        };
        let source = RangeSource::Subquery(Subquery {
            expr: Box::new(self.node(&subquery.expr)?),
            step_ms,
            offset_ms,
            at: self.at(subquery.at),
        });
        Ok(Node::Range(Range {
            source,
            range_ms,
            span,
        }))
    }

    fn binary(&mut self, binary: &BinaryExpr, span: Span) -> Result<Node, QueryError> {
        Ok(Node::Binary(Box::new(Binary {
            op: binary.op,
            lhs: self.node(&binary.lhs)?,
            rhs: self.node(&binary.rhs)?,
            return_bool: binary.return_bool,
            matching: binary.matching.clone(),
            span,
        })))
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr, span: Span) -> Result<Node, QueryError> {
        let param = match &aggregate.param {
            Some(param) => Some((self.node(param)?, param.unparen().span)),
            None => None,
        };
        let mut grouping = aggregate.grouping.clone();
        grouping.sort_unstable();
        grouping.dedup();
        Ok(Node::Aggregate(Box::new(Aggregate {
            op: aggregate.op,
            expr: self.node(&aggregate.expr)?,
            expr_span: aggregate.expr.unparen().span,
            param,
            grouping,
            without: aggregate.without,
            is_fused: false,
            span,
        })))
    }

    fn call(&mut self, call: &CallExpr, span: Span) -> Result<Node, QueryError> {
        let name = call.func.name;
        let func = Func::by_name(name)
            .ok_or_else(|| QueryError::execution(format!("unknown function {name}")))?;
        let mut matchers = Vec::new();
        let mut args: &[Expr] = &call.args;
        if func == Func::Info {
            // The second argument of info() only says which labels; it is never evaluated.
            if let [base, rest @ ..] = args {
                matchers = rest.first().map(selector_matchers).unwrap_or_default();
                args = std::slice::from_ref(base);
            }
        } else if matches!(func, Func::Absent | Func::AbsentOverTime) {
            matchers = args.first().map(selector_matchers).unwrap_or_default();
        }
        let mut nodes = Vec::with_capacity(args.len());
        for arg in args {
            nodes.push(self.node(arg)?);
        }
        Ok(Node::Call(Call {
            name,
            func,
            args: nodes,
            arg_spans: call.args.iter().map(|arg| arg.unparen().span).collect(),
            span,
            matchers,
        }))
    }
}

/// The matchers of a plain selector; none for anything else.
fn selector_matchers(expr: &Expr) -> Vec<Arc<Matcher>> {
    match &expr.unparen().kind {
        ExprKind::Vector(selector) => selector.matchers.clone(),
        ExprKind::Matrix(matrix) => matrix.selector.matchers.clone(),
        _ => Vec::new(),
    }
}
