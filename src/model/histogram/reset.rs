//! Was a counter reset between two histograms?

use crate::model::histogram::layout::coarser_index;
use crate::model::histogram::merge::{Body, in_zero_bucket, place_in, same_bounds, shared_bounds};
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
        if self.zero_threshold == previous.zero_threshold {
            return self.zero_count < previous.zero_count;
        }
        let (count, threshold) = Body::<f64>::new(previous).zero_count_up_to(self.zero_threshold);
        threshold != self.zero_threshold || self.zero_count < count.sum
    }

    fn fell(&self, mine: &Buckets, previous: &Self, theirs: &Buckets) -> bool {
        let coarser = previous.schema.abs_diff(self.schema);
        let is_inside = |index: i32| {
            !self.has_custom_buckets()
                && self.zero_threshold != 0.0
                && in_zero_bucket(index, self.schema, self.zero_threshold)
        };
        let first_index = theirs.spans.first().map_or(0, |span| span.offset);
        if coarser == 0 && mine.has_layout_of(theirs) && !is_inside(first_index) {
            let mut counts = mine.counts.iter().zip(&theirs.counts);
            return counts.any(|(now, before)| now < before);
        }
        let mut theirs = theirs.iter().peekable();
        let before = std::iter::from_fn(|| {
            let (index, mut count) = theirs.next()?;
            let index = coarser_index(index, coarser);
            let is_same = |next: &(i32, f64)| coarser_index(next.0, coarser) == index;
            while let Some((_, more)) = theirs.next_if(is_same) {
                count += more;
            }
            Some((index, count))
        });
        let mut now = mine.iter().peekable();
        for (index, count) in before.skip_while(|(index, _)| is_inside(*index)) {
            while now.next_if(|(here, _)| *here < index).is_some() {}
            match now.peek() {
                Some((here, now)) if *here == index => {
                    if *now < count {
                        return true;
                    }
                }
                Some(_) => {
                    if count != 0.0 {
                        return true;
                    }
                }
                // Behind the last bucket Prometheus looks at one more of those before, not at all of them.
                None => return count != 0.0,
            }
        }
        false
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
