//! Whole chunks into columns: what every query does most.

use std::sync::Arc;

use crate::chunk::aggregate::AggregateChunk;
use crate::chunk::columns::{Words, fill};
use crate::chunk::error::ChunkError;
use crate::chunk::histogram::HistogramIter;
use crate::chunk::xor::{Flaw, XorIter};
use crate::chunk::xor2::Xor2Iter;
use crate::foundation::Cursor;
use crate::model::{Aggregate, Encoding, Histogram, TimestampMs};

/// Bits of the sample count that encodings with start timestamps share with other flags.
const ST_COUNT_MASK: u16 = 0x3fff;

/// Appends all samples of a float chunk; after an error both columns are as before.
pub fn decode_floats(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<i64>,
    out_v: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    decode_floats_until(encoding, data, TimestampMs::MAX, (out_t, out_v))
}

/// Samples decoded before somebody looks at how far they have come.
const SAMPLES_BETWEEN_LOOKS: usize = 24;

/// The same; what comes after `until` may be left out.
pub fn decode_floats_until(
    encoding: Encoding,
    data: &[u8],
    until: TimestampMs,
    (out_t, out_v): (&mut Vec<TimestampMs>, &mut Vec<f64>),
) -> Result<(), ChunkError> {
    let (n_t, n_v) = (out_t.len(), out_v.len());
    let result = match encoding {
        Encoding::Xor => decode_xor(data, until, out_t, out_v),
        Encoding::Xor2 => decode_xor2(data, out_t, out_v),
        Encoding::Histogram
        | Encoding::FloatHistogram
        | Encoding::HistogramSt
        | Encoding::FloatHistogramSt => Err(ChunkError::NotFloats(encoding)),
        Encoding::Aggregate => Err(ChunkError::Aggregates),
    };
    if result.is_err() {
        out_t.truncate(n_t);
        out_v.truncate(n_v);
    }
    result
}

/// As [`decode_floats`], and since when each sample counts: zero where that is unknown.
pub fn decode_floats_with_starts(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<TimestampMs>,
    out_v: &mut Vec<f64>,
    out_st: &mut Vec<TimestampMs>,
) -> Result<(), ChunkError> {
    if encoding != Encoding::Xor2 || !has_start_times(encoding, data) {
        let n_before = out_t.len();
        decode_floats(encoding, data, out_t, out_v)?;
        out_st.resize(out_st.len() + out_t.len() - n_before, 0);
        return Ok(());
    }
    let (n_t, n_v, n_st) = (out_t.len(), out_v.len(), out_st.len());
    let mut iter = Xor2Iter::new(data)?;
    while let Some(sample) = iter.next() {
        match sample {
            Ok(sample) => {
                out_t.push(sample.t);
                out_v.push(sample.v);
                out_st.push(iter.start_time());
            }
            Err(error) => {
                out_t.truncate(n_t);
                out_v.truncate(n_v);
                out_st.truncate(n_st);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Appends all samples of a chunk of native histograms; after an error both columns are as before.
///
/// Of a counter, the first sample says nothing about a reset and the others that there was none.
pub fn decode_histograms(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<TimestampMs>,
    out_h: &mut Vec<Arc<Histogram>>,
) -> Result<(), ChunkError> {
    walk_histograms(encoding, data, out_t, out_h, None)
}

/// As [`decode_histograms`], and since when each sample counts: zero where that is unknown.
pub fn decode_histograms_with_starts(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<TimestampMs>,
    out_h: &mut Vec<Arc<Histogram>>,
    out_st: &mut Vec<TimestampMs>,
) -> Result<(), ChunkError> {
    walk_histograms(encoding, data, out_t, out_h, Some(out_st))
}

fn walk_histograms(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<TimestampMs>,
    out_h: &mut Vec<Arc<Histogram>>,
    mut out_st: Option<&mut Vec<TimestampMs>>,
) -> Result<(), ChunkError> {
    let (n_t, n_h) = (out_t.len(), out_h.len());
    let n_st = out_st.as_ref().map_or(0, |out_st| out_st.len());
    let iter = HistogramIter::new(encoding, data)?;
    // Time, count, zero count and sum take a bit each.
    let n_reserved = reservable(iter.n_samples(), data.len(), 4);
    out_t.reserve(n_reserved);
    out_h.reserve(n_reserved);
    for sample in iter {
        match sample {
            Ok(sample) => {
                out_t.push(sample.t);
                out_h.push(Arc::new(sample.histogram));
                if let Some(out_st) = &mut out_st {
                    out_st.push(sample.st);
                }
            }
            Err(error) => {
                out_t.truncate(n_t);
                out_h.truncate(n_h);
                if let Some(out_st) = out_st {
                    out_st.truncate(n_st);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Appends the times of a chunk's samples, of whatever kind, or of its windows; after an error the column is as before.
pub fn decode_times(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<TimestampMs>,
) -> Result<(), ChunkError> {
    if encoding == Encoding::Aggregate {
        // No aggregate holds aggregates: this goes one level down.
        let count = AggregateChunk::decode(data)?.part(Aggregate::Count);
        return count.map_or(Ok(()), |(encoding, data)| {
            decode_times(encoding, data, out_t)
        });
    }
    if !encoding.has_histograms() {
        return decode_floats(encoding, data, out_t, &mut Vec::new());
    }
    let n_t = out_t.len();
    for sample in HistogramIter::new(encoding, data)? {
        match sample {
            Ok(sample) => out_t.push(sample.t),
            Err(error) => {
                out_t.truncate(n_t);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Does the chunk know for any of its samples since when it counts? From the header alone.
pub fn has_start_times(encoding: Encoding, data: &[u8]) -> bool {
    match encoding {
        Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram | Encoding::Aggregate => {
            false
        }
        Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt => {
            data.get(2).is_some_and(|header| *header != 0)
        }
    }
}

/// How many samples, or windows, the header of a chunk promises.
pub fn n_samples(encoding: Encoding, data: &[u8]) -> Result<usize, ChunkError> {
    if encoding == Encoding::Aggregate {
        return AggregateChunk::decode(data)?.n_windows();
    }
    let count = Cursor::new(data).u16_be("sample count")?;
    Ok(usize::from(match encoding {
        Encoding::Xor
        | Encoding::Xor2
        | Encoding::Histogram
        | Encoding::FloatHistogram
        | Encoding::Aggregate => count,
        Encoding::HistogramSt | Encoding::FloatHistogramSt => count & ST_COUNT_MASK,
    }))
}

/// A sample takes at least `bits_min` bits, so a short chunk cannot make us reserve for a large count.
fn reservable(n_samples: usize, n_bytes: usize, bits_min: usize) -> usize {
    n_samples.min(2 + n_bytes * 8 / bits_min)
}

fn decode_xor(
    data: &[u8],
    until: TimestampMs,
    out_t: &mut Vec<i64>,
    out_v: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let mut iter = XorIter::new(data)?;
    let n_samples = iter.n_samples();
    let n_possible = reservable(n_samples, data.len(), 2);
    if n_possible < n_samples {
        return Err(Flaw::Short.at(n_possible, n_samples, data.len()));
    }
    let Some((t, v)) = iter.first() else {
        return Ok(());
    };
    out_t.push(t);
    out_v.push(v);
    if n_samples == 1 {
        return Ok(());
    }
    let fail = |flaw: Flaw, sample| flaw.at(sample, n_samples, data.len());
    let (t, v) = iter.second().map_err(|flaw| fail(flaw, 1))?;
    out_t.push(t);
    out_v.push(v);
    let mut n_left = n_samples - 2;
    let n_at_once = if until == TimestampMs::MAX {
        n_left
    } else {
        SAMPLES_BETWEEN_LOOKS
    };
    if let Some(words) = Words::new(data) {
        let mut state = iter.state(data.len());
        let mut is_whole = true;
        while 0 < n_left && is_whole && state.t <= until {
            let n = n_left.min(n_at_once);
            n_left -= n;
            let (from_t, from_v) = (out_t.len(), out_v.len());
            out_t.resize(from_t + n, 0);
            out_v.resize(from_v + n, 0.0);
            let slots_t = out_t.get_mut(from_t..).unwrap_or_default();
            let slots_v = out_v.get_mut(from_v..).unwrap_or_default();
            is_whole = fill(&words, &mut state, slots_t, slots_v);
        }
        if is_whole {
            return Ok(());
        }
    }
    // Once more, slowly, to say where it went wrong.
    for sample in 2..n_samples {
        iter.later().map_err(|flaw| fail(flaw, sample))?;
    }
    Err(fail(Flaw::Short, n_samples))
}

fn decode_xor2(data: &[u8], out_t: &mut Vec<i64>, out_v: &mut Vec<f64>) -> Result<(), ChunkError> {
    let iter = Xor2Iter::new(data)?;
    let n_reserved = reservable(iter.n_samples(), data.len(), 1);
    out_t.reserve(n_reserved);
    out_v.reserve(n_reserved);
    for sample in iter {
        let sample = sample?;
        out_t.push(sample.t);
        out_v.push(sample.v);
    }
    Ok(())
}
