//! Chunks of aggregates, and what is in them.

use gauntlet::chunk::{AggregateChunk, decode_times, n_samples, without_intervals};
use gauntlet::model::{Aggregate, Encoding, Interval};

use crate::chunks::{broken_chunk, read_chunk, seeds};
use crate::harness::{Target, run};

/// As a chunk of histograms, which its parts may be.
const HELD_PER_BYTE: usize = 1_024;

/// Chunks whose parts are good chunks, floats as often as histograms, and some without one of them.
fn aggregates() -> Vec<Vec<u8>> {
    let floats = seeds(Encoding::Xor);
    let histograms = seeds(Encoding::FloatHistogram);
    let mut chunks = Vec::new();
    for (at, histogram) in histograms.iter().enumerate() {
        let float = |i: usize| floats[(at + i) % floats.len()].as_slice();
        let both = AggregateChunk::default()
            .with(Aggregate::Count, Encoding::Xor, float(0))
            .with(Aggregate::Sum, Encoding::FloatHistogram, histogram)
            .with(Aggregate::Counter, Encoding::FloatHistogram, histogram);
        chunks.push(both.encode());
        let parts = Aggregate::ALL.into_iter().enumerate();
        let all = parts.fold(AggregateChunk::default(), |chunk, (i, aggregate)| {
            chunk.with(aggregate, Encoding::Xor, float(i))
        });
        chunks.push(all.encode());
        chunks.push(all.with(Aggregate::Counter, Encoding::Xor, &[]).encode());
    }
    chunks
}

/// Reads everything there is in it; how many samples came out.
fn read(data: &[u8]) -> usize {
    let mut times = vec![1];
    let is_read = decode_times(Encoding::Aggregate, data, &mut times).is_ok();
    let Ok(chunk) = AggregateChunk::decode(data) else {
        assert!(!is_read && n_samples(Encoding::Aggregate, data).is_err());
        assert!(without_intervals(Encoding::Aggregate, data, &[]).is_err());
        return 0;
    };
    let written = chunk.encode();
    assert_eq!(AggregateChunk::decode(&written).unwrap(), chunk);
    if is_read {
        let n_windows = n_samples(Encoding::Aggregate, data).unwrap();
        assert_eq!(times.len() - 1, n_windows);
    } else {
        assert_eq!(times, [1], "left behind");
    }
    let at = times.last().copied().unwrap_or(0);
    let deleted = Interval { min: at, max: at };
    if let Ok(Some(rest)) = without_intervals(Encoding::Aggregate, data, &[deleted]) {
        let mut kept = Vec::new();
        decode_times(Encoding::Aggregate, &rest.data, &mut kept).unwrap();
        assert!(!kept.contains(&at), "a deleted window came back");
    }
    let parts = chunk.parts();
    parts
        .map(|(_, (encoding, data))| read_chunk(encoding, data))
        .sum()
}

#[test]
fn broken_chunks_of_aggregates_are_read_or_refused() {
    let seeds = aggregates();
    for seed in &seeds {
        assert!(0 < read(seed), "an empty seed");
    }
    let target = Target::new("aggregates", 16).holds(HELD_PER_BYTE, 64 << 10);
    run(
        target,
        |dice| broken_chunk(dice, &seeds),
        |chunk| read(chunk),
    );
}
