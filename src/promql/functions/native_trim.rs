//! Native histograms without the observations on one side of a value.

use crate::model::{Bucket, Histogram};
use crate::promql::functions::native::part_below;

/// Which observations go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trim {
    /// Those above.
    Above,
    /// Those below.
    Below,
}

/// What stays of a bucket: how many observations, and the value they are taken for.
#[derive(Debug, Clone, Copy)]
struct Kept {
    count: f64,
    middle: f64,
    is_whole: bool,
}

impl Kept {
    const NOTHING: Self = Self {
        count: 0.0,
        middle: 0.0,
        is_whole: false,
    };

    fn part(count: f64, middle: f64) -> Self {
        Self {
            count,
            middle,
            is_whole: false,
        }
    }

    fn whole(count: f64, middle: f64) -> Self {
        Self {
            count,
            middle,
            is_whole: true,
        }
    }
}

/// Counts and sum of what stays.
#[derive(Debug, Default)]
struct Totals {
    count: f64,
    sum: f64,
    is_trimmed: bool,
}

impl Totals {
    fn take(&mut self, before: &mut f64, kept: Kept) {
        self.count += kept.count;
        self.sum += kept.middle * kept.count;
        #[expect(clippy::float_cmp, reason = "any change is a change")]
        let is_changed = !kept.is_whole && *before != kept.count;
        if is_changed {
            *before = kept.count;
            self.is_trimmed = true;
        }
    }
}

/// The histogram without its observations above, or below, `at`. The sum is what the middles of buckets add up to, if
/// anything went.
pub(crate) fn trim(histogram: &Histogram, at: f64, trim: Trim) -> Histogram {
    let is_linear = histogram.has_custom_buckets();
    let mut out = histogram.clone();
    let mut totals = Totals::default();
    let mut is_populated = [false, false];
    let signs = [
        (true, &histogram.positive, &mut out.positive),
        (false, &histogram.negative, &mut out.negative),
    ];
    for ((is_positive, from, to), is_populated) in signs.into_iter().zip(&mut is_populated) {
        for ((index, count), to) in from.iter().zip(&mut to.counts) {
            if count == 0.0 {
                continue;
            }
            *is_populated = true;
            let bucket = histogram.signed_bucket(is_positive, index, count);
            let kept = Cut {
                bucket,
                is_positive,
                is_linear,
            }
            .keep(at, trim);
            totals.take(to, kept);
        }
    }
    if histogram.zero_count > 0.0 {
        let mut bucket = histogram.zero_bucket();
        match is_populated {
            [false, true] => bucket.upper = 0.0,
            [true, false] => bucket.lower = 0.0,
            _ => (),
        }
        totals.take(&mut out.zero_count, keep_of_zero(&bucket, at, trim));
    }
    if totals.is_trimmed {
        out.count = totals.count;
        out.sum = totals.sum;
        out.compact();
    }
    out
}

/// A populated bucket to be cut.
struct Cut {
    bucket: Bucket,
    is_positive: bool,
    is_linear: bool,
}

impl Cut {
    fn keep(&self, at: f64, trim: Trim) -> Kept {
        let Bucket {
            lower,
            upper,
            count,
            ..
        } = self.bucket;
        let (is_kept, is_cut) = match trim {
            Trim::Above => (upper <= at, lower < at),
            Trim::Below => (lower >= at, upper > at),
        };
        if is_kept {
            return Kept::whole(count, self.middle(lower, upper));
        }
        if !is_cut {
            return Kept::NOTHING;
        }
        if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
            return keep_of_infinite(&self.bucket, at, trim);
        }
        let below = count * part_below(&self.bucket, at, self.is_linear);
        match trim {
            Trim::Above => Kept::part(below, self.middle(lower, at)),
            Trim::Below => Kept::part(count - below, self.middle(at, upper)),
        }
    }

    /// The value that observations between two bounds are taken for.
    fn middle(&self, lower: f64, upper: f64) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.is_linear => (lower + upper) / 2.0,
            (false, false) => {
                let middle = (lower * upper).abs().sqrt();
                if self.is_positive { middle } else { -middle }
            }
        }
    }
}

/// A bucket that begins or ends at infinity and is cut. Nobody knows where in it the observations are, so it goes whole or
/// stays whole, unless it can be taken to begin at zero.
fn keep_of_infinite(bucket: &Bucket, at: f64, trim: Trim) -> Kept {
    let Bucket { upper, count, .. } = *bucket;
    let part = Kept::part;
    let begins_at_zero = bucket.lower == f64::NEG_INFINITY && upper > 0.0 && upper.is_finite();
    match trim {
        Trim::Above if begins_at_zero && at > 0.0 => part(count * at / upper, at / 2.0),
        Trim::Above if bucket.lower == f64::NEG_INFINITY && upper <= 0.0 => part(count, at),
        Trim::Above => Kept::NOTHING,
        Trim::Below if begins_at_zero && at >= 0.0 => {
            part(count * (1.0 - at / upper), (at + upper) / 2.0)
        }
        Trim::Below if bucket.lower == f64::NEG_INFINITY => Kept::NOTHING,
        Trim::Below => part(count, at),
    }
}

/// What stays of the zero bucket, cut along a line.
fn keep_of_zero(bucket: &Bucket, at: f64, trim: Trim) -> Kept {
    let Bucket {
        lower,
        upper,
        count,
        ..
    } = *bucket;
    let whole = Kept::whole(count, (lower + upper) / 2.0);
    match trim {
        Trim::Above if at <= lower => Kept::NOTHING,
        Trim::Above if at >= upper => whole,
        Trim::Above => Kept::part(count * ((at - lower) / (upper - lower)), (lower + at) / 2.0),
        Trim::Below if at <= lower => whole,
        Trim::Below if at >= upper => Kept::NOTHING,
        Trim::Below => Kept::part(count * ((upper - at) / (upper - lower)), (at + upper) / 2.0),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact results are what is tested")]
mod tests {
    use super::*;
    use crate::model::{BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA};

    fn buckets(offset: i32, counts: &[f64]) -> Buckets {
        Buckets {
            spans: vec![BucketSpan {
                offset,
                length: u32::try_from(counts.len()).unwrap(),
            }],
            counts: counts.to_vec(),
        }
    }

    fn exponential() -> Histogram {
        Histogram {
            zero_threshold: 0.5,
            zero_count: 2.0,
            count: 10.0,
            sum: 25.0,
            positive: buckets(1, &[4.0, 4.0]),
            ..Histogram::default()
        }
    }

    fn custom(bounds: &[f64], counts: &[f64]) -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: counts.iter().sum(),
            sum: 25.0,
            positive: buckets(0, counts),
            custom_bounds: bounds.into(),
            ..Histogram::default()
        }
    }

    #[test]
    fn what_is_not_cut_keeps_its_sum() {
        let histogram = exponential();
        assert_eq!(trim(&histogram, 4.0, Trim::Above), histogram);
        assert_eq!(trim(&histogram, 0.0, Trim::Below), histogram);
    }

    #[test]
    fn a_bucket_that_stays_whole_changes_nothing_even_if_its_count_is_no_number() {
        let mut histogram = exponential();
        histogram.positive.counts[1] = f64::NAN;
        for (at, side) in [(8.0, Trim::Above), (-1.0, Trim::Below)] {
            let trimmed = trim(&histogram, at, side);
            assert_eq!((trimmed.count, trimmed.sum), (10.0, 25.0));
        }
        assert!(trim(&histogram, 3.0, Trim::Above).sum.is_nan());
    }

    #[test]
    fn a_bucket_is_cut_along_the_logarithm() {
        let above = trim(&exponential(), 2.0_f64.sqrt(), Trim::Above);
        assert_eq!(above.positive.counts.len(), 1);
        assert!((above.positive.counts[0] - 2.0).abs() < 1e-12);
        assert_eq!((above.zero_count, above.count.round()), (2.0, 4.0));
        let below = trim(&exponential(), 0.25, Trim::Below);
        assert_eq!((below.zero_count, below.count), (1.0, 9.0));
        assert_eq!(below.positive, exponential().positive);
        let nothing = trim(&exponential(), 5.0, Trim::Below);
        assert_eq!((nothing.count, nothing.sum), (0.0, 0.0));
        assert!(nothing.positive.counts.is_empty());
    }

    #[test]
    fn a_custom_bucket_is_cut_along_the_line() {
        let histogram = custom(&[5.0, 10.0], &[2.0, 4.0, 4.0]);
        let above = trim(&histogram, 7.5, Trim::Above);
        assert_eq!(above.positive.counts, [2.0, 2.0]);
        assert_eq!(above.sum, 2.0 * 2.5 + 2.0 * 6.25);
        let below = trim(&histogram, 2.5, Trim::Below);
        assert_eq!(below.positive.counts, [1.0, 4.0, 4.0]);
        assert_eq!(below.sum, 3.75 + 4.0 * 7.5 + 4.0 * 10.0);
    }

    #[test]
    fn a_bucket_without_end_goes_or_stays_whole() {
        let histogram = custom(&[-5.0, 10.0], &[2.0, 4.0, 4.0]);
        assert_eq!(
            trim(&histogram, 20.0, Trim::Above).positive.counts,
            [2.0, 4.0]
        );
        assert_eq!(trim(&histogram, 20.0, Trim::Below).positive.counts, [4.0]);
        assert_eq!(trim(&histogram, -7.0, Trim::Above).positive.counts, [2.0]);
        assert_eq!(
            trim(&histogram, -7.0, Trim::Below).positive.counts,
            [4.0, 4.0]
        );
    }
}
