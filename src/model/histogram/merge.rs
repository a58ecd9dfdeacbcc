//! Sums and differences of histograms whose buckets need not be the same.
//!
//! Everything is written once for two kinds of counts: floats as they add up, and compensated sums.

use std::sync::Arc;

use crate::model::histogram::bounds::exponential_bound;
use crate::model::histogram::layout::coarser_index;
use crate::model::histogram::{Buckets, CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};

/// A count that others are added to.
pub(super) trait Count: Copy {
    /// Does it know what rounding has taken from it?
    const IS_COMPENSATED: bool;

    /// A count of its own.
    fn of(v: f64) -> Self;
    /// From a sum and what rounding has taken from it.
    fn of_parts(sum: f64, lost: f64) -> Self;
    /// The sum, and what rounding has taken from it.
    fn parts(self) -> (f64, f64);
    /// Adds another one.
    fn absorb(&mut self, other: Self);

    /// With the other sign.
    fn negated(self) -> Self {
        let (sum, lost) = self.parts();
        Self::of_parts(-sum, -lost)
    }

    /// Nothing, without anything lost.
    fn is_zero(self) -> bool {
        self.parts() == (0.0, 0.0)
    }
}

impl Count for f64 {
    const IS_COMPENSATED: bool = false;

    fn of(v: f64) -> Self {
        v
    }

    fn of_parts(sum: f64, _lost: f64) -> Self {
        sum
    }

    fn parts(self) -> (f64, f64) {
        (self, 0.0)
    }

    fn absorb(&mut self, other: Self) {
        *self += other;
    }
}

/// A sum and what rounding has taken from it (Neumaier's variant of Kahan's algorithm).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Compensated {
    pub(super) sum: f64,
    lost: f64,
}

impl Compensated {
    /// Once the sum is infinite there is nothing to compensate.
    #[inline]
    fn add(&mut self, inc: f64) {
        let t = self.sum + inc;
        let is_larger = self.sum.abs() >= inc.abs();
        let (large, small) = if is_larger {
            (self.sum, inc)
        } else {
            (inc, self.sum)
        };
        let lost = self.lost + ((large - t) + small);
        self.lost = if t.is_infinite() { 0.0 } else { lost };
        self.sum = t;
    }
}

impl Count for Compensated {
    const IS_COMPENSATED: bool = true;

    fn of(v: f64) -> Self {
        Self { sum: v, lost: 0.0 }
    }

    fn of_parts(sum: f64, lost: f64) -> Self {
        Self { sum, lost }
    }

    fn parts(self) -> (f64, f64) {
        (self.sum, self.lost)
    }

    fn absorb(&mut self, other: Self) {
        self.add(other.sum);
        if other.lost != 0.0 {
            self.add(other.lost);
        }
    }
}

/// Two histograms of which one has exponential buckets and the other custom ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IncompatibleSchemas;

/// What happened when two histograms became one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Merged {
    /// One says that its counter was reset, the other that it was not.
    pub reset_collision: bool,
    /// Custom bounds differed and were reduced to those that both have.
    pub reconciled: bool,
}

/// A histogram that others are added to: buckets as pairs of index and count.
#[derive(Debug, Clone)]
pub(super) struct Body<C> {
    pub(super) reset_hint: ResetHint,
    schema: i32,
    zero_threshold: f64,
    pub(super) zero_count: C,
    pub(super) count: C,
    pub(super) sum: C,
    pub(super) positive: Vec<(i32, C)>,
    pub(super) negative: Vec<(i32, C)>,
    pub(super) custom_bounds: Arc<[f64]>,
}

impl<C: Count> Body<C> {
    pub(super) fn new(histogram: &Histogram) -> Self {
        Self {
            reset_hint: histogram.reset_hint,
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: C::of(histogram.zero_count),
            count: C::of(histogram.count),
            sum: C::of(histogram.sum),
            positive: pairs(&histogram.positive),
            negative: pairs(&histogram.negative),
            custom_bounds: Arc::clone(&histogram.custom_bounds),
        }
    }

    /// The histogram of one part of every count; `inside` is the part of buckets that lie in the zero bucket.
    pub(super) fn part(&self, part: impl Fn(C) -> f64, inside: impl Fn(C) -> f64) -> Histogram {
        let is_custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        let buckets = |pairs: &[(i32, C)]| {
            let mut is_inside = !is_custom;
            Buckets::from_pairs(pairs.iter().map(|(index, count)| {
                is_inside = is_inside && in_zero_bucket(*index, self.schema, self.zero_threshold);
                let part = if is_inside {
                    inside(*count)
                } else {
                    part(*count)
                };
                (*index, part)
            }))
        };
        Histogram {
            reset_hint: self.reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: part(self.zero_count),
            count: part(self.count),
            sum: part(self.sum),
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            custom_bounds: Arc::clone(&self.custom_bounds),
        }
    }

    /// Adds `other`, or takes it away.
    pub(super) fn merge(
        &mut self,
        other: &Histogram,
        is_difference: bool,
    ) -> Result<Merged, IncompatibleSchemas> {
        let sign = |count: C| {
            if is_difference {
                count.negated()
            } else {
                count
            }
        };
        let is_custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        if is_custom != other.has_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        let (reset_hint, reset_collision) = merge_hints(self.reset_hint, other.reset_hint);
        self.reset_hint = reset_hint;
        let merged = Merged {
            reset_collision,
            reconciled: is_custom && !same_bounds(&self.custom_bounds, &other.custom_bounds),
        };
        if !is_custom {
            let zero_count = self.reconcile_zero_buckets(other);
            self.zero_count.absorb(sign(zero_count));
        }
        self.count.absorb(sign(C::of(other.count)));
        self.sum.absorb(sign(C::of(other.sum)));
        if merged.reconciled {
            self.meet_bounds(other, is_difference);
            return Ok(merged);
        }
        let finer = other.schema.saturating_sub(self.schema);
        if finer < 0 {
            reduce(&mut self.positive, finer.unsigned_abs());
            reduce(&mut self.negative, finer.unsigned_abs());
            self.schema = other.schema;
        }
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let sides = [
            (&mut self.positive, &other.positive),
            (&mut self.negative, &other.negative),
        ];
        for (into, from) in sides {
            // What lies in the zero bucket has been counted there.
            let is_inside = |index: i32| !is_custom && in_zero_bucket(index, schema, threshold);
            if finer > 0 {
                let mut from: Vec<(i32, C)> = pairs(from);
                reduce(&mut from, finer.unsigned_abs());
                let from = from.iter().copied();
                add_pairs(into, from.skip_while(|(index, _)| is_inside(*index)), sign);
            } else {
                let is_cut = from
                    .spans
                    .first()
                    .is_some_and(|span| is_inside(span.offset));
                if !is_cut && add_runs(into, from, sign) {
                    continue;
                }
                let from = from.iter().map(|(index, count)| (index, C::of(count)));
                add_pairs(into, from.skip_while(|(index, _)| is_inside(*index)), sign);
            }
        }
        Ok(merged)
    }

    /// Widens the zero bucket until it covers that of `other` and cuts no populated bucket of either; gives what `other`
    /// has in it.
    #[expect(clippy::float_cmp, reason = "thresholds are the same or not")]
    fn reconcile_zero_buckets(&mut self, other: &Histogram) -> C {
        let mut count = C::of(other.zero_count);
        let mut threshold = other.zero_threshold;
        if threshold.is_nan() || self.zero_threshold.is_nan() {
            return count;
        }
        while threshold != self.zero_threshold {
            if self.zero_threshold > threshold {
                let other = Body::<f64>::new(other);
                let (parts, wider) = other.zero_count_up_to(self.zero_threshold);
                count = C::of_parts(parts.sum, parts.lost);
                threshold = wider;
            }
            if threshold > self.zero_threshold {
                let (parts, wider) = self.zero_count_up_to(threshold);
                self.zero_count = C::of_parts(parts.sum, parts.lost);
                self.zero_threshold = wider;
                self.leave_zero_bucket();
            }
        }
        count
    }

    /// What the zero bucket would hold if it reached up to `threshold`, or to the end of a populated bucket that this
    /// cuts, and how far it would reach.
    #[expect(clippy::float_cmp, reason = "a bucket is populated or zero exactly")]
    pub(super) fn zero_count_up_to(&self, mut threshold: f64) -> (Compensated, f64) {
        let (sum, lost) = self.zero_count.parts();
        if threshold == self.zero_threshold {
            return (Compensated { sum, lost }, threshold);
        }
        let mut total = Compensated { sum, lost };
        'again: loop {
            total.sum = sum;
            for (is_negative, pairs) in [(false, &self.positive), (true, &self.negative)] {
                for (index, count) in pairs {
                    let lower = exponential_bound(index.saturating_sub(1), self.schema);
                    let upper = exponential_bound(*index, self.schema);
                    if lower >= threshold {
                        break;
                    }
                    let (count, lost) = count.parts();
                    total.add(count);
                    // A zero added to minus zero would not be nothing.
                    if C::IS_COMPENSATED {
                        total.add(lost);
                    }
                    if upper > threshold {
                        if count != 0.0 {
                            threshold = upper;
                            if is_negative {
                                // The positive buckets have to be looked at again.
                                continue 'again;
                            }
                        }
                        break;
                    }
                }
            }
            return (total, threshold);
        }
    }

    /// Lets go of buckets that lie in the zero bucket, and of empty ones.
    fn leave_zero_bucket(&mut self) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        for pairs in [&mut self.positive, &mut self.negative] {
            pairs.retain(|(index, count)| {
                exponential_bound(index.saturating_sub(1), schema) >= threshold && !count.is_zero()
            });
        }
    }

    /// Adds buckets of other custom bounds: of the bounds those stay that both have.
    fn meet_bounds(&mut self, other: &Histogram, is_difference: bool) {
        let shared = shared_bounds(&self.custom_bounds, &other.custom_bounds);
        let mut counts = vec![Compensated::default(); shared.len() + 1];
        for (index, count) in &self.positive {
            let (sum, lost) = count.parts();
            if let Some(target) = counts.get_mut(place_in(&shared, &self.custom_bounds, *index)) {
                target.add(sum);
                target.add(lost);
            }
        }
        for (index, count) in other.positive.iter() {
            if let Some(target) = counts.get_mut(place_in(&shared, &other.custom_bounds, index)) {
                target.add(if is_difference { -count } else { count });
            }
        }
        let populated = (0..).zip(counts).filter(|(_, count)| !count.is_zero());
        self.positive = populated
            .map(|(index, count)| (index, C::of_parts(count.sum, count.lost)))
            .collect();
        self.custom_bounds = shared.into();
    }
}

fn pairs<C: Count>(buckets: &Buckets) -> Vec<(i32, C)> {
    let mut pairs = Vec::with_capacity(buckets.counts.len());
    pairs.extend(buckets.iter().map(|(index, count)| (index, C::of(count))));
    pairs
}

/// Are these the same? Mostly they are one list.
pub(super) fn same_bounds(left: &Arc<[f64]>, right: &Arc<[f64]>) -> bool {
    Arc::ptr_eq(left, right) || left == right
}

/// The bounds that both have.
#[expect(clippy::float_cmp, reason = "bounds are the same or not")]
pub(super) fn shared_bounds(left: &[f64], right: &[f64]) -> Vec<f64> {
    let mut right = right.iter().copied().peekable();
    let mut shared = Vec::new();
    for bound in left {
        while right.next_if(|other| other < bound).is_some() {}
        if right.next_if(|other| other == bound).is_some() {
            shared.push(*bound);
        }
    }
    shared
}

/// Which of the buckets between `shared` bounds the bucket `index` of `bounds` lies in.
pub(super) fn place_in(shared: &[f64], bounds: &[f64], index: i32) -> usize {
    let bound = usize::try_from(index)
        .ok()
        .and_then(|index| bounds.get(index));
    match bound {
        Some(bound) => shared.partition_point(|other| other < bound),
        None => shared.len(),
    }
}

/// Makes buckets of a schema that is coarser by `by`.
pub(super) fn reduce<C: Count>(pairs: &mut Vec<(i32, C)>, by: u32) {
    if by == 0 {
        return;
    }
    for (index, _) in pairs.iter_mut() {
        *index = coarser_index(*index, by);
    }
    pairs.dedup_by(|next, kept| {
        let is_same = next.0 == kept.0;
        if is_same {
            kept.1.absorb(next.1);
        }
        is_same
    });
}

/// Adds bucket to bucket if there is one for each; otherwise nothing is done, and false.
fn add_runs<C: Count>(into: &mut [(i32, C)], from: &Buckets, sign: impl Fn(C) -> C) -> bool {
    /// Indices ascend: from the first to the last there are as many buckets as in the run only if these are the same.
    fn matching<'a, C>(
        into: &'a mut [(i32, C)],
        (first, counts): (i32, &[f64]),
    ) -> Option<&'a mut [(i32, C)]> {
        let from = into.partition_point(|(index, _)| *index < first);
        let run = into.get_mut(from..from.checked_add(counts.len())?)?;
        let n_between = run
            .last()
            .map_or(0, |last| last.0.abs_diff(first) as usize + 1);
        (n_between == counts.len()).then_some(run)
    }
    if !from.runs().all(|run| matching(into, run).is_some()) {
        return false;
    }
    for (first, counts) in from.runs() {
        let run = matching(into, (first, counts)).into_iter().flatten();
        for ((_, count), other) in run.zip(counts) {
            count.absorb(sign(C::of(*other)));
        }
    }
    true
}

/// Adds bucket to bucket; both lists ascend.
fn add_pairs<C: Count>(
    into: &mut Vec<(i32, C)>,
    pairs: impl Iterator<Item = (i32, C)> + Clone,
    sign: impl Fn(C) -> C,
) {
    let n_missing = n_missing(into, pairs.clone().map(|(index, _)| index));
    if n_missing == 0 {
        let mut mine = into.iter_mut();
        for (index, other) in pairs {
            if let Some((_, count)) = mine.find(|(here, _)| *here == index) {
                count.absorb(sign(other));
            }
        }
        return;
    }
    let mut sum = Vec::with_capacity(into.len() + n_missing);
    let mut mine = std::mem::take(into).into_iter().peekable();
    for (index, other) in pairs {
        while let Some(before) = mine.next_if(|(here, _)| *here < index) {
            sum.push(before);
        }
        match mine.next_if(|(here, _)| *here == index) {
            Some((_, mut count)) => {
                count.absorb(sign(other));
                sum.push((index, count));
            }
            None => sum.push((index, sign(other))),
        }
    }
    sum.extend(mine);
    *into = sum;
}

/// How many of `indices` have no bucket yet; both lists ascend.
fn n_missing<C>(pairs: &[(i32, C)], indices: impl Iterator<Item = i32>) -> usize {
    let mut mine = pairs.iter().map(|(index, _)| *index).peekable();
    indices
        .filter(|index| {
            while mine.next_if(|here| here < index).is_some() {}
            mine.next_if_eq(index).is_none()
        })
        .count()
}

/// What two hints become, and whether one says what the other denies.
pub(super) fn merge_hints(mine: ResetHint, other: ResetHint) -> (ResetHint, bool) {
    match (mine, other) {
        (mine, other) if mine == other => (mine, false),
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
        (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
        _ => (ResetHint::Unknown, true),
    }
}

/// Does the bucket end where the zero bucket ends, or before?
pub(super) fn in_zero_bucket(index: i32, schema: i32, threshold: f64) -> bool {
    exponential_bound(index, schema) <= threshold
}
