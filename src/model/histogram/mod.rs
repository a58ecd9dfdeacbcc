//! Native histograms: counts in buckets whose bounds follow from a schema.
//!
//! Counts are floats, as in every query; integer histograms become floats where chunks are decoded.

mod arith;
#[cfg(test)]
mod arithmetic_tests;
mod bounds;
mod check;
mod layout;
mod merge;
mod message;
#[cfg(test)]
mod random_tests;
mod reset;
#[cfg(test)]
pub(crate) mod testing;
mod text;

use std::sync::{Arc, LazyLock};

use crate::model::{STALE_NAN_BITS, is_stale};
pub use arith::KahanHistogram;
pub use check::HistogramError;
pub use layout::Slot;
pub use merge::{IncompatibleSchemas, Merged};
pub use message::{read_span, signed, whole};

/// The schema of histograms whose bucket bounds are listed (`NHCB`).
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// The coarsest exponential schema: a bucket spans a factor of 2^16.
pub const EXPONENTIAL_SCHEMA_MIN: i32 = -4;

/// The finest exponential schema: 256 buckets to a factor of two.
pub const EXPONENTIAL_SCHEMA_MAX: i32 = 8;

/// What is known about the counter a histogram was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetHint {
    /// Nothing: buckets have to be compared.
    #[default]
    Unknown,
    /// It was reset before this sample.
    Reset,
    /// It was not reset before this sample.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// How a histogram counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counts {
    /// In whole numbers, which chunks store in fewer bits.
    Whole,
    /// In any numbers.
    Float,
}

/// A run of buckets that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Index of the first bucket for the first span (may be negative), empty buckets since the span before for the others.
    pub offset: i32,
    /// How many buckets.
    pub length: u32,
}

/// Buckets of one sign: spans, and a count for each of their buckets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buckets {
    /// In ascending order of index.
    pub spans: Vec<BucketSpan>,
    /// As many as the lengths of the spans add up to.
    pub counts: Vec<f64>,
}

/// One bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bucket {
    /// Where it begins.
    pub lower: f64,
    /// Where it ends.
    pub upper: f64,
    /// Is an observation of exactly `lower` counted here?
    pub includes_lower: bool,
    /// Is an observation of exactly `upper` counted here?
    pub includes_upper: bool,
    /// Observations.
    pub count: f64,
}

/// A native histogram with float counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// What is known about the counter behind it.
    pub reset_hint: ResetHint,
    /// -4 to 8: bucket bounds are powers of 2^(2^-schema); -53: they are listed.
    pub schema: i32,
    /// The zero bucket reaches from minus this to this.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations; the stale marker here ends a series.
    pub sum: f64,
    /// Buckets of positive observations; of listed bounds, all buckets.
    pub positive: Buckets,
    /// Buckets of negative observations, by the bound further from zero.
    pub negative: Buckets,
    /// Upper bounds of buckets, ascending and without +Inf; empty unless the schema is the custom one.
    pub custom_bounds: Arc<[f64]>,
}

/// No bounds: what every exponential histogram has.
static NO_BOUNDS: LazyLock<Arc<[f64]>> = LazyLock::new(|| Arc::new([]));

impl Default for Histogram {
    fn default() -> Self {
        Self {
            reset_hint: ResetHint::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Buckets::default(),
            negative: Buckets::default(),
            custom_bounds: Arc::clone(&NO_BOUNDS),
        }
    }
}

impl Histogram {
    /// The marker that ends a series of histograms.
    pub fn stale() -> Self {
        Self {
            sum: f64::from_bits(STALE_NAN_BITS),
            ..Self::default()
        }
    }

    /// Does it end its series?
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Are all counts whole numbers that an integer holds exactly?
    pub fn has_whole_counts(&self) -> bool {
        /// Two to the 53rd: beyond it doubles skip numbers.
        const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
        let is_whole = |count: f64| (0.0..=WHOLE_MAX).contains(&count) && count.fract() == 0.0;
        self.is_stale()
            || is_whole(self.count)
                && is_whole(self.zero_count)
                && self.positive.counts.iter().copied().all(is_whole)
                && self.negative.counts.iter().copied().all(is_whole)
    }

    /// Are the bounds of its buckets listed?
    pub fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Bytes in memory, the way queries are charged for them (Prometheus `FloatHistogram.Size`).
    pub fn n_bytes(&self) -> usize {
        const FIXED_BYTES: usize = 168;
        const ELEMENT_BYTES: usize = 8;
        let n_elements = self.positive.spans.len()
            + self.positive.counts.len()
            + self.negative.spans.len()
            + self.negative.counts.len()
            + self.custom_bounds.len();
        FIXED_BYTES + ELEMENT_BYTES * n_elements
    }

    /// How many floats a query is charged for it.
    pub fn n_samples(&self) -> usize {
        const SAMPLE_BYTES: usize = 16;
        (self.n_bytes() + SAMPLE_BYTES / 2) / SAMPLE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_charged_by_its_elements() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.n_bytes(), histogram.n_samples()), (168, 11));
        histogram.positive = Buckets {
            spans: vec![BucketSpan {
                offset: 0,
                length: 2,
            }],
            counts: vec![1.0, 2.0],
        };
        assert_eq!((histogram.n_bytes(), histogram.n_samples()), (192, 12));
        assert!(Histogram::stale().is_stale() && !histogram.is_stale());
    }
}
