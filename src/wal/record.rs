//! Record bodies.

use crate::foundation::Cursor;
use crate::foundation::cursor::{put_uvarint, put_uvarint_bytes, put_varint};
use crate::model::{Interval, Label, Labels, LabelsError, Metadata, MetricType, TimestampMs};
use crate::wal::WalError;
use crate::wal::floats::read_samples;

/// What a record is about: the first byte of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// 1: references and labels of new series.
    Series,
    /// 2: floats.
    Samples,
    /// 3: deleted intervals.
    Tombstones,
    /// 4: exemplars.
    Exemplars,
    /// 5: out-of-order chunks that were mapped; in `wbl/` only.
    MmapMarkers,
    /// 6: type, unit and help.
    Metadata,
    /// 7: native histograms.
    Histograms,
    /// 8: native histograms with float counts.
    FloatHistograms,
    /// 9: native histograms with custom buckets.
    CustomHistograms,
    /// 10: the same with float counts.
    CustomFloatHistograms,
    /// 11: floats with optional start timestamps.
    SamplesV2,
    /// 12: native histograms with optional start timestamps.
    HistogramsV2,
    /// 13: the same with float counts.
    FloatHistogramsV2,
    /// Anything else.
    Unknown(u8),
}

impl RecordKind {
    /// The kind of a body; an empty one is unknown.
    pub fn of(body: &[u8]) -> Self {
        match body.first().copied().unwrap_or(0) {
            1 => Self::Series,
            2 => Self::Samples,
            3 => Self::Tombstones,
            4 => Self::Exemplars,
            5 => Self::MmapMarkers,
            6 => Self::Metadata,
            7 => Self::Histograms,
            8 => Self::FloatHistograms,
            9 => Self::CustomHistograms,
            10 => Self::CustomFloatHistograms,
            11 => Self::SamplesV2,
            12 => Self::HistogramsV2,
            13 => Self::FloatHistogramsV2,
            other => Self::Unknown(other),
        }
    }
}

const SERIES: u8 = 1;
const SAMPLES: u8 = 2;
const TOMBSTONES: u8 = 3;
const METADATA: u8 = 6;

/// One float and the reference of its series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RefSample {
    /// The series' reference in this log.
    pub series: u64,
    /// When.
    pub t: TimestampMs,
    /// Since when it counts; zero is unknown.
    pub start_t: TimestampMs,
    /// What.
    pub v: f64,
}

/// A deleted interval of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefTombstone {
    /// The series' reference in this log.
    pub series: u64,
    /// Closed on both ends.
    pub interval: Interval,
}

/// What a target says about the metric of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefMetadata {
    /// The series' reference in this log.
    pub series: u64,
    /// Type, unit and help.
    pub metadata: Metadata,
}

/// Collects a samples record; its buffer is reused.
#[derive(Debug, Default)]
pub struct SamplesEncoder {
    body: Vec<u8>,
    first: Option<(u64, TimestampMs)>,
}

impl SamplesEncoder {
    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
        self.first = None;
    }

    /// Adds one sample.
    pub fn push(&mut self, series: u64, t: TimestampMs, v: f64) {
        let (first_series, first_t) = *self.first.get_or_insert_with(|| {
            self.body.push(SAMPLES);
            self.body.extend_from_slice(&series.to_be_bytes());
            self.body.extend_from_slice(&t.to_be_bytes());
            (series, t)
        });
        put_varint(
            &mut self.body,
            series.wrapping_sub(first_series).cast_signed(),
        );
        put_varint(&mut self.body, t.wrapping_sub(first_t));
        self.body.extend_from_slice(&v.to_bits().to_be_bytes());
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        self.first.map(|_| self.body.as_slice())
    }
}

/// Collects a series record; its buffer is reused.
#[derive(Debug, Default)]
pub struct SeriesEncoder {
    body: Vec<u8>,
}

impl SeriesEncoder {
    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
    }

    /// Adds one series.
    pub fn push(&mut self, series: u64, labels: &Labels) {
        if self.body.is_empty() {
            self.body.push(SERIES);
        }
        self.body.extend_from_slice(&series.to_be_bytes());
        put_uvarint(&mut self.body, labels.len() as u64);
        for (name, value) in labels {
            put_uvarint_bytes(&mut self.body, name.as_bytes());
            put_uvarint_bytes(&mut self.body, value.as_bytes());
        }
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        (!self.body.is_empty()).then_some(self.body.as_slice())
    }
}

/// Collects a metadata record; its buffer is reused.
#[derive(Debug, Default)]
pub struct MetadataEncoder {
    body: Vec<u8>,
}

impl MetadataEncoder {
    /// Forgets everything, keeps the buffer.
    pub fn clear(&mut self) {
        self.body.clear();
    }

    /// Adds what is said about one series.
    pub fn push(&mut self, series: u64, metadata: &Metadata) {
        if self.body.is_empty() {
            self.body.push(METADATA);
        }
        put_uvarint(&mut self.body, series);
        self.body.push(match metadata.metric_type {
            MetricType::Unknown => 0,
            MetricType::Counter => 1,
            MetricType::Gauge => 2,
            MetricType::Histogram => 3,
            MetricType::GaugeHistogram => 4,
            MetricType::Summary => 5,
            MetricType::Info => 6,
            MetricType::StateSet => 7,
        });
        put_uvarint(&mut self.body, 2);
        for (name, value) in [("UNIT", &metadata.unit), ("HELP", &metadata.help)] {
            put_uvarint_bytes(&mut self.body, name.as_bytes());
            put_uvarint_bytes(&mut self.body, value.as_bytes());
        }
    }

    /// The record, unless nothing was added.
    pub fn record(&self) -> Option<&[u8]> {
        (!self.body.is_empty()).then_some(self.body.as_slice())
    }
}

/// A tombstones record.
pub fn encode_tombstones(tombstones: &[RefTombstone]) -> Vec<u8> {
    let mut body = vec![TOMBSTONES];
    for tombstone in tombstones {
        body.extend_from_slice(&tombstone.series.to_be_bytes());
        put_varint(&mut body, tombstone.interval.min);
        put_varint(&mut body, tombstone.interval.max);
    }
    body
}

/// Hands every series of a series record to `each`; labels that are no label set come as the error they are.
pub fn decode_series(
    body: &[u8],
    mut each: impl FnMut(u64, Result<Labels, LabelsError>),
) -> Result<(), WalError> {
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    let mut pairs: Vec<Label<'_>> = Vec::new();
    let mut text = Vec::new();
    while !cursor.is_empty() {
        let series = cursor.u64_be("series reference")?;
        let mut ahead = cursor.clone();
        if let Some(labels) = plain_labels(&mut ahead, &mut text) {
            cursor = ahead;
            each(series, Ok(labels));
            continue;
        }
        let n_labels = cursor.uvarint_len("label count")?;
        pairs.clear();
        for _ in 0..n_labels {
            let name = cursor.uvarint_str("label name")?;
            pairs.push((name, cursor.uvarint_str("label value")?));
        }
        each(series, Labels::from_sorted(&pairs));
    }
    Ok(())
}

/// Labels as nearly all are, put together in `text`; `None` where there is anything to be said about them.
fn plain_labels(cursor: &mut Cursor<'_>, text: &mut Vec<u8>) -> Option<Labels> {
    text.clear();
    let n_labels = cursor.uvarint_len("label count").ok()?;
    let mut before: &[u8] = &[];
    for _ in 0..n_labels {
        let name = cursor.uvarint_bytes("label name").ok()?;
        let value = cursor.uvarint_bytes("label value").ok()?;
        // The first one is not empty either.
        if name <= before || value.is_empty() {
            return None;
        }
        before = name;
        Labels::push_encoded(text, name)?;
        Labels::push_encoded(text, value)?;
    }
    Labels::from_encoded(text)
}

/// Appends the floats of a samples record (kinds 2 and 11) to `out`.
pub fn decode_samples(body: &[u8], out: &mut Vec<RefSample>) -> Result<(), WalError> {
    read_samples(body, |sample| out.push(*sample))
}

/// The entries of a tombstones record.
pub fn decode_tombstones(body: &[u8]) -> Result<Vec<RefTombstone>, WalError> {
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    let mut tombstones = Vec::new();
    while !cursor.is_empty() {
        tombstones.push(RefTombstone {
            series: cursor.u64_be("series reference")?,
            interval: Interval {
                min: cursor.varint("first time")?,
                max: cursor.varint("last time")?,
            },
        });
    }
    Ok(tombstones)
}

/// The entries of a metadata record; fields it does not know are read over.
pub fn decode_metadata(body: &[u8]) -> Result<Vec<RefMetadata>, WalError> {
    let mut cursor = Cursor::new(body);
    cursor.u8("record type")?;
    let mut entries = Vec::new();
    while !cursor.is_empty() {
        let series = cursor.uvarint("series reference")?;
        let mut metadata = Metadata {
            metric_type: metric_type(cursor.u8("metric type")?),
            ..Metadata::default()
        };
        for _ in 0..cursor.uvarint_len("field count")? {
            let name = cursor.uvarint_bytes("field name")?;
            let value = cursor.uvarint_str("field value")?;
            match name {
                b"UNIT" => value.clone_into(&mut metadata.unit),
                b"HELP" => value.clone_into(&mut metadata.help),
                _ => (),
            }
        }
        entries.push(RefMetadata { series, metadata });
    }
    Ok(entries)
}

fn metric_type(byte: u8) -> MetricType {
    match byte {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_bytes_prometheus_writes() {
        let mut encoder = SamplesEncoder::default();
        assert_eq!(encoder.record(), None);
        encoder.push(10, 1000, 1.5);
        encoder.push(9, 1015, -0.0);
        let mut golden = vec![2];
        golden.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0x03, 0xe8]);
        golden.extend_from_slice(&[0, 0, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        golden.extend_from_slice(&[1, 30, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encoder.record(), Some(golden.as_slice()));
        let mut samples = Vec::new();
        decode_samples(&golden, &mut samples).unwrap();
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[1].series, samples[1].t), (9, 1015));
        assert_eq!(samples[1].v.to_bits(), (-0.0f64).to_bits());
    }

    #[test]
    fn series_have_the_bytes_prometheus_writes() {
        let mut encoder = SeriesEncoder::default();
        let labels = Labels::new(&[("__name__", "up"), ("job", "node")]).unwrap();
        encoder.push(3, &labels);
        let mut golden = vec![1, 0, 0, 0, 0, 0, 0, 0, 3, 2, 8];
        golden.extend_from_slice(b"__name__\x02up\x03job\x04node");
        assert_eq!(encoder.record(), Some(golden.as_slice()));
        let mut seen = Vec::new();
        decode_series(&golden, |series, labels| seen.push((series, labels))).unwrap();
        assert_eq!(seen, [(3, Ok(labels))]);
    }

    #[test]
    fn labels_of_every_kind_are_read_as_one_by_one() {
        let long = "v".repeat(64);
        let longer = "\u{e9}".repeat(5000);
        let pieces: [&[u8]; 12] = [
            b"",
            b"a",
            b"b",
            b"ab",
            b"__name__",
            "\u{e9}".as_bytes(),
            b"\xc3",
            b"\xa9",
            b"\xff",
            long.as_bytes(),
            longer.as_bytes(),
            "\0@\u{7f}".as_bytes(),
        ];
        let mut of_pairs = vec![vec![]];
        for name in pieces {
            for value in pieces {
                of_pairs.push(vec![(name, value)]);
                for second in pieces {
                    of_pairs.push(vec![(name, value), (second, value)]);
                    of_pairs.push(vec![(name, second), (b"b", value), (second, name)]);
                }
            }
        }
        let (mut n_read, mut n_refused, mut n_not_text) = (0, 0, 0);
        for pairs in of_pairs {
            let mut body = vec![SERIES];
            for number in [7u64, 8] {
                body.extend_from_slice(&number.to_be_bytes());
                put_uvarint(&mut body, pairs.len() as u64);
                for (name, value) in &pairs {
                    put_uvarint_bytes(&mut body, name);
                    put_uvarint_bytes(&mut body, value);
                }
            }
            let mut seen = Vec::new();
            let read = decode_series(&body, |series, labels| seen.push((series, labels)));
            let texts: Result<Vec<Label<'_>>, std::str::Utf8Error> = pairs
                .iter()
                .map(|(name, value)| Ok((str::from_utf8(name)?, str::from_utf8(value)?)))
                .collect();
            let Ok(texts) = texts else {
                assert!(read.is_err() && seen.is_empty(), "{pairs:?}");
                n_not_text += 1;
                continue;
            };
            read.unwrap();
            let expect = Labels::from_sorted(&texts);
            n_read += usize::from(expect.is_ok());
            n_refused += usize::from(expect.is_err());
            assert_eq!(seen, [(7, expect.clone()), (8, expect)], "{pairs:?}");
            for cut in 1..(body.len() / 2).min(60) {
                assert!(decode_series(&body[..body.len() - cut], |_, _| ()).is_err());
            }
        }
        assert!(0 < n_read && 0 < n_refused && 0 < n_not_text);
    }

    #[test]
    fn metadata_has_the_bytes_prometheus_writes() {
        let mut encoder = MetadataEncoder::default();
        let metadata = Metadata {
            metric_type: MetricType::Counter,
            help: "Total.".to_owned(),
            unit: "s".to_owned(),
        };
        encoder.push(300, &metadata);
        let golden = b"\x06\xac\x02\x01\x02\x04UNIT\x01s\x04HELP\x06Total.";
        assert_eq!(encoder.record(), Some(golden.as_slice()));
        assert_eq!(
            decode_metadata(golden).unwrap(),
            [RefMetadata {
                series: 300,
                metadata
            }]
        );
    }

    #[test]
    fn tombstones_come_back() {
        let tombstones = [RefTombstone {
            series: 7,
            interval: Interval { min: -5, max: 9000 },
        }];
        let body = encode_tombstones(&tombstones);
        assert_eq!(body[..9], [3, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(decode_tombstones(&body).unwrap(), tombstones);
    }

    #[test]
    fn no_truncation_and_no_flipped_bit_of_a_body_panics() {
        let mut series = SeriesEncoder::default();
        series.push(3, &Labels::new(&[("a", "b"), ("c", "d")]).unwrap());
        let mut samples = SamplesEncoder::default();
        samples.push(1, 2, 3.0);
        samples.push(2, 3, 4.0);
        let mut metadata = MetadataEncoder::default();
        metadata.push(1, &Metadata::default());
        let tombstones = encode_tombstones(&[RefTombstone {
            series: 7,
            interval: Interval { min: 1, max: 2 },
        }]);
        type Decode = fn(&[u8]) -> Result<(), WalError>;
        let bodies: [(&[u8], Decode); 4] = [
            (series.record().unwrap(), |b| decode_series(b, |_, _| ())),
            (samples.record().unwrap(), |b| {
                decode_samples(b, &mut Vec::new())
            }),
            (metadata.record().unwrap(), |b| {
                decode_metadata(b).map(|_| ())
            }),
            (&tombstones, |b| decode_tombstones(b).map(|_| ())),
        ];
        let mut n_errors = 0;
        for (body, decode) in bodies {
            for len in 1..body.len() {
                n_errors += usize::from(decode(&body[..len]).is_err());
            }
            for bit in 0..body.len() * 8 {
                let mut flipped = body.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                n_errors += usize::from(decode(&flipped).is_err());
            }
        }
        assert!(n_errors > 100, "{n_errors}");
    }
}
