//! Whole chunks into columns: what every query does most.

use crate::chunk::columns::{Words, fill};
use crate::chunk::error::ChunkError;
use crate::chunk::xor::{Flaw, XorIter};
use crate::chunk::xor2::Xor2Iter;
use crate::foundation::Cursor;
use crate::model::Encoding;

/// Bits of the sample count that encodings with start timestamps share with other flags.
const ST_COUNT_MASK: u16 = 0x3fff;

/// Appends all samples of a float chunk; after an error both columns are as before.
pub fn decode_floats(
    encoding: Encoding,
    data: &[u8],
    out_t: &mut Vec<i64>,
    out_v: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let (n_t, n_v) = (out_t.len(), out_v.len());
    let result = match encoding {
        Encoding::Xor => decode_xor(data, out_t, out_v),
        Encoding::Xor2 => decode_xor2(data, out_t, out_v),
        Encoding::Histogram
        | Encoding::FloatHistogram
        | Encoding::HistogramSt
        | Encoding::FloatHistogramSt => Err(ChunkError::NotFloats(encoding)),
    };
    if result.is_err() {
        out_t.truncate(n_t);
        out_v.truncate(n_v);
    }
    result
}

/// How many samples the header of a chunk promises.
pub fn n_samples(encoding: Encoding, data: &[u8]) -> Result<usize, ChunkError> {
    let count = Cursor::new(data).u16_be("sample count")?;
    Ok(usize::from(match encoding {
        Encoding::Xor | Encoding::Xor2 | Encoding::Histogram | Encoding::FloatHistogram => count,
        Encoding::HistogramSt | Encoding::FloatHistogramSt => count & ST_COUNT_MASK,
    }))
}

/// A sample takes at least `bits_min` bits, so a short chunk cannot make us reserve for a large count.
fn reservable(n_samples: usize, n_bytes: usize, bits_min: usize) -> usize {
    n_samples.min(2 + n_bytes * 8 / bits_min)
}

fn decode_xor(data: &[u8], out_t: &mut Vec<i64>, out_v: &mut Vec<f64>) -> Result<(), ChunkError> {
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
    let (from_t, from_v) = (out_t.len(), out_v.len());
    out_t.resize(from_t + n_samples - 2, 0);
    out_v.resize(from_v + n_samples - 2, 0.0);
    let slots_t = out_t.get_mut(from_t..).unwrap_or_default();
    let slots_v = out_v.get_mut(from_v..).unwrap_or_default();
    let is_whole = Words::new(data)
        .is_some_and(|words| fill(&words, iter.state(data.len()), slots_t, slots_v));
    if is_whole {
        return Ok(());
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
