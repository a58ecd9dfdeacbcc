//! The chunks of one series made fit for an index: inside the block's range, sorted, never overlapping.

use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::{
    ChunkError, Counts, EncodedChunk, decode_floats, decode_floats_with_starts,
    decode_histograms_with_starts, encode_floats, encode_floats_with_starts, encode_histograms,
    without_intervals,
};
use crate::model::{Encoding, Histogram, Interval, TimestampMs};
use crate::storage::ChunkSlice;

/// Passes on what fits and re-encodes what does not.
///
/// `chunks` are sorted by `min_t`. Of chunks that overlap, each time is taken once, from the chunk that comes first.
pub fn join_chunks(
    chunks: Vec<ChunkSlice>,
    wanted: Interval,
) -> Result<Vec<ChunkSlice>, ChunkError> {
    let inside = chunks.into_iter().filter(|chunk| {
        let span = Interval {
            min: chunk.min_t,
            max: chunk.max_t,
        };
        wanted.overlaps(&span)
    });
    join_groups(inside, |_| Ok(0), |group, out| close(group, wanted, out))
}

/// Splits chunks, sorted by their start, into groups whose times overlap, and lets `close` empty each into the result. What
/// begins within `slack` behind a group belongs to it; the same chunk again is left out.
pub fn join_groups<S, C>(
    chunks: impl IntoIterator<Item = ChunkSlice>,
    slack: S,
    mut close: C,
) -> Result<Vec<ChunkSlice>, ChunkError>
where
    S: Fn(&[ChunkSlice]) -> Result<i64, ChunkError>,
    C: FnMut(&mut Vec<ChunkSlice>, &mut Vec<ChunkSlice>) -> Result<(), ChunkError>,
{
    let chunks = chunks.into_iter();
    let mut out: Vec<ChunkSlice> = Vec::with_capacity(chunks.size_hint().1.unwrap_or(0));
    let mut group: Vec<ChunkSlice> = Vec::new();
    let mut group_max_t = TimestampMs::MIN;
    for chunk in chunks {
        if !group.is_empty() && group_max_t.saturating_add(slack(&group)?) < chunk.min_t {
            close(&mut group, &mut out)?;
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
    if !group.is_empty() {
        close(&mut group, &mut out)?;
    }
    Ok(out)
}

/// The chunks sorted and never overlapping; of samples at one time the one in the earliest of `chunks`, which come in any
/// order, is there. What does not decode stays as it is: whoever reads it gets the error.
pub fn join_preferred(chunks: Vec<ChunkSlice>) -> Vec<ChunkSlice> {
    let mut ranked: Vec<(usize, ChunkSlice)> = chunks.into_iter().enumerate().collect();
    ranked.sort_by_key(|(_, chunk)| chunk.min_t);
    let mut out = Vec::with_capacity(ranked.len());
    let mut ranked = ranked.into_iter().peekable();
    while let Some(first) = ranked.next() {
        let mut max_t = first.1.max_t;
        let mut group = vec![first];
        while let Some(next) = ranked.next_if(|(_, next)| next.min_t <= max_t) {
            max_t = max_t.max(next.1.max_t);
            group.push(next);
        }
        let sorted: Vec<ChunkSlice> = group.iter().map(|(_, chunk)| chunk.clone()).collect();
        group.sort_by_key(|(rank, _)| *rank);
        let mut group = group.into_iter().map(|(_, chunk)| chunk).collect();
        let before = out.len();
        if close(&mut group, Interval::ALL, &mut out).is_err() {
            out.truncate(before);
            out.extend(sorted);
        }
    }
    out
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
    if group.iter().all(|chunk| chunk.encoding == Encoding::Xor) {
        return close_floats(group, wanted, out);
    }
    if group
        .iter()
        .any(|chunk| chunk.encoding == Encoding::Aggregate)
    {
        return close_aggregates(group, wanted, out);
    }
    let mut samples = Vec::new();
    for chunk in group.drain(..) {
        decode_samples(&chunk, &mut samples)?;
    }
    samples.retain(|sample| wanted.contains(sample.t));
    // Stable: of two samples at one time the earlier chunk's stays first and wins.
    samples.sort_by_key(|sample| sample.t);
    samples.dedup_by_key(|sample| sample.t);
    out.extend(encode_samples(&samples)?);
    Ok(())
}

/// As [`close`], for what nearly all overlaps consist of.
fn close_floats(
    group: &mut Vec<ChunkSlice>,
    wanted: Interval,
    out: &mut Vec<ChunkSlice>,
) -> Result<(), ChunkError> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for chunk in group.drain(..) {
        decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values)?;
    }
    let mut samples: Vec<(TimestampMs, f64)> = times.drain(..).zip(values.drain(..)).collect();
    samples.retain(|(t, _)| wanted.contains(*t));
    // Stable, as above, and quick over runs that rise.
    samples.sort_by_key(|(t, _)| *t);
    samples.dedup_by_key(|(t, _)| *t);
    for (t, v) in samples {
        times.push(t);
        values.push(v);
    }
    out.extend(encode_floats(&times, &values)?.into_iter().map(as_slice));
    Ok(())
}

/// As [`close`], for windows: their aggregates cannot be added up, because nobody knows which samples they share. So each
/// chunk loses what the ones before it reach over.
fn close_aggregates(
    group: &mut Vec<ChunkSlice>,
    wanted: Interval,
    out: &mut Vec<ChunkSlice>,
) -> Result<(), ChunkError> {
    let after = Interval {
        min: wanted.max.saturating_add(1),
        max: TimestampMs::MAX,
    };
    let mut taken = Interval {
        min: TimestampMs::MIN,
        max: wanted.min.saturating_sub(1),
    };
    for chunk in group.drain(..) {
        if chunk.max_t <= taken.max {
            continue;
        }
        if taken.max < chunk.min_t && chunk.max_t <= wanted.max {
            taken.max = chunk.max_t;
            out.push(chunk);
            continue;
        }
        let rest = without_intervals(chunk.encoding, &chunk.data, &[taken, after])?;
        if let Some(rest) = rest {
            taken.max = rest.max_t;
            out.push(as_slice(rest));
        }
    }
    Ok(())
}

/// One sample of whatever kind.
#[derive(Debug, Clone)]
pub struct AnySample {
    /// When.
    pub t: TimestampMs,
    /// Since when it counts; zero is unknown.
    pub st: TimestampMs,
    /// What.
    pub value: AnyValue,
}

/// What a sample says.
#[derive(Debug, Clone)]
pub enum AnyValue {
    /// A number.
    Float(f64),
    /// A native histogram, and how its chunk counts.
    Histogram(Counts, Arc<Histogram>),
}

/// Chunks of samples that come sorted, each time once: a run of one kind each.
pub fn encode_samples(samples: &[AnySample]) -> Result<Vec<ChunkSlice>, ChunkError> {
    let mut out = Vec::new();
    for run in samples.chunk_by(|left, right| left.value.counts() == right.value.counts()) {
        out.extend(encode(run)?.into_iter().map(as_slice));
    }
    Ok(out)
}

impl AnyValue {
    /// Samples that share chunks agree in this.
    fn counts(&self) -> Option<Counts> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(counts, _) => Some(*counts),
        }
    }
}

/// Adds the samples of a chunk.
pub fn decode_samples(chunk: &ChunkSlice, out: &mut Vec<AnySample>) -> Result<(), ChunkError> {
    let (mut times, mut starts) = (Vec::new(), Vec::new());
    let counts = match chunk.encoding {
        Encoding::Xor | Encoding::Xor2 => {
            let mut values = Vec::new();
            let (t, v, st) = (&mut times, &mut values, &mut starts);
            decode_floats_with_starts(chunk.encoding, &chunk.data, t, v, st)?;
            let samples = times.into_iter().zip(starts).zip(values);
            out.extend(samples.map(|((t, st), v)| AnySample {
                t,
                st,
                value: AnyValue::Float(v),
            }));
            return Ok(());
        }
        Encoding::Histogram | Encoding::HistogramSt => Counts::Whole,
        Encoding::FloatHistogram | Encoding::FloatHistogramSt => Counts::Float,
        Encoding::Aggregate => return Err(ChunkError::Aggregates),
    };
    let mut histograms = Vec::new();
    let (t, h, st) = (&mut times, &mut histograms, &mut starts);
    decode_histograms_with_starts(chunk.encoding, &chunk.data, t, h, st)?;
    let samples = times.into_iter().zip(starts).zip(histograms);
    out.extend(samples.map(|((t, st), h)| AnySample {
        t,
        st,
        value: AnyValue::Histogram(counts, h),
    }));
    Ok(())
}

/// Samples that agree in [`AnyValue::counts`].
fn encode(run: &[AnySample]) -> Result<Vec<EncodedChunk>, ChunkError> {
    let times: Vec<TimestampMs> = run.iter().map(|sample| sample.t).collect();
    let starts: Vec<TimestampMs> = run.iter().map(|sample| sample.st).collect();
    let (mut values, mut histograms) = (Vec::new(), Vec::new());
    let mut kind = Counts::Float;
    for sample in run {
        match &sample.value {
            AnyValue::Float(v) => values.push(*v),
            AnyValue::Histogram(counts, h) => {
                kind = *counts;
                histograms.push(Arc::clone(h));
            }
        }
    }
    if histograms.is_empty() {
        encode_floats_with_starts(&times, &values, &starts)
    } else {
        encode_histograms(kind, &times, &histograms, Some(&starts))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{AggregateChunk, decode_histograms};
    use crate::model::{Aggregate, ResetHint};

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

    /// Windows of five minutes that end at these times, each with the sum 1.
    fn windows(times: &[i64]) -> ChunkSlice {
        let part = encode_floats(times, &vec![1.0; times.len()])
            .unwrap()
            .remove(0);
        let chunk = AggregateChunk::default()
            .with(Aggregate::Count, Encoding::Xor, &part.data)
            .with(Aggregate::Counter, Encoding::Xor, &part.data);
        ChunkSlice {
            min_t: part.min_t,
            max_t: part.max_t,
            encoding: Encoding::Aggregate,
            data: Bytes::from(chunk.encode()),
        }
    }

    #[test]
    fn of_aggregates_that_overlap_each_window_is_there_once() {
        let chunks = vec![
            windows(&[10, 20, 30]),
            windows(&[15, 25]),
            windows(&[25, 35, 45]),
            windows(&[50, 60]),
        ];
        let joined = join_chunks(chunks, Interval { min: 11, max: 55 }).unwrap();
        let mut spans = Vec::new();
        for chunk in &joined {
            let mut times = Vec::new();
            crate::chunk::decode_times(chunk.encoding, &chunk.data, &mut times).unwrap();
            assert_eq!(
                (times[0], *times.last().unwrap()),
                (chunk.min_t, chunk.max_t)
            );
            let parts = AggregateChunk::decode(&chunk.data).unwrap();
            assert_eq!(parts.part(Aggregate::Count), parts.part(Aggregate::Counter));
            spans.push(times);
        }
        assert_eq!(spans, [vec![20, 30], vec![35, 45], vec![50]]);
    }

    #[test]
    fn histograms_and_floats_that_overlap_are_sorted_into_chunks_of_their_own() {
        let histogram = |count| {
            Arc::new(Histogram {
                count,
                zero_count: count,
                ..Histogram::default()
            })
        };
        let chunk_of = |times: &[i64], first: f64| {
            let histograms: Vec<_> = (0u32..)
                .zip(times)
                .map(|(i, _)| histogram(first + f64::from(i)))
                .collect();
            let chunks = encode_histograms(Counts::Whole, times, &histograms, Some(&[5; 3]));
            as_slice(chunks.unwrap().remove(0))
        };
        // The second chunk was filled by another replica; at 30 the first one's histogram stays.
        let chunks = vec![
            chunk_of(&[10, 30, 50], 1.0),
            chunk_of(&[20, 30, 60], 11.0),
            chunk(&[(40, 4.0)]),
        ];
        let joined = join_chunks(chunks, Interval { min: 10, max: 50 }).unwrap();
        let (mut times, mut histograms, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        let (t, h, st) = (&mut times, &mut histograms, &mut starts);
        for chunk in &joined {
            if chunk.encoding != Encoding::Xor {
                assert_eq!(chunk.encoding, Encoding::HistogramSt);
                decode_histograms_with_starts(chunk.encoding, &chunk.data, t, h, st).unwrap();
            }
        }
        assert_eq!((times, starts), (vec![10, 20, 30, 50], vec![5; 4]));
        let found: Vec<_> = histograms.iter().map(|h| (h.count, h.reset_hint)).collect();
        let (unknown, not_reset) = (ResetHint::Unknown, ResetHint::NotReset);
        assert_eq!(
            found,
            [
                (1.0, unknown),
                (11.0, not_reset),
                (2.0, unknown),
                (3.0, unknown)
            ],
            "each fall begins a chunk, and so does each float"
        );
        assert!(joined.is_sorted_by(|left, right| left.max_t < right.min_t));
        let mut plain = (Vec::new(), Vec::new());
        let first = &joined[0];
        decode_histograms(first.encoding, &first.data, &mut plain.0, &mut plain.1).unwrap();
        assert_eq!(plain.0, [10, 20]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
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
