//! Selectors that ask for the same series at about the same times become one.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]

use crate::model::Interval;
use crate::promql::plan::{Node, Plan, RangeSource, Selector};

/// Merges selectors with equal matchers and bounds of resolution whose intervals overlap; leaves then share series and decoded samples.
pub(crate) fn share_selectors(plan: &mut Plan) {
    let mut kept: Vec<Selector> = Vec::new();
    let mut moved_to = Vec::with_capacity(plan.selectors.len());
    for selector in plan.selectors.drain(..) {
        let same = kept.iter().position(|earlier| is_same(earlier, &selector));
        match same.and_then(|position| kept.get_mut(position).map(|earlier| (position, earlier))) {
            Some((position, earlier)) => {
                merge(earlier, &selector);
                moved_to.push(position);
            }
            None => {
                moved_to.push(kept.len());
                kept.push(selector);
            }
        }
    }
    plan.selectors = kept;
    rename(&mut plan.root, &moved_to);
}

fn is_same(earlier: &Selector, later: &Selector) -> bool {
    let key = |selector: &Selector| {
        let mut texts: Vec<String> = selector.matchers.iter().map(ToString::to_string).collect();
        texts.sort_unstable();
        texts
    };
    earlier.interval.overlaps(&later.interval)
        && earlier.resolutions == later.resolutions
        && key(earlier) == key(later)
}

fn merge(earlier: &mut Selector, later: &Selector) {
    if earlier.windows != later.windows {
        earlier.windows = None;
    }
    earlier.interval = Interval {
        min: earlier.interval.min.min(later.interval.min),
        max: earlier.interval.max.max(later.interval.max),
    };
    if earlier.func != later.func || earlier.range_ms != later.range_ms {
        earlier.func = "";
        earlier.range_ms = 0;
    }
    let least = earlier.presence_ms.zip(later.presence_ms);
    earlier.presence_ms = least.map(|(earlier, later)| earlier.min(later));
    earlier.n_leaves += later.n_leaves;
}

fn rename(node: &mut Node, moved_to: &[usize]) {
    let leaf = match node {
        Node::Select(leaf) => Some(leaf),
        Node::Range(range) => match &mut range.source {
            RangeSource::Samples(leaf) => Some(leaf),
            RangeSource::Subquery(_) => None,
        },
        _ => None,
    };
    if let Some(leaf) = leaf
        && let Some(position) = moved_to.get(leaf.selector)
    {
        leaf.selector = *position;
    }
    for child in node.children_mut() {
        rename(child, moved_to);
    }
}
