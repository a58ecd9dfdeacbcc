//! Records of native histograms: 7 to 10, and 12 and 13 with start times.

use std::sync::Arc;

use crate::foundation::Cursor;
use crate::foundation::cursor::{put_uvarint, put_varint};
use crate::model::histogram::EXPONENTIAL_SCHEMA_MAX;
use crate::model::{
    BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Histogram, ResetHint, SampleTime,
    TimestampMs,
};
use crate::wal::starts::Chain;
use crate::wal::{RecordKind, WalError};

/// A native histogram and the reference of its series.
#[derive(Debug, Clone, PartialEq)]
pub struct RefHistogram {
    /// The series' reference in this log.
    pub series: u64,
    /// When, and since when it counts.
    pub at: SampleTime,
    /// How it counted.
    pub counts: Counts,
    /// What.
    pub histogram: Arc<Histogram>,
}

/// Collects a record of histograms; its buffer is reused.
#[derive(Debug)]
pub struct HistogramsEncoder {
    kind: u8,
    counts: Counts,
    body: Vec<u8>,
    first: Option<(u64, TimestampMs)>,
    chain: Chain,
}

impl HistogramsEncoder {
    /// For histograms that are all exponential or all custom, without start times.
    pub fn new(counts: Counts, is_custom: bool) -> Self {
        let kind = match (counts, is_custom) {
            (Counts::Whole, false) => 7,
            (Counts::Float, false) => 8,
            (Counts::Whole, true) => 9,
            (Counts::Float, true) => 10,
        };
        Self::of(kind, counts)
    }

    /// For histograms of all schemas, with start times.
    pub fn with_starts(counts: Counts) -> Self {
        let kind = match counts {
            Counts::Whole => 12,
            Counts::Float => 13,
        };
        Self::of(kind, counts)
    }

    fn of(kind: u8, counts: Counts) -> Self {
        Self {
            kind,
            counts,
            body: Vec::new(),
            first: None,
            chain: Chain::default(),
        }
    }

    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
        self.first = None;
        self.chain = Chain::default();
    }

    /// Adds one histogram, whose counts are whole if they should be.
    pub fn push(&mut self, series: u64, at: SampleTime, histogram: &Histogram) {
        if self.body.is_empty() {
            self.body.push(self.kind);
        }
        if self.kind > 10 {
            self.chain.put(&mut self.body, series, at);
        } else {
            let (first_series, first_t) = *self.first.get_or_insert_with(|| {
                self.body.extend_from_slice(&series.to_be_bytes());
                self.body.extend_from_slice(&at.t.to_be_bytes());
                (series, at.t)
            });
            let step = series.wrapping_sub(first_series).cast_signed();
            put_varint(&mut self.body, step);
            put_varint(&mut self.body, at.t.wrapping_sub(first_t));
        }
        put_histogram(&mut self.body, self.counts, histogram);
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        (!self.body.is_empty()).then_some(self.body.as_slice())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "whole counts are never negative and at most 2^53"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

fn put_f64(body: &mut Vec<u8>, v: f64) {
    body.extend_from_slice(&v.to_bits().to_be_bytes());
}

fn put_histogram(body: &mut Vec<u8>, counts: Counts, histogram: &Histogram) {
    body.push(match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    });
    put_varint(body, i64::from(histogram.schema));
    put_f64(body, histogram.zero_threshold);
    for count in [histogram.zero_count, histogram.count] {
        match counts {
            Counts::Whole => put_uvarint(body, whole(count)),
            Counts::Float => put_f64(body, count),
        }
    }
    put_f64(body, histogram.sum);
    let sides = [&histogram.positive, &histogram.negative];
    for side in sides {
        put_uvarint(body, side.spans.len() as u64);
        for span in &side.spans {
            put_varint(body, i64::from(span.offset));
            put_uvarint(body, u64::from(span.length));
        }
    }
    for side in sides {
        put_uvarint(body, side.counts.len() as u64);
        let mut before = 0u64;
        for count in &side.counts {
            match counts {
                Counts::Whole => {
                    let now = whole(*count);
                    put_varint(body, now.wrapping_sub(before).cast_signed());
                    before = now;
                }
                Counts::Float => put_f64(body, *count),
            }
        }
    }
    if histogram.has_custom_buckets() {
        put_uvarint(body, histogram.custom_bounds.len() as u64);
        for bound in histogram.custom_bounds.iter() {
            put_f64(body, *bound);
        }
    }
}

/// The entries of a record of histograms, of any of its six kinds. Those of schemas that nobody knows are left out, and
/// those finer than what is computed with are made coarser.
pub fn decode_histograms(body: &[u8]) -> Result<Vec<RefHistogram>, WalError> {
    let kind = RecordKind::of(body);
    let is_float = matches!(
        kind,
        RecordKind::FloatHistograms
            | RecordKind::CustomFloatHistograms
            | RecordKind::FloatHistogramsV2
    );
    let counts = if is_float {
        Counts::Float
    } else {
        Counts::Whole
    };
    let has_starts = matches!(
        kind,
        RecordKind::HistogramsV2 | RecordKind::FloatHistogramsV2
    );
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    let mut entries = Vec::new();
    if cursor.is_empty() {
        return Ok(entries);
    }
    let mut chain = Chain::default();
    let first = if has_starts {
        (0, 0)
    } else {
        let series = cursor.u64_be("first reference")?;
        (series, cursor.i64_be("first time")?)
    };
    while !cursor.is_empty() {
        let (series, at) = if has_starts {
            chain.take(&mut cursor)?
        } else {
            let series = cursor.varint("reference")?.cast_unsigned();
            let t = first.1.wrapping_add(cursor.varint("time")?);
            (first.0.wrapping_add(series), SampleTime::from(t))
        };
        let mut histogram = take_histogram(&mut cursor, counts)?;
        if histogram.check(Counts::Float).is_err() {
            tracing::warn!(
                schema = histogram.schema,
                t = at.t,
                "a histogram in the log is none, and left out"
            );
            continue;
        }
        if EXPONENTIAL_SCHEMA_MAX < histogram.schema {
            histogram.reduce_to(EXPONENTIAL_SCHEMA_MAX);
        }
        entries.push(RefHistogram {
            series,
            at,
            counts,
            histogram: Arc::new(histogram),
        });
    }
    Ok(entries)
}

fn take_histogram(cursor: &mut Cursor<'_>, counts: Counts) -> Result<Histogram, WalError> {
    let reset_hint = match cursor.u8("reset hint")? {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    };
    let offset = cursor.offset();
    let schema = cursor.varint("schema")?;
    let schema = i32::try_from(schema).map_err(|_wide| WalError::Value {
        what: "schema",
        offset,
        value: schema.to_string(),
    })?;
    let zero_threshold = cursor.f64_be("zero threshold")?;
    let zero_count = take_count(cursor, counts)?;
    let count = take_count(cursor, counts)?;
    let sum = cursor.f64_be("sum")?;
    let mut positive = Buckets {
        spans: take_spans(cursor)?,
        counts: Vec::new(),
    };
    let mut negative = Buckets {
        spans: take_spans(cursor)?,
        counts: Vec::new(),
    };
    positive.counts = take_counts(cursor, counts)?;
    negative.counts = take_counts(cursor, counts)?;
    let mut histogram = Histogram {
        reset_hint,
        schema,
        zero_threshold,
        zero_count,
        count,
        sum,
        positive,
        negative,
        ..Histogram::default()
    };
    if schema == CUSTOM_BUCKETS_SCHEMA {
        let n = cursor.uvarint_len("bound count")?;
        let mut bounds = Vec::with_capacity(n.min(cursor.rest().len() / 8));
        for _ in 0..n {
            bounds.push(cursor.f64_be("bound")?);
        }
        histogram.custom_bounds = bounds.into();
    }
    Ok(histogram)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 are told as the nearest double, as in queries"
)]
fn take_count(cursor: &mut Cursor<'_>, counts: Counts) -> Result<f64, WalError> {
    Ok(match counts {
        Counts::Whole => cursor.uvarint("count")? as f64,
        Counts::Float => cursor.f64_be("count")?,
    })
}

fn take_spans(cursor: &mut Cursor<'_>) -> Result<Vec<BucketSpan>, WalError> {
    let n = cursor.uvarint_len("span count")?;
    let mut spans = Vec::with_capacity(n.min(cursor.rest().len() / 2));
    for _ in 0..n {
        let offset_at = cursor.offset();
        let offset = cursor.varint("span offset")?;
        let length = cursor.uvarint("span length")?;
        let (Ok(offset), Ok(length)) = (i32::try_from(offset), u32::try_from(length)) else {
            return Err(WalError::Value {
                what: "span",
                offset: offset_at,
                value: format!("{offset} and {length}"),
            });
        };
        spans.push(BucketSpan { offset, length });
    }
    Ok(spans)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts beyond 2^53 are told as the nearest double, as in queries"
)]
fn take_counts(cursor: &mut Cursor<'_>, counts: Counts) -> Result<Vec<f64>, WalError> {
    let n = cursor.uvarint_len("bucket count")?;
    let n_bytes_each = match counts {
        Counts::Whole => 1,
        Counts::Float => 8,
    };
    let mut buckets = Vec::with_capacity(n.min(cursor.rest().len() / n_bytes_each));
    let mut now = 0i64;
    for _ in 0..n {
        buckets.push(match counts {
            Counts::Whole => {
                now = now.wrapping_add(cursor.varint("bucket")?);
                now as f64
            }
            Counts::Float => cursor.f64_be("bucket")?,
        });
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Prometheus 3.14 from the histograms of [`exponential`] and [`custom`].
    const GOLDEN: [&[u8]; 6] = [
        b"\
        \x07\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x03\xe8\x00\x00\x01\
        \x02\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc\xac\x02\xb5\x02\x40\x32\x80\x00\x00\x00\x00\
        \x00\x02\x03\x02\x02\x01\x01\x0a\x01\x03\x06\x01\x00\x01\x04\x01\x1e\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xf0\x00\x00\x00\x00\x00\x02\x00\x00\x00\
        \x00\
    ",
        b"\
        \x08\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x03\xe8\x00\x00\x01\
        \x02\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc\x40\x72\xc0\x00\x00\x00\x00\x00\x40\x73\x50\
        \x00\x00\x00\x00\x00\x40\x32\x80\x00\x00\x00\x00\x00\x02\x03\x02\x02\x01\x01\x0a\
        \x01\x03\x40\x08\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x40\x00\
        \x00\x00\x00\x00\x00\x00\x01\x40\x00\x00\x00\x00\x00\x00\x00\x01\x1e\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x7f\xf0\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\
    ",
        b"\
        \x09\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x03\xe8\x00\x00\x00\
        \x69\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x40\x04\x00\x00\x00\x00\x00\x00\x01\
        \x00\x02\x00\x02\x02\x02\x00\x02\x3f\xe0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\
        \x00\x00\x00\x00\x02\x00\x00\x69\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x40\x04\
        \x00\x00\x00\x00\x00\x00\x01\x00\x02\x00\x02\x02\x02\x00\x02\x3f\xe0\x00\x00\x00\
        \x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\
    ",
        b"\
        \x0a\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x00\x00\x00\x03\xe8\x00\x00\x00\
        \x69\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\x08\x00\
        \x00\x00\x00\x00\x00\x40\x04\x00\x00\x00\x00\x00\x00\x01\x00\x02\x00\x02\x3f\xf0\
        \x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00\x02\x3f\xe0\x00\x00\
        \x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x69\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40\x08\x00\x00\x00\x00\x00\x00\
        \x40\x04\x00\x00\x00\x00\x00\x00\x01\x00\x02\x00\x02\x3f\xf0\x00\x00\x00\x00\x00\
        \x00\x40\x00\x00\x00\x00\x00\x00\x00\x00\x02\x3f\xe0\x00\x00\x00\x00\x00\x00\x40\
        \x00\x00\x00\x00\x00\x00\x00\
    ",
        b"\
        \x0c\x14\xd0\x0f\x88\x0e\x01\x02\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc\xac\x02\xb5\x02\
        \x40\x32\x80\x00\x00\x00\x00\x00\x02\x03\x02\x02\x01\x01\x0a\x01\x03\x06\x01\x00\
        \x01\x04\x01\x1e\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xf0\x00\
        \x00\x00\x00\x00\x02\x00\x00\x00\x00\x02\x00\x01\x00\x69\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x03\x40\x04\x00\x00\x00\x00\x00\x00\x01\x00\x02\x00\x02\x02\x02\x00\
        \x02\x3f\xe0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\
        \x00\x69\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x40\x04\x00\x00\x00\x00\x00\x00\
        \x01\x00\x02\x00\x02\x02\x02\x00\x02\x3f\xe0\x00\x00\x00\x00\x00\x00\x40\x00\x00\
        \x00\x00\x00\x00\x00\
    ",
        b"\
        \x0d\x14\xd0\x0f\x88\x0e\x01\x02\x3f\x50\x62\x4d\xd2\xf1\xa9\xfc\x40\x72\xc0\x00\
        \x00\x00\x00\x00\x40\x73\x50\x00\x00\x00\x00\x00\x40\x32\x80\x00\x00\x00\x00\x00\
        \x02\x03\x02\x02\x01\x01\x0a\x01\x03\x40\x08\x00\x00\x00\x00\x00\x00\x40\x00\x00\
        \x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x01\x40\x00\x00\x00\x00\x00\
        \x00\x00\x01\x1e\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xf0\x00\x00\x00\x00\x00\x02\x00\
        \x00\x00\x00\x02\x00\x01\x00\x69\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x40\x08\x00\x00\x00\x00\x00\x00\x40\x04\x00\x00\x00\x00\x00\x00\
        \x01\x00\x02\x00\x02\x3f\xf0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\
        \x00\x00\x02\x3f\xe0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x02\
        \x00\x00\x00\x69\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
        \x40\x08\x00\x00\x00\x00\x00\x00\x40\x04\x00\x00\x00\x00\x00\x00\x01\x00\x02\x00\
        \x02\x3f\xf0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\x00\x02\x3f\
        \xe0\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00\
    ",
    ];

    fn span(offset: i32, length: u32) -> BucketSpan {
        BucketSpan { offset, length }
    }

    fn entry(series: u64, (t, start_t): (i64, i64), histogram: Histogram) -> RefHistogram {
        RefHistogram {
            series,
            at: SampleTime { t, start_t },
            counts: Counts::Whole,
            histogram: Arc::new(histogram),
        }
    }

    fn exponential() -> Vec<RefHistogram> {
        let histogram = Histogram {
            reset_hint: ResetHint::Reset,
            schema: 1,
            zero_threshold: 0.001,
            zero_count: 300.0,
            count: 309.0,
            sum: 18.5,
            positive: Buckets {
                spans: vec![span(-2, 2), span(1, 1)],
                counts: vec![3.0, 2.0, 2.0],
            },
            negative: Buckets {
                spans: vec![span(5, 1)],
                counts: vec![2.0],
            },
            ..Histogram::default()
        };
        let first = entry(10, (1000, 900), histogram);
        vec![first, entry(9, (1015, 900), Histogram::stale())]
    }

    fn custom() -> Vec<RefHistogram> {
        let histogram = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: 3.0,
            sum: 2.5,
            positive: Buckets {
                spans: vec![span(0, 2)],
                counts: vec![1.0, 2.0],
            },
            custom_bounds: [0.5, 2.0].as_slice().into(),
            ..Histogram::default()
        };
        let first = entry(10, (1000, 900), histogram.clone());
        vec![first, entry(11, (1000, 0), histogram)]
    }

    /// The six encoders and what they were given, as [`GOLDEN`] has them.
    fn encoders() -> Vec<(HistogramsEncoder, Vec<RefHistogram>)> {
        let all = || [exponential(), custom()].concat();
        vec![
            (HistogramsEncoder::new(Counts::Whole, false), exponential()),
            (HistogramsEncoder::new(Counts::Float, false), exponential()),
            (HistogramsEncoder::new(Counts::Whole, true), custom()),
            (HistogramsEncoder::new(Counts::Float, true), custom()),
            (HistogramsEncoder::with_starts(Counts::Whole), all()),
            (HistogramsEncoder::with_starts(Counts::Float), all()),
        ]
    }

    /// The stale marker is no number, so equality is that of the printed form.
    fn shown(entries: &[RefHistogram]) -> Vec<String> {
        let shown = |e: &RefHistogram| format!("{} {:?} {:?}", e.series, e.at, e.histogram);
        entries.iter().map(shown).collect()
    }

    #[test]
    fn histograms_have_the_bytes_prometheus_writes_and_come_back() {
        for ((mut encoder, mut entries), golden) in encoders().into_iter().zip(GOLDEN) {
            assert_eq!(encoder.record(), None);
            for entry in &entries {
                encoder.push(entry.series, entry.at, &entry.histogram);
            }
            assert_eq!(encoder.record(), Some(golden), "kind {}", golden[0]);
            let decoded = decode_histograms(golden).unwrap();
            for entry in &mut entries {
                entry.at.start_t *= i64::from(encoder.kind > 10);
            }
            assert_eq!(shown(&decoded), shown(&entries), "kind {}", golden[0]);
            assert!(decoded.iter().all(|entry| entry.counts == encoder.counts));
            encoder.clear();
            assert_eq!(encoder.record(), None);
        }
    }

    #[test]
    fn a_schema_nobody_knows_costs_its_histogram_alone_and_a_finer_one_its_resolution() {
        let mut entries = exponential();
        let mut encoder = HistogramsEncoder::new(Counts::Whole, false);
        for (position, schema) in [53, 9, 8].into_iter().enumerate() {
            let mut histogram = (*entries[0].histogram).clone();
            histogram.schema = schema;
            let histogram = Arc::new(histogram);
            encoder.push(position as u64, entries[0].at, &histogram);
            entries[0].histogram = histogram;
        }
        let decoded = decode_histograms(encoder.record().unwrap()).unwrap();
        let got: Vec<_> = decoded
            .iter()
            .map(|e| (e.series, e.histogram.schema, &e.histogram.positive.spans))
            .collect();
        let coarser = vec![span(-1, 3)];
        let same = vec![span(-2, 2), span(1, 1)];
        assert_eq!(got, [(1, 8, &coarser), (2, 8, &same)]);
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_panics_or_allocates_beyond_the_record() {
        let mut n_errors = 0;
        for golden in GOLDEN {
            for len in 1..golden.len() {
                n_errors += usize::from(decode_histograms(&golden[..len]).is_err());
            }
            for bit in 0..golden.len() * 8 {
                let mut flipped = golden.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                n_errors += usize::from(decode_histograms(&flipped).is_err());
            }
        }
        assert!(n_errors > 600, "{n_errors}");
    }
}
