//! Arithmetic of histograms.

use crate::model::histogram::merge::{
    Body, Compensated, Count, in_zero_bucket, merge_hints, reduce, same_bounds,
};
use crate::model::histogram::{Buckets, Histogram, IncompatibleSchemas, Merged, ResetHint};

impl Buckets {
    fn for_each(&mut self, f: impl Fn(&mut f64)) {
        self.counts.iter_mut().for_each(f);
    }

    /// Have both the same buckets, cut in the same way?
    pub(super) fn has_layout_of(&self, other: &Self) -> bool {
        self.spans == other.spans && self.counts.len() == other.counts.len()
    }

    /// Adds the counts of the same buckets, or takes them away.
    fn merge_counts(&mut self, other: &Self, is_difference: bool) {
        let counts = self.counts.iter_mut().zip(&other.counts);
        if is_difference {
            counts.for_each(|(count, other)| *count -= other);
        } else {
            counts.for_each(|(count, other)| *count += other);
        }
    }
}

impl Histogram {
    /// Adds `other`. Zero bucket and schema become those that both can have; buckets may be empty afterwards.
    pub fn add(&mut self, other: &Self) -> Result<Merged, IncompatibleSchemas> {
        self.merge(other, false)
    }

    /// Takes `other` away, likewise.
    pub fn sub(&mut self, other: &Self) -> Result<Merged, IncompatibleSchemas> {
        self.merge(other, true)
    }

    /// Makes the exponential schema coarser, down to `schema`; a coarser one and custom buckets stay as they are.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.has_custom_buckets() || self.schema <= schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        for buckets in [&mut self.positive, &mut self.negative] {
            let mut pairs: Vec<(i32, f64)> = buckets.iter().collect();
            reduce(&mut pairs, by);
            *buckets = Buckets::from_pairs(pairs.into_iter());
        }
        self.schema = schema;
    }

    fn merge(&mut self, other: &Self, is_difference: bool) -> Result<Merged, IncompatibleSchemas> {
        if self.has_layout_of(other) {
            return Ok(self.merge_counts(other, is_difference));
        }
        let mut body = Body::<f64>::new(self);
        let merged = body.merge(other, is_difference)?;
        *self = body.part(|count| count, |count| count);
        Ok(merged)
    }

    /// Are the buckets the same, and none of them in the zero bucket? Then sums are sums of counts.
    fn has_layout_of(&self, other: &Self) -> bool {
        let is_outside = |buckets: &Buckets| {
            buckets.spans.first().is_none_or(|first| {
                first.length > 0 && !in_zero_bucket(first.offset, self.schema, self.zero_threshold)
            })
        };
        let has_same_edges = if self.has_custom_buckets() {
            same_bounds(&self.custom_bounds, &other.custom_bounds)
        } else {
            self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
                && is_outside(&self.positive)
                && is_outside(&self.negative)
        };
        self.schema == other.schema
            && has_same_edges
            && self.positive.has_layout_of(&other.positive)
            && self.negative.has_layout_of(&other.negative)
    }

    fn merge_counts(&mut self, other: &Self, is_difference: bool) -> Merged {
        let (reset_hint, reset_collision) = merge_hints(self.reset_hint, other.reset_hint);
        self.reset_hint = reset_hint;
        let single = [
            (&mut self.count, other.count),
            (&mut self.sum, other.sum),
            (&mut self.zero_count, other.zero_count),
        ];
        for (count, other) in single {
            *count += if is_difference { -other } else { other };
        }
        self.positive.merge_counts(&other.positive, is_difference);
        self.negative.merge_counts(&other.negative, is_difference);
        Merged {
            reset_collision,
            reconciled: false,
        }
    }

    /// Every count and the sum times `factor`. With a negative factor it is no counter any more.
    #[must_use]
    pub fn scale(&self, factor: f64) -> Self {
        let mut scaled = self.clone();
        scaled.each(|v| *v *= factor);
        if factor < 0.0 {
            scaled.reset_hint = ResetHint::Gauge;
        }
        scaled
    }

    /// Every count and the sum through `divisor`; through zero no bucket stays.
    #[must_use]
    pub fn divide(&self, divisor: f64) -> Self {
        let mut divided = self.clone();
        if divisor == 0.0 {
            divided.positive = Buckets::default();
            divided.negative = Buckets::default();
        }
        divided.each(|v| *v /= divisor);
        if divisor < 0.0 {
            divided.reset_hint = ResetHint::Gauge;
        }
        divided
    }

    /// With the other sign.
    #[must_use]
    pub fn negated(&self) -> Self {
        self.scale(-1.0)
    }

    fn each(&mut self, f: impl Fn(&mut f64)) {
        f(&mut self.zero_count);
        f(&mut self.count);
        f(&mut self.sum);
        self.positive.for_each(&f);
        self.negative.for_each(&f);
    }

    /// Every count and the sum, in no particular order.
    pub fn counts(&self) -> impl Iterator<Item = f64> + '_ {
        [self.zero_count, self.count, self.sum]
            .into_iter()
            .chain(self.positive.counts.iter().copied())
            .chain(self.negative.counts.iter().copied())
    }
}

/// A histogram that others are added to without losing what rounding takes.
#[derive(Debug, Clone)]
pub struct KahanHistogram {
    body: Body<Compensated>,
    /// Something was added: before that nothing can be lost.
    is_sum: bool,
}

impl KahanHistogram {
    /// Starts with `histogram`.
    pub fn new(histogram: &Histogram) -> Self {
        Self {
            body: Body::new(histogram),
            is_sum: false,
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Histogram) -> Result<Merged, IncompatibleSchemas> {
        let merged = self.body.merge(other, false)?;
        self.is_sum = true;
        Ok(merged)
    }

    /// Every count and the sum times `factor`, which is positive.
    pub fn scale(&mut self, factor: f64) {
        self.each(|v| v * factor);
    }

    /// Every count and the sum through `divisor`, which is positive.
    pub fn divide(&mut self, divisor: f64) {
        self.each(|v| v / divisor);
    }

    fn each(&mut self, f: impl Fn(f64) -> f64) {
        let body = &mut self.body;
        let single = [&mut body.zero_count, &mut body.count, &mut body.sum];
        let buckets = body.positive.iter_mut().chain(&mut body.negative);
        for count in single.into_iter().chain(buckets.map(|(_, count)| count)) {
            let (sum, lost) = count.parts();
            *count = Compensated::of_parts(f(sum), f(lost));
        }
    }

    /// Are all counts and the sum closer to zero than `bound`, and all custom bounds finite?
    pub fn is_within(&self, bound: f64) -> bool {
        let body = &self.body;
        let buckets = body.positive.iter().chain(&body.negative);
        [body.zero_count, body.count, body.sum]
            .into_iter()
            .chain(buckets.map(|(_, count)| *count))
            .all(|count| count.parts().0.abs() < bound)
            && !self.has_infinite_bound()
    }

    /// The first custom bound may be -Inf.
    fn has_infinite_bound(&self) -> bool {
        let bounds = &self.body.custom_bounds;
        bounds.iter().any(|bound| bound.is_infinite())
    }

    /// Is any count or the sum infinite? Prometheus takes an infinite custom bound for one too.
    pub fn has_overflow(&self) -> bool {
        let body = &self.body;
        let buckets = body.positive.iter().chain(&body.negative);
        [body.zero_count, body.count, body.sum]
            .into_iter()
            .chain(buckets.map(|(_, count)| *count))
            .any(|count| count.parts().0.is_infinite())
            || self.has_infinite_bound()
    }

    /// The sum with what was lost put back, but for buckets that lie in the zero bucket: nothing was added to them.
    pub fn total(&self) -> Histogram {
        let sum = |count: Compensated| count.parts().0;
        let total = |count: Compensated| count.parts().0 + count.parts().1;
        if self.is_sum {
            self.body.part(total, sum)
        } else {
            self.body.part(sum, sum)
        }
    }
}
