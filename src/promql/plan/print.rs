//! A plan as text: one operator per line, its type, what it reads indented below.

use std::fmt;

use crate::model::duration::format_duration;
use crate::promql::parse::ast::{Extend, VectorMatching};
use crate::promql::plan::{Leaf, Node, Plan, Range, RangeSource};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_node(f, &self.root, 0)?;
        for (position, selector) in self.selectors.iter().enumerate() {
            let matchers: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
            write!(
                f,
                "#{position} {{{}}} from {} to {}",
                matchers.join(","),
                selector.interval.min,
                selector.interval.max
            )?;
            if !selector.func.is_empty() {
                write!(f, " for {}", selector.func)?;
            }
            if selector.presence_ms.is_some() {
                write!(f, " without values")?;
            }
            if selector.n_leaves > 1 {
                write!(f, " shared by {}", selector.n_leaves)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Node {
    /// What the operator is, in one line, without what it reads.
    pub(crate) fn title(&self) -> String {
        Title(self).to_string()
    }
}

struct Title<'a>(&'a Node);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_title(f, self.0)
    }
}

fn write_node(f: &mut fmt::Formatter<'_>, node: &Node, depth: usize) -> fmt::Result {
    write!(f, "{:width$}", "", width = 2 * depth)?;
    write_title(f, node)?;
    writeln!(f, ": {}", node.value_type().as_str())?;
    for child in node.children() {
        write_node(f, child, depth + 1)?;
    }
    Ok(())
}

fn write_title(f: &mut fmt::Formatter<'_>, node: &Node) -> fmt::Result {
    match node {
        Node::Number(v) => write!(f, "number {v}"),
        Node::Text(text) => write!(f, "text {text:?}"),
        Node::Select(leaf) => {
            write!(f, "select")?;
            write_leaf(f, leaf)
        }
        Node::Range(range) => write_range(f, range),
        Node::Negate(_) => write!(f, "negate"),
        Node::Pinned(_) => write!(f, "once"),
        Node::Binary(binary) => {
            write!(f, "binary {}", binary.op.as_str())?;
            if binary.return_bool {
                write!(f, " bool")?;
            }
            match &binary.matching {
                Some(matching) => write_matching(f, matching),
                None => Ok(()),
            }
        }
        Node::Aggregate(aggregate) => {
            let fused = if aggregate.is_fused { "fused " } else { "" };
            write!(f, "{fused}aggregate {}", aggregate.op.as_str())?;
            if aggregate.without || !aggregate.grouping.is_empty() {
                let word = if aggregate.without { "without" } else { "by" };
                write!(f, " {word} ({})", aggregate.grouping.join(", "))?;
            }
            Ok(())
        }
        Node::Call(call) => write!(f, "call {}", call.name),
    }
}

fn write_leaf(f: &mut fmt::Formatter<'_>, leaf: &Leaf) -> fmt::Result {
    write!(f, " #{}", leaf.selector)?;
    match leaf.extend {
        Some(Extend::Anchored) => write!(f, " anchored")?,
        Some(Extend::Smoothed) => write!(f, " smoothed")?,
        None => (),
    }
    if leaf.only_stats {
        write!(f, " without buckets")?;
    }
    write_shift(f, leaf.offset_ms, leaf.at)
}

fn write_shift(f: &mut fmt::Formatter<'_>, offset_ms: i64, at: Option<i64>) -> fmt::Result {
    if let Some(at) = at {
        write!(f, " @ {at}")?;
    }
    if offset_ms != 0 {
        write!(f, " offset {}", format_duration(offset_ms))?;
    }
    Ok(())
}

fn write_range(f: &mut fmt::Formatter<'_>, range: &Range) -> fmt::Result {
    let length = format_duration(range.range_ms);
    match &range.source {
        RangeSource::Samples(leaf) => {
            write!(f, "range {length} of")?;
            write_leaf(f, leaf)
        }
        RangeSource::Subquery(subquery) => {
            let step = format_duration(subquery.step_ms);
            write!(f, "subquery {length} every {step}")?;
            write_shift(f, subquery.offset_ms, subquery.at)
        }
    }
}

fn write_matching(f: &mut fmt::Formatter<'_>, matching: &VectorMatching) -> fmt::Result {
    let word = if matching.on { "on" } else { "ignoring" };
    write!(f, " {word} ({})", matching.labels.join(", "))
}
