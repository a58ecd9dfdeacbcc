//! Was a counter reset between two histograms?

use crate::model::histogram::bounds::exponential_bound;
use crate::model::histogram::merge::{Body, place_in, reduce, same_bounds, shared_bounds};
use crate::model::histogram::{Buckets, Histogram, ResetHint};

impl Histogram {
    /// Was the counter reset between `previous` and this? What a histogram says of itself is believed; otherwise any
    /// count that fell tells, and so does whatever only happens at a reset: finer buckets, a smaller zero bucket.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.reset_hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => (),
        }
        if self.count < previous.count {
            return true;
        }
        if self.has_custom_buckets() {
            if !previous.has_custom_buckets() {
                return true;
            }
            if !same_bounds(&self.custom_bounds, &previous.custom_bounds) {
                return self.fell_between_shared_bounds(previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        if !self.has_custom_buckets() && self.zero_count_fell(previous) {
            return true;
        }
        self.fell(&self.positive, previous, &previous.positive)
            || self.fell(&self.negative, previous, &previous.negative)
    }

    /// Does the zero bucket cut a populated bucket of `previous`, or hold less than `previous` has there?
    #[expect(clippy::float_cmp, reason = "thresholds are the same or not")]
    fn zero_count_fell(&self, previous: &Self) -> bool {
        let (count, threshold) = Body::<f64>::new(previous).zero_count_up_to(self.zero_threshold);
        threshold != self.zero_threshold || self.zero_count < count.sum
    }

    fn fell(&self, mine: &Buckets, previous: &Self, theirs: &Buckets) -> bool {
        let mut before: Vec<(i32, f64)> = theirs.iter().collect();
        reduce(&mut before, previous.schema.abs_diff(self.schema));
        let is_in_zero_bucket = |index: i32| {
            !self.has_custom_buckets()
                && self.zero_threshold != 0.0
                && exponential_bound(index, self.schema) <= self.zero_threshold
        };
        let mut now = mine.iter().peekable();
        before
            .into_iter()
            .filter(|(index, _)| !is_in_zero_bucket(*index))
            .any(|(index, count)| {
                while now.next_if(|(here, _)| *here < index).is_some() {}
                match now.peek() {
                    Some((here, now)) if *here == index => *now < count,
                    _ => count != 0.0,
                }
            })
    }

    /// Did any count between bounds that both have fall?
    fn fell_between_shared_bounds(&self, previous: &Self) -> bool {
        let shared = shared_bounds(&self.custom_bounds, &previous.custom_bounds);
        let counts = |histogram: &Self| {
            let mut counts = vec![0.0; shared.len() + 1];
            for (index, count) in histogram.positive.iter() {
                let place = place_in(&shared, &histogram.custom_bounds, index);
                if let Some(sum) = counts.get_mut(place) {
                    *sum += count;
                }
            }
            counts
        };
        counts(self)
            .iter()
            .zip(counts(previous))
            .any(|(now, before)| *now < before)
    }
}
