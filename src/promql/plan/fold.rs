//! Numbers are computed once, before anything is read.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::promql::exec::scalar_binary;
use crate::promql::functions::Func;
use crate::promql::plan::Node;

/// Replaces operators whose operands are all numbers by their result.
pub(crate) fn fold_constants(node: &mut Node) {
    for child in node.children_mut() {
        fold_constants(child);
    }
    let folded = match node {
        Node::Negate(inner) => match **inner {
            Node::Number(v) => Some(-v),
            _ => None,
        },
        Node::Binary(binary) => match (&binary.lhs, &binary.rhs) {
            (Node::Number(left), Node::Number(right)) => scalar_binary(binary.op, *left, *right),
            _ => None,
        },
        Node::Call(call) if call.func == Func::Pi => Some(std::f64::consts::PI),
        _ => None,
    };
    if let Some(v) = folded {
        *node = Node::Number(v);
    }
}
