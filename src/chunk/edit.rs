//! Chunks made from samples, and from other chunks.

use crate::chunk::decode::{decode_floats, n_samples};
use crate::chunk::error::ChunkError;
use crate::chunk::xor::XorAppender;
use crate::model::{Encoding, Interval, TimestampMs};

/// Where re-encoded samples are cut into chunks: the number Prometheus aims at.
/// A chunk is decoded whole, so a larger one makes short queries dearer.
pub const SAMPLES_PER_CHUNK: usize = 120;

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

/// The chunk with every sample removed whose time lies in one of `deleted`; `None` when nothing is left.
pub fn without_intervals(
    encoding: Encoding,
    data: &[u8],
    deleted: &[Interval],
) -> Result<Option<EncodedChunk>, ChunkError> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    decode_floats(encoding, data, &mut times, &mut values)?;
    let mut appender = XorAppender::with_capacity(data.len());
    let mut span: Option<(TimestampMs, TimestampMs)> = None;
    for (t, v) in times.into_iter().zip(values) {
        if deleted.iter().any(|interval| interval.contains(t)) {
            continue;
        }
        appender.append(t, v)?;
        span = Some((span.map_or(t, |(min_t, _)| min_t), t));
    }
    Ok(span.map(|(min_t, max_t)| EncodedChunk {
        min_t,
        max_t,
        encoding: Encoding::Xor,
        data: appender.into_bytes(),
    }))
}

/// The chunk with only its first `n` samples showing: the bytes behind them stay and are not read.
pub fn with_n_samples(encoding: Encoding, data: &[u8], n: usize) -> Result<Vec<u8>, ChunkError> {
    let n_before = n_samples(encoding, data)?;
    let mut patched = data.to_vec();
    let n = u16::try_from(n.min(n_before)).unwrap_or(u16::MAX);
    if let Some(header) = patched.first_chunk_mut::<2>() {
        let [high, low] = n.to_be_bytes();
        // Encodings with start timestamps keep two flags above the count.
        let flags = match encoding {
            Encoding::HistogramSt | Encoding::FloatHistogramSt => header[0] & 0xc0,
            Encoding::Xor | Encoding::Xor2 | Encoding::Histogram | Encoding::FloatHistogram => 0,
        };
        *header = [flags | high, low];
    }
    Ok(patched)
}
