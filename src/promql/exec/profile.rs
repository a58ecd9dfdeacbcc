//! What every operator of a plan did: how often, how long, how much came of it.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::foundation::Clock;
use crate::promql::exec::source::Selected;
use crate::promql::exec::{Evaluator, Value};
use crate::promql::explain::{Actual, Operator};
use crate::promql::limits::QueryError;
use crate::promql::plan::{Node, Plan, RangeSource};

/// Operators by where they stand in memory: a plan does not move while it is evaluated.
#[derive(Debug)]
pub(crate) struct Profile {
    clock: Arc<dyn Clock>,
    by_node: Mutex<HashMap<usize, Actual>>,
}

impl Profile {
    /// Nothing observed yet.
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            clock: Arc::clone(clock),
            by_node: Mutex::default(),
        }
    }

    /// Evaluates an operator and notes what it took.
    pub(crate) fn observe(
        &self,
        node: &Node,
        evaluator: &Evaluator,
        evaluate: impl FnOnce() -> Result<Value, QueryError>,
    ) -> Result<Value, QueryError> {
        let (began_ns, queried) = (self.clock.now_ns(), evaluator.tally.queried());
        let value = evaluate()?;
        let took_ns = self.clock.now_ns().saturating_sub(began_ns);
        let mut by_node = self.by_node.lock();
        let actual = by_node.entry(ptr::from_ref(node).addr()).or_default();
        actual.calls += 1;
        actual.time_ns += took_ns;
        actual.total_samples += evaluator.tally.queried().saturating_sub(queried);
        actual.peak_samples = actual.peak_samples.max(evaluator.budget.peak());
        match &value {
            Value::Scalar(values) => {
                actual.series = actual.series.max(1);
                actual.samples += values.len() as u64;
                actual.bytes += size_of_val(values.as_slice()) as u64;
            }
            Value::Text(text) => actual.bytes += text.len() as u64,
            Value::Vector(frame) => {
                actual.series = actual.series.max(frame.len() as u64);
                actual.samples += frame.rows().map(|(_, row)| row.count() as u64).sum::<u64>();
                actual.bytes += frame.n_bytes();
            }
        }
        Ok(value)
    }

    /// The plan's tree with what was observed; `query` is what selectors are quoted from.
    pub(crate) fn tree(&self, plan: &Plan, evaluator: &Evaluator, query: &str) -> Operator {
        let by_node = self.by_node.lock();
        let tree = Tree {
            plan,
            query,
            actual: Some((&by_node, &evaluator.selected)),
        };
        tree.operator(&plan.root)
    }
}

/// What operators did, and what selectors found.
type Observed<'a> = (&'a HashMap<usize, Actual>, &'a [Arc<Selected>]);

/// A plan about to be shown.
pub(crate) struct Tree<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// What selectors are quoted from.
    pub(crate) query: &'a str,
    /// What was observed, if it was evaluated.
    pub(crate) actual: Option<Observed<'a>>,
}

impl Tree<'_> {
    /// The operator and all below it.
    pub(crate) fn operator(&self, node: &Node) -> Operator {
        let children = node.children().into_iter();
        let children: Vec<Operator> = children.map(|child| self.operator(child)).collect();
        let leaf = match node {
            Node::Select(leaf) => Some(leaf.selector),
            Node::Range(range) => match &range.source {
                RangeSource::Samples(leaf) => Some(leaf.selector),
                RangeSource::Subquery(_) => None,
            },
            Node::Number(_)
            | Node::Text(_)
            | Node::Negate(_)
            | Node::Binary(_)
            | Node::Aggregate(_)
            | Node::Call(_)
            | Node::Pinned(_) => None,
        };
        let selector = leaf.and_then(|position| self.plan.selectors.get(position));
        let actual = self.actual.map(|(by_node, selected)| {
            let mut actual = by_node
                .get(&ptr::from_ref(node).addr())
                .cloned()
                .unwrap_or_default();
            if let Some(selected) = leaf.and_then(|position| selected.get(position)) {
                actual.series = actual.series.max(selected.series.len() as u64);
                actual.samples_read = selected.n_read.load(Ordering::Relaxed);
                actual.chunks = selected.n_chunks;
                actual.chunk_bytes = selected.n_bytes();
                actual.resolutions = selected.resolutions.iter().copied().collect();
                actual.select_ns = selected.took_ns;
            }
            let below: u64 = children
                .iter()
                .filter_map(|child| child.actual.as_ref())
                .map(|child| child.time_ns)
                .sum();
            actual.self_ns = actual.time_ns.saturating_sub(below);
            actual
        });
        Operator {
            name: node.title(),
            selector: selector.map(|selector| selector.text(self.query)),
            selector_position: leaf,
            estimated_series: None,
            estimated_samples: None,
            actual,
            children,
        }
    }
}
