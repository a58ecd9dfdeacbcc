//! What will be computed, before anything is.
//!
//! Owns: the typed plan of a query, how it is made from a syntax tree, its rewrites, its printed form.
//! Never: reads a sample.
//! Tested by: the tests beside each rewrite, which compare printed plans.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]
mod build;
mod common;
mod duration;
mod fold;
mod fuse;
pub(crate) mod grid;
mod hints;
mod invariant;
mod print;
mod reading;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::{Interval, Matcher, TimestampMs};
use crate::promql::functions::Func;
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::{
    AggregateOp, BinaryOp, Expr, Extend, Span, ValueType, VectorMatching,
};
use crate::storage::{ResolutionBounds, Windows};
pub(crate) use grid::Grid;
pub(crate) use reading::Reading;

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanContext {
    /// The query's evaluation times.
    pub(crate) grid: Grid,
    /// The end of the query as asked for, which `end()` and `range()` mean: the last evaluation may be before it.
    pub(crate) end_ms: TimestampMs,
    /// The query's step as `step()` sees it: zero for an instant query.
    pub(crate) step_ms: i64,
    /// How old the newest sample may be.
    pub(crate) lookback_ms: i64,
    /// Step of subqueries that name none.
    pub(crate) subquery_step_ms: i64,
    /// How coarse samples may be.
    pub(crate) resolutions: ResolutionBounds,
}

/// A whole query.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What to compute.
    pub(crate) root: Node,
    /// Which series it needs; leaves name them by position.
    pub(crate) selectors: Vec<Selector>,
}

/// One question to the storage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selector {
    /// Which series.
    pub(crate) matchers: Vec<Arc<Matcher>>,
    /// From when to when samples can matter.
    pub(crate) interval: Interval,
    /// Where only parts of that matter, alike for all leaves.
    pub(crate) windows: Option<Windows>,
    /// The function around it, when all leaves agree.
    pub(crate) func: &'static str,
    /// The range around it, when all leaves agree.
    pub(crate) range_ms: i64,
    /// Where all leaves ask only whether there are samples: how far back they look.
    pub(crate) presence_ms: Option<i64>,
    /// How coarse samples may be.
    pub(crate) resolutions: ResolutionBounds,
    /// How many leaves read it: more than one share what is decoded.
    pub(crate) n_leaves: usize,
    /// Every leaf that reads it is folded into groups as it is computed.
    pub(crate) is_folded: bool,
    /// Where the first of them stands.
    pub(crate) span: Span,
}

impl Selector {
    /// As `query` writes it; from its matchers where the text is not known.
    pub(crate) fn text(&self, query: &str) -> String {
        match query.get(self.span.start..self.span.end) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => {
                let matchers: Vec<String> = self.matchers.iter().map(ToString::to_string).collect();
                format!("{{{}}}", matchers.join(","))
            }
        }
    }
}

/// Where samples of a selector are looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Leaf {
    /// Position in [`Plan::selectors`].
    pub(crate) selector: usize,
    /// Into the past; negative into the future.
    pub(crate) offset_ms: i64,
    /// Instead of the evaluation time.
    pub(crate) at: Option<TimestampMs>,
    /// How the edges of a range are treated.
    pub(crate) extend: Option<Extend>,
    /// Where it stands.
    pub(crate) span: Span,
    /// Of native histograms only count and sum are looked at, and whether counters were reset.
    pub(crate) only_stats: bool,
    /// What is read of aggregates.
    pub(crate) reading: Reading,
}

/// A range vector.
#[derive(Debug)]
pub(crate) struct Range {
    /// Where its samples come from.
    pub(crate) source: RangeSource,
    /// How long it is.
    pub(crate) range_ms: i64,
    /// Where it stands.
    #[expect(
        dead_code,
        reason = "remarks about what a range holds name its place; floats give rise to none"
    )]
    pub(crate) span: Span,
}

/// Where the samples of a range vector come from.
#[derive(Debug)]
pub(crate) enum RangeSource {
    /// Stored series.
    Samples(Leaf),
    /// An expression evaluated again and again.
    Subquery(Subquery),
}

/// An expression evaluated at multiples of a step.
#[derive(Debug)]
pub(crate) struct Subquery {
    /// What.
    pub(crate) expr: Box<Node>,
    /// How often.
    pub(crate) step_ms: i64,
    /// Into the past; negative into the future.
    pub(crate) offset_ms: i64,
    /// Instead of the evaluation time.
    pub(crate) at: Option<TimestampMs>,
}

impl Range {
    /// `offset` and `@`.
    pub(crate) fn shift(&self) -> (i64, Option<TimestampMs>) {
        match &self.source {
            RangeSource::Samples(leaf) => (leaf.offset_ms, leaf.at),
            RangeSource::Subquery(subquery) => (subquery.offset_ms, subquery.at),
        }
    }
}

/// One operator.
#[derive(Debug)]
pub(crate) enum Node {
    /// A number.
    Number(f64),
    /// A text.
    Text(Arc<str>),
    /// The newest samples of series.
    Select(Leaf),
    /// Samples over a range; stands only inside calls and at the root.
    Range(Range),
    /// The sign turned.
    Negate(Box<Self>),
    /// Two operands.
    Binary(Box<Binary>),
    /// Many series to few.
    Aggregate(Box<Aggregate>),
    /// A function.
    Call(Call),
    /// The same at every step: computed at the first and repeated.
    Pinned(Box<Self>),
}

/// An operator between two operands.
#[derive(Debug)]
pub(crate) struct Binary {
    /// Which.
    pub(crate) op: BinaryOp,
    /// Left operand.
    pub(crate) lhs: Node,
    /// Right operand.
    pub(crate) rhs: Node,
    /// 0 or 1 instead of the left value or nothing.
    pub(crate) return_bool: bool,
    /// How vectors pair up.
    pub(crate) matching: Option<VectorMatching>,
    /// Where the expression stands.
    pub(crate) span: Span,
}

/// An aggregation.
#[derive(Debug)]
pub(crate) struct Aggregate {
    /// Which.
    pub(crate) op: AggregateOp,
    /// Over what.
    pub(crate) expr: Node,
    /// Where that stands.
    pub(crate) expr_span: Span,
    /// Parameter and where it stands.
    pub(crate) param: Option<(Node, Span)>,
    /// Labels, sorted and unique.
    pub(crate) grouping: Vec<String>,
    /// `grouping` goes instead of staying.
    pub(crate) without: bool,
    /// Series are folded into their groups as they are computed, a few at a time.
    pub(crate) is_fused: bool,
    /// Where the expression stands.
    pub(crate) span: Span,
}

/// A function call.
#[derive(Debug)]
pub(crate) struct Call {
    /// As written.
    pub(crate) name: &'static str,
    /// Which.
    pub(crate) func: Func,
    /// Arguments.
    pub(crate) args: Vec<Node>,
    /// Where the arguments stand.
    pub(crate) arg_spans: Vec<Span>,
    /// Where the call stands.
    pub(crate) span: Span,
    /// The one label a missing series would surely have, for `absent` and `absent_over_time`; matchers of `info`.
    pub(crate) matchers: Vec<Arc<Matcher>>,
}

impl Node {
    /// The type of the value.
    pub(crate) fn value_type(&self) -> ValueType {
        match self {
            Self::Number(_) => ValueType::Scalar,
            Self::Text(_) => ValueType::String,
            Self::Select(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::Range(_) => ValueType::Matrix,
            Self::Negate(inner) | Self::Pinned(inner) => inner.value_type(),
            Self::Binary(binary) => match (binary.lhs.value_type(), binary.rhs.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::Vector,
            },
            Self::Call(call) => match call.func {
                Func::Scalar
                | Func::Time
                | Func::Pi
                | Func::Start
                | Func::End
                | Func::Step
                | Func::RangeSeconds
                | Func::MinOf
                | Func::MaxOf => ValueType::Scalar,
                _ => ValueType::Vector,
            },
        }
    }

    /// What it is computed from, in the order it is computed.
    pub(crate) fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Select(_) => Vec::new(),
            Self::Range(range) => match &range.source {
                RangeSource::Samples(_) => Vec::new(),
                RangeSource::Subquery(subquery) => vec![&*subquery.expr],
            },
            Self::Negate(inner) | Self::Pinned(inner) => vec![&**inner],
            Self::Binary(binary) => vec![&binary.lhs, &binary.rhs],
            Self::Aggregate(aggregate) => {
                let param = aggregate.param.as_ref().map(|(param, _)| param);
                param.into_iter().chain([&aggregate.expr]).collect()
            }
            Self::Call(call) => call.args.iter().collect(),
        }
    }

    /// The same, to be changed.
    pub(crate) fn children_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Select(_) => Vec::new(),
            Self::Range(range) => match &mut range.source {
                RangeSource::Samples(_) => Vec::new(),
                RangeSource::Subquery(subquery) => vec![&mut *subquery.expr],
            },
            Self::Negate(inner) | Self::Pinned(inner) => vec![&mut **inner],
            Self::Binary(binary) => vec![&mut binary.lhs, &mut binary.rhs],
            Self::Aggregate(aggregate) => {
                let param = aggregate.param.as_mut().map(|(param, _)| param);
                param.into_iter().chain([&mut aggregate.expr]).collect()
            }
            Self::Call(call) => call.args.iter_mut().collect(),
        }
    }
}

/// The plan of an expression as it stands: nothing is done but what the answer needs.
pub(crate) fn plain_plan(expr: &Expr, context: &PlanContext) -> Result<Plan, QueryError> {
    let mut plan = build::build(expr, context)?;
    hints::bound_selectors(&mut plan, context);
    Ok(plan)
}

/// The plan of an expression, rewritten by every pass in turn.
pub(crate) fn plan(expr: &Expr, context: &PlanContext) -> Result<Plan, QueryError> {
    let mut plan = build::build(expr, context)?;
    fold::fold_constants(&mut plan.root);
    invariant::pin_invariants(&mut plan.root);
    stats::leave_buckets_out(&mut plan.root);
    hints::bound_selectors(&mut plan, context);
    common::share_selectors(&mut plan);
    fuse::fuse_aggregations(&mut plan);
    Ok(plan)
}
