//! Native histograms of which only count and sum are asked for: the buckets go where the samples come in.
//!
//! Without buckets nobody can see later whether a counter was reset, so every histogram is compared with the one before
//! it while both have theirs. Which one is before it follows Prometheus' iterator: it knows the samples that it passed
//! since it last jumped, and it jumps where a step looks at nothing the step before looked at.
#![expect(
    clippy::indexing_slicing,
    reason = "positions stay below the number of histograms, of which there are as many as of their times"
)]

use std::sync::Arc;

use crate::model::{Histogram, ResetHint};
use crate::promql::exec::source::Samples;

/// A copy of `samples` whose histograms have lost their buckets and know about resets. Each step looks from one time to
/// another, both inclusive and ascending.
pub(crate) fn without_buckets(
    samples: &Samples,
    steps: impl Iterator<Item = (i64, i64)>,
) -> Samples {
    let (ht, h) = (&samples.ht, &samples.h);
    let mut hints: Vec<ResetHint> = h.iter().map(|h| h.reset_hint).collect();
    let mut last: Option<usize> = None;
    let mut at = 0;
    let mut is_first = true;
    for (from, t) in steps {
        if is_first || ht.get(at).is_some_and(|here| *here < from) {
            last = None;
            while at < ht.len() && ht[at] < from {
                at += 1;
            }
        }
        is_first = false;
        while at < ht.len() && ht[at] <= t {
            if !h[at].is_stale() {
                if let (ResetHint::Unknown, Some(last)) = (hints[at], last) {
                    hints[at] = if h[at].detect_reset(&h[last]) {
                        ResetHint::Reset
                    } else {
                        ResetHint::NotReset
                    };
                }
                last = Some(at);
            }
            at += 1;
        }
    }
    let stripped = h.iter().zip(hints).map(|(h, reset_hint)| {
        Arc::new(Histogram {
            reset_hint,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            ..Histogram::default()
        })
    });
    let mut copy = samples.copy_of_floats();
    copy.ht.clone_from(ht);
    copy.hst.clone_from(&samples.hst);
    copy.h = stripped.collect();
    copy
}
