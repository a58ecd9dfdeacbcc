//! What makes numbers and spans a histogram.

use thiserror::Error;

use crate::model::histogram::{
    Buckets, Counts, EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN, Histogram,
};

/// Schemas that are reserved: coarser and finer exponential ones. They are read, and brought to one that is computed with.
const RESERVED: std::ops::RangeInclusive<i32> = -9..=52;

/// Bucket indexes beyond this are no histogram's.
const INDEX_MAX: i64 = 1 << 30;

/// Why something is no histogram; the texts begin as Prometheus' do.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// Neither exponential nor custom.
    #[error(
        "histogram has an invalid schema: {0}, which is neither between {EXPONENTIAL_SCHEMA_MIN} and {EXPONENTIAL_SCHEMA_MAX} nor the one of custom buckets (-53)"
    )]
    Schema(i32),
    /// The spans of one sign and its counts are not equally many.
    #[error(
        "{side} side: spans need {n_needed} buckets, have {n_here} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpanMismatch {
        /// Of which sign.
        side: &'static str,
        /// Buckets of the spans.
        n_needed: u64,
        /// Counts.
        n_here: usize,
    },
    /// A span other than the first begins before the end of the one before it.
    #[error(
        "{side} side: span number {number} with offset {offset}: histogram has a span whose offset is negative"
    )]
    SpanOffset {
        /// Of which sign.
        side: &'static str,
        /// Counted from one.
        number: usize,
        /// What it has.
        offset: i32,
    },
    /// A bucket lies where no bucket can be.
    #[error("{side} side: bucket index {index} is beyond all histograms")]
    Index {
        /// Of which sign.
        side: &'static str,
        /// Which.
        index: i64,
    },
    /// A count that is below zero.
    #[error(
        "{what} {count} is negative: histogram has a bucket whose observation count is negative"
    )]
    NegativeCount {
        /// Of what.
        what: &'static str,
        /// How many.
        count: f64,
    },
    /// The buckets of a histogram with whole counts do not add up.
    #[error("{in_buckets} observations found in buckets, but the Count field is {count}: histogram's observation count should equal the number of observations found in the buckets{}", if *.has_nan {" (in absence of NaN)"} else {""})]
    CountMismatch {
        /// Sum over the buckets.
        in_buckets: f64,
        /// What the histogram says.
        count: f64,
        /// The sum is NaN, so that observations may be in no bucket.
        has_nan: bool,
    },
    /// Custom bounds that no bucket can have.
    #[error("custom buckets: {0}")]
    CustomBounds(String),
    /// Something only the other kind of histogram has.
    #[error("{0}")]
    Foreign(&'static str),
}

impl Histogram {
    /// Is it one? Whole counts have to add up; float counts need not.
    pub fn check(&self, counts: Counts) -> Result<(), HistogramError> {
        if self.has_custom_buckets() {
            self.check_custom()?;
        } else {
            if !RESERVED.contains(&self.schema) {
                return Err(HistogramError::Schema(self.schema));
            }
            if !self.custom_bounds.is_empty() {
                return Err(HistogramError::Foreign(
                    "histogram with exponential schema must not have custom bounds",
                ));
            }
        }
        let is_custom = self.has_custom_buckets();
        let positive = check_side("positive", &self.positive, is_custom)?;
        let negative = check_side("negative", &self.negative, false)?;
        for (what, count) in [
            ("zero bucket", self.zero_count),
            ("observation count", self.count),
        ] {
            if count < 0.0 {
                return Err(HistogramError::NegativeCount { what, count });
            }
        }
        if counts == Counts::Whole {
            self.check_sum(positive + negative + self.zero_count)?;
        }
        Ok(())
    }

    #[expect(clippy::float_cmp, reason = "whole counts are exact")]
    fn check_sum(&self, in_buckets: f64) -> Result<(), HistogramError> {
        let has_nan = self.sum.is_nan();
        let adds_up = if has_nan {
            in_buckets <= self.count
        } else {
            in_buckets == self.count
        };
        if adds_up {
            return Ok(());
        }
        Err(HistogramError::CountMismatch {
            in_buckets,
            count: self.count,
            has_nan,
        })
    }

    fn check_custom(&self) -> Result<(), HistogramError> {
        let bounds = &self.custom_bounds;
        let wrong = |text: String| Err(HistogramError::CustomBounds(text));
        for (position, bound) in bounds.iter().enumerate() {
            if bound.is_nan() {
                return wrong(format!("bound number {} is NaN", position + 1));
            }
            if *bound == f64::INFINITY {
                return wrong("last +Inf bound must not be explicitly defined".to_owned());
            }
        }
        for (before, after) in bounds.iter().zip(bounds.iter().skip(1)) {
            if after <= before {
                return wrong(format!(
                    "previous bound is {before} and current is {after}: histogram custom bounds must be in strictly increasing order"
                ));
            }
        }
        let n_needed: u64 = self
            .positive
            .spans
            .iter()
            .map(|span| u64::from(span.length) + u64::from(span.offset.max(0).cast_unsigned()))
            .sum();
        if bounds.len() as u64 + 1 < n_needed {
            return wrong(format!(
                "only {} custom bounds defined which is insufficient to cover total span length of {n_needed}: histogram custom bounds are too few",
                bounds.len()
            ));
        }
        if self.zero_count != 0.0 || self.zero_threshold != 0.0 {
            return Err(HistogramError::Foreign(
                "custom buckets: must have zero count and threshold of 0",
            ));
        }
        if !self.negative.spans.is_empty() || !self.negative.counts.is_empty() {
            return Err(HistogramError::Foreign(
                "custom buckets: must not have negative buckets",
            ));
        }
        Ok(())
    }
}

/// The observations of one sign. `is_custom`: not even the first span may have a negative offset.
fn check_side(
    side: &'static str,
    buckets: &Buckets,
    is_custom: bool,
) -> Result<f64, HistogramError> {
    let mut next = 0i64;
    let mut n_needed = 0u64;
    for (position, span) in buckets.spans.iter().enumerate() {
        if span.offset < 0 && (is_custom || 0 < position) {
            return Err(HistogramError::SpanOffset {
                side,
                number: position + 1,
                offset: span.offset,
            });
        }
        n_needed += u64::from(span.length);
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        for index in [first, next] {
            if !(-INDEX_MAX..=INDEX_MAX).contains(&index) {
                return Err(HistogramError::Index { side, index });
            }
        }
    }
    let n_here = buckets.counts.len();
    if n_needed != n_here as u64 {
        return Err(HistogramError::SpanMismatch {
            side,
            n_needed,
            n_here,
        });
    }
    match buckets.counts.iter().find(|count| **count < 0.0) {
        Some(count) => Err(HistogramError::NegativeCount {
            what: if side == "positive" {
                "positive bucket"
            } else {
                "negative bucket"
            },
            count: *count,
        }),
        None => Ok(buckets.counts.iter().sum()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BucketSpan, CUSTOM_BUCKETS_SCHEMA};

    fn buckets(offset: i32, counts: &[f64]) -> Buckets {
        Buckets {
            spans: vec![BucketSpan {
                offset,
                length: u32::try_from(counts.len()).unwrap(),
            }],
            counts: counts.to_vec(),
        }
    }

    fn good() -> Histogram {
        Histogram {
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 6.0,
            sum: 3.5,
            positive: buckets(-3, &[2.0, 1.0]),
            negative: buckets(0, &[2.0]),
            ..Histogram::default()
        }
    }

    fn custom() -> Histogram {
        Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            sum: 3.5,
            positive: buckets(0, &[2.0, 1.0]),
            custom_bounds: [1.0, 2.0].as_slice().into(),
            ..Histogram::default()
        }
    }

    fn refusal(histogram: &Histogram) -> String {
        match histogram.check(Counts::Whole) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn histograms_of_both_kinds_and_the_stale_marker_are_histograms() {
        for histogram in [good(), custom(), Histogram::stale()] {
            assert_eq!(refusal(&histogram), "");
            assert_eq!(histogram.check(Counts::Float), Ok(()));
        }
    }

    #[test]
    fn whole_counts_add_up_unless_nan_was_observed_and_float_counts_need_not() {
        let mut more = good();
        more.count = 7.0;
        assert!(
            refusal(&more).starts_with("6 observations found in buckets, but the Count field is 7")
        );
        assert_eq!(more.check(Counts::Float), Ok(()));
        more.sum = f64::NAN;
        assert_eq!(refusal(&more), "");
        more.count = 5.0;
        assert!(refusal(&more).ends_with("(in absence of NaN)"));
    }

    fn assert_refused(histogram: &Histogram, change: fn(&mut Histogram), wanted: &str) {
        let mut histogram = histogram.clone();
        change(&mut histogram);
        let text = refusal(&histogram);
        assert!(text.contains(wanted), "{text:?} has no {wanted:?}");
    }

    #[test]
    fn what_is_no_exponential_histogram_is_told_why() {
        let refused = |change, wanted| assert_refused(&good(), change, wanted);
        refused(|h| h.schema = 53, "invalid schema: 53");
        refused(|h| h.schema = -10, "invalid schema: -10");
        refused(
            |h| h.positive.counts.push(1.0),
            "positive side: spans need 2 buckets, have 3",
        );
        let backwards = BucketSpan {
            offset: -1,
            length: 0,
        };
        let mut histogram = good();
        histogram.negative.spans.push(backwards);
        let text = refusal(&histogram);
        assert!(text.starts_with("negative side: span number 2 with offset -1"));
        let beyond = "beyond all histograms";
        refused(|h| h.positive.spans[0].offset = i32::MAX, beyond);
        refused(|h| h.positive.spans[0].length = u32::MAX, beyond);
        let negative = "positive bucket -1 is negative";
        refused(|h| h.positive.counts = vec![4.0, -1.0], negative);
        refused(|h| h.zero_count = -1.0, "zero bucket -1 is negative");
        let foreign = "must not have custom bounds";
        refused(|h| h.custom_bounds = [1.0].as_slice().into(), foreign);
    }

    #[test]
    fn what_is_no_histogram_of_custom_buckets_is_told_why() {
        let refused = |change, wanted| assert_refused(&custom(), change, wanted);
        refused(
            |h| h.custom_bounds = [2.0, 2.0].as_slice().into(),
            "strictly increasing",
        );
        refused(
            |h| h.custom_bounds = [2.0, f64::NAN].as_slice().into(),
            "is NaN",
        );
        refused(
            |h| h.custom_bounds = [2.0, f64::INFINITY].as_slice().into(),
            "+Inf",
        );
        refused(|h| h.custom_bounds = [].as_slice().into(), "too few");
        refused(|h| h.zero_count = 1.0, "zero count");
        refused(|h| h.zero_threshold = 1.0, "threshold");
        refused(|h| h.negative = buckets(0, &[0.0]), "negative buckets");
        refused(
            |h| h.positive.spans[0].offset = -1,
            "span number 1 with offset -1",
        );
    }
}
