//! Which buckets all histograms of a chunk have: the block in front of the samples.

use std::sync::Arc;

use crate::chunk::bits::{BitReader, BitWriter};
use crate::chunk::varbit::{put_varbit_int, put_varbit_uint, varbit_int, varbit_uint};
use crate::chunk::xor::Flaw;
use crate::model::{BucketSpan, CUSTOM_BUCKETS_SCHEMA, Histogram};

/// Schemas that other versions of the format may use; those finer than ours are made coarser when they are read.
const SCHEMAS_KNOWN: std::ops::RangeInclusive<i64> = -9..=52;

/// Exponents of two, as `frexp` gives them, that a zero threshold of one byte can have.
const THRESHOLD_EXPONENTS: std::ops::RangeInclusive<i32> = -242..=11;

/// Added to an exponent to make it a byte; 0 and 255 are left for other uses.
const THRESHOLD_BIAS: i32 = 243;

/// The byte in front of a threshold of 64 bits.
const THRESHOLD_RAW: u64 = 255;

/// Custom bounds up to this, times a thousand, are written as integers.
const BOUND_MILLIS_MAX: f64 = 33_554_430.0;

/// The buckets of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive: Vec<BucketSpan>,
    pub(super) negative: Vec<BucketSpan>,
    pub(super) custom_bounds: Arc<[f64]>,
}

impl Layout {
    /// The layout `histogram` has itself; that of a stale marker is empty.
    pub(super) fn of(histogram: &Histogram) -> Self {
        if histogram.is_stale() {
            return Self::of(&Histogram {
                sum: 0.0,
                ..Histogram::default()
            });
        }
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            positive: histogram.positive.spans.clone(),
            negative: histogram.negative.spans.clone(),
            custom_bounds: Arc::clone(&histogram.custom_bounds),
        }
    }

    /// Field order here is the format.
    pub(super) fn put(&self, out: &mut BitWriter) {
        put_threshold(out, self.zero_threshold);
        put_varbit_int(out, i64::from(self.schema));
        put_spans(out, &self.positive);
        put_spans(out, &self.negative);
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            put_varbit_uint(out, self.custom_bounds.len() as u64);
            for &bound in &*self.custom_bounds {
                put_bound(out, bound);
            }
        }
    }

    /// Mirror of [`Self::put`]; spans without buckets are taken out, so that spans are never more than buckets.
    pub(super) fn take(bits: &mut BitReader<'_>) -> Result<Self, Flaw> {
        let zero_threshold = take_threshold(bits)?;
        let schema = varbit_int(bits)?;
        let is_custom = schema == i64::from(CUSTOM_BUCKETS_SCHEMA);
        if !is_custom && !SCHEMAS_KNOWN.contains(&schema) {
            return Err(Flaw::Layout("its schema is unknown"));
        }
        let positive = take_spans(bits)?;
        let negative = take_spans(bits)?;
        let mut bounds = Vec::new();
        if is_custom {
            for _ in 0..varbit_uint(bits)? {
                bounds.push(take_bound(bits)?);
            }
        }
        Ok(Self {
            // Both ranges fit.
            schema: i32::try_from(schema).unwrap_or_default(),
            zero_threshold,
            positive,
            negative,
            custom_bounds: if bounds.is_empty() {
                Histogram::default().custom_bounds
            } else {
                bounds.into()
            },
        })
    }
}

/// How many buckets the spans have.
pub(super) fn n_buckets(spans: &[BucketSpan]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

fn put_spans(out: &mut BitWriter, spans: &[BucketSpan]) {
    put_varbit_uint(out, spans.len() as u64);
    for span in spans {
        put_varbit_uint(out, u64::from(span.length));
        put_varbit_int(out, i64::from(span.offset));
    }
}

fn take_spans(bits: &mut BitReader<'_>) -> Result<Vec<BucketSpan>, Flaw> {
    const WIDE: Flaw = Flaw::Layout("buckets reach beyond 32 bits");
    let mut spans = Vec::new();
    // Empty buckets before the next span, counting spans without buckets in.
    let mut gap = 0i64;
    let mut index = 0i64;
    for position in 0..varbit_uint(bits)? {
        let length = u32::try_from(varbit_uint(bits)?).map_err(|_too_long| WIDE)?;
        let offset = varbit_int(bits)?;
        if 0 < position && offset < 0 {
            return Err(Flaw::Layout(
                "a span begins before the end of the one before",
            ));
        }
        gap = gap.saturating_add(offset);
        if length == 0 {
            continue;
        }
        let offset = i32::try_from(gap).map_err(|_too_far| WIDE)?;
        index += i64::from(offset) + i64::from(length);
        if i64::from(i32::MAX) < index {
            return Err(WIDE);
        }
        // Every bucket takes a bit of the first sample at least.
        if bits.remaining() < length as usize {
            return Err(Flaw::Short);
        }
        spans.push(BucketSpan { offset, length });
        gap = 0;
    }
    if bits.remaining() < n_buckets(&spans) {
        return Err(Flaw::Short);
    }
    Ok(spans)
}

fn put_threshold(out: &mut BitWriter, threshold: f64) {
    if threshold == 0.0 {
        return out.put(0, 8);
    }
    match power_of_two(threshold) {
        Some(exponent) => out.put(u64::from((exponent + THRESHOLD_BIAS).unsigned_abs()), 8),
        None => {
            out.put(THRESHOLD_RAW, 8);
            out.put(threshold.to_bits(), 64);
        }
    }
}

fn take_threshold(bits: &mut BitReader<'_>) -> Result<f64, Flaw> {
    Ok(match bits.bits(8)? {
        0 => 0.0,
        THRESHOLD_RAW => f64::from_bits(bits.bits(64)?),
        // The exponent field of a double is biased by 1023 and counts from 1, `frexp` from 0.5.
        byte => {
            f64::from_bits((byte + 1022).wrapping_sub(THRESHOLD_BIAS.cast_unsigned().into()) << 52)
        }
    })
}

/// The exponent `frexp` gives a power of two that fits one byte.
fn power_of_two(value: f64) -> Option<i32> {
    const MANTISSA_BITS: u32 = 52;
    let bits = value.to_bits();
    let is_power = bits.trailing_zeros() >= MANTISSA_BITS && value > 0.0;
    let exponent = i32::try_from(bits >> MANTISSA_BITS).ok()? - 1022;
    (is_power && THRESHOLD_EXPONENTS.contains(&exponent)).then_some(exponent)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the number is whole and between 0 and BOUND_MILLIS_MAX"
)]
#[expect(
    clippy::float_cmp,
    reason = "the value read back has to be this one, bit by bit"
)]
fn put_bound(out: &mut BitWriter, bound: f64) {
    let millis = (bound * 1000.0).round();
    let is_exact = millis / 1000.0 == bound;
    if (0.0..=BOUND_MILLIS_MAX).contains(&(bound * 1000.0)) && is_exact {
        put_varbit_uint(out, millis as u64 + 1);
    } else {
        out.put(0, 1);
        out.put(bound.to_bits(), 64);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "whatever a foreign chunk says; what we write fits 26 bits"
)]
fn take_bound(bits: &mut BitReader<'_>) -> Result<f64, Flaw> {
    Ok(match varbit_uint(bits)? {
        0 => f64::from_bits(bits.bits(64)?),
        millis => (millis - 1) as f64 / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_that_are_powers_of_two_take_a_byte() {
        for (threshold, byte, n_bytes) in [
            (0.0, 0u8, 1usize),
            (2f64.powi(-128), 116, 1),
            (2f64.powi(-243), 1, 1),
            (2f64.powi(10), 254, 1),
            (2f64.powi(11), 255, 9),
            (2f64.powi(-244), 255, 9),
            (0.001, 255, 9),
            (f64::from_bits(1), 255, 9),
        ] {
            let mut out = BitWriter::default();
            put_threshold(&mut out, threshold);
            assert_eq!(out.used_bytes().len(), n_bytes, "{threshold:e}");
            assert_eq!(out.bytes()[0], byte, "{threshold:e}");
            let read = take_threshold(&mut BitReader::new(out.bytes())).ok();
            assert_eq!(read, Some(threshold));
        }
    }

    #[test]
    fn bounds_in_thousandths_are_integers() {
        for (bound, n_bits) in [
            (0.0, 5),
            (0.005, 5),
            (0.25, 13),
            (33_554.430, 32),
            (33_554.431, 65),
            (-1.0, 65),
            (1.0 / 3.0, 65),
            (f64::INFINITY, 65),
        ] {
            let mut out = BitWriter::default();
            put_bound(&mut out, bound);
            let mut bits = BitReader::new(out.bytes());
            let n_before = bits.remaining();
            assert_eq!(take_bound(&mut bits).ok(), Some(bound));
            assert_eq!(n_before - bits.remaining(), n_bits, "{bound}");
        }
    }

    #[test]
    fn spans_without_buckets_are_taken_out_and_absurd_ones_refused() {
        let span = |offset, length| BucketSpan { offset, length };
        let read = |spans: &[BucketSpan]| {
            let mut out = BitWriter::default();
            put_spans(&mut out, spans);
            out.put(u64::MAX, 64);
            take_spans(&mut BitReader::new(out.bytes())).ok()
        };
        let odd = [span(-3, 0), span(5, 2), span(1, 0), span(2, 1), span(9, 0)];
        assert_eq!(read(&odd), Some(vec![span(2, 2), span(3, 1)]));
        assert_eq!(read(&[span(0, 1), span(-1, 1)]), None);
        assert_eq!(read(&[span(i32::MAX, 1)]), None);
        assert_eq!(read(&[span(0, 1000)]), None, "more buckets than bits");
        assert_eq!(read(&[]), Some(Vec::new()));
    }
}
