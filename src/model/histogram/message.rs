//! What Prometheus' protobuf messages of histograms have in common, in scraped pages and in remote writes.

use crate::foundation::proto::{Fields, ProtoError, Slice, Value, low_32_bits, sint32};
use crate::model::histogram::BucketSpan;

/// Reads a `BucketSpan`.
pub fn read_span(message: Slice<'_>) -> Result<BucketSpan, ProtoError> {
    let mut fields = Fields::new(message, "BucketSpan");
    let mut span = BucketSpan {
        offset: 0,
        length: 0,
    };
    while let Some((number, value)) = fields.next_field()? {
        match (number, value) {
            (1, Value::Varint(raw)) => span.offset = sint32(raw),
            (2, Value::Varint(raw)) => span.length = low_32_bits(raw),
            (1 | 2, _) => return Err(fields.error("wrong wire type")),
            _ => (),
        }
    }
    Ok(span)
}

/// A whole count, as a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count beyond 2^53 is rounded, as every float sample of it is"
)]
pub fn whole(count: u64) -> f64 {
    count as f64
}

/// A count that was added up of differences, as a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count beyond 2^53 is rounded, as every float sample of it is"
)]
pub fn signed(count: i64) -> f64 {
    count as f64
}
