//! Aggregations over what is computed series by series need no column for every series.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::promql::functions::Func;
use crate::promql::parse::ast::AggregateOp;
use crate::promql::plan::{Call, Node, RangeSource};

/// Marks aggregations that fold the rows of a selector or of a range function as they come.
pub(crate) fn fuse_aggregations(node: &mut Node) {
    if let Node::Aggregate(aggregate) = node {
        aggregate.is_fused = folds(aggregate.op) && comes_by_series(&aggregate.expr);
    }
    for child in node.children_mut() {
        fuse_aggregations(child);
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
