//! Walks the histograms of a chunk.

use std::sync::Arc;

use crate::chunk::bits::BitReader;
use crate::chunk::error::ChunkError;
use crate::chunk::histogram::append::ResetHeader;
use crate::chunk::histogram::lane::{FloatLane, WholeLane};
use crate::chunk::histogram::layout::{Layout, n_buckets};
use crate::chunk::histogram::sameness::indexes;
use crate::chunk::start_time::{StartReader, take_varint};
use crate::chunk::varbit::{varbit_int, varbit_uint};
use crate::chunk::xor::Flaw;
use crate::foundation::Cursor;
use crate::model::histogram::EXPONENTIAL_SCHEMA_MAX;
use crate::model::{BucketSpan, Buckets, Encoding, Histogram, ResetHint, TimestampMs, is_stale};

/// Bits of the sample count that encodings with start timestamps share with other flags.
const ST_COUNT_MASK: u16 = 0x3fff;

/// Reads one chunk, sample by sample.
#[derive(Debug)]
pub(crate) struct HistogramIter<'a> {
    bits: BitReader<'a>,
    layout: Option<Layout>,
    pub(super) header: ResetHeader,
    t: TimestampMs,
    delta: i64,
    values: Values,
    starts: StartReader,
    encoding: Encoding,
    n_read: u16,
    n_samples: u16,
    n_bytes: usize,
}

/// The counts of the newest sample.
#[derive(Debug)]
enum Values {
    Whole {
        count: WholeLane,
        zero_count: WholeLane,
        sum: FloatLane,
        /// Differences between neighbouring buckets.
        positive: Vec<WholeLane>,
        negative: Vec<WholeLane>,
    },
    Float {
        count: FloatLane,
        zero_count: FloatLane,
        sum: FloatLane,
        positive: Vec<FloatLane>,
        negative: Vec<FloatLane>,
    },
    /// Before the first sample.
    Nothing,
}

/// One sample.
pub(crate) struct HistogramSample {
    pub(crate) t: TimestampMs,
    /// Zero is unknown.
    pub(crate) st: TimestampMs,
    pub(crate) histogram: Histogram,
}

impl<'a> HistogramIter<'a> {
    pub(crate) fn new(encoding: Encoding, data: &'a [u8]) -> Result<Self, ChunkError> {
        let mut cursor = Cursor::new(data);
        let count = cursor.u16_be("sample count")?;
        let flags = cursor.u8("histogram flags")?;
        let (n_samples, header, starts) = match encoding {
            Encoding::Histogram | Encoding::FloatHistogram => (count, flags, 0),
            Encoding::HistogramSt | Encoding::FloatHistogramSt => {
                let [high, _] = count.to_be_bytes();
                (count & ST_COUNT_MASK, high, flags)
            }
            Encoding::Xor | Encoding::Xor2 => return Err(ChunkError::NotHistograms(encoding)),
            Encoding::Aggregate => return Err(ChunkError::Aggregates),
        };
        Ok(Self {
            bits: BitReader::new(cursor.rest()),
            layout: None,
            header: ResetHeader::from_byte(header),
            t: 0,
            delta: 0,
            values: Values::Nothing,
            starts: StartReader::new(starts),
            encoding,
            n_read: 0,
            n_samples,
            n_bytes: data.len(),
        })
    }

    pub(crate) fn n_samples(&self) -> usize {
        usize::from(self.n_samples)
    }

    fn decode(&mut self) -> Result<HistogramSample, Flaw> {
        let before = self.t;
        if self.n_read == 0 {
            let layout = Layout::take(&mut self.bits)?;
            self.t = varbit_int(&mut self.bits)?;
            self.values = Values::first(self.encoding, &layout, &mut self.bits)?;
            self.layout = Some(layout);
            if self.starts.first_known {
                let difference = take_varint(&mut self.bits)?;
                self.starts.set_first(self.t, difference);
            }
        } else {
            self.delta = self.delta.wrapping_add(varbit_int(&mut self.bits)?);
            self.t = self.t.wrapping_add(self.delta);
            self.values.later(&mut self.bits)?;
            self.starts.later(&mut self.bits, self.n_read, before)?;
        }
        Ok(HistogramSample {
            t: self.t,
            st: self.starts.st,
            histogram: self.histogram(),
        })
    }

    fn histogram(&self) -> Histogram {
        let sum = self.values.sum();
        let Some(layout) = self.layout.as_ref().filter(|_| !is_stale(sum)) else {
            return Histogram {
                sum,
                ..Histogram::default()
            };
        };
        let (count, zero_count, positive, negative) = self.values.counts();
        let mut histogram = Histogram {
            // What the header says of the first sample holds only beside the chunk before, which may be gone.
            reset_hint: if self.header == ResetHeader::Gauge {
                ResetHint::Gauge
            } else if 0 < self.n_read {
                ResetHint::NotReset
            } else {
                ResetHint::Unknown
            },
            schema: layout.schema,
            zero_threshold: layout.zero_threshold,
            zero_count,
            count,
            sum,
            positive: Buckets {
                spans: layout.positive.clone(),
                counts: positive,
            },
            negative: Buckets {
                spans: layout.negative.clone(),
                counts: negative,
            },
            custom_bounds: Arc::clone(&layout.custom_bounds),
        };
        if EXPONENTIAL_SCHEMA_MAX < histogram.schema {
            make_coarser(&mut histogram);
        }
        histogram
    }
}

/// Merges the buckets of a schema finer than ours: those of later versions may be.
fn make_coarser(histogram: &mut Histogram) {
    let schemas = histogram.schema.abs_diff(EXPONENTIAL_SCHEMA_MAX);
    histogram.schema = EXPONENTIAL_SCHEMA_MAX;
    for buckets in [&mut histogram.positive, &mut histogram.negative] {
        let fine = std::mem::take(buckets);
        // Each schema halves the buckets of the finer one; a bucket is named by its upper bound.
        let coarse = |index: i64| ((index - 1) >> schemas) + 1;
        let mut next = 0i64;
        for (index, count) in indexes(&fine.spans).map(coarse).zip(fine.counts) {
            if let Some(last) = buckets.counts.last_mut()
                && index < next
            {
                *last += count;
                continue;
            }
            match buckets.spans.last_mut() {
                Some(span) if index == next => span.length += 1,
                _ => buckets.spans.push(BucketSpan {
                    // Coarser indexes are no larger than those that fitted.
                    offset: i32::try_from(index - next).unwrap_or(i32::MAX),
                    length: 1,
                }),
            }
            buckets.counts.push(count);
            next = index + 1;
        }
    }
}

impl Values {
    fn first(encoding: Encoding, layout: &Layout, bits: &mut BitReader<'_>) -> Result<Self, Flaw> {
        let n_positive = n_buckets(&layout.positive);
        let n_negative = n_buckets(&layout.negative);
        if matches!(encoding, Encoding::Histogram | Encoding::HistogramSt) {
            if bits.remaining() < n_positive + n_negative {
                return Err(Flaw::Short);
            }
            let whole = |bits: &mut BitReader<'_>| {
                Ok::<_, Flaw>(WholeLane::new(varbit_uint(bits)?.cast_signed()))
            };
            let buckets = |n: usize, bits: &mut BitReader<'_>| {
                (0..n)
                    .map(|_| Ok::<_, Flaw>(WholeLane::new(varbit_int(bits)?)))
                    .collect::<Result<Vec<_>, _>>()
            };
            return Ok(Self::Whole {
                count: whole(bits)?,
                zero_count: whole(bits)?,
                sum: FloatLane::first(bits)?,
                positive: buckets(n_positive, bits)?,
                negative: buckets(n_negative, bits)?,
            });
        }
        if bits.remaining() / 64 < n_positive + n_negative {
            return Err(Flaw::Short);
        }
        let buckets = |n: usize, bits: &mut BitReader<'_>| {
            (0..n)
                .map(|_| FloatLane::first(bits))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self::Float {
            count: FloatLane::first(bits)?,
            zero_count: FloatLane::first(bits)?,
            sum: FloatLane::first(bits)?,
            positive: buckets(n_positive, bits)?,
            negative: buckets(n_negative, bits)?,
        })
    }

    fn later(&mut self, bits: &mut BitReader<'_>) -> Result<(), Flaw> {
        match self {
            Self::Whole {
                count,
                zero_count,
                sum,
                positive,
                negative,
            } => {
                count.take(bits)?;
                zero_count.take(bits)?;
                sum.take(bits)?;
                if !is_stale(sum.value()) {
                    for lane in positive.iter_mut().chain(negative) {
                        lane.take(bits)?;
                    }
                }
            }
            Self::Float {
                count,
                zero_count,
                sum,
                positive,
                negative,
            } => {
                count.take(bits)?;
                zero_count.take(bits)?;
                sum.take(bits)?;
                if !is_stale(sum.value()) {
                    for lane in positive.iter_mut().chain(negative) {
                        lane.take(bits)?;
                    }
                }
            }
            Self::Nothing => (),
        }
        Ok(())
    }

    fn sum(&self) -> f64 {
        match self {
            Self::Whole { sum, .. } | Self::Float { sum, .. } => sum.value(),
            Self::Nothing => 0.0,
        }
    }

    /// Count, zero count, and the counts of buckets.
    #[expect(
        clippy::cast_precision_loss,
        reason = "queries compute with floats, as Prometheus' do"
    )]
    fn counts(&self) -> (f64, f64, Vec<f64>, Vec<f64>) {
        match self {
            Self::Whole {
                count,
                zero_count,
                positive,
                negative,
                ..
            } => {
                let absolute = |lanes: &[WholeLane]| {
                    lanes
                        .iter()
                        .scan(0i64, |count, lane| {
                            *count = count.wrapping_add(lane.value);
                            Some(*count as f64)
                        })
                        .collect()
                };
                (
                    count.value.cast_unsigned() as f64,
                    zero_count.value.cast_unsigned() as f64,
                    absolute(positive),
                    absolute(negative),
                )
            }
            Self::Float {
                count,
                zero_count,
                positive,
                negative,
                ..
            } => {
                let values = |lanes: &[FloatLane]| lanes.iter().map(FloatLane::value).collect();
                (
                    count.value(),
                    zero_count.value(),
                    values(positive),
                    values(negative),
                )
            }
            Self::Nothing => (0.0, 0.0, Vec::new(), Vec::new()),
        }
    }
}

impl Iterator for HistogramIter<'_> {
    type Item = Result<HistogramSample, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.n_read == self.n_samples {
            return None;
        }
        match self.decode() {
            Ok(sample) => {
                self.n_read += 1;
                Some(Ok(sample))
            }
            Err(flaw) => {
                let sample = usize::from(self.n_read);
                self.n_read = self.n_samples;
                Some(Err(flaw.at(sample, self.n_samples(), self.n_bytes)))
            }
        }
    }
}
