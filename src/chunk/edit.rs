//! Chunks made from samples, and from other chunks.

use std::sync::Arc;

use crate::chunk::aggregate::AggregateChunk;
use crate::chunk::decode::{decode_floats_with_starts, decode_times, has_start_times, n_samples};
use crate::chunk::error::ChunkError;
use crate::chunk::histogram::HistogramAppender;
use crate::chunk::xor::XorAppender;
use crate::chunk::xor2::Xor2Appender;
use crate::model::{Aggregate, Counts, Encoding, Histogram, Interval, TimestampMs};

/// Where re-encoded samples are cut into chunks: the number Prometheus aims at.
/// A chunk is decoded whole, so a larger one makes short queries dearer.
pub const SAMPLES_PER_CHUNK: usize = 120;

/// Where chunks of histograms are cut: the size Prometheus aims at.
pub const HISTOGRAM_CHUNK_BYTES: usize = 1024;

/// So many histograms share a chunk however large they are, unless their counter was reset or their layout changes.
pub const HISTOGRAM_SAMPLES_MIN: usize = 10;

/// A finished chunk and what an index must know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedChunk {
    /// Time of the first sample.
    pub min_t: TimestampMs,
    /// Time of the last sample.
    pub max_t: TimestampMs,
    /// How `data` is to be read.
    pub encoding: Encoding,
    /// The chunk's bytes.
    pub data: Vec<u8>,
}

/// XOR chunks of at most [`SAMPLES_PER_CHUNK`] samples; both columns have the same length, times increase.
pub fn encode_floats(
    times: &[TimestampMs],
    values: &[f64],
) -> Result<Vec<EncodedChunk>, ChunkError> {
    let mut chunks = Vec::with_capacity(times.len().div_ceil(SAMPLES_PER_CHUNK));
    for (times, values) in times
        .chunks(SAMPLES_PER_CHUNK)
        .zip(values.chunks(SAMPLES_PER_CHUNK))
    {
        let (Some(&min_t), Some(&max_t)) = (times.first(), times.last()) else {
            continue;
        };
        let mut appender = XorAppender::with_capacity(times.len() * 4);
        for (&t, &v) in times.iter().zip(values) {
            appender.append(t, v)?;
        }
        chunks.push(EncodedChunk {
            min_t,
            max_t,
            encoding: Encoding::Xor,
            data: appender.into_bytes(),
        });
    }
    Ok(chunks)
}

/// As [`encode_floats`], with a start time for every sample, zero for unknown. Where all are unknown the chunks are the
/// same, otherwise they are XOR2.
pub fn encode_floats_with_starts(
    times: &[TimestampMs],
    values: &[f64],
    starts: &[TimestampMs],
) -> Result<Vec<EncodedChunk>, ChunkError> {
    if starts.iter().all(|&st| st == 0) {
        return encode_floats(times, values);
    }
    let mut chunks = Vec::with_capacity(times.len().div_ceil(SAMPLES_PER_CHUNK));
    for ((times, values), starts) in times
        .chunks(SAMPLES_PER_CHUNK)
        .zip(values.chunks(SAMPLES_PER_CHUNK))
        .zip(starts.chunks(SAMPLES_PER_CHUNK))
    {
        let (Some(&min_t), Some(&max_t)) = (times.first(), times.last()) else {
            continue;
        };
        let mut appender = Xor2Appender::new();
        for ((&t, &v), &st) in times.iter().zip(values).zip(starts) {
            appender.append(t, st, v)?;
        }
        chunks.push(EncodedChunk {
            min_t,
            max_t,
            encoding: Encoding::Xor2,
            data: appender.into_bytes(),
        });
    }
    Ok(chunks)
}

/// Chunks of histograms, cut where the counter was reset, where the layout of buckets changes, and at
/// [`HISTOGRAM_CHUNK_BYTES`]. Columns have the same length, times increase. Without start times, or where all are
/// unknown (zero), the chunks have none.
pub fn encode_histograms(
    counts: Counts,
    times: &[TimestampMs],
    histograms: &[Arc<Histogram>],
    starts: Option<&[TimestampMs]>,
) -> Result<Vec<EncodedChunk>, ChunkError> {
    let starts = starts.filter(|starts| starts.iter().any(|&st| st != 0));
    let mut chunks = Vec::new();
    let mut open: Option<(HistogramAppender, EncodedChunk)> = None;
    for (position, (&t, histogram)) in times.iter().zip(histograms).enumerate() {
        let st = starts.and_then(|starts| starts.get(position)).copied();
        if let Some((appender, chunk)) = &mut open {
            let is_full = HISTOGRAM_CHUNK_BYTES <= appender.n_bytes()
                && HISTOGRAM_SAMPLES_MIN <= appender.n_samples();
            if !is_full && appender.append(t, st.unwrap_or(0), histogram)? {
                chunk.max_t = t;
                continue;
            }
        }
        let mut next = match &open {
            Some((before, _)) => before.successor(counts, histogram),
            None => HistogramAppender::starting_with(counts, st.is_some(), histogram),
        };
        next.append(t, st.unwrap_or(0), histogram)?;
        let chunk = EncodedChunk {
            min_t: t,
            max_t: t,
            encoding: next.encoding(),
            data: Vec::new(),
        };
        chunks.extend(open.replace((next, chunk)).map(finish));
    }
    chunks.extend(open.map(finish));
    Ok(chunks)
}

fn finish((appender, mut chunk): (HistogramAppender, EncodedChunk)) -> EncodedChunk {
    chunk.data = appender.into_bytes();
    chunk
}

/// The chunk with every sample removed whose time lies in one of `deleted`; `None` when nothing is left.
pub fn without_intervals(
    encoding: Encoding,
    data: &[u8],
    deleted: &[Interval],
) -> Result<Option<EncodedChunk>, ChunkError> {
    if encoding == Encoding::Aggregate {
        return without_windows(data, deleted);
    }
    let mut times = Vec::new();
    decode_times(encoding, data, &mut times)?;
    let is_kept = |t: TimestampMs| !deleted.iter().any(|interval| interval.contains(t));
    times.retain(|&t| is_kept(t));
    let (Some(&min_t), Some(&max_t)) = (times.first(), times.last()) else {
        return Ok(None);
    };
    let encoded = |encoding, data| EncodedChunk {
        min_t,
        max_t,
        encoding,
        data,
    };
    if encoding.has_histograms() {
        let data = HistogramAppender::filtered(encoding, data, is_kept)?.into_bytes();
        return Ok(Some(encoded(encoding, data)));
    }
    let (mut times, mut values, mut starts) = (Vec::new(), Vec::new(), Vec::new());
    decode_floats_with_starts(encoding, data, &mut times, &mut values, &mut starts)?;
    let samples = times.into_iter().zip(values).zip(starts);
    let kept = samples.filter(|((t, _), _)| is_kept(*t));
    if has_start_times(encoding, data) {
        let mut appender = Xor2Appender::new();
        for ((t, v), st) in kept {
            appender.append(t, st, v)?;
        }
        return Ok(Some(encoded(Encoding::Xor2, appender.into_bytes())));
    }
    let mut appender = XorAppender::with_capacity(data.len());
    for ((t, v), _) in kept {
        appender.append(t, v)?;
    }
    Ok(Some(encoded(Encoding::Xor, appender.into_bytes())))
}

/// The same for aggregates: each loses the windows that end in one of `deleted`; where no count is left, nothing is.
fn without_windows(data: &[u8], deleted: &[Interval]) -> Result<Option<EncodedChunk>, ChunkError> {
    let chunk = AggregateChunk::decode(data)?;
    let mut kept: Vec<(Aggregate, EncodedChunk)> = Vec::with_capacity(Aggregate::ALL.len());
    for (aggregate, (encoding, data)) in chunk.parts() {
        let part = without_intervals(encoding, data, deleted)?;
        kept.extend(part.map(|part| (aggregate, part)));
    }
    let count = kept.iter().find(|(at, _)| *at == Aggregate::Count);
    let Some((min_t, max_t)) = count.map(|(_, count)| (count.min_t, count.max_t)) else {
        return Ok(None);
    };
    let parts = kept.iter();
    let chunk = parts.fold(AggregateChunk::default(), |chunk, (aggregate, part)| {
        chunk.with(*aggregate, part.encoding, &part.data)
    });
    Ok(Some(EncodedChunk {
        min_t,
        max_t,
        encoding: Encoding::Aggregate,
        data: chunk.encode(),
    }))
}

/// The chunk with only its first `n` samples showing: the bytes behind them stay and are not read. Aggregates have no
/// samples to hide.
pub fn with_n_samples(encoding: Encoding, data: &[u8], n: usize) -> Result<Vec<u8>, ChunkError> {
    if encoding == Encoding::Aggregate {
        return Err(ChunkError::Aggregates);
    }
    let n_before = n_samples(encoding, data)?;
    let mut patched = data.to_vec();
    let n = u16::try_from(n.min(n_before)).unwrap_or(u16::MAX);
    if let Some(header) = patched.first_chunk_mut::<2>() {
        let [high, low] = n.to_be_bytes();
        // Encodings with start timestamps keep two flags above the count.
        let flags = match encoding {
            Encoding::HistogramSt | Encoding::FloatHistogramSt => header[0] & 0xc0,
            Encoding::Xor
            | Encoding::Xor2
            | Encoding::Histogram
            | Encoding::FloatHistogram
            | Encoding::Aggregate => 0,
        };
        *header = [flags | high, low];
    }
    Ok(patched)
}
