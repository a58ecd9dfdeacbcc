//! Samples of one series that came after newer ones: a few in memory, sorted, then chunks that may overlap anything.

use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::{
    ChunkError, EncodedChunk, encode_floats_with_starts, encode_histograms, without_intervals,
};
use crate::head::chunk_files::{ChunkFiles, ChunkToWrite};
use crate::head::open_chunk::Value;
use crate::head::series::{CommitId, CommitPoint, MappedChunk};
use crate::model::{Counts, Encoding, Histogram, Interval, SampleTime, TimestampMs};
use crate::storage::{AppendError, ChunkSlice};

/// Samples that wait in memory before they become a chunk: Prometheus' `out_of_order_cap_max`.
pub(crate) const SAMPLES_OPEN_MAX: usize = 32;

/// What was measured.
#[derive(Debug, Clone)]
pub(crate) enum LateValue {
    Float(f64),
    Histogram(Counts, Arc<Histogram>),
}

impl LateValue {
    /// Samples that share chunks agree in this.
    fn counts(&self) -> Option<Counts> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(counts, _) => Some(*counts),
        }
    }

    fn is_same(&self, other: Value<'_>) -> bool {
        match (self, other) {
            (Self::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
            (Self::Histogram(kind, left), Value::Histogram(other, right)) => {
                *kind == other && **left == *right
            }
            (Self::Float(_), Value::Histogram(..)) | (Self::Histogram(..), Value::Float(_)) => {
                false
            }
        }
    }
}

impl From<Value<'_>> for LateValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Float(v) => Self::Float(v),
            Value::Histogram(counts, histogram) => {
                Self::Histogram(counts, Arc::new(histogram.clone()))
            }
        }
    }
}

/// One sample that waits.
#[derive(Debug, Clone)]
pub(crate) struct LateSample {
    pub(crate) at: SampleTime,
    pub(crate) value: LateValue,
}

/// What happened to a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in.
    New,
    /// It is in, and those that waited before it became chunks.
    NewAndClosed,
    /// It was there already.
    Same,
}

#[derive(Debug)]
pub(crate) enum Place {
    Memory(Bytes),
    File { file: u32, offset: u32 },
}

/// Samples that became a chunk.
#[derive(Debug)]
pub(crate) struct LateChunk {
    pub(crate) min_t: TimestampMs,
    pub(crate) max_t: TimestampMs,
    pub(crate) encoding: Encoding,
    pub(crate) place: Place,
    /// On its way into a block.
    pub(crate) is_frozen: bool,
    /// Times of samples that some reader may not see yet, with the commits that brought them.
    pub(crate) unseen: Vec<(CommitId, TimestampMs)>,
}

/// The samples of one series that came out of order.
#[derive(Debug, Default)]
pub(crate) struct OutOfOrder {
    pub(crate) chunks: Vec<LateChunk>,
    /// Sorted, each time once.
    pub(crate) open: Vec<(LateSample, CommitId)>,
}

impl OutOfOrder {
    /// May it be inserted? `Ok(false)` when the very same sample waits here.
    pub(crate) fn check(&self, t: TimestampMs, value: Value<'_>) -> Result<bool, AppendError> {
        match self.position(t) {
            Err(_) => Ok(true),
            Ok(at) => match self.open.get(at) {
                Some((here, _)) if here.value.is_same(value) => Ok(false),
                Some(_) | None => Err(AppendError::Duplicate),
            },
        }
    }

    fn position(&self, t: TimestampMs) -> Result<usize, usize> {
        self.open
            .binary_search_by_key(&t, |(sample, _)| sample.at.t)
    }

    /// Inserts what [`OutOfOrder::check`] allows.
    pub(crate) fn insert(
        &mut self,
        at: SampleTime,
        value: Value<'_>,
        point: CommitPoint,
    ) -> Result<Inserted, AppendError> {
        if !self.check(at.t, value)? {
            return Ok(Inserted::Same);
        }
        let is_full = self.open.len() >= SAMPLES_OPEN_MAX;
        if is_full {
            self.close(point.oldest_view)
                .map_err(|error| AppendError::Closed(error.to_string()))?;
        }
        let (Ok(position) | Err(position)) = self.position(at.t);
        let value = LateValue::from(value);
        self.open
            .insert(position, (LateSample { at, value }, point.id));
        Ok(if is_full {
            Inserted::NewAndClosed
        } else {
            Inserted::New
        })
    }

    /// Those that wait become chunks, in memory at first.
    pub(crate) fn close(&mut self, oldest_view: CommitId) -> Result<(), ChunkError> {
        for chunk in &mut self.chunks {
            chunk.unseen.retain(|(id, _)| *id > oldest_view);
        }
        let encoded = encode(self.open.iter().map(|(sample, _)| sample))?;
        for chunk in encoded {
            let unseen = self.open.iter().filter(|(sample, id)| {
                *id > oldest_view && (chunk.min_t..=chunk.max_t).contains(&sample.at.t)
            });
            self.chunks.push(LateChunk {
                unseen: unseen.map(|(sample, id)| (*id, sample.at.t)).collect(),
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                place: Place::Memory(Bytes::from(chunk.data)),
                is_frozen: false,
            });
        }
        self.open = Vec::new();
        Ok(())
    }

    /// Chunks that lie in memory only, for `series`' files.
    pub(crate) fn to_write(&self, series: u64) -> Vec<ChunkToWrite> {
        let in_memory = self.chunks.iter().filter_map(|chunk| match &chunk.place {
            Place::Memory(data) => Some(ChunkToWrite {
                series,
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                is_out_of_order: true,
                encoding: chunk.encoding,
                data: data.clone(),
            }),
            Place::File { .. } => None,
        });
        in_memory.collect()
    }

    /// The chunks of [`OutOfOrder::to_write`] now lie at `places`.
    pub(crate) fn set_written(&mut self, places: &[(u32, u32)]) {
        let in_memory = self
            .chunks
            .iter_mut()
            .filter(|chunk| matches!(chunk.place, Place::Memory(_)));
        for (chunk, &(file, offset)) in in_memory.zip(places) {
            chunk.place = Place::File { file, offset };
        }
    }

    /// Adds a chunk found in a file. With it goes what waits: the log says that all of it is in the chunk.
    pub(crate) fn attach(&mut self, chunk: MappedChunk, encoding: Encoding) {
        self.open = Vec::new();
        self.chunks.push(LateChunk {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding,
            place: Place::File {
                file: chunk.file,
                offset: chunk.offset,
            },
            is_frozen: false,
            unseen: Vec::new(),
        });
    }

    /// Everything here is on its way into a block; what comes later is not.
    pub(crate) fn freeze(&mut self, oldest_view: CommitId) -> Result<(), ChunkError> {
        self.close(oldest_view)?;
        for chunk in &mut self.chunks {
            chunk.is_frozen = true;
        }
        Ok(())
    }

    /// Drops what is in a block by now; how many chunks went.
    pub(crate) fn drop_frozen(&mut self) -> usize {
        let before = self.chunks.len();
        self.chunks.retain(|chunk| !chunk.is_frozen);
        before - self.chunks.len()
    }

    /// Does a chunk touch `interval`?
    pub(crate) fn touches(&self, interval: Interval) -> bool {
        self.chunks.iter().any(|chunk| {
            interval.overlaps(&Interval {
                min: chunk.min_t,
                max: chunk.max_t,
            })
        })
    }

    pub(crate) fn n_chunks(&self) -> usize {
        self.chunks.len() + usize::from(!self.open.is_empty())
    }

    /// From the oldest to the newest sample.
    pub(crate) fn span(&self) -> Option<Interval> {
        let of_chunks = self.chunks.iter().map(|chunk| (chunk.min_t, chunk.max_t));
        let of_open = self
            .open
            .iter()
            .map(|(sample, _)| (sample.at.t, sample.at.t));
        let spans = of_chunks.chain(of_open);
        spans
            .reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)))
            .map(|(min, max)| Interval { min, max })
    }

    /// Where chunks lie in files.
    pub(crate) fn in_files(&self) -> impl Iterator<Item = MappedChunk> {
        self.chunks.iter().filter_map(|chunk| match chunk.place {
            Place::File { file, offset } => Some(MappedChunk {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                file,
                offset,
            }),
            Place::Memory(_) => None,
        })
    }

    /// The first file a chunk lies in.
    pub(crate) fn first_file(&self) -> Option<u32> {
        let files = self.chunks.iter().filter_map(|chunk| match chunk.place {
            Place::File { file, .. } => Some(file),
            Place::Memory(_) => None,
        });
        files.min()
    }

    /// Appends the chunks that touch `interval` to `out`, without samples of commits after `view`, in no order.
    pub(crate) fn slices(&self, wanted: Wanted<'_>, out: &mut Vec<ChunkSlice>) {
        let chunks = self.chunks.iter().filter(|chunk| {
            chunk.is_frozen >= wanted.only_frozen
                && wanted.interval.overlaps(&Interval {
                    min: chunk.min_t,
                    max: chunk.max_t,
                })
        });
        out.extend(chunks.filter_map(|chunk| chunk.slice(wanted)));
        if wanted.only_frozen {
            return;
        }
        let open = self.open.iter().filter(|(_, id)| *id <= wanted.view);
        let mut open = open.map(|(sample, _)| sample).peekable();
        if open.peek().is_none() {
            return;
        }
        // It was encoded before, or is a float: nothing in it is refused.
        let encoded = encode(open).unwrap_or_default().into_iter();
        let touching = encoded.filter(|chunk| {
            wanted.interval.overlaps(&Interval {
                min: chunk.min_t,
                max: chunk.max_t,
            })
        });
        out.extend(touching.map(as_slice));
    }
}

/// What a reader asks for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) interval: Interval,
    pub(crate) view: CommitId,
    pub(crate) files: &'a ChunkFiles,
    /// Only what is on its way into a block.
    pub(crate) only_frozen: bool,
}

impl LateChunk {
    fn slice(&self, wanted: Wanted<'_>) -> Option<ChunkSlice> {
        let data = match &self.place {
            Place::Memory(data) => data.clone(),
            Place::File { file, offset } => wanted.files.chunk(*file, *offset)?.1,
        };
        let unseen = self.unseen.iter().filter(|(id, _)| *id > wanted.view);
        let unseen: Vec<Interval> = unseen.map(|(_, t)| Interval { min: *t, max: *t }).collect();
        if unseen.is_empty() {
            return Some(ChunkSlice {
                min_t: self.min_t,
                max_t: self.max_t,
                encoding: self.encoding,
                data,
            });
        }
        let rest = without_intervals(self.encoding, &data, &unseen).ok()??;
        Some(as_slice(rest))
    }
}

fn as_slice(chunk: EncodedChunk) -> ChunkSlice {
    ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: Bytes::from(chunk.data),
    }
}

/// Chunks of samples in the order of time, one or more for each run of a kind.
pub(crate) fn encode<'a>(
    samples: impl Iterator<Item = &'a LateSample>,
) -> Result<Vec<EncodedChunk>, ChunkError> {
    let samples: Vec<&LateSample> = samples.collect();
    let mut chunks = Vec::new();
    for run in samples.chunk_by(|left, right| left.value.counts() == right.value.counts()) {
        let times: Vec<TimestampMs> = run.iter().map(|sample| sample.at.t).collect();
        let starts: Vec<TimestampMs> = run.iter().map(|sample| sample.at.start_t).collect();
        let (mut floats, mut histograms, mut kind) = (Vec::new(), Vec::new(), Counts::Whole);
        for sample in run {
            match &sample.value {
                LateValue::Float(v) => floats.push(*v),
                LateValue::Histogram(counts, histogram) => {
                    kind = *counts;
                    histograms.push(Arc::clone(histogram));
                }
            }
        }
        chunks.extend(if histograms.is_empty() {
            encode_floats_with_starts(&times, &floats, &starts)?
        } else {
            encode_histograms(kind, &times, &histograms, Some(&starts))?
        });
    }
    Ok(chunks)
}
