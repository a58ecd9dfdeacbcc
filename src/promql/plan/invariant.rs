//! What is the same at every step is computed at one.

use crate::promql::plan::{Node, RangeSource};

/// Wraps the largest sub-plans whose value does not depend on the evaluation time in [`Node::Pinned`].
pub(crate) fn pin_invariants(root: &mut Node) {
    if is_invariant(root) {
        wrap(root);
    } else {
        pin_children(root);
    }
}

fn pin_children(node: &mut Node) {
    for child in node.children_mut() {
        pin_invariants(child);
    }
}

fn wrap(node: &mut Node) {
    // A range vector is no column; the call around it looks at the same samples at every step by itself.
    if matches!(node, Node::Number(_) | Node::Text(_) | Node::Range(_)) {
        return;
    }
    let inner = std::mem::replace(node, Node::Number(0.0));
    *node = Node::Pinned(Box::new(inner));
}

/// Only pinned samples, and no function that looks at the evaluation time.
fn is_invariant(node: &mut Node) -> bool {
    match node {
        Node::Number(_) | Node::Text(_) => true,
        Node::Select(leaf) => leaf.at.is_some(),
        Node::Range(range) => match &mut range.source {
            RangeSource::Samples(leaf) => leaf.at.is_some(),
            RangeSource::Subquery(subquery) => subquery.at.is_some(),
        },
        Node::Call(call) if call.func.depends_on_time() => false,
        Node::Negate(_)
        | Node::Binary(_)
        | Node::Aggregate(_)
        | Node::Call(_)
        | Node::Pinned(_) => node.children_mut().into_iter().all(is_invariant),
    }
}
