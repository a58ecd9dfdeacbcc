//! Queries over windows: what they say is what the raw samples behind the windows say.

use std::sync::Arc;

use crate::chunk::{AggregateChunk, encode_floats, encode_histograms};
use crate::model::{
    Aggregate, Counts, Encoding, Histogram, Interval, Labels, ResetHint, Resolution,
};
use crate::promql::exec::coarse::{Counter, resolution_of};
use crate::promql::exec::source::Samples;
use crate::promql::testing::MemoryStore;
use crate::promql::{Engine, EngineSettings, QueryOptions, QueryOutput, QueryValue};
use crate::storage::{ChunkSeries, ChunkSlice, ResolutionSlice};

const WINDOW_MS: i64 = 300_000;
const HOUR_MS: i64 = 3_600_000;
/// Up to here there are windows, then raw samples.
const EDGE_MS: i64 = 4 * HOUR_MS;
const END_MS: i64 = 6 * HOUR_MS;

/// A counter every 15 s that starts anew now and then, and jumps up and down between.
fn samples() -> Vec<(i64, f64)> {
    let mut v = 100.0;
    (0..END_MS / 15_000)
        .map(|n| {
            v = if n % 97 == 96 {
                1.0
            } else {
                v + f64::from(i32::try_from(n % 7).unwrap())
            };
            (n * 15_000, v)
        })
        .collect()
}

fn floats(samples: &[(i64, f64)]) -> Vec<u8> {
    let (t, v): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let mut appender = crate::chunk::XorAppender::new();
    for (t, v) in t.into_iter().zip(v) {
        appender.append(t, v).unwrap();
    }
    appender.into_bytes()
}

/// One chunk of windows, computed in the plainest way.
fn windows(samples: &[(i64, f64)]) -> ChunkSlice {
    let mut parts: [Vec<(i64, f64)>; 5] = Default::default();
    parts[4].push(samples[0]);
    let (mut total, mut last) = (samples[0].1, samples[0].1);
    for window in samples.chunk_by(|a, b| a.0 / WINDOW_MS == b.0 / WINDOW_MS) {
        let end = window[0].0 / WINDOW_MS * WINDOW_MS + WINDOW_MS - 1;
        let t = end.min(samples[samples.len() - 1].0);
        let values = || window.iter().map(|sample| sample.1);
        for v in values() {
            total += if v < last { v } else { v - last };
            last = v;
        }
        parts[0].push((t, f64::from(u32::try_from(window.len()).unwrap())));
        parts[1].push((t, values().sum()));
        parts[2].push((t, values().fold(f64::INFINITY, f64::min)));
        parts[3].push((t, values().fold(f64::NEG_INFINITY, f64::max)));
        parts[4].push((t, total));
    }
    let last_t = parts[0][parts[0].len() - 1].0;
    parts[4].push((last_t, last));
    let (min_t, max_t) = (parts[0][0].0, last_t);
    let data: Vec<_> = parts.iter().map(|part| floats(part)).collect();
    let chunk = Aggregate::ALL
        .into_iter()
        .zip(&data)
        .fold(AggregateChunk::default(), |chunk, (aggregate, data)| {
            chunk.with(aggregate, Encoding::Xor, data)
        });
    ChunkSlice {
        min_t,
        max_t,
        encoding: Encoding::Aggregate,
        data: chunk.encode().into(),
    }
}

fn raw(samples: &[(i64, f64)]) -> Vec<ChunkSlice> {
    let (t, v): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    let chunks = encode_floats(&t, &v).unwrap().into_iter();
    chunks
        .map(|chunk| ChunkSlice {
            min_t: chunk.min_t,
            max_t: chunk.max_t,
            encoding: chunk.encoding,
            data: chunk.data.into(),
        })
        .collect()
}

fn series(chunks: Vec<ChunkSlice>) -> ChunkSeries {
    ChunkSeries {
        labels: Labels::new(&[("__name__", "x_total")]).unwrap(),
        chunks,
    }
}

/// The series raw, and the same with windows in three chunks up to the edge.
fn both() -> [ChunkSeries; 2] {
    let all = samples();
    let edge = all.partition_point(|sample| sample.0 < EDGE_MS);
    let mut chunks = Vec::new();
    // The second chunk ends within a window, as the last of a block may.
    for part in [0..240, 240..650, 660..edge] {
        chunks.push(windows(&all[part]));
    }
    chunks.extend(raw(&all[edge..]));
    [series(raw(&all)), series(chunks)]
}

fn ask(series: &ChunkSeries, query: &str, times: (i64, i64, i64)) -> QueryOutput {
    ask_with(series, query, times, &QueryOptions::default())
}

fn ask_with(
    series: &ChunkSeries,
    query: &str,
    times: (i64, i64, i64),
    options: &QueryOptions,
) -> QueryOutput {
    let engine = Engine::new(EngineSettings::default(), None);
    let store = Arc::new(MemoryStore::from_series(vec![series.clone()]));
    let (start, end, step) = times;
    engine
        .range(store, query, start, end, step, options)
        .unwrap()
}

fn points(output: &QueryOutput) -> Vec<(i64, f64)> {
    let QueryValue::Columns(columns) = &output.value else {
        panic!("{output:?}");
    };
    let matrix = columns.to_matrix();
    let first = matrix.into_iter().next().map(|series| series.floats);
    let floats = first.unwrap_or_default();
    floats
        .into_iter()
        .map(|sample| (sample.t, sample.v))
        .collect()
}

#[track_caller]
fn check_equal(query: &str, times: (i64, i64, i64)) {
    let [raw, coarse] = both();
    let expect = points(&ask(&raw, query, times));
    let found = points(&ask(&coarse, query, times));
    assert!(!expect.is_empty());
    assert_eq!(found.len(), expect.len(), "{query}");
    for (found, expect) in found.iter().zip(&expect) {
        assert_eq!(found.0, expect.0, "{query}");
        let difference = (found.1 - expect.1).abs();
        assert!(
            difference <= expect.1.abs() * 1e-12,
            "{query} at {}: {} instead of {}",
            found.0,
            found.1,
            expect.1
        );
    }
}

/// The ends of windows of an hour, in windows, across the edge, and in raw samples. The samples that lie between two
/// chunks are in no window, so the hours around them are left out.
#[test]
fn sums_numbers_averages_and_extremes_at_the_ends_of_windows_are_those_of_the_samples() {
    for func in ["sum", "count", "avg", "min", "max"] {
        for range in ["30m", "1h"] {
            let query = format!("{func}_over_time(x_total[{range}])");
            let ends = HOUR_MS - 1;
            check_equal(&query, (ends, 2 * HOUR_MS - 1, HOUR_MS));
            check_equal(&query, (4 * HOUR_MS - 1, END_MS - 1, WINDOW_MS));
        }
    }
    check_equal(
        "max(max_over_time(x_total[1h]))",
        (4 * HOUR_MS - 1, END_MS - 1, WINDOW_MS),
    );
    check_equal(
        "present_over_time(x_total[1h])",
        (4 * HOUR_MS - 1, END_MS - 1, WINDOW_MS),
    );
}

#[test]
fn a_counter_grows_as_it_did_through_resets_chunks_and_the_edge_to_raw_samples() {
    let [raw, coarse] = both();
    let grown = |from: i64, to: i64| {
        let all = samples();
        let inside = |t: i64| from <= t && t <= to;
        all.windows(2)
            .filter(|pair| inside(pair[0].0) && inside(pair[1].0))
            .map(|pair| {
                if pair[1].1 < pair[0].1 {
                    pair[1].1
                } else {
                    pair[1].1 - pair[0].1
                }
            })
            .sum::<f64>()
    };
    let mut counter = Counter::default();
    let mut followed = Samples::default();
    for chunk in &coarse.chunks {
        let from = followed.t.len();
        let data = if chunk.encoding == Encoding::Aggregate {
            let parts = AggregateChunk::decode(&chunk.data).unwrap();
            parts.part(Aggregate::Counter).unwrap().1.to_vec()
        } else {
            chunk.data.to_vec()
        };
        let columns = (&mut followed.t, &mut followed.v);
        crate::chunk::decode_floats(Encoding::Xor, &data, columns.0, columns.1).unwrap();
        counter.follow(&mut followed, from);
    }
    assert!(followed.t.is_sorted_by(|a, b| a < b));
    assert!(followed.v.is_sorted());
    // Samples 650 to 659 are in no chunk; what they added is in the values that follow.
    let total = followed.v[followed.v.len() - 1] - followed.v[0];
    let expect = grown(0, END_MS);
    assert!((total - expect).abs() < 1e-9, "{total} instead of {expect}");
    // Extrapolated from the ends of windows instead of samples: close.
    let times = (2 * HOUR_MS - 1, END_MS - 1, WINDOW_MS);
    let query = "increase(x_total[1h])";
    let (exact, found) = (
        points(&ask(&raw, query, times)),
        points(&ask(&coarse, query, times)),
    );
    assert_eq!(found.len(), exact.len());
    for (found, exact) in found.iter().zip(&exact) {
        assert!(
            (found.1 / exact.1 - 1.0).abs() < 0.06,
            "{found:?} instead of {exact:?}"
        );
    }
    let raw_times = (EDGE_MS + HOUR_MS, END_MS - 1, WINDOW_MS);
    assert_eq!(
        points(&ask(&coarse, query, raw_times)).len(),
        points(&ask(&raw, query, raw_times)).len()
    );
}

#[test]
fn a_window_is_seen_until_the_next_one_ends_and_its_value_is_its_average() {
    let [raw, coarse] = both();
    let all = points(&ask(&coarse, "x_total", (WINDOW_MS, END_MS - 1, 15_000)));
    let expect = (END_MS - WINDOW_MS) / 15_000;
    assert_eq!(i64::try_from(all.len()), Ok(expect));
    let averages = points(&ask(
        &raw,
        "avg_over_time(x_total[5m])",
        (WINDOW_MS - 1, WINDOW_MS - 1, 1),
    ));
    assert!((all[0].1 - averages[0].1).abs() < 1e-9);
    for (query, reference) in [
        ("min(x_total)", "min_over_time(x_total[5m])"),
        ("max(x_total)", "max_over_time(x_total[5m])"),
    ] {
        let at = (3 * WINDOW_MS - 1, 3 * WINDOW_MS - 1, 1);
        assert_eq!(
            points(&ask(&coarse, query, at)),
            points(&ask(&raw, reference, at))
        );
    }
}

/// Samples beside a range are looked for a minute away, where they come every 15 s; windows of five minutes further.
#[test]
fn extended_ranges_reach_the_windows_beside_them_and_no_older_samples() {
    let [raw, coarse] = both();
    let options = QueryOptions {
        lookback_ms: Some(60_000),
        ..QueryOptions::default()
    };
    let ask = |series: &ChunkSeries, query: &str, times| {
        let output = ask_with(series, query, times, &options);
        points(&output)
    };
    // At two minutes into a window what counts is what was there when the window before it ended.
    for func in ["increase", "xincrease"] {
        let query = match func {
            "increase" => "increase(x_total[30m] anchored)",
            _ => "xincrease(x_total[30m])",
        };
        let end = EDGE_MS - WINDOW_MS - 1;
        let from = end - 2 * WINDOW_MS;
        let expect = ask(
            &raw,
            "increase(x_total[30m] anchored)",
            (from, end, WINDOW_MS),
        );
        let later = |t: i64| t + 120_000;
        let found = ask(&coarse, query, (later(from), later(end), WINDOW_MS));
        assert_eq!(found.len(), 3);
        for (found, expect) in found.iter().zip(&expect) {
            assert_eq!(found.0, later(expect.0));
            let difference = (found.1 - expect.1).abs();
            assert!(difference < 1e-9, "{query}: {found:?}, {expect:?}");
        }
    }
    let at = |query, t| ask(&coarse, query, (t, t, 1)).first().map(|point| point.1);
    let (left, right) = (3 * HOUR_MS + WINDOW_MS - 1, 3 * HOUR_MS + 2 * WINDOW_MS - 1);
    let value = |t| at("x_total", t).unwrap();
    let middle = at("x_total smoothed", left + 2 * WINDOW_MS / 5).unwrap();
    let expect = value(left) + (value(right) - value(left)) * 0.4;
    assert!((middle - expect).abs() < 1e-9, "{middle} and {expect}");
    let grown = at("delta(x_total[5m] smoothed)", left + WINDOW_MS).unwrap();
    assert!(
        (grown - (value(right) - value(left))).abs() < 1e-9,
        "{grown}"
    );
    // Raw samples reach a minute, as ever: where the series ends, its windows of before do not make it longer.
    let times = (EDGE_MS - 1, END_MS + HOUR_MS, 20_000);
    for query in [
        "x_total smoothed",
        "delta(x_total[1m] anchored)",
        "delta(x_total[1m] smoothed)",
        "xdelta(x_total[1m])",
    ] {
        let steps = |series| {
            let points = ask(series, query, times).into_iter();
            let among_raw = points.filter(|point| EDGE_MS + WINDOW_MS < point.0);
            among_raw.collect::<Vec<_>>()
        };
        let expect = steps(&raw);
        assert!(100 < expect.len(), "{query}");
        assert_eq!(steps(&coarse), expect, "{query}");
    }
}

#[test]
fn one_selector_read_in_two_ways_shares_its_chunks_and_not_its_values() {
    let [raw, coarse] = both();
    let query = "max_over_time(x_total[1h]) - min_over_time(x_total[1h])";
    let times = (HOUR_MS - 1, 2 * HOUR_MS - 1, HOUR_MS);
    let output = ask(&coarse, query, times);
    assert_eq!(points(&output), points(&ask(&raw, query, times)));
    assert_eq!(output.stats.series, 1);
    assert_eq!(output.stats.resolutions, [Resolution::FiveMinutes]);
    let across = ask(&coarse, query, (HOUR_MS, END_MS, HOUR_MS));
    assert_eq!(
        across.stats.resolutions,
        [Resolution::Raw, Resolution::FiveMinutes]
    );
}

#[test]
fn windows_of_histograms_are_sums_averages_counts_and_counters_of_histograms() {
    let histogram = |count: f64, reset_hint| {
        Arc::new(Histogram {
            count,
            sum: 3.0 * count,
            zero_count: count,
            reset_hint,
            ..Histogram::default()
        })
    };
    let t = [WINDOW_MS - 1, 2 * WINDOW_MS - 1];
    let encoded = |values: [f64; 2], hint| {
        let histograms = values.map(|count| histogram(count, hint));
        encode_histograms(Counts::Float, &t, &histograms, None)
            .unwrap()
            .remove(0)
            .data
    };
    let sum = encoded([40.0, 60.0], ResetHint::Gauge);
    let counter = encoded([5.0, 9.0], ResetHint::Unknown);
    let count = floats(&[(t[0], 20.0), (t[1], 20.0)]);
    let chunk = AggregateChunk::default()
        .with(Aggregate::Count, Encoding::Xor, &count)
        .with(Aggregate::Sum, Encoding::FloatHistogram, &sum)
        .with(Aggregate::Counter, Encoding::FloatHistogram, &counter);
    let coarse = series(vec![ChunkSlice {
        min_t: t[0],
        max_t: t[1],
        encoding: Encoding::Aggregate,
        data: chunk.encode().into(),
    }]);
    let value = |query: &str| {
        let found = points(&ask(&coarse, query, (t[1], t[1], 1)));
        found.first().map(|point| point.1)
    };
    assert_eq!(value("histogram_count(x_total)"), Some(3.0));
    assert_eq!(
        value("histogram_count(sum_over_time(x_total[10m]))"),
        Some(100.0)
    );
    assert_eq!(
        value("histogram_sum(avg_over_time(x_total[10m]))"),
        Some(7.5)
    );
    assert_eq!(value("count_over_time(x_total[10m])"), Some(40.0));
    let rate = value("histogram_count(irate(x_total[10m]))").unwrap();
    assert!((rate - 4.0 / 300.0).abs() < 1e-12, "{rate}");
    assert_eq!(value("min_over_time(x_total[10m])"), None);
}

#[test]
fn an_aggregate_that_is_missing_is_named_with_its_series() {
    let count = floats(&[(WINDOW_MS - 1, 20.0)]);
    let chunk = AggregateChunk::default().with(Aggregate::Count, Encoding::Xor, &count);
    let coarse = series(vec![ChunkSlice {
        min_t: WINDOW_MS - 1,
        max_t: WINDOW_MS - 1,
        encoding: Encoding::Aggregate,
        data: chunk.encode().into(),
    }]);
    let engine = Engine::new(EngineSettings::default(), None);
    let store = Arc::new(MemoryStore::from_series(vec![coarse]));
    let asked = engine.instant(
        store,
        "max_over_time(x_total[1h])",
        WINDOW_MS,
        &QueryOptions::default(),
    );
    let text = asked.unwrap_err().to_string();
    assert!(
        text.contains("x_total") && text.contains("aggregate max does not exist"),
        "{text}"
    );
}

#[test]
fn a_chunk_that_begins_before_the_question_is_as_coarse_as_the_first_slice_it_reaches() {
    let slice = |min, max, resolution| ResolutionSlice {
        interval: Interval { min, max },
        resolution,
    };
    let slices = [
        slice(100, 199, Resolution::OneHour),
        slice(200, 299, Resolution::FiveMinutes),
    ];
    let mut chunk = windows(&samples()[..240]);
    for (min_t, max_t, expect) in [
        (100, 150, Resolution::OneHour),
        (20, 150, Resolution::OneHour),
        (20, 250, Resolution::OneHour),
        (200, 250, Resolution::FiveMinutes),
        (20, 50, Resolution::FiveMinutes),
    ] {
        (chunk.min_t, chunk.max_t) = (min_t, max_t);
        assert_eq!(resolution_of(&chunk, &slices), expect, "{min_t} to {max_t}");
    }
}
