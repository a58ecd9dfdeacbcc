//! Buckets as pairs of index and count, and back to spans.

use crate::model::histogram::merge::same_bounds;
use crate::model::histogram::{Bucket, BucketSpan, Buckets, Histogram};

/// Index and count of every bucket.
#[derive(Debug, Clone)]
struct Pairs<'a> {
    spans: std::slice::Iter<'a, BucketSpan>,
    counts: std::slice::Iter<'a, f64>,
    /// Buckets of the span at hand that are still to come.
    n_left: u32,
    /// Index of the next one.
    index: i32,
}

impl Iterator for Pairs<'_> {
    type Item = (i32, f64);

    #[inline]
    fn next(&mut self) -> Option<(i32, f64)> {
        while self.n_left == 0 {
            let span = self.spans.next()?;
            self.n_left = span.length;
            self.index = self.index.wrapping_add(span.offset);
        }
        self.n_left -= 1;
        let index = self.index;
        self.index = index.wrapping_add(1);
        self.counts.next().map(|count| (index, *count))
    }
}

impl Buckets {
    /// Index and count of every bucket, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (i32, f64)> + Clone + '_ {
        Pairs {
            spans: self.spans.iter(),
            counts: self.counts.iter(),
            n_left: 0,
            index: 0,
        }
    }

    /// The index of the first bucket of every span, and the counts of its buckets.
    pub(super) fn runs(&self) -> impl Iterator<Item = (i32, &[f64])> + Clone {
        let mut next = 0_i32;
        let mut rest = self.counts.as_slice();
        self.spans.iter().map(move |span| {
            let first = next.wrapping_add(span.offset);
            next = first.wrapping_add(span.length.cast_signed());
            let (counts, others) = rest.split_at(rest.len().min(span.length as usize));
            rest = others;
            (first, counts)
        })
    }

    /// As few spans as hold these pairs, which ascend.
    pub(super) fn from_pairs(pairs: impl Iterator<Item = (i32, f64)>) -> Self {
        let mut buckets = Self {
            spans: Vec::new(),
            counts: Vec::with_capacity(pairs.size_hint().0),
        };
        let mut next = 0_i32;
        for (index, count) in pairs {
            buckets.counts.push(count);
            match buckets.spans.last_mut() {
                Some(span) if index == next => span.length += 1,
                _ => buckets.spans.push(BucketSpan {
                    offset: index.wrapping_sub(next),
                    length: 1,
                }),
            }
            next = index.wrapping_add(1);
        }
        buckets
    }

    /// Lets go of empty buckets and of spans that need not be.
    pub fn compact(&mut self) {
        let mut later_spans = self.spans.iter().skip(1);
        let is_compact = self.counts.iter().all(|count| *count != 0.0)
            && self.spans.iter().all(|span| span.length > 0)
            && later_spans.all(|span| span.offset > 0);
        if !is_compact {
            let kept = Self::from_pairs(self.iter().filter(|(_, count)| *count != 0.0));
            *self = kept;
        }
    }

    /// The same buckets with the same counts, bit for bit, cut by the same spans; spans without buckets do not matter.
    fn equals(&self, other: &Self) -> bool {
        self.populated_spans().eq(other.populated_spans())
            && self.counts.len() == other.counts.len()
            && self
                .counts
                .iter()
                .zip(&other.counts)
                .all(|(count, other)| count.to_bits() == other.to_bits())
    }

    /// Offset and length of every span that has buckets.
    fn populated_spans(&self) -> impl Iterator<Item = (i32, u32)> + '_ {
        let mut skipped = 0_i32;
        self.spans.iter().filter_map(move |span| {
            let offset = skipped.wrapping_add(span.offset);
            skipped = if span.length == 0 { offset } else { 0 };
            (span.length > 0).then_some((offset, span.length))
        })
    }
}

/// The index, in a schema that is coarser by `by`, of the bucket that bucket `index` lies in.
pub(super) fn coarser_index(index: i32, by: u32) -> i32 {
    (index.wrapping_sub(1) >> by.min(i32::BITS - 1)).wrapping_add(1)
}

/// Where a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Negative(i32),
    Zero,
    Positive(i32),
}

/// A bucket without bounds: they cost more than counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    place: Place,
    /// Observations.
    pub count: f64,
}

impl Histogram {
    /// All buckets from the lowest to the highest; the zero bucket only with observations.
    pub fn slots(&self) -> Vec<Slot> {
        let negative = self.negative.iter().map(|(index, count)| Slot {
            place: Place::Negative(index),
            count,
        });
        let n_buckets = self.negative.counts.len() + 1 + self.positive.counts.len();
        let mut slots = Vec::with_capacity(n_buckets);
        slots.extend(negative);
        slots.reverse();
        if self.zero_count > 0.0 {
            slots.push(Slot {
                place: Place::Zero,
                count: self.zero_count,
            });
        }
        slots.extend(self.positive.iter().map(|(index, count)| Slot {
            place: Place::Positive(index),
            count,
        }));
        slots
    }

    /// The bucket of a slot. What the zero bucket covers is no part of its neighbours.
    pub fn bucket(&self, slot: Slot) -> Bucket {
        let threshold = self.zero_threshold;
        match slot.place {
            Place::Zero => self.zero_bucket(),
            Place::Negative(index) => {
                let mut bucket = self.negative_bucket(index, slot.count);
                if bucket.upper < 0.0 && bucket.upper > -threshold {
                    bucket.upper = -threshold;
                }
                bucket
            }
            Place::Positive(index) => {
                let mut bucket = self.positive_bucket(index, slot.count);
                if bucket.lower > 0.0 && bucket.lower < threshold {
                    bucket.lower = threshold;
                }
                bucket
            }
        }
    }

    /// All buckets from the lowest to the highest; the zero bucket only with observations.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.slots().into_iter().map(|slot| self.bucket(slot))
    }

    /// Lets go of empty buckets and of spans that need not be.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Equal bit for bit but for what is known about resets.
    #[expect(
        clippy::float_cmp,
        reason = "thresholds and bounds are the same or not"
    )]
    pub fn equals(&self, other: &Self) -> bool {
        let is_same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        self.schema == other.schema
            && is_same(self.count, other.count)
            && is_same(self.sum, other.sum)
            && is_same(self.zero_count, other.zero_count)
            && self.zero_threshold == other.zero_threshold
            && (!self.has_custom_buckets()
                || same_bounds(&self.custom_bounds, &other.custom_bounds))
            && self.negative.equals(&other.negative)
            && self.positive.equals(&other.positive)
    }
}
