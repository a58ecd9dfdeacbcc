//! What Thanos computes of the same samples, and what is computed directly from them.
#![expect(
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "small numbers, and sums of whole ones"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::chunk::{
    AggregateChunk, decode_floats, decode_histograms, encode_floats, encode_histograms,
};
use crate::downsample::coarser::{AggregateSeries, Step};
use crate::downsample::counter::CounterChain;
use crate::downsample::raw::RawSeries;
use crate::downsample::windows::window_end;
use crate::model::{
    Aggregate, BucketSpan, Buckets, CUSTOM_BUCKETS_SCHEMA, Counts, Encoding, Histogram, ResetHint,
    STALE_NAN_BITS, TimestampMs, is_stale,
};
use crate::storage::ChunkSlice;

const FIVE_MINUTES: i64 = 300_000;
const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000;

/// Numbers without a pattern, the same wherever they are computed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        let state = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = state.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A counter with resets, gaps, stale markers and NaN.
fn counter(seed: u64, n: usize) -> Vec<(TimestampMs, f64)> {
    let mut numbers = Numbers(seed);
    let (mut t, mut total) = (START, 0);
    let sample = |_| {
        t += 15_000 + numbers.below(3) as i64;
        if numbers.below(200) == 0 {
            t += 600_000 + numbers.below(3_600_000) as i64;
        }
        total += numbers.below(50);
        if numbers.below(100) == 0 {
            total = numbers.below(10);
        }
        let v = match numbers.below(60) {
            0 => f64::from_bits(STALE_NAN_BITS),
            1 => f64::NAN,
            _ => total as f64 * 0.1,
        };
        (t, v)
    };
    (0..n).map(sample).collect()
}

fn histogram(zero: f64, buckets: [f64; 4], sum: f64) -> Histogram {
    Histogram {
        schema: 1,
        zero_threshold: 0.001,
        zero_count: zero,
        count: zero + buckets.iter().sum::<f64>(),
        sum,
        positive: Buckets {
            spans: [-1, 1]
                .map(|offset| BucketSpan { offset, length: 2 })
                .to_vec(),
            counts: buckets.to_vec(),
        },
        ..Histogram::default()
    }
}

/// Histograms of a counter that is reset now and then.
fn histograms(seed: u64, n: usize, hint: ResetHint) -> Vec<(TimestampMs, Arc<Histogram>)> {
    let mut numbers = Numbers(seed);
    let (mut zero, mut buckets, mut sum) = (0, [0; 4], 0);
    let sample = |i: usize| {
        if numbers.below(40) == 0 {
            (zero, buckets, sum) = (0, [0; 4], 0);
        }
        zero += numbers.below(3);
        for bucket in &mut buckets {
            *bucket += numbers.below(9);
        }
        sum += numbers.below(100);
        let mut histogram = histogram(zero as f64, buckets.map(|n| n as f64), sum as f64);
        histogram.reset_hint = hint;
        (START + 30_000 * (i as i64 + 1), Arc::new(histogram))
    };
    (0..n).map(sample).collect()
}

fn slices(chunks: Vec<crate::chunk::EncodedChunk>) -> Vec<ChunkSlice> {
    let slice = |chunk: crate::chunk::EncodedChunk| ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: chunk.data.into(),
    };
    chunks.into_iter().map(slice).collect()
}

fn float_chunks(samples: &[(TimestampMs, f64)]) -> Vec<ChunkSlice> {
    let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
    slices(encode_floats(&times, &values).unwrap())
}

fn histogram_chunks(samples: &[(TimestampMs, Arc<Histogram>)]) -> Vec<ChunkSlice> {
    let (times, histograms): (Vec<i64>, Vec<_>) = samples.iter().cloned().unzip();
    slices(encode_histograms(Counts::Whole, &times, &histograms, None).unwrap())
}

fn to_five_minutes(chunks: &[ChunkSlice]) -> Vec<ChunkSlice> {
    let mut out = Vec::new();
    let mut series = RawSeries::default();
    series.downsample(chunks, FIVE_MINUTES, &mut out).unwrap();
    out
}

fn to_an_hour(chunks: &[ChunkSlice]) -> Vec<ChunkSlice> {
    let mut out = Vec::new();
    let step = Step {
        from_ms: FIVE_MINUTES,
        to_ms: HOUR,
    };
    let mut series = AggregateSeries::default();
    series.downsample(chunks, step, &mut out).unwrap();
    out
}

/// FNV-1a of everything that Thanos' chunks decode to.
struct Fnv(u64);

impl Fnv {
    fn put(&mut self, bits: u64) {
        for byte in bits.to_be_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// How many chunks, how many samples in their parts, and the hash of them all.
fn digest(chunks: &[ChunkSlice]) -> (usize, usize, u64) {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    let mut n_samples = 0;
    for chunk in chunks {
        fnv.put(chunk.min_t.cast_unsigned());
        fnv.put(chunk.max_t.cast_unsigned());
        for (_, (encoding, data)) in AggregateChunk::decode(&chunk.data).unwrap().parts() {
            let mut times = Vec::new();
            if encoding.has_histograms() {
                let mut values = Vec::new();
                decode_histograms(encoding, data, &mut times, &mut values).unwrap();
                for (t, h) in times.iter().zip(values) {
                    fnv.put(t.cast_unsigned());
                    for v in [h.count, h.sum, h.zero_count] {
                        fnv.put(v.to_bits());
                    }
                    h.positive.counts.iter().for_each(|v| fnv.put(v.to_bits()));
                }
            } else {
                let mut values = Vec::new();
                decode_floats(encoding, data, &mut times, &mut values).unwrap();
                for (t, v) in times.iter().zip(values) {
                    fnv.put(t.cast_unsigned());
                    fnv.put(v.to_bits());
                }
            }
            n_samples += times.len();
        }
    }
    (chunks.len(), n_samples, fnv.0)
}

/// FNV-1a of times and bytes of the chunks.
fn bytes_digest(chunks: &[ChunkSlice]) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    for chunk in chunks {
        fnv.put(chunk.min_t.cast_unsigned());
        fnv.put(chunk.max_t.cast_unsigned());
        for byte in &chunk.data {
            fnv.0 = (fnv.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fnv.0
}

#[test]
fn a_few_samples_become_the_bytes_that_thanos_writes() {
    let five = to_five_minutes(&float_chunks(&counter(1, 7)));
    let hour = to_an_hour(&five);
    let hex = |chunk: &ChunkSlice| -> String {
        let bytes = chunk.data.iter().map(|byte| format!("{byte:02x}"));
        bytes.collect()
    };
    assert_eq!((five.len(), hour.len()), (1, 1));
    assert_eq!(
        (five[0].min_t, five[0].max_t),
        (1_700_000_099_999, 1_700_000_105_007)
    );
    assert_eq!(hour[0].min_t, 1_700_000_105_007);
    assert_eq!(
        hex(&five[0]),
        "16010002bebab7fef96240180000000000009027c267fe801b010002bebab7fef9624038b333333333349027d7aeb55555555554c01c010002\
         bebab7fef9623fd999999999999a9027c3ffffbfffffffffffd01b010002bebab7fef962401acccccccccccd9027d5af15555555555540300\
         10004b48aadfef9624012666666666667859805d5aeacccccccccccfbb1e2f669600000000000758e1733333333333280"
    );
    assert_eq!(
        hex(&hour[0]),
        "10010001de88b8fef962401c00000000000010010001de88b8fef9624040f3333333333410010001de88b8fef9623fd999999999999a100100\
         01de88b8fef962402266666666666726010003b48aadfef962401266666666666795bf05d5b7ccccccccccccbdd40d71cccccccccccca0"
    );
}

/// Numbers of chunks and samples and hashes are what Thanos' code (0.43) computed of the same samples.
#[test]
fn long_series_of_floats_become_the_chunks_that_thanos_makes() {
    let five = to_five_minutes(&float_chunks(&counter(2, 3_000)));
    assert_eq!(digest(&five), (3, 851, 0xa1e4_f410_afa0_2350));
    assert_eq!(bytes_digest(&five), 0x8259_5eee_dd1b_8cee);
    let hour = to_an_hour(&five);
    assert_eq!(digest(&hour), (1, 132, 0x4f3d_22b2_ef76_d903));
    assert_eq!(bytes_digest(&hour), 0x1f82_0969_0ca1_a3c1);
    let five = to_five_minutes(&float_chunks(&counter(3, 11_520)));
    assert_eq!(digest(&five), (8, 3_176, 0x809b_1c16_1341_7aba));
    assert_eq!(bytes_digest(&five), 0x7681_8395_771a_5de1);
    let hour = to_an_hour(&five);
    assert_eq!(digest(&hour), (1, 457, 0x9279_8c7e_36d6_8bc4));
    assert_eq!(bytes_digest(&hour), 0x6ce6_5fec_5b4a_f911);
}

#[test]
fn histograms_of_counters_and_gauges_become_what_thanos_makes_of_them() {
    for (seed, hint, expect) in [
        (
            4,
            ResetHint::Unknown,
            [0xfc57_5452_aaeb_8b27, 0x35f7_b2cc_64e5_16a1],
        ),
        (
            5,
            ResetHint::Gauge,
            [0xf71c_2726_d03e_8409, 0x4f95_b5a3_40b5_6cd2],
        ),
    ] {
        let five = to_five_minutes(&histogram_chunks(&histograms(seed, 1_500, hint)));
        assert_eq!(digest(&five), (2, 453, expect[0]));
        assert_eq!(digest(&to_an_hour(&five)), (1, 39, expect[1]));
        let counter = AggregateChunk::decode(&five[0].data).unwrap();
        assert!(counter.has_histograms() && counter.part(Aggregate::Min).is_none());
    }
}

/// One aggregate by the end of its window, whatever chunks it is in.
fn column(chunks: &[ChunkSlice], aggregate: Aggregate, window_ms: i64) -> Vec<(TimestampMs, f64)> {
    let mut all = Vec::new();
    for chunk in chunks {
        let parts = AggregateChunk::decode(&chunk.data).unwrap();
        let (encoding, data) = parts.part(aggregate).unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        decode_floats(encoding, data, &mut times, &mut values).unwrap();
        let ends = times.into_iter().map(|t| window_end(t, window_ms));
        all.extend(ends.zip(values));
    }
    all
}

/// The counter as a reader sees it, at the last moment of each window.
fn total_column(chunks: &[ChunkSlice], window_ms: i64) -> BTreeMap<TimestampMs, f64> {
    let mut chain = CounterChain::default();
    let (mut out_t, mut out_v) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let parts = AggregateChunk::decode(&chunk.data).unwrap();
        let (encoding, data) = parts.part(Aggregate::Counter).unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        decode_floats(encoding, data, &mut times, &mut values).unwrap();
        chain.add(&times, &values, (&mut out_t, &mut out_v));
    }
    let ends = out_t.into_iter().map(|t| window_end(t, window_ms));
    ends.zip(out_v).collect()
}

/// Count, sum, minimum, maximum and counter of each window, straight from the samples.
fn model(samples: &[(TimestampMs, f64)], window_ms: i64) -> BTreeMap<TimestampMs, [f64; 5]> {
    let mut all = BTreeMap::new();
    let mut before: Option<f64> = None;
    let mut total = 0.0;
    for &(t, v) in samples.iter().filter(|(_, v)| !v.is_nan()) {
        total += match before {
            Some(before) if before <= v => v - before,
            _ => v,
        };
        before = Some(v);
        let none = [0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        let window = all.entry(window_end(t, window_ms)).or_insert(none);
        let [count, sum, min, max, counter] = window;
        *count += 1.0;
        *sum += v;
        *min = min.min(v);
        *max = max.max(v);
        *counter = total;
    }
    all
}

/// An aggregate, where it begins, and how two of its values become one.
type Fold = (Aggregate, f64, fn(f64, f64) -> f64);

/// Windows of an hour may be in two chunks, because chunks are not taken apart.
fn folded(chunks: &[ChunkSlice], window_ms: i64) -> BTreeMap<TimestampMs, [f64; 5]> {
    let mut all = BTreeMap::new();
    let folds: [Fold; 4] = [
        (Aggregate::Count, 0.0, |a, b| a + b),
        (Aggregate::Sum, 0.0, |a, b| a + b),
        (Aggregate::Min, f64::INFINITY, f64::min),
        (Aggregate::Max, f64::NEG_INFINITY, f64::max),
    ];
    for (at, (aggregate, start, fold)) in folds.into_iter().enumerate() {
        for (t, v) in column(chunks, aggregate, window_ms) {
            let window = all
                .entry(t)
                .or_insert([0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0]);
            let before = if window[0] == 0.0 { start } else { window[at] };
            window[at] = fold(before, v);
        }
    }
    for (t, total) in total_column(chunks, window_ms) {
        all.entry(t).or_default()[4] = total;
    }
    all
}

/// Whole values, so that no order of adding them matters, and everything else that a sample can be.
fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => (0..1_000_u32).prop_map(f64::from),
        1 => Just(f64::NAN),
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
        1 => Just(0.0),
    ]
}

fn any_samples() -> impl Strategy<Value = Vec<(TimestampMs, f64)>> {
    let gap = prop_oneof![30 => 1_i64..40_000, 1 => 1_i64..20_000_000];
    prop::collection::vec((gap, any_value()), 1..800).prop_map(|steps| {
        let mut t = START;
        let step = |(gap, v)| {
            t += gap;
            (t, v)
        };
        steps.into_iter().map(step).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn aggregates_are_what_the_samples_add_up_to(samples in any_samples()) {
        let five = to_five_minutes(&float_chunks(&samples));
        prop_assert_eq!(folded(&five, FIVE_MINUTES), model(&samples, FIVE_MINUTES));
        let hour = to_an_hour(&five);
        prop_assert_eq!(folded(&hour, HOUR), model(&samples, HOUR));
        for chunks in [&five, &hour] {
            prop_assert!(chunks.is_sorted_by(|left, right| left.max_t < right.min_t));
        }
    }

    #[test]
    fn infinities_add_up_as_numbers_do(at in 0_usize..40, is_negative in any::<bool>()) {
        let infinity = if is_negative { f64::NEG_INFINITY } else { f64::INFINITY };
        let value = |i: usize| if i == at { infinity } else { i as f64 };
        let samples: Vec<_> = (0..40).map(|i| (START + 30_000 * i as i64, value(i))).collect();
        let five = to_five_minutes(&float_chunks(&samples));
        let model = model(&samples, FIVE_MINUTES);
        for (aggregate, place) in [(Aggregate::Sum, 1), (Aggregate::Min, 2), (Aggregate::Max, 3)] {
            let expect: Vec<_> = model.iter().map(|(t, window)| (*t, window[place])).collect();
            prop_assert_eq!(column(&five, aggregate, FIVE_MINUTES), expect);
        }
    }

    #[test]
    fn histograms_add_up_as_floats_do(seed in any::<u64>(), n in 1_usize..400) {
        let samples = histograms(seed, n, ResetHint::Unknown);
        let counts: Vec<_> = samples.iter().map(|(t, h)| (*t, h.count)).collect();
        let chunks = to_five_minutes(&histogram_chunks(&samples));
        prop_assert_eq!(chunks.len(), 1);
        for (chunks, window_ms) in [(&chunks, FIVE_MINUTES), (&to_an_hour(&chunks), HOUR)] {
            let expect = model(&counts, window_ms);
            let totals = histogram_totals(&samples, window_ms);
            let windows = column(chunks, Aggregate::Count, window_ms);
            let sums = histogram_column(chunks, Aggregate::Sum, window_ms);
            let counters = histogram_column(chunks, Aggregate::Counter, window_ms);
            prop_assert_eq!(windows.len(), expect.len());
            for (at, (t, [count, sum, ..])) in expect.iter().enumerate() {
                prop_assert_eq!(windows[at], (*t, *count));
                prop_assert_eq!((sums[at].0, sums[at].1.count), (*t, *sum));
                prop_assert_eq!((counters[at].0, counters[at].1.count), (*t, totals[t]));
            }
        }
    }
}

/// Observations at the end of each window as if the counter had never been reset; a bucket that fell tells, too.
fn histogram_totals(
    samples: &[(TimestampMs, Arc<Histogram>)],
    window_ms: i64,
) -> BTreeMap<TimestampMs, f64> {
    let mut all = BTreeMap::new();
    let mut total = 0.0;
    let mut before: Option<&Histogram> = None;
    for (t, histogram) in samples {
        total += match before {
            Some(before) if !histogram.detect_reset(before) => histogram.count - before.count,
            _ => histogram.count,
        };
        before = Some(histogram);
        all.insert(window_end(*t, window_ms), total);
    }
    all
}

fn histogram_column(
    chunks: &[ChunkSlice],
    aggregate: Aggregate,
    window_ms: i64,
) -> Vec<(TimestampMs, Arc<Histogram>)> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let parts = AggregateChunk::decode(&chunk.data).unwrap();
        let (encoding, data) = parts.part(aggregate).unwrap();
        decode_histograms(encoding, data, &mut times, &mut values).unwrap();
    }
    let ends = times.into_iter().map(|t| window_end(t, window_ms));
    ends.zip(values).collect()
}

#[test]
fn floats_histograms_listed_buckets_and_gauges_part_and_nothing_is_lost() {
    let listed = |bounds: &[f64], n: f64| {
        Arc::new(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count: n,
            sum: n * 2.0,
            positive: Buckets {
                spans: vec![BucketSpan {
                    offset: 0,
                    length: 1,
                }],
                counts: vec![n],
            },
            custom_bounds: bounds.into(),
            ..Histogram::default()
        })
    };
    let mut samples = histograms(9, 4, ResetHint::Unknown);
    let later = |i: i64| START + 150_000 + 30_000 * i;
    for i in 0..4 {
        samples.push((later(i), listed(&[1.0, 2.0], (i + 1) as f64)));
        samples.push((later(i) + 120_000, listed(&[1.0, 3.0], (i + 1) as f64)));
    }
    samples.sort_by_key(|(t, _)| *t);
    samples.dedup_by_key(|(t, _)| *t);
    let mut chunks = histogram_chunks(&samples);
    chunks.extend(float_chunks(&[
        (START + 600_000, 1.0),
        (START + 630_000, 2.0),
    ]));
    let gauge = histogram(1.0, [1.0; 4], 5.0);
    let gauge = Arc::new(Histogram {
        reset_hint: ResetHint::Gauge,
        ..gauge
    });
    chunks.extend(histogram_chunks(&[(START + 660_000, gauge)]));
    let five = to_five_minutes(&chunks);
    for chunks in [&five, &to_an_hour(&five)] {
        assert_eq!(
            chunks.len(),
            5,
            "exponential, twice listed, floats, a gauge"
        );
        assert!(chunks.is_sorted_by(|left, right| left.max_t < right.min_t));
        let counts = column(chunks, Aggregate::Count, HOUR);
        let n: f64 = counts.iter().map(|(_, n)| n).sum();
        assert_eq!(n, (samples.len() + 3) as f64);
    }
}

#[test]
fn buckets_of_another_width_or_zero_are_reduced_or_begin_another_chunk() {
    let mut samples = histograms(7, 60, ResetHint::Unknown);
    for (at, (_, histogram)) in samples.iter_mut().enumerate() {
        let histogram = Arc::make_mut(histogram);
        if at % 20 < 10 {
            histogram.reduce_to(0);
        }
        if 40 <= at {
            histogram.zero_threshold = 0.25;
        }
    }
    let five = to_five_minutes(&histogram_chunks(&samples));
    let counts: Vec<_> = samples.iter().map(|(t, h)| (*t, h.count)).collect();
    let expect = model(&counts, FIVE_MINUTES);
    let sums = histogram_column(&five, Aggregate::Sum, FIVE_MINUTES);
    assert_eq!(sums.len(), expect.len());
    for ((t, sum), (end, window)) in sums.iter().zip(&expect) {
        assert_eq!((*t, sum.count, sum.schema), (*end, window[1], 0));
    }
}

#[test]
fn raw_and_empty_chunks_in_a_block_of_five_minutes_are_taken_for_what_they_are() {
    let samples = counter(11, 600);
    let (early, late) = samples.split_at(300);
    let mut mixed = to_five_minutes(&float_chunks(early));
    let empty = ChunkSlice {
        min_t: late[0].0,
        max_t: late[0].0,
        encoding: Encoding::Xor,
        data: vec![0, 0].into(),
    };
    mixed.push(empty);
    mixed.extend(float_chunks(late));
    let hour = to_an_hour(&mixed);
    let n: f64 = column(&hour, Aggregate::Count, HOUR)
        .iter()
        .map(|(_, n)| n)
        .sum();
    let numbers = samples.iter().filter(|(_, v)| !v.is_nan());
    assert_eq!(n, numbers.count() as f64);
    assert!(samples.iter().any(|(_, v)| is_stale(*v)));
}
