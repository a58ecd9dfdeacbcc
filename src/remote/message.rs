//! Samples, native histograms and exemplars of both versions: the fields are the same but for a few.

use crate::foundation::proto::{Fields, ProtoError, Slice, Value, sint32, zigzag};
use crate::model::histogram::{BucketSpan, EXPONENTIAL_SCHEMA_MAX, read_span, signed, whole};
use crate::model::{
    Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, SampleTime, TimestampMs,
};

/// Finer schemas are reserved for later; they are made as coarse as the finest that is computed with.
const RESERVED_SCHEMA_MAX: i32 = 52;

/// `Sample`; only version 2 has the third field.
pub(super) fn read_sample(message: Slice<'_>) -> Result<(SampleTime, f64), ProtoError> {
    let mut fields = Fields::new(message, "Sample");
    let (mut at, mut v) = (SampleTime::from(0), 0f64);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            (2, Value::Varint(raw)) => at.t = raw.cast_signed(),
            (3, Value::Varint(raw)) => at.start_t = raw.cast_signed(),
            (1..=3, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok((at, v))
}

/// One sign of a histogram as it is sent.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<BucketSpan>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    /// Takes a list: 0 is spans, 1 differences of whole counts, 2 any counts. `None` when it cannot be that.
    fn take(&mut self, list: u64, value: Value<'_>) -> Result<Option<()>, ProtoError> {
        match (list, value) {
            (0, Value::Bytes(message)) => self.spans.push(read_span(message)?),
            (1, Value::Varint(raw)) => self.deltas.push(zigzag(raw)),
            (1, Value::Bytes(packed)) => {
                let mut packed = Fields::new(packed, "deltas");
                while !packed.is_at_end() {
                    self.deltas.push(zigzag(packed.varint()?));
                }
            }
            (2, value) => return take_doubles(&mut self.counts, value, "counts"),
            _ => return Ok(None),
        }
        Ok(Some(()))
    }

    fn finish(self, counts: Counts) -> Buckets {
        let mut count = 0i64;
        Buckets {
            spans: self.spans,
            counts: match counts {
                Counts::Float => self.counts,
                Counts::Whole => self
                    .deltas
                    .iter()
                    .map(|delta| {
                        count = count.wrapping_add(*delta);
                        signed(count)
                    })
                    .collect(),
            },
        }
    }
}

fn take_doubles(
    out: &mut Vec<f64>,
    value: Value<'_>,
    what: &'static str,
) -> Result<Option<()>, ProtoError> {
    match value {
        Value::Fixed64(bits) => out.push(f64::from_bits(bits)),
        Value::Bytes(packed) => {
            let mut packed = Fields::new(packed, what);
            while !packed.is_at_end() {
                out.push(f64::from_bits(packed.fixed64()?));
            }
        }
        Value::Varint(_) | Value::Fixed32 => return Ok(None),
    }
    Ok(Some(()))
}

/// `Histogram`; only version 2 has the last field.
pub(super) fn read_histogram(
    message: Slice<'_>,
) -> Result<(SampleTime, Counts, Histogram), ProtoError> {
    let mut fields = Fields::new(message, "Histogram");
    let mut histogram = Histogram::default();
    let mut at = SampleTime::from(0);
    let mut counts = Counts::Whole;
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let mut bounds = Vec::new();
    while let Some((number, value)) = fields.next_field()? {
        let taken = match (number, value) {
            (1, Value::Varint(count)) => {
                counts = Counts::Whole;
                histogram.count = whole(count);
                Some(())
            }
            (2, Value::Fixed64(bits)) => {
                counts = Counts::Float;
                histogram.count = f64::from_bits(bits);
                Some(())
            }
            (3 | 5 | 7, Value::Fixed64(bits)) => {
                let field = match number {
                    3 => &mut histogram.sum,
                    5 => &mut histogram.zero_threshold,
                    _ => &mut histogram.zero_count,
                };
                *field = f64::from_bits(bits);
                Some(())
            }
            (4, Value::Varint(raw)) => {
                histogram.schema = sint32(raw);
                Some(())
            }
            (6, Value::Varint(count)) => {
                histogram.zero_count = whole(count);
                Some(())
            }
            (8..=10, value) => negative.take(number - 8, value)?,
            (11..=13, value) => positive.take(number - 11, value)?,
            (14, Value::Varint(raw)) => {
                histogram.reset_hint = reset_hint(raw);
                Some(())
            }
            (15, Value::Varint(raw)) => {
                at.t = raw.cast_signed();
                Some(())
            }
            (16, value) => take_doubles(&mut bounds, value, "custom values")?,
            (17, Value::Varint(raw)) => {
                at.start_t = raw.cast_signed();
                Some(())
            }
            (1..=17, _) => None,
            _ => Some(()),
        };
        if taken.is_none() {
            return Err(fields.error("wrong wire type"));
        }
    }
    histogram.positive = positive.finish(counts);
    histogram.negative = negative.finish(counts);
    if !bounds.is_empty() {
        histogram.custom_bounds = bounds.into();
    }
    let is_reserved = EXPONENTIAL_SCHEMA_MAX < histogram.schema
        && histogram.schema <= RESERVED_SCHEMA_MAX
        && histogram.schema != CUSTOM_BUCKETS_SCHEMA;
    if is_reserved {
        histogram.reduce_to(EXPONENTIAL_SCHEMA_MAX);
    }
    Ok((at, counts, histogram))
}

fn reset_hint(raw: u64) -> ResetHint {
    match raw {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// Value and time of an `Exemplar`; its labels stand in field 1.
pub(super) fn read_exemplar(message: Slice<'_>) -> Result<(f64, TimestampMs), ProtoError> {
    let mut fields = Fields::new(message, "Exemplar");
    let (mut v, mut t) = (0.0, 0);
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (2, Value::Fixed64(bits)) => v = f64::from_bits(bits),
            (3, Value::Varint(raw)) => t = raw.cast_signed(),
            (2 | 3, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok((v, t))
}
