//! Builds chunks of histograms, and says what may share one.

use std::borrow::Cow;

use crate::chunk::bits::BitWriter;
use crate::chunk::error::ChunkError;
use crate::chunk::histogram::lanes::Lanes;
use crate::chunk::histogram::layout::{Layout, n_buckets};
use crate::chunk::histogram::read::HistogramIter;
use crate::chunk::histogram::sameness::{Both, spans_of, union};
use crate::chunk::start_time::StartWriter;
use crate::chunk::varbit::put_varbit_int;
use crate::model::{
    BucketSpan, Buckets, Counts, Encoding, Histogram, ResetHint, TimestampMs, is_stale,
};

/// Where the header of start timestamps stands; without them, the flags about resets.
const FLAGS_AT: usize = 2;

/// Bytes of sample count and flags.
const HEADER_BYTES: usize = FLAGS_AT + 1;

/// The count shares its bytes with the flags about resets where start timestamps have a byte of their own.
const ST_SAMPLES_MAX: u16 = 0x3fff;

/// Bucket indexes beyond this are no histogram's, and their differences would not fit a span.
const INDEX_MAX: i64 = 1 << 30;

/// What the header of a chunk says about resets of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ResetHeader {
    /// Nothing.
    #[default]
    Unknown = 0,
    /// Not between the chunk before and this one.
    NotReset = 0x40,
    /// Between the chunk before and this one.
    Reset = 0x80,
    /// This is no counter.
    Gauge = 0xc0,
}

impl ResetHeader {
    /// The top two bits of a byte.
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte >> 6 {
            0 => Self::Unknown,
            1 => Self::NotReset,
            2 => Self::Reset,
            _ => Self::Gauge,
        }
    }
}

/// Builds one chunk, histogram by histogram; its bytes are complete after every one.
#[derive(Debug, Clone)]
pub struct HistogramAppender {
    bits: BitWriter,
    encoding: Encoding,
    header: ResetHeader,
    layout: Layout,
    t: TimestampMs,
    delta: i64,
    lanes: Lanes,
    last: Last,
    starts: StartWriter,
    n_samples: u16,
}

/// The newest histogram, with the buckets of the layout.
#[derive(Debug, Clone, Default)]
struct Last {
    count: f64,
    zero_count: f64,
    sum: f64,
    positive: Vec<f64>,
    negative: Vec<f64>,
}

/// May a histogram join the chunk?
enum Fit {
    /// As they are, both have the buckets of the layout, or only the histogram lacks some.
    Joins,
    /// Once the chunk has these buckets.
    Widens {
        positive: Vec<BucketSpan>,
        negative: Vec<BucketSpan>,
    },
    /// No; so the next chunk begins.
    Cut(ResetHeader),
}

impl HistogramAppender {
    /// A chunk without samples, of one of the four encodings for histograms.
    pub fn new(encoding: Encoding) -> Result<Self, ChunkError> {
        match encoding {
            Encoding::Histogram | Encoding::HistogramSt => Ok(Self::empty(encoding, Counts::Whole)),
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => {
                Ok(Self::empty(encoding, Counts::Float))
            }
            Encoding::Xor | Encoding::Xor2 => Err(ChunkError::NotHistograms(encoding)),
            Encoding::Aggregate => Err(ChunkError::Aggregates),
        }
    }

    /// A chunk without samples, fit for `histogram` to be the first: with whole counts only if it has them.
    pub fn starting_with(counts: Counts, has_start_times: bool, histogram: &Histogram) -> Self {
        let counts = match counts {
            Counts::Whole if histogram.has_whole_counts() => Counts::Whole,
            Counts::Whole | Counts::Float => Counts::Float,
        };
        let encoding = match (counts, has_start_times) {
            (Counts::Whole, false) => Encoding::Histogram,
            (Counts::Whole, true) => Encoding::HistogramSt,
            (Counts::Float, false) => Encoding::FloatHistogram,
            (Counts::Float, true) => Encoding::FloatHistogramSt,
        };
        Self::empty(encoding, counts)
    }

    fn empty(encoding: Encoding, counts: Counts) -> Self {
        Self {
            bits: BitWriter::after(vec![0; HEADER_BYTES]),
            encoding,
            header: ResetHeader::Unknown,
            layout: Layout::of(&Histogram::stale()),
            t: 0,
            delta: 0,
            lanes: match counts {
                Counts::Whole => Lanes::whole(),
                Counts::Float => Lanes::float(),
            },
            last: Last::default(),
            starts: StartWriter::default(),
            n_samples: 0,
        }
    }

    /// Continues an existing chunk behind its last sample; what follows that sample is cut off.
    pub fn resume(encoding: Encoding, data: &[u8]) -> Result<Self, ChunkError> {
        Self::filtered(encoding, data, |_| true)
    }

    /// The samples of a chunk whose times `is_kept` wants.
    pub(in crate::chunk) fn filtered(
        encoding: Encoding,
        data: &[u8],
        is_kept: impl Fn(TimestampMs) -> bool,
    ) -> Result<Self, ChunkError> {
        let mut appender = Self::new(encoding)?;
        let iter = HistogramIter::new(encoding, data)?;
        appender.header = iter.header;
        for sample in iter {
            let sample = sample?;
            if !is_kept(sample.t) {
                // What the header says of a reset, it says of the first sample.
                if appender.n_samples == 0 && appender.header != ResetHeader::Gauge {
                    appender.header = ResetHeader::Unknown;
                }
                continue;
            }
            if appender.n_samples == 0 {
                appender.layout = Layout::of(&sample.histogram);
            }
            appender.put(sample.t, sample.st, &sample.histogram);
        }
        Ok(appender)
    }

    /// The empty chunk behind this one, whose first sample will be `histogram`: whether the counter was reset in
    /// between goes into its header. Whole counts are asked for and given where the histogram has them.
    pub fn successor(&self, counts: Counts, histogram: &Histogram) -> Self {
        let mut next = Self::starting_with(counts, self.has_start_times(), histogram);
        next.header = match self.fit(histogram) {
            _ if self.n_samples == 0 => self.header,
            Fit::Cut(header) => header,
            Fit::Joins | Fit::Widens { .. } if self.header == ResetHeader::Gauge => {
                ResetHeader::Gauge
            }
            Fit::Joins | Fit::Widens { .. } => ResetHeader::NotReset,
        };
        next
    }

    /// Adds a histogram that counts since `st`, zero for unknown. False: it cannot share this chunk, which is as before;
    /// it belongs into the [`Self::successor`]. The first one always fits, unless it is no histogram at all.
    pub fn append(
        &mut self,
        t: TimestampMs,
        st: TimestampMs,
        histogram: &Histogram,
    ) -> Result<bool, ChunkError> {
        check(histogram)?;
        if self.has_whole_counts() && !histogram.has_whole_counts() {
            if self.n_samples == 0 {
                let problem = "its counts are not whole numbers";
                return Err(ChunkError::Layout { problem });
            }
            return Ok(false);
        }
        if self.n_samples == 0 {
            self.layout = Layout::of(histogram);
            match histogram.reset_hint {
                ResetHint::Gauge => self.header = ResetHeader::Gauge,
                ResetHint::Reset => self.header = ResetHeader::Reset,
                ResetHint::Unknown | ResetHint::NotReset => (),
            }
        } else {
            if self.n_samples == self.n_samples_max() {
                return Ok(false);
            }
            match self.fit(histogram) {
                Fit::Cut(_) => return Ok(false),
                Fit::Joins => (),
                Fit::Widens { positive, negative } => self.widen(positive, negative)?,
            }
        }
        self.put(t, st, histogram);
        Ok(true)
    }

    /// Does the newest sample say what `histogram` says?
    #[expect(clippy::float_cmp, reason = "the same or another")]
    pub fn ends_with(&self, histogram: &Histogram) -> bool {
        let last = &self.last;
        if self.n_samples == 0 || histogram.is_stale() || is_stale(last.sum) {
            return 0 < self.n_samples && histogram.is_stale() && is_stale(last.sum);
        }
        let count = |counts: &[f64], at: Option<usize>| {
            at.and_then(|at| counts.get(at)).copied().unwrap_or(0.0)
        };
        let has_same = |spans: &[BucketSpan], before: &[f64], now: &Buckets| {
            let union = union(spans, &now.spans);
            let mut buckets = union.iter();
            buckets.all(|b| count(before, b.left) == count(&now.counts, b.right))
        };
        histogram.schema == self.layout.schema
            && histogram.zero_threshold == self.layout.zero_threshold
            && has_same_bits(&histogram.custom_bounds, &self.layout.custom_bounds)
            && histogram.count == last.count
            && histogram.zero_count == last.zero_count
            && histogram.sum.to_bits() == last.sum.to_bits()
            && has_same(&self.layout.positive, &last.positive, &histogram.positive)
            && has_same(&self.layout.negative, &last.negative, &histogram.negative)
    }

    /// How many samples.
    pub fn n_samples(&self) -> usize {
        usize::from(self.n_samples)
    }

    /// How [`Self::bytes`] are to be read.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What is known about the counter between the chunk before and this one.
    pub fn header(&self) -> ResetHeader {
        self.header
    }

    /// The chunk as it stands.
    pub fn bytes(&self) -> &[u8] {
        self.bits.used_bytes()
    }

    /// Length of [`Self::bytes`].
    pub fn n_bytes(&self) -> usize {
        self.bits.used_bytes().len()
    }

    /// Gives the chunk away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bits.into_used_bytes()
    }

    fn has_whole_counts(&self) -> bool {
        matches!(self.lanes, Lanes::Whole { .. })
    }

    fn has_start_times(&self) -> bool {
        matches!(
            self.encoding,
            Encoding::HistogramSt | Encoding::FloatHistogramSt
        )
    }

    fn n_samples_max(&self) -> u16 {
        if self.has_start_times() {
            ST_SAMPLES_MAX
        } else {
            u16::MAX
        }
    }

    /// The rules, in Prometheus' order.
    #[expect(clippy::float_cmp, reason = "a threshold is the same or another")]
    fn fit(&self, histogram: &Histogram) -> Fit {
        let is_gauge = histogram.reset_hint == ResetHint::Gauge;
        let cut = |header| Fit::Cut(if is_gauge { ResetHeader::Gauge } else { header });
        if histogram.is_stale() {
            return Fit::Joins;
        }
        if is_gauge != (self.header == ResetHeader::Gauge) {
            return cut(ResetHeader::Unknown);
        }
        let fell = |before: f64, now: f64| !is_gauge && now < before;
        if histogram.reset_hint == ResetHint::Reset {
            return cut(ResetHeader::Reset);
        }
        if is_stale(self.last.sum) {
            return cut(ResetHeader::Unknown);
        }
        if fell(self.last.count, histogram.count) {
            return cut(ResetHeader::Reset);
        }
        if histogram.schema != self.layout.schema
            || histogram.zero_threshold != self.layout.zero_threshold
        {
            return cut(ResetHeader::Unknown);
        }
        if !has_same_bits(&histogram.custom_bounds, &self.layout.custom_bounds)
            || fell(self.last.zero_count, histogram.zero_count)
        {
            return cut(ResetHeader::Reset);
        }
        let layout = (&self.layout.positive, &self.layout.negative);
        let positive = union(layout.0, &histogram.positive.spans);
        let negative = union(layout.1, &histogram.negative.spans);
        let positive_side = Side::new(&positive, &self.last.positive, &histogram.positive.counts);
        let negative_side = Side::new(&negative, &self.last.negative, &histogram.negative.counts);
        if !is_gauge && (positive_side.fell || negative_side.fell) {
            return cut(ResetHeader::Reset);
        }
        if !positive_side.is_wider && !negative_side.is_wider {
            return Fit::Joins;
        }
        // As Prometheus spells them: the histogram's own spans where they cover the chunk's buckets.
        let spans = |side: &Side, both: &[Both], own: &[BucketSpan]| {
            if side.is_narrower {
                spans_of(both)
            } else {
                own.to_vec()
            }
        };
        Fit::Widens {
            positive: spans(&positive_side, &positive, &histogram.positive.spans),
            negative: spans(&negative_side, &negative, &histogram.negative.spans),
        }
    }

    /// Encodes what is there again, with more buckets.
    fn widen(
        &mut self,
        positive: Vec<BucketSpan>,
        negative: Vec<BucketSpan>,
    ) -> Result<(), ChunkError> {
        let mut wide = Self::new(self.encoding)?;
        wide.header = self.header;
        wide.layout = Layout {
            positive,
            negative,
            ..self.layout.clone()
        };
        for sample in HistogramIter::new(self.encoding, self.bits.used_bytes())? {
            let sample = sample?;
            wide.put(sample.t, sample.st, &sample.histogram);
        }
        *self = wide;
        Ok(())
    }

    /// Appends a histogram whose buckets are all in the layout.
    fn put(&mut self, t: TimestampMs, st: TimestampMs, histogram: &Histogram) {
        let before = self.t;
        let stale = Histogram::stale();
        let histogram = if histogram.is_stale() {
            &stale
        } else {
            histogram
        };
        let positive = spread(histogram, &self.layout, |h| &h.positive, |l| &l.positive);
        let negative = spread(histogram, &self.layout, |h| &h.negative, |l| &l.negative);
        if self.n_samples == 0 {
            self.layout.put(&mut self.bits);
            put_varbit_int(&mut self.bits, t);
            self.lanes
                .put_first(&mut self.bits, histogram, (&positive, &negative));
        } else {
            let delta = t.wrapping_sub(before);
            put_varbit_int(&mut self.bits, delta.wrapping_sub(self.delta));
            self.delta = delta;
            self.lanes
                .put_later(&mut self.bits, histogram, (&positive, &negative));
        }
        self.last.positive.clear();
        self.last.positive.extend_from_slice(&positive);
        self.last.negative.clear();
        self.last.negative.extend_from_slice(&negative);
        self.last.count = histogram.count;
        self.last.zero_count = histogram.zero_count;
        self.last.sum = histogram.sum;
        self.t = t;
        if self.has_start_times() {
            if self.n_samples == 0 {
                self.starts.put_first(&mut self.bits, FLAGS_AT, t, st);
            } else {
                let place = (self.n_samples, before);
                self.starts.put_later(&mut self.bits, FLAGS_AT, place, st);
            }
        }
        self.n_samples = self.n_samples.saturating_add(1);
        self.put_header();
    }

    fn put_header(&mut self) {
        let flags = self.header as u8;
        let has_start_times = self.has_start_times();
        let [high, low] = self.n_samples.to_be_bytes();
        if let Some(header) = self.bits.bytes_mut().first_chunk_mut::<HEADER_BYTES>() {
            if has_start_times {
                header[0] = flags | high & 0x3f;
            } else {
                header[0] = high;
                header[FLAGS_AT] = flags;
            }
            header[1] = low;
        }
    }
}

/// One sign of a histogram beside that of the chunk's last sample.
struct Side {
    /// A bucket counts less than before, or one that counted is gone.
    fell: bool,
    /// The histogram has buckets that the chunk has not.
    is_wider: bool,
    /// The chunk has buckets that the histogram has not.
    is_narrower: bool,
}

impl Side {
    fn new(union: &[Both], before: &[f64], now: &[f64]) -> Self {
        let count = |counts: &[f64], at: Option<usize>| at.and_then(|at| counts.get(at)).copied();
        let mut side = Self {
            fell: false,
            is_wider: false,
            is_narrower: false,
        };
        for bucket in union {
            match (count(before, bucket.left), count(now, bucket.right)) {
                (Some(before), Some(now)) => side.fell |= now < before,
                (Some(before), None) => {
                    side.is_narrower = true;
                    side.fell |= before != 0.0;
                }
                (None, _) => side.is_wider = true,
            }
        }
        side
    }
}

/// Has every bucket a count, and are the buckets where buckets can be?
fn check(histogram: &Histogram) -> Result<(), ChunkError> {
    let wrong = |problem| Err(ChunkError::Layout { problem });
    for buckets in [&histogram.positive, &histogram.negative] {
        if n_buckets(&buckets.spans) != buckets.counts.len() {
            return wrong("spans and counts are not equally many");
        }
        let mut next = 0i64;
        for (position, span) in buckets.spans.iter().enumerate() {
            if 0 < position && span.offset < 0 {
                return wrong("a span begins before the end of the one before");
            }
            next += i64::from(span.offset);
            if !(-INDEX_MAX..INDEX_MAX).contains(&next) {
                return wrong("a bucket lies beyond all indexes");
            }
            next += i64::from(span.length);
        }
    }
    Ok(())
}

/// The counts of one sign for all buckets of the layout.
fn spread<'a>(
    histogram: &'a Histogram,
    layout: &Layout,
    of_histogram: impl Fn(&'a Histogram) -> &'a Buckets,
    of_layout: impl Fn(&Layout) -> &Vec<BucketSpan>,
) -> Cow<'a, [f64]> {
    let buckets = of_histogram(histogram);
    let spans = of_layout(layout);
    if buckets.spans == *spans {
        return Cow::Borrowed(&buckets.counts);
    }
    union(spans, &buckets.spans)
        .iter()
        .filter(|bucket| bucket.left.is_some())
        .map(|bucket| {
            let count = bucket.right.and_then(|at| buckets.counts.get(at));
            count.copied().unwrap_or(0.0)
        })
        .collect()
}

fn has_same_bits(left: &[f64], right: &[f64]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| left.to_bits() == right.to_bits())
}
