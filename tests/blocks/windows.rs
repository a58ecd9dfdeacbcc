//! What aggregate chunks decode to, and what raw samples add up to.

use std::collections::BTreeMap;

use gauntlet::block::Block;
use gauntlet::chunk::{AggregateChunk, decode_floats};
use gauntlet::model::{Aggregate, Interval, Resolution};
use gauntlet::storage::{ChunkSeries, ChunkSlice, Queryable, SelectHints};

use crate::samples::Dump;

/// Count, sum, minimum, maximum, and what a counter rose to at its end, by the end of the window.
pub(crate) type Windows = BTreeMap<i64, [f64; 5]>;

const EMPTY: [f64; 5] = [0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0];

fn expected(samples: &[(i64, u64)], window_ms: i64) -> Windows {
    let mut all = Windows::new();
    let (mut total, mut before) = (0.0, 0.0);
    let numbers = samples.iter().map(|(t, bits)| (*t, f64::from_bits(*bits)));
    for (t, v) in numbers.filter(|(_, v)| !v.is_nan()) {
        total += if v < before { v } else { v - before };
        before = v;
        let end = t - t % window_ms + window_ms - 1;
        let [count, sum, min, max, counter] = all.entry(end).or_insert(EMPTY);
        *count += 1.0;
        *sum += v;
        *min = v.min(*min);
        *max = v.max(*max);
        *counter = total;
    }
    all
}

/// What the aggregate chunks of blocks that follow one another decode to.
fn found(blocks: &[Block], resolution: Resolution) -> BTreeMap<String, Windows> {
    let mut all: BTreeMap<String, Windows> = BTreeMap::new();
    // The counter goes on where the block before ended: its value then, and the total.
    let mut counters: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for block in blocks {
        let mut set = block.select(&[], &SelectHints::new(Interval::ALL)).unwrap();
        while let Some(series) = set.next() {
            let ChunkSeries { labels, chunks } = series.unwrap();
            let name = labels.to_string();
            let windows = all.entry(name.clone()).or_default();
            let counter = counters.entry(name).or_default();
            for chunk in chunks {
                add_chunk(windows, counter, &chunk, resolution.as_ms());
            }
        }
    }
    all
}

fn add_chunk(windows: &mut Windows, counter: &mut (f64, f64), chunk: &ChunkSlice, window_ms: i64) {
    let parts = AggregateChunk::decode(&chunk.data).unwrap();
    let mut last_t = i64::MIN;
    for (at, aggregate) in Aggregate::ALL.into_iter().enumerate() {
        let (encoding, data) = parts.part(aggregate).unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        decode_floats(encoding, data, &mut times, &mut values).unwrap();
        for (t, v) in times.into_iter().zip(values) {
            let end = t - t % window_ms + window_ms - 1;
            let window = windows.entry(end).or_insert(EMPTY);
            match aggregate {
                Aggregate::Count | Aggregate::Sum => window[at] += v,
                Aggregate::Min => window[at] = v.min(window[at]),
                Aggregate::Max => window[at] = v.max(window[at]),
                Aggregate::Counter => {
                    if last_t < t {
                        let (before, total) = *counter;
                        *counter = (v, total + if v < before { v } else { v - before });
                        window[at] = counter.1;
                    } else {
                        counter.0 = v;
                    }
                    last_t = t;
                }
            }
        }
    }
}

fn is_near(left: f64, right: f64) -> bool {
    left.to_bits() == right.to_bits() || (left - right).abs() <= 1e-9 * left.abs().max(1.0)
}

/// Every window that the blocks hold is what the samples add up to, and none before `end_ms` is missing. Of counters that
/// have whole numbers the total is compared, too. Says how many windows there were.
pub(crate) fn assert_add_up(
    blocks: &[Block],
    (raw, end_ms): (&Dump, i64),
    resolution: Resolution,
    is_counter: fn(&str) -> bool,
) -> usize {
    let all = found(blocks, resolution);
    let mut n_windows = 0;
    for (labels, samples) in raw {
        let windows = all.get(labels).cloned().unwrap_or_default();
        let mut expect = expected(samples, resolution.as_ms());
        expect.retain(|end, _| *end < end_ms);
        assert!(windows.keys().eq(expect.keys()), "{labels}: other windows");
        n_windows += windows.len();
        for ((end, window), (_, expect)) in windows.iter().zip(&expect) {
            let place = format!("{labels} at {end}: {window:?}, not {expect:?}");
            for at in [0, 2, 3] {
                assert_eq!(window[at].to_bits(), expect[at].to_bits(), "{place}");
            }
            if resolution == Resolution::FiveMinutes {
                // Added in the same order.
                assert_eq!(window[1].to_bits(), expect[1].to_bits(), "{place}");
            }
            assert!(is_near(window[1], expect[1]), "{place}");
            if is_counter(labels) {
                assert_eq!(window[4].to_bits(), expect[4].to_bits(), "{place}");
            }
        }
    }
    let unknown = all.keys().filter(|labels| !raw.contains_key(*labels));
    assert_eq!(unknown.count(), 0);
    n_windows
}
