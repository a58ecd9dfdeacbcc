//! A timestamp and a float.

use crate::model::TimestampMs;

/// The bits of the NaN that ends a series (Prometheus `value.StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The bits of the NaN that expositions and PromQL mean by "NaN" (Prometheus `value.NormalNaN`).
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The stale marker as a value.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Is `v` the stale marker? Compares bits: every other NaN is an ordinary value.
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// One float at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When, in milliseconds.
    pub t: TimestampMs,
    /// What.
    pub v: f64,
}

/// When a sample was taken, and since when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleTime {
    /// When, in milliseconds.
    pub t: TimestampMs,
    /// When the counter behind it began; zero is unknown.
    pub start_t: TimestampMs,
}

impl From<TimestampMs> for SampleTime {
    /// A time whose start is unknown.
    fn from(t: TimestampMs) -> Self {
        Self { t, start_t: 0 }
    }
}
