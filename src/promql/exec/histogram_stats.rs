//! Native histograms of which only count and sum are asked for: the buckets go where the samples come in.
//!
//! Without buckets nobody can see later whether a counter was reset, so every histogram is compared with the one before
//! it while both have theirs. Which one is before it follows Prometheus' iterators: they know the samples that they passed
//! since they last jumped, and they jump where a step begins to look behind everything that the steps before looked at.
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
    let h = &samples.h;
    let mut walk = Walk {
        samples,
        n_floats: 0,
        n_histograms: 0,
        stands_at: i64::MIN,
        hints: h.iter().map(|h| h.reset_hint).collect(),
        last: None,
    };
    for (from, to) in steps {
        walk.look(from, to);
    }
    let stripped = h.iter().zip(walk.hints).map(|(h, reset_hint)| {
        Arc::new(Histogram {
            reset_hint,
            schema: h.schema,
            count: h.count,
            sum: h.sum,
            ..Histogram::default()
        })
    });
    let mut copy = samples.copy_of_floats();
    copy.ht.clone_from(&samples.ht);
    copy.hst.clone_from(&samples.hst);
    copy.h = stripped.collect();
    copy
}

/// A way through all samples, floats and histograms in the order of their times.
struct Walk<'a> {
    samples: &'a Samples,
    /// Floats passed.
    n_floats: usize,
    /// Histograms passed.
    n_histograms: usize,
    /// The time of the sample in front of it; before the first step none has been looked for.
    stands_at: i64,
    hints: Vec<ResetHint>,
    /// The newest histogram looked at since the last jump.
    last: Option<usize>,
}

impl Walk<'_> {
    /// The time of the sample in front, and whether that is a histogram.
    fn next(&self) -> Option<(i64, bool)> {
        let float = self.samples.t.get(self.n_floats);
        let histogram = self.samples.ht.get(self.n_histograms);
        match (float, histogram) {
            (Some(float), Some(histogram)) => Some((*float.min(histogram), histogram < float)),
            (Some(float), None) => Some((*float, false)),
            (None, Some(histogram)) => Some((*histogram, true)),
            (None, None) => None,
        }
    }

    fn look(&mut self, from: i64, to: i64) {
        if self.stands_at < from
            && let Some((t, _)) = self.next()
        {
            if t < from {
                self.last = None;
                let (t, ht) = (&self.samples.t, &self.samples.ht);
                self.n_floats += t[self.n_floats..].partition_point(|t| *t < from);
                self.n_histograms += ht[self.n_histograms..].partition_point(|t| *t < from);
            }
            self.arrive();
        }
        while let Some((_, is_histogram)) = self.next().filter(|(t, _)| *t < to) {
            if is_histogram {
                self.compare();
                self.n_histograms += 1;
            } else {
                self.n_floats += 1;
            }
            self.arrive();
        }
        if self.next() == Some((to, true)) {
            self.compare();
        }
    }

    fn arrive(&mut self) {
        if let Some((t, _)) = self.next() {
            self.stands_at = t;
        }
    }

    /// Compares the histogram in front with the one before it, the first time it is looked at.
    fn compare(&mut self) {
        let (h, at) = (&self.samples.h, self.n_histograms);
        if self.last == Some(at) || h[at].is_stale() {
            return;
        }
        if let (ResetHint::Unknown, Some(last)) = (self.hints[at], self.last) {
            self.hints[at] = if h[at].detect_reset(&h[last]) {
                ResetHint::Reset
            } else {
                ResetHint::NotReset
            };
        }
        self.last = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Buckets;

    /// Counts in one bucket each, so that only buckets tell of a reset.
    fn samples(ht: &[i64], buckets: &[i32], t: &[i64]) -> Samples {
        let histogram = |bucket: &i32| {
            let spans = vec![crate::model::BucketSpan {
                offset: *bucket,
                length: 1,
            }];
            Arc::new(Histogram {
                count: 1.0,
                positive: Buckets {
                    spans,
                    counts: vec![1.0],
                },
                ..Histogram::default()
            })
        };
        let mut samples = Samples::default();
        samples.ht.extend(ht);
        samples.h.extend(buckets.iter().map(histogram));
        samples.t.extend(t);
        samples.v.resize(t.len(), 0.0);
        samples
    }

    fn hints(samples: &Samples, steps: &[(i64, i64)]) -> Vec<ResetHint> {
        let stripped = without_buckets(samples, steps.iter().copied());
        assert!(stripped.h.iter().all(|h| h.positive == Buckets::default()));
        stripped.h.iter().map(|h| h.reset_hint).collect()
    }

    #[test]
    fn resets_are_found_before_the_buckets_go() {
        let samples = samples(&[10, 20, 30], &[1, 2, 2], &[]);
        let seen = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset];
        assert_eq!(hints(&samples, &[(0, 30)]), seen);
        assert_eq!(hints(&samples, &[(0, 10), (5, 20), (15, 30)]), seen);
    }

    #[test]
    fn nothing_is_known_of_what_was_jumped_over() {
        let samples = samples(&[10, 20, 30], &[1, 2, 3], &[]);
        let jumped = [ResetHint::Unknown; 3];
        assert_eq!(hints(&samples, &[(5, 10), (25, 30)]), jumped);
        let first = [ResetHint::Unknown, ResetHint::Unknown, ResetHint::Reset];
        assert_eq!(hints(&samples, &[(15, 30)]), first);
    }

    #[test]
    fn a_float_in_front_keeps_the_way_where_it_is() {
        // The float at 12 is what stands in front after the first step, and the second begins before it.
        let samples = samples(&[10, 20], &[1, 2], &[12]);
        let seen = [ResetHint::Unknown, ResetHint::Reset];
        assert_eq!(hints(&samples, &[(5, 11), (12, 20)]), seen);
        assert_eq!(
            hints(&samples, &[(5, 11), (13, 20)]),
            [ResetHint::Unknown; 2]
        );
    }
}
