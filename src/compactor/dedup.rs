//! What becomes of chunks of one series that overlap. Pure.

use crate::block::{AnySample, decode_samples, encode_samples, join_chunks, join_groups};
use crate::chunk::{ChunkError, n_samples};
use crate::model::{Interval, TimestampMs};
use crate::storage::ChunkSlice;

/// Distance within which the other replica is not asked, before the distance of samples is known.
const PENALTY_FIRST_MS: i64 = 5_000;

/// How samples of replicas become those of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deduplication {
    /// Every time is kept once: for copies of the same samples.
    #[default]
    OneToOne,
    /// One replica is followed until it has a gap: for replicas that scrape the same targets by themselves.
    Penalty,
}

impl Deduplication {
    /// Makes chunks, sorted by their start, fit for an index; those that overlap nothing pass as they are.
    pub fn join(
        self,
        chunks: Vec<ChunkSlice>,
        wanted: Interval,
    ) -> Result<Vec<ChunkSlice>, ChunkError> {
        match self {
            Self::OneToOne => join_chunks(chunks, wanted),
            Self::Penalty => join_by_penalty(chunks, wanted),
        }
    }
}

fn join_by_penalty(
    chunks: Vec<ChunkSlice>,
    wanted: Interval,
) -> Result<Vec<ChunkSlice>, ChunkError> {
    join_groups(chunks, slack, |group, out| close(group, wanted, out))
}

/// Where replicas overlap, what begins within two samples behind them belongs to them: it may be the other's copy of what
/// is there already.
fn slack(group: &[ChunkSlice]) -> Result<i64, ChunkError> {
    let (Some(last), true) = (group.last(), 1 < group.len()) else {
        return Ok(0);
    };
    Ok(distance_ms(last)?.saturating_mul(2))
}

/// The mean distance of samples.
fn distance_ms(chunk: &ChunkSlice) -> Result<i64, ChunkError> {
    let n = n_samples(chunk.encoding, &chunk.data)?.saturating_sub(1);
    let n = i64::try_from(n).unwrap_or(i64::MAX).max(1);
    Ok(chunk.max_t.saturating_sub(chunk.min_t) / n)
}

/// Empties a group of chunks that overlap one another: each is put behind the chunk that it follows as one sample follows
/// another, and the replicas that come of it become one.
fn close(
    group: &mut Vec<ChunkSlice>,
    wanted: Interval,
    out: &mut Vec<ChunkSlice>,
) -> Result<(), ChunkError> {
    if group.len() < 2 {
        out.extend(join_chunks(std::mem::take(group), wanted)?);
        return Ok(());
    }
    let mut replicas: Vec<(TimestampMs, Vec<AnySample>)> = Vec::new();
    for chunk in group.drain(..) {
        let distance = distance_ms(&chunk)?;
        let ended = replicas.iter_mut().filter(|(end, _)| *end < chunk.min_t);
        let free = ended.min_by_key(|(end, _)| {
            let gap = chunk.min_t.saturating_sub(*end);
            gap.saturating_sub(distance).saturating_abs()
        });
        if let Some((end, samples)) = free {
            decode_samples(&chunk, samples)?;
            *end = chunk.max_t;
        } else {
            let mut samples = Vec::new();
            decode_samples(&chunk, &mut samples)?;
            replicas.push((chunk.max_t, samples));
        }
    }
    let mut replicas = replicas.into_iter().map(|(_, samples)| samples);
    let first = replicas.next().unwrap_or_default();
    let mut merged = replicas.fold(first, |one, other| follow(&one, &other));
    merged.retain(|sample| wanted.contains(sample.t));
    out.extend(encode_samples(&merged)?);
    Ok(())
}

/// The samples of one replica while it has any, those of the other across its gaps.
///
/// Thanos' penalty algorithm: whoever was not chosen is not looked at for twice the distance of the samples that were
/// chosen last, so that a switch takes a real gap.
fn follow(one: &[AnySample], other: &[AnySample]) -> Vec<AnySample> {
    let mut out = Vec::with_capacity(one.len().max(other.len()));
    let (mut one, mut other) = (one, other);
    let (mut penalty_one, mut penalty_other) = (0i64, 0i64);
    let mut last: Option<TimestampMs> = None;
    loop {
        if let Some(last) = last {
            one = from(one, last, penalty_one);
            other = from(other, last, penalty_other);
        }
        let chosen = match (one.first(), other.first()) {
            (None, None) => return out,
            (Some(here), None) => {
                penalty_one = 0;
                here
            }
            (None, Some(there)) => {
                penalty_other = 0;
                there
            }
            (Some(here), Some(there)) => {
                let is_here = here.t <= there.t;
                let chosen = if is_here { here } else { there };
                let penalty = last.map_or(PENALTY_FIRST_MS, |last| {
                    chosen.t.saturating_sub(last).saturating_mul(2)
                });
                (penalty_one, penalty_other) = if is_here { (0, penalty) } else { (penalty, 0) };
                chosen
            }
        };
        last = Some(chosen.t);
        out.push(chosen.clone());
    }
}

/// Without the samples up to the penalty behind the last chosen time.
fn from(samples: &[AnySample], last: TimestampMs, penalty: i64) -> &[AnySample] {
    let least = last.saturating_add(1).saturating_add(penalty);
    let n = samples.iter().take_while(|sample| sample.t < least).count();
    samples.get(n..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::AnyValue;
    use crate::chunk::{decode_floats, encode_floats};

    fn samples(times: &[i64], value: f64) -> Vec<AnySample> {
        let times = times.iter();
        times
            .map(|&t| AnySample {
                t,
                st: 0,
                value: AnyValue::Float(value),
            })
            .collect()
    }

    #[track_caller]
    fn check(one: &[i64], other: &[i64], expect: &[(i64, f64)]) {
        let merged = follow(&samples(one, 1.0), &samples(other, 2.0));
        let found: Vec<(i64, f64)> = merged
            .iter()
            .map(|sample| match sample.value {
                AnyValue::Float(v) => (sample.t, v),
                AnyValue::Histogram(..) => (sample.t, f64::NAN),
            })
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn the_first_replica_is_followed_while_it_has_samples() {
        check(
            &[10_000, 20_000, 30_000, 40_000],
            &[10_100, 20_100, 30_100, 40_100],
            &[(10_000, 1.0), (20_000, 1.0), (30_000, 1.0), (40_000, 1.0)],
        );
    }

    #[test]
    fn whoever_begins_first_is_followed() {
        check(
            &[10_100, 20_100, 30_100],
            &[10_000, 20_000, 30_000],
            &[(10_000, 2.0), (20_000, 2.0), (30_000, 2.0)],
        );
    }

    #[test]
    fn a_gap_of_more_than_two_distances_switches_and_the_way_back_takes_one_too() {
        check(
            &[10_000, 20_000, 30_000, 70_000, 80_000, 90_000, 100_000],
            &[
                10_100, 20_100, 30_100, 40_100, 50_100, 60_100, 70_100, 80_100, 90_100, 100_100,
            ],
            &[
                (10_000, 1.0),
                (20_000, 1.0),
                (30_000, 1.0),
                // At 30000 the other is not looked at for 20000.
                (50_100, 2.0),
                // The distance was 20100, so the first is not looked at until 90300.
                (60_100, 2.0),
                (70_100, 2.0),
                (80_100, 2.0),
                (90_100, 2.0),
                (100_100, 2.0),
            ],
        );
    }

    #[test]
    fn one_replica_alone_and_none_stay_as_they_are() {
        check(&[], &[], &[]);
        check(&[1, 2], &[], &[(1, 1.0), (2, 1.0)]);
        check(&[], &[1, 2], &[(1, 2.0), (2, 2.0)]);
    }

    fn chunk(times: &[i64], value: f64) -> ChunkSlice {
        let values = vec![value; times.len()];
        let encoded = encode_floats(times, &values).unwrap().remove(0);
        ChunkSlice {
            min_t: encoded.min_t,
            max_t: encoded.max_t,
            encoding: encoded.encoding,
            data: Bytes::from(encoded.data),
        }
    }

    fn joined(how: Deduplication, chunks: Vec<ChunkSlice>, wanted: Interval) -> Vec<(i64, f64)> {
        let chunks = how.join(chunks, wanted).unwrap();
        assert!(chunks.is_sorted_by(|left, right| left.max_t < right.min_t));
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
        }
        times.into_iter().zip(values).collect()
    }

    #[test]
    fn chunks_of_a_replica_are_one_lane_and_deduplicate_as_queries_do() {
        // Each replica has two chunks whose ends do not meet those of the other.
        let chunks = vec![
            chunk(&[10_000, 20_000, 30_000], 1.0),
            chunk(&[10_100, 20_100], 2.0),
            chunk(&[30_100, 40_100, 50_100], 2.0),
            chunk(&[40_000, 50_000], 1.0),
        ];
        let all = joined(Deduplication::Penalty, chunks.clone(), Interval::ALL);
        let expect: Vec<_> = (1..=5).map(|n| (n * 10_000, 1.0)).collect();
        assert_eq!(all, expect);
        let all = joined(Deduplication::OneToOne, chunks.clone(), Interval::ALL);
        assert_eq!(all.len(), 10, "one to one keeps every time");
        let wanted = Interval {
            min: 20_000,
            max: 40_000,
        };
        let part = joined(Deduplication::Penalty, chunks, wanted);
        assert_eq!(part, expect.get(1..4).unwrap());
    }

    #[test]
    fn twins_and_chunks_apart_keep_their_bytes() {
        let (first, second) = (chunk(&[1, 2, 3], 1.0), chunk(&[4, 5], 2.0));
        let chunks = vec![first.clone(), first.clone(), second.clone()];
        let joined = Deduplication::Penalty.join(chunks, Interval::ALL).unwrap();
        let data: Vec<_> = joined.iter().map(|chunk| chunk.data.clone()).collect();
        assert_eq!(data, [first.data, second.data]);
    }
}
