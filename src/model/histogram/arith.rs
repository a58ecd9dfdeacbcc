//! Arithmetic of histograms.

use crate::model::histogram::merge::{Body, Compensated, Count};
use crate::model::histogram::{Buckets, Histogram, IncompatibleSchemas, Merged, ResetHint};

impl Buckets {
    fn for_each(&mut self, f: impl Fn(&mut f64)) {
        self.counts.iter_mut().for_each(f);
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

    fn merge(&mut self, other: &Self, is_difference: bool) -> Result<Merged, IncompatibleSchemas> {
        let mut body = Body::<f64>::new(self);
        let merged = body.merge(other, is_difference)?;
        *self = body.part(|count| count);
        Ok(merged)
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

    /// Are all counts and the sum closer to zero than `bound`?
    pub fn is_within(&self, bound: f64) -> bool {
        let body = &self.body;
        let buckets = body.positive.iter().chain(&body.negative);
        [body.zero_count, body.count, body.sum]
            .into_iter()
            .chain(buckets.map(|(_, count)| *count))
            .all(|count| count.parts().0.abs() < bound)
    }

    /// Is any count or the sum infinite?
    pub fn has_overflow(&self) -> bool {
        let body = &self.body;
        let buckets = body.positive.iter().chain(&body.negative);
        [body.zero_count, body.count, body.sum]
            .into_iter()
            .chain(buckets.map(|(_, count)| *count))
            .any(|count| count.parts().0.is_infinite())
    }

    /// The sum with what was lost put back.
    pub fn total(&self) -> Histogram {
        let sum = |count: Compensated| count.parts().0;
        let total = |count: Compensated| count.parts().0 + count.parts().1;
        if self.is_sum {
            self.body.part(total)
        } else {
            self.body.part(sum)
        }
    }
}
