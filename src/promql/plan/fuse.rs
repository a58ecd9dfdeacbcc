//! Aggregations over what is computed series by series need no column for every series.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::promql::functions::Func;
use crate::promql::parse::ast::AggregateOp;
use crate::promql::plan::{Call, Leaf, Node, Plan, RangeSource, Selector};

/// Marks aggregations that fold the rows of a selector or of a range function as they come, and the selectors of which
/// nothing else is computed.
pub(crate) fn fuse_aggregations(plan: &mut Plan) {
    for selector in &mut plan.selectors {
        selector.is_folded = true;
    }
    fuse(&mut plan.root, &mut plan.selectors, false);
}

fn fuse(node: &mut Node, selectors: &mut [Selector], is_inside: bool) {
    let mut is_fused = false;
    let is_aggregate = matches!(node, Node::Aggregate(_));
    match node {
        Node::Aggregate(aggregate) => {
            is_fused = folds(aggregate.op) && comes_by_series(&aggregate.expr);
            aggregate.is_fused = is_fused;
        }
        Node::Select(leaf) => mark(leaf, selectors, is_inside),
        Node::Range(range) => {
            if let RangeSource::Samples(leaf) = &range.source {
                mark(leaf, selectors, is_inside);
            }
        }
        // The range vector of a fused call stands among its arguments.
        Node::Call(_) => is_fused = is_inside,
        _ => (),
    }
    for child in node.children_mut() {
        let is_series = match child {
            Node::Range(_) => !is_aggregate,
            Node::Select(_) | Node::Call(_) => is_aggregate,
            _ => false,
        };
        fuse(child, selectors, is_fused && is_series);
    }
}

fn mark(leaf: &Leaf, selectors: &mut [Selector], is_fused: bool) {
    if let Some(selector) = selectors.get_mut(leaf.selector) {
        selector.is_folded &= is_fused;
    }
}

/// Is one number of each group and step all that is kept of the series so far?
fn folds(op: AggregateOp) -> bool {
    matches!(
        op,
        AggregateOp::Sum
            | AggregateOp::Avg
            | AggregateOp::Count
            | AggregateOp::Group
            | AggregateOp::Min
            | AggregateOp::Max
            | AggregateOp::Stddev
            | AggregateOp::Stdvar
    )
}

fn comes_by_series(node: &Node) -> bool {
    match node {
        Node::Select(_) => true,
        Node::Call(Call {
            func: Func::Range(_),
            args,
            ..
        }) => args.iter().all(|arg| match arg {
            Node::Range(range) => matches!(range.source, RangeSource::Samples(_)),
            _ => true,
        }),
        _ => false,
    }
}
