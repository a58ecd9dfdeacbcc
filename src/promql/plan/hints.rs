//! Every selector learns what it is for and from when to when samples can matter, so that the storage can do less.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::model::{Interval, Resolution, TimestampMs};
use crate::promql::functions::Func;
use crate::promql::parse::ast::Extend;
use crate::promql::plan::reading::coarsest_for;
use crate::promql::plan::{
    Grid, Leaf, Node, Plan, PlanContext, Range, RangeSource, Reading, Selector,
};
use crate::storage::Windows;

/// Sets interval, function and range of every selector.
pub(crate) fn bound_selectors(plan: &mut Plan, context: &PlanContext) {
    let mut walk = Walk {
        lookback_ms: context.lookback_ms,
        subquery_ms: None,
        selectors: &mut plan.selectors,
    };
    walk.node(&mut plan.root, context.grid, "");
}

/// Does `func` of an instant vector look at no value?
fn counts_only(func: &str) -> bool {
    matches!(func, "count" | "group" | "absent")
}

struct Walk<'a> {
    lookback_ms: i64,
    /// The range of the subquery around.
    subquery_ms: Option<i64>,
    selectors: &'a mut [Selector],
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, grid: Grid, func: &'static str) {
        match node {
            Node::Number(_) | Node::Text(_) => (),
            Node::Select(leaf) => {
                let after = match leaf.extend {
                    Some(Extend::Smoothed) => self.lookback_ms,
                    Some(Extend::Anchored) | None => 0,
                };
                self.bound(leaf, grid, func, [self.lookback_ms - 1, after, 0]);
            }
            Node::Range(range) => self.range(range, grid, func, 0),
            Node::Negate(inner) => self.node(inner, grid, func),
            Node::Pinned(inner) => self.node(inner, grid.first(), func),
            Node::Binary(binary) => {
                self.node(&mut binary.lhs, grid, "");
                self.node(&mut binary.rhs, grid, "");
            }
            Node::Aggregate(aggregate) => {
                if let Some((param, _)) = &mut aggregate.param {
                    self.node(param, grid, "");
                }
                let op = aggregate.op.as_str();
                self.node(&mut aggregate.expr, grid, op);
            }
            Node::Call(call) => {
                let back = match call.func {
                    Func::Range(function) if function.reaches_back() => self.lookback_ms,
                    _ => 0,
                };
                for arg in &mut call.args {
                    match arg {
                        Node::Range(range) => self.range(range, grid, call.name, back),
                        other => self.node(other, grid, call.name),
                    }
                }
            }
        }
    }

    fn range(&mut self, range: &mut Range, grid: Grid, func: &'static str, back: i64) {
        match &mut range.source {
            RangeSource::Samples(leaf) => {
                let (before, after) = match leaf.extend {
                    None => (back, 0),
                    Some(Extend::Anchored) => (self.lookback_ms, 0),
                    Some(Extend::Smoothed) => (self.lookback_ms, self.lookback_ms),
                };
                let before = range.range_ms.saturating_add(before) - 1;
                self.bound(leaf, grid, func, [before, after, range.range_ms]);
            }
            RangeSource::Subquery(subquery) => {
                let inner = grid.subquery(
                    range.range_ms,
                    subquery.offset_ms,
                    subquery.at,
                    subquery.step_ms,
                );
                let around = self.subquery_ms.replace(range.range_ms);
                self.node(&mut subquery.expr, inner, func);
                self.subquery_ms = around;
            }
        }
    }

    /// `reach` is how far before and after its evaluation times the leaf looks, and the range it is under.
    fn bound(&mut self, leaf: &mut Leaf, grid: Grid, func: &'static str, reach: [i64; 3]) {
        let [before, after, range_ms] = reach;
        let coarsest = if 0 < range_ms {
            leaf.reading = Reading::of_range(func);
            coarsest_for(func, range_ms)
        } else {
            leaf.reading = Reading::of_newest(func);
            // The points of a subquery are samples: what reads them needs some.
            self.subquery_ms.map_or(Resolution::OneHour, |range_ms| {
                coarsest_for(func, range_ms / 2)
            })
        };
        let (first, last) = match leaf.at {
            Some(at) => (at, at),
            None => (grid.start, grid.end()),
        };
        let after = match (after, self.selectors.get(leaf.selector)) {
            // The next window ends later than the next sample would come.
            (1.., Some(selector)) => after.saturating_add(selector.resolutions.max.as_ms()),
            _ => after,
        };
        let around = |first: TimestampMs, last: TimestampMs| Interval {
            min: first.saturating_sub(leaf.offset_ms).saturating_sub(before),
            max: last.saturating_sub(leaf.offset_ms).saturating_add(after),
        };
        if let Some(selector) = self.selectors.get_mut(leaf.selector) {
            selector.interval = around(first, last);
            let windows = Windows {
                first: around(first, first),
                step_ms: grid.step_ms,
                n: grid.n,
            };
            selector.windows = (leaf.at.is_none() && windows.have_gaps()).then_some(windows);
            let wanted = &mut selector.resolutions.wanted;
            *wanted = coarsest.min(*wanted);
            selector.func = func;
            selector.range_ms = range_ms;
            let is_counted = 0 == range_ms && leaf.extend.is_none() && counts_only(func);
            selector.presence_ms = is_counted.then_some(self.lookback_ms);
        }
    }
}
