//! Selectors of which only count and sum of native histograms are asked for need no buckets.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::promql::functions::{Func, NativeFn};
use crate::promql::parse::ast::BinaryOp;
use crate::promql::plan::{Node, RangeSource};

/// Marks every leaf below `histogram_count`, `histogram_sum` or `histogram_avg`, unless something between it and the
/// root looks at buckets: quantiles, fractions and trimming do, and subqueries do to find resets.
pub(crate) fn leave_buckets_out(node: &mut Node) {
    walk(node, false);
}

fn walk(node: &mut Node, asks_for_stats: bool) {
    let for_children = match node {
        Node::Select(leaf) => {
            leaf.only_stats = asks_for_stats;
            return;
        }
        Node::Range(range) => match &mut range.source {
            RangeSource::Samples(leaf) => {
                leaf.only_stats = asks_for_stats;
                return;
            }
            // Everything below looks at buckets, so nothing there is to be marked.
            RangeSource::Subquery(_) => return,
        },
        Node::Binary(binary) if matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) => {
            return;
        }
        Node::Call(call) => match call.func {
            Func::Native(NativeFn::Count | NativeFn::Sum | NativeFn::Avg) => true,
            Func::HistogramQuantile | Func::HistogramQuantiles | Func::HistogramFraction => return,
            _ => asks_for_stats,
        },
        _ => asks_for_stats,
    };
    for child in node.children_mut() {
        walk(child, for_children);
    }
}
