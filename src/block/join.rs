//! The chunks of one series made fit for an index: inside the block's range, sorted, never overlapping.

use bytes::Bytes;

use crate::chunk::{ChunkError, EncodedChunk, decode_floats, encode_floats};
use crate::model::{Interval, TimestampMs};
use crate::storage::ChunkSlice;

/// Passes on what fits and re-encodes what does not.
///
/// `chunks` are sorted by `min_t`. Of chunks that overlap, each time is taken once, from the chunk that comes first.
pub(super) fn join_chunks(
    chunks: Vec<ChunkSlice>,
    wanted: Interval,
) -> Result<Vec<ChunkSlice>, ChunkError> {
    let mut out: Vec<ChunkSlice> = Vec::with_capacity(chunks.len());
    let mut group: Vec<ChunkSlice> = Vec::new();
    let mut group_max_t = TimestampMs::MIN;
    for chunk in chunks {
        let span = Interval {
            min: chunk.min_t,
            max: chunk.max_t,
        };
        if !wanted.overlaps(&span) {
            continue;
        }
        if !group.is_empty() && group_max_t < chunk.min_t {
            close(&mut group, wanted, &mut out)?;
        }
        let is_twin = group.iter().any(|other| {
            (other.min_t, other.max_t, other.encoding) == (chunk.min_t, chunk.max_t, chunk.encoding)
                && other.data == chunk.data
        });
        if !is_twin {
            group_max_t = if group.is_empty() {
                chunk.max_t
            } else {
                group_max_t.max(chunk.max_t)
            };
            group.push(chunk);
        }
    }
    close(&mut group, wanted, &mut out)?;
    Ok(out)
}

/// Empties a group of chunks that overlap one another.
fn close(
    group: &mut Vec<ChunkSlice>,
    wanted: Interval,
    out: &mut Vec<ChunkSlice>,
) -> Result<(), ChunkError> {
    if let [only] = group.as_slice()
        && wanted.contains(only.min_t)
        && wanted.contains(only.max_t)
    {
        out.append(group);
        return Ok(());
    }
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for chunk in group.drain(..) {
        decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values)?;
    }
    let mut samples: Vec<(TimestampMs, f64)> = times
        .into_iter()
        .zip(values)
        .filter(|&(t, _)| wanted.contains(t))
        .collect();
    // Stable: of two samples at one time the earlier chunk's stays first and wins.
    samples.sort_by_key(|&(t, _)| t);
    samples.dedup_by_key(|&mut (t, _)| t);
    let (times, values): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
    out.extend(encode_floats(&times, &values)?.into_iter().map(as_slice));
    Ok(())
}

fn as_slice(chunk: EncodedChunk) -> ChunkSlice {
    ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: Bytes::from(chunk.data),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Encoding;

    fn chunk(samples: &[(i64, f64)]) -> ChunkSlice {
        let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        as_slice(encode_floats(&times, &values).unwrap().remove(0))
    }

    fn samples(chunks: &[ChunkSlice]) -> Vec<(i64, f64)> {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
        }
        times.into_iter().zip(values).collect()
    }

    #[test]
    fn a_chunk_that_fits_is_passed_on_as_it_is() {
        let histogram = ChunkSlice {
            min_t: 5,
            max_t: 9,
            encoding: Encoding::Histogram,
            data: Bytes::from_static(&[0, 1, 2]),
        };
        let all = Interval { min: 5, max: 9 };
        let twice = vec![histogram.clone(), histogram];
        let joined = join_chunks(twice, all).unwrap();
        assert_eq!(joined.len(), 1);
        assert_eq!(joined[0].data, [0, 1, 2][..]);
    }

    proptest! {
        #[test]
        fn every_time_inside_is_kept_once_from_the_chunk_that_comes_first(
            spans in prop::collection::vec((0i64..300, 1i64..40), 0..12),
            min in 0i64..200,
            len in 0i64..200,
        ) {
            let wanted = Interval { min, max: min + len };
            let mut chunks: Vec<ChunkSlice> = spans
                .iter()
                .zip(0u32..)
                .map(|(&(start, n), source)| {
                    let samples: Vec<_> =
                        (0..n).map(|i| (start + i * 3, f64::from(source))).collect();
                    chunk(&samples)
                })
                .collect();
            chunks.sort_by_key(|chunk| chunk.min_t);
            let mut expect = BTreeMap::new();
            for chunk in &chunks {
                for (t, v) in samples(std::slice::from_ref(chunk)) {
                    if wanted.contains(t) {
                        expect.entry(t).or_insert(v);
                    }
                }
            }
            let joined = join_chunks(chunks, wanted).unwrap();
            prop_assert!(joined.is_sorted_by(|left, right| left.max_t < right.min_t));
            prop_assert_eq!(samples(&joined), expect.into_iter().collect::<Vec<_>>());
        }
    }
}
