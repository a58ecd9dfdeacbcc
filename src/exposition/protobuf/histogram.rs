//! Histograms of the protobuf format, whole.

use crate::exposition::classic::{Collector, HistogramSample};
use crate::exposition::entry::ParseError;
use crate::exposition::protobuf::message::{HistogramMessage, SideMessage, next_bucket};
use crate::model::histogram::{Buckets, Counts, Histogram, ResetHint, signed, whole};

/// The native histogram of `message`.
pub(super) fn native(
    message: &HistogramMessage<'_>,
    is_gauge: bool,
) -> Result<Box<HistogramSample>, ParseError> {
    let is_float = message.is_float();
    let side = |is_positive| -> Result<Buckets, ParseError> {
        let side = message.side(is_positive)?;
        let name = if is_positive { "positive" } else { "negative" };
        buckets(side, is_float).map_err(|(need, have)| {
            let text = format!("{name} side: spans require {need} buckets, have {have}");
            ParseError::at_offset(message.offset(), text)
        })
    };
    let mut histogram = Histogram {
        reset_hint: hint(is_gauge),
        schema: message.schema,
        zero_threshold: message.zero_threshold,
        zero_count: if is_float {
            message.zero_count_float
        } else {
            whole(message.zero_count)
        },
        count: if is_float {
            message.count_float
        } else {
            whole(message.count)
        },
        sum: message.sum,
        positive: side(true)?,
        negative: side(false)?,
        ..Histogram::default()
    };
    histogram.compact();
    let counts = if is_float {
        Counts::Float
    } else {
        Counts::Whole
    };
    Ok(Box::new(HistogramSample { histogram, counts }))
}

/// The classic histogram of `message` as a native one.
pub(super) fn converted(
    message: &HistogramMessage<'_>,
    is_gauge: bool,
) -> Result<Box<HistogramSample>, ParseError> {
    let mut collector = Collector::default();
    collector.count(message.any_count());
    collector.sum(message.sum);
    let mut fields = message.fields();
    while let Some(bucket) = next_bucket(&mut fields)? {
        collector.bucket(bucket.upper_bound, bucket.count);
    }
    let mut sample = collector
        .convert()
        .map_err(|error| ParseError::at_offset(message.offset(), error.to_string()))?;
    sample.histogram.reset_hint = hint(is_gauge);
    Ok(Box::new(sample))
}

fn hint(is_gauge: bool) -> ResetHint {
    if is_gauge {
        ResetHint::Gauge
    } else {
        ResetHint::Unknown
    }
}

/// Counts of whole numbers are told as differences. The error is how many buckets the spans have and how many there are.
fn buckets(side: SideMessage, is_float: bool) -> Result<Buckets, (u64, usize)> {
    let SideMessage {
        spans,
        deltas,
        counts,
    } = side;
    let counts = if is_float {
        counts
    } else {
        let mut count = 0i64;
        deltas
            .iter()
            .map(|delta| {
                count = count.wrapping_add(*delta);
                signed(count)
            })
            .collect()
    };
    let need = spans.iter().map(|span| u64::from(span.length)).sum();
    if usize::try_from(need) != Ok(counts.len()) {
        return Err((need, counts.len()));
    }
    Ok(Buckets { spans, counts })
}
