//! The chunk of a series that takes samples: of floats or of native histograms, and where it ends.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::chunk::{
    ChunkError, HISTOGRAM_CHUNK_BYTES, HISTOGRAM_SAMPLES_MIN, HistogramAppender, SAMPLES_PER_CHUNK,
    XOR_SAMPLE_BYTES_MAX, Xor2Appender, XorAppender,
};
use crate::foundation::touch;
use crate::head::closed::ClosedChunk;
use crate::model::{Counts, Encoding, Histogram, Sample, SampleTime, TimestampMs};
use crate::storage::AppendError;

/// Above this many bytes a chunk takes no more floats: a kibibyte less the longest sample.
const CHUNK_BYTES_MAX: usize = 1024 - XOR_SAMPLE_BYTES_MAX;

/// Room for the first chunk of a series, of which nothing is known yet.
const FIRST_CHUNK_BYTES: usize = 64;

/// Where chunks end and how they are encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkRules {
    /// Length of the aligned ranges no chunk crosses.
    pub(crate) range_ms: i64,
    /// Floats go into XOR2 chunks, start times or not.
    pub(crate) writes_xor2: bool,
    /// Start times are kept.
    pub(crate) keeps_starts: bool,
}

/// What a series has at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Float(f64),
    /// Counts are whole if they should be.
    Histogram(Counts, &'a Histogram),
}

/// What kind of values a chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ValueKind {
    #[default]
    Float,
    Histogram(Counts),
}

impl ValueKind {
    pub(crate) fn of(encoding: Encoding) -> Self {
        match encoding {
            // No head has aggregates: neither its files nor what it restores can say so.
            Encoding::Xor | Encoding::Xor2 | Encoding::Aggregate => Self::Float,
            Encoding::Histogram | Encoding::HistogramSt => Self::Histogram(Counts::Whole),
            Encoding::FloatHistogram | Encoding::FloatHistogramSt => Self::Histogram(Counts::Float),
        }
    }
}

/// The marker that ends a series of histograms.
static STALE: LazyLock<Histogram> = LazyLock::new(Histogram::stale);

impl Value<'_> {
    pub(crate) fn kind(&self) -> ValueKind {
        match self {
            Self::Float(_) => ValueKind::Float,
            Self::Histogram(counts, _) => ValueKind::Histogram(*counts),
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        match self {
            Self::Float(_) => false,
            Self::Histogram(_, histogram) => histogram.has_custom_buckets(),
        }
    }

    /// What ends a series of such values.
    pub(crate) fn stale(counts: Counts) -> Self {
        Self::Histogram(counts, &STALE)
    }
}

/// The chunk that takes samples.
#[derive(Debug)]
pub(crate) struct OpenChunk {
    builder: Builder,
    pub(crate) min_t: TimestampMs,
    pub(crate) max_t: TimestampMs,
    /// The first time that belongs to the next chunk.
    next_at: TimestampMs,
}

/// Nearly all series have plain floats: what the others need lies elsewhere.
#[derive(Debug)]
enum Builder {
    Xor(XorAppender),
    Xor2(Box<Xor2Chunk>),
    Histogram(Box<HistogramChunk>),
}

#[derive(Debug)]
struct Xor2Chunk {
    chunk: Xor2Appender,
    last: f64,
}

#[derive(Debug)]
struct HistogramChunk {
    chunk: HistogramAppender,
    /// Where it should end was judged.
    is_judged: bool,
}

/// An open chunk on its way to the next process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SavedChunk<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) data: &'a [u8],
    pub(crate) min_t: TimestampMs,
    pub(crate) max_t: TimestampMs,
    pub(crate) next_at: TimestampMs,
    pub(crate) is_judged: bool,
    pub(crate) last: f64,
}

impl OpenChunk {
    /// Reads a little of what changes when a sample comes.
    pub(crate) fn touch(&self) -> u8 {
        let Builder::Xor(chunk) = &self.builder else {
            return 0;
        };
        let (first, last) = (chunk.bytes().first(), chunk.bytes().last());
        first.copied().unwrap_or(0) ^ last.copied().unwrap_or(0)
    }

    /// Reads a little of all the bytes.
    pub(crate) fn touch_all(&self) -> u8 {
        touch(self.bytes())
    }

    /// An empty chunk for a sample that nothing precedes.
    pub(crate) fn new(at: SampleTime, value: Value<'_>, rules: ChunkRules) -> Self {
        Self::with_capacity(at, value, rules, FIRST_CHUNK_BYTES)
    }

    fn with_capacity(
        at: SampleTime,
        value: Value<'_>,
        rules: ChunkRules,
        n_bytes_wanted: usize,
    ) -> Self {
        let has_start = has_start(at, rules);
        let builder = match value {
            Value::Float(_) if has_start || rules.writes_xor2 => {
                Builder::Xor2(Box::new(Xor2Chunk {
                    chunk: Xor2Appender::new(),
                    last: 0.0,
                }))
            }
            Value::Float(_) => Builder::Xor(XorAppender::with_capacity(n_bytes_wanted)),
            Value::Histogram(counts, histogram) => Builder::histogram(
                HistogramAppender::starting_with(counts, has_start, histogram),
            ),
        };
        Self::around(builder, at.t, rules)
    }

    fn around(builder: Builder, t: TimestampMs, rules: ChunkRules) -> Self {
        Self {
            builder,
            min_t: t,
            max_t: t,
            next_at: range_end(t, rules.range_ms),
        }
    }

    /// The empty chunk behind this one, for a sample that does not belong here.
    pub(crate) fn successor(&self, at: SampleTime, value: Value<'_>, rules: ChunkRules) -> Self {
        if let Builder::Histogram(builder) = &self.builder
            && let Value::Histogram(counts, histogram) = value
            && self.kind() == value.kind()
            && has_starts(builder.chunk.encoding()) == has_start(at, rules)
        {
            // Whether the counter was reset in between is known.
            let next = Builder::histogram(builder.chunk.successor(counts, histogram));
            return Self::around(next, at.t, rules);
        }
        Self::with_capacity(at, value, rules, bytes_behind(self.bytes().len()))
    }

    /// The chunk before this one, which has just begun, became `n_bytes` long.
    pub(crate) fn expect_bytes(&mut self, n_bytes: usize) {
        if 0 < n_bytes
            && let Builder::Xor(chunk) = &mut self.builder
        {
            chunk.reserve(bytes_behind(n_bytes));
        }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        match &self.builder {
            Builder::Xor(_) => Encoding::Xor,
            Builder::Xor2(_) => Encoding::Xor2,
            Builder::Histogram(builder) => builder.chunk.encoding(),
        }
    }

    fn kind(&self) -> ValueKind {
        ValueKind::of(self.encoding())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.builder {
            Builder::Xor(chunk) => chunk.bytes(),
            Builder::Xor2(builder) => builder.chunk.bytes(),
            Builder::Histogram(builder) => builder.chunk.bytes(),
        }
    }

    pub(crate) fn into_closed(self) -> ClosedChunk {
        let encoding = self.encoding();
        let data = match self.builder {
            Builder::Xor(chunk) => chunk.into_bytes(),
            Builder::Xor2(builder) => builder.chunk.into_bytes(),
            Builder::Histogram(builder) => builder.chunk.into_bytes(),
        };
        ClosedChunk {
            min_t: self.min_t,
            max_t: self.max_t,
            encoding,
            data: Bytes::from(data),
        }
    }

    /// What brings it back with [`OpenChunk::restore`].
    pub(crate) fn saved(&self) -> SavedChunk<'_> {
        let (is_judged, last) = match &self.builder {
            Builder::Xor(_) => (false, 0.0),
            Builder::Xor2(builder) => (false, builder.last),
            Builder::Histogram(builder) => (builder.is_judged, 0.0),
        };
        SavedChunk {
            encoding: self.encoding(),
            data: self.bytes(),
            min_t: self.min_t,
            max_t: self.max_t,
            next_at: self.next_at,
            is_judged,
            last,
        }
    }

    /// The chunk that was saved; the next sample finds it as it was.
    pub(crate) fn restore(saved: SavedChunk<'_>) -> Result<Self, ChunkError> {
        let SavedChunk { encoding, data, .. } = saved;
        let builder = match encoding {
            Encoding::Xor => Builder::Xor(XorAppender::resume(data)?),
            Encoding::Xor2 => Builder::Xor2(Box::new(Xor2Chunk {
                chunk: Xor2Appender::resume(data)?,
                last: saved.last,
            })),
            Encoding::Aggregate => return Err(ChunkError::Aggregates),
            Encoding::Histogram
            | Encoding::FloatHistogram
            | Encoding::HistogramSt
            | Encoding::FloatHistogramSt => Builder::Histogram(Box::new(HistogramChunk {
                chunk: HistogramAppender::resume(encoding, data)?,
                is_judged: saved.is_judged,
            })),
        };
        Ok(Self {
            builder,
            min_t: saved.min_t,
            max_t: saved.max_t,
            next_at: saved.next_at,
        })
    }

    /// Is `value` what the newest sample says?
    pub(crate) fn ends_with(&self, value: Value<'_>) -> bool {
        match (&self.builder, value) {
            (Builder::Xor(chunk), Value::Float(v)) => chunk
                .last()
                .is_some_and(|last| last.v.to_bits() == v.to_bits()),
            (Builder::Xor2(builder), Value::Float(v)) => builder.last.to_bits() == v.to_bits(),
            (Builder::Histogram(builder), Value::Histogram(_, histogram)) => {
                self.kind() == value.kind() && builder.chunk.ends_with(histogram)
            }
            _ => false,
        }
    }

    /// Adds a sample. False: it cannot share this chunk, which is as before, and belongs into the successor.
    pub(crate) fn append(
        &mut self,
        at: SampleTime,
        value: Value<'_>,
        rules: ChunkRules,
    ) -> Result<bool, AppendError> {
        let start_t = if rules.keeps_starts { at.start_t } else { 0 };
        let appended = match (&mut self.builder, value) {
            (Builder::Xor(chunk), Value::Float(v)) => {
                chunk.make_room();
                chunk.append(at.t, v).map(|()| true)
            }
            (Builder::Xor2(builder), Value::Float(v)) => {
                builder.last = v;
                builder.chunk.append(at.t, start_t, v).map(|()| true)
            }
            (Builder::Histogram(builder), Value::Histogram(_, histogram)) => {
                builder.chunk.append(at.t, start_t, histogram)
            }
            _ => Ok(false),
        };
        let appended = appended.map_err(|error| AppendError::Closed(error.to_string()))?;
        if appended {
            self.max_t = at.t;
        }
        Ok(appended)
    }

    /// Adds those of `floats` that come next and, for all that is known at once, belong here; how many. The others are
    /// for [`OpenChunk::is_done_before`] to judge.
    pub(crate) fn append_floats(&mut self, floats: &[Sample]) -> usize {
        let Builder::Xor(chunk) = &mut self.builder else {
            return 0;
        };
        let (n_bytes, n_samples) = (chunk.n_bytes(), chunk.n_samples());
        // Where the end is judged anew, and where it is for sure.
        let n_until = match SAMPLES_PER_CHUNK / 4 {
            judged_at if n_samples < judged_at => judged_at - n_samples,
            judged_at if n_samples == judged_at => 0,
            _ => (SAMPLES_PER_CHUNK * 2).saturating_sub(n_samples),
        };
        let n_until_large =
            (CHUNK_BYTES_MAX + XOR_SAMPLE_BYTES_MAX).saturating_sub(n_bytes) / XOR_SAMPLE_BYTES_MAX;
        let mut max_t = self.max_t;
        let next = floats.iter().take(n_until.min(n_until_large));
        let n_next = next
            .take_while(|float| {
                let follows = max_t < float.t && float.t < self.next_at;
                max_t = float.t;
                follows
            })
            .count();
        let floats = floats.get(..n_next).unwrap_or_default();
        match (floats.last(), chunk.append_all(floats)) {
            (Some(last), Ok(())) => {
                self.max_t = last.t;
                n_next
            }
            _ => 0,
        }
    }

    /// Must the chunk be closed before this sample? Prometheus' rules, in its order.
    pub(crate) fn is_done_before(
        &mut self,
        at: SampleTime,
        value: Value<'_>,
        rules: ChunkRules,
    ) -> bool {
        match (&self.builder, value) {
            (Builder::Xor(chunk), Value::Float(_)) => {
                let (n_bytes, n_samples) = (chunk.n_bytes(), chunk.n_samples());
                has_start(at, rules) || self.is_full_of_floats(at.t, n_bytes, n_samples)
            }
            (Builder::Xor2(builder), Value::Float(_)) => {
                let (n_bytes, n_samples) = (self.bytes().len(), builder.chunk.n_samples());
                self.is_full_of_floats(at.t, n_bytes, n_samples)
            }
            (Builder::Histogram(builder), Value::Histogram(..)) => {
                let lacks_starts = has_start(at, rules) && !has_starts(builder.chunk.encoding());
                self.kind() != value.kind()
                    || lacks_starts
                    || self.is_full_of_histograms(at.t, rules.range_ms)
            }
            _ => true,
        }
    }

    fn is_full_of_floats(&mut self, t: TimestampMs, n_bytes: usize, n_samples: usize) -> bool {
        if n_bytes > CHUNK_BYTES_MAX {
            return true;
        }
        if n_samples == SAMPLES_PER_CHUNK / 4 {
            self.next_at = predicted_end(self.min_t, self.max_t, self.next_at);
        }
        t >= self.next_at || n_samples >= SAMPLES_PER_CHUNK * 2
    }

    /// Judged by size; a few samples share a chunk however large they are, unless the range ends.
    fn is_full_of_histograms(&mut self, t: TimestampMs, range_ms: i64) -> bool {
        let Builder::Histogram(builder) = &mut self.builder else {
            return false;
        };
        let (n_bytes, n_samples) = (builder.chunk.n_bytes(), builder.chunk.n_samples());
        let next_range_at = if builder.is_judged {
            range_end(self.min_t, range_ms)
        } else {
            self.next_at
        };
        if !builder.is_judged && HISTOGRAM_CHUNK_BYTES / 4 <= n_bytes {
            builder.is_judged = true;
            self.next_at = predicted_end_by_size(self.min_t, self.max_t, self.next_at, n_bytes);
        }
        (self.next_at <= t || HISTOGRAM_CHUNK_BYTES * 2 <= n_bytes)
            && (HISTOGRAM_SAMPLES_MIN <= n_samples || next_range_at <= t)
    }
}

impl Builder {
    fn histogram(chunk: HistogramAppender) -> Self {
        Self::Histogram(Box::new(HistogramChunk {
            chunk,
            is_judged: false,
        }))
    }
}

/// A chunk becomes as large as the one before, of `n_bytes`, and a little.
fn bytes_behind(n_bytes: usize) -> usize {
    (n_bytes + n_bytes / 8 + 8).min(1024)
}

fn has_start(at: SampleTime, rules: ChunkRules) -> bool {
    rules.keeps_starts && at.start_t != 0
}

fn has_starts(encoding: Encoding) -> bool {
    matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt)
}

/// The end of the aligned window of `width` that holds `t`.
pub(crate) fn range_end(t: TimestampMs, width: i64) -> TimestampMs {
    (t / width).saturating_mul(width).saturating_add(width)
}

/// Where a chunk should end so that the chunks up to `next_at` are equally full, judged at a quarter of it.
fn predicted_end(start: TimestampMs, now: TimestampMs, next_at: TimestampMs) -> TimestampMs {
    let span = next_at.saturating_sub(start);
    let quarter = now.saturating_sub(start).saturating_add(1);
    let n = span / quarter.saturating_mul(4).max(1);
    if n <= 1 { next_at } else { start + span / n }
}

/// The same for a chunk of which `n_bytes` are there.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "spans of a chunk and its bytes are far below 2^53"
)]
fn predicted_end_by_size(
    start: TimestampMs,
    now: TimestampMs,
    next_at: TimestampMs,
    n_bytes: usize,
) -> TimestampMs {
    let ratio_to_full = HISTOGRAM_CHUNK_BYTES as f64 / n_bytes as f64;
    let span = next_at.saturating_sub(start) as f64;
    let so_far = now.saturating_sub(start).saturating_add(1) as f64;
    let n = span / (so_far * ratio_to_full);
    if n <= 1.0 {
        next_at
    } else {
        (start as f64 + span / n.floor()) as i64
    }
}
