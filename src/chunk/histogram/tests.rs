//! Golden bytes, round trips and damage.

use std::sync::Arc;

use proptest::prelude::*;

use crate::chunk::{
    ChunkError, Counts, EncodedChunk, HISTOGRAM_CHUNK_BYTES, HISTOGRAM_SAMPLES_MIN,
    HistogramAppender, ResetHeader, decode_histograms, decode_histograms_with_starts, decode_times,
    encode_histograms, has_start_times, n_samples, with_n_samples, without_intervals,
};
use crate::model::{BucketSpan, Buckets, Encoding, Histogram, Interval, ResetHint};

const ALL: [Encoding; 4] = [
    Encoding::Histogram,
    Encoding::FloatHistogram,
    Encoding::HistogramSt,
    Encoding::FloatHistogramSt,
];

fn buckets(spans: &[(i32, u32)], counts: &[f64]) -> Buckets {
    let spans = spans.iter();
    Buckets {
        spans: spans
            .map(|&(offset, length)| BucketSpan { offset, length })
            .collect(),
        counts: counts.to_vec(),
    }
}

/// Two histograms of two buckets, and one with two buckets more.
fn growing() -> [Histogram; 3] {
    let histogram = |zero_count, count, sum, positive| Histogram {
        schema: 1,
        zero_threshold: 0.5,
        zero_count,
        count,
        sum,
        positive,
        ..Histogram::default()
    };
    [
        histogram(1.0, 4.0, 5.5, buckets(&[(0, 2)], &[1.0, 2.0])),
        histogram(1.0, 6.0, 7.25, buckets(&[(0, 2)], &[2.0, 3.0])),
        Histogram {
            negative: buckets(&[(2, 1)], &[1.0]),
            ..histogram(
                2.0,
                13.0,
                20.0,
                buckets(&[(0, 2), (2, 1)], &[2.0, 3.0, 5.0]),
            )
        },
    ]
}

const TIMES: [i64; 3] = [1000, 2000, 3500];
const STARTS: [i64; 3] = [900, 900, 2100];

fn growing_chunk(encoding: Encoding) -> Vec<u8> {
    let mut appender = HistogramAppender::new(encoding).unwrap();
    for ((t, st), histogram) in TIMES.into_iter().zip(STARTS).zip(growing()) {
        assert!(appender.append(t, st, &histogram).unwrap());
    }
    assert_eq!(appender.n_bytes(), appender.bytes().len());
    appender.into_bytes()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}

type Columns = (Vec<i64>, Vec<Arc<Histogram>>, Vec<i64>);

fn decode(encoding: Encoding, data: &[u8]) -> Result<Columns, ChunkError> {
    let mut columns = (vec![7], vec![Arc::new(Histogram::default())], vec![8]);
    let (t, h, st) = (&mut columns.0, &mut columns.1, &mut columns.2);
    let result = decode_histograms_with_starts(encoding, data, t, h, st);
    assert_eq!((t.remove(0), st.remove(0)), (7, 8));
    h.remove(0);
    match result {
        Ok(()) => {
            let mut without = (Vec::new(), Vec::new());
            decode_histograms(encoding, data, &mut without.0, &mut without.1).unwrap();
            // By their text, because stale markers and other NaNs equal nothing.
            assert_eq!(
                format!("{without:?}"),
                format!("{:?}", (&columns.0, &columns.1))
            );
            let mut times = Vec::new();
            decode_times(encoding, data, &mut times).unwrap();
            assert_eq!(times, columns.0);
            Ok(columns)
        }
        Err(error) => {
            assert_eq!((t.len(), h.len(), st.len()), (0, 0, 0));
            Err(error)
        }
    }
}

/// The bytes are what the `tsdb/chunkenc` of Prometheus 3.14 makes of these histograms.
#[test]
fn a_chunk_of_three_histograms_has_these_bytes() {
    for (encoding, bytes) in ALL.into_iter().zip([
        "000300f38ca48ca31978fa29140160000000000008c6cf1f449b04b8aef0fa6163a86a6ec344",
        "000300f38ca48ca31978fa10040000000000000ffc00000000000010058000000000000ffc0000000000001000\
         000000000000000000000000000000000000000000003c7d1b01b609784bfffb019e1f4d42e7097fff50d4984d\
         802e22bff0",
        "000382f38ca48ca31978fa29140160000000000008c6cc801f1f449b04b8aef0fa6163a86a6ec347b380",
        "000382f38ca48ca31978fa10040000000000000ffc00000000000010058000000000000ffc0000000000001000\
         0000000000000000000000000000000000000000000032007c7d1b01b609784bfffb019e1f4d42e7097fff50d4\
         984d802e22bffece00",
    ]) {
        let data = hex(bytes);
        assert_eq!(growing_chunk(encoding), data, "{encoding:?}");
        assert_eq!(n_samples(encoding, &data).unwrap(), 3);
        let (times, histograms, starts) = decode(encoding, &data).unwrap();
        assert_eq!(times, TIMES);
        let knows_starts = has_start_times(encoding, &data);
        assert_eq!(starts, if knows_starts { STARTS } else { [0; 3] });
        let [_, _, last] = growing();
        let first = Histogram {
            positive: buckets(&[(0, 2), (2, 1)], &[1.0, 2.0, 0.0]),
            negative: buckets(&[(2, 1)], &[0.0]),
            ..growing()[0].clone()
        };
        assert_eq!(*histograms[0], first, "with the buckets that came later");
        let hint = ResetHint::NotReset;
        assert_eq!(
            *histograms[2],
            Histogram {
                reset_hint: hint,
                ..last
            }
        );
    }
}

#[test]
fn custom_bounds_and_gauges_have_these_bytes() {
    let histogram = Histogram {
        reset_hint: ResetHint::Gauge,
        schema: -53,
        count: 3.0,
        sum: 2.5,
        positive: buckets(&[(0, 1), (1, 1)], &[2.0, 1.0]),
        custom_bounds: [0.25, 1.0 / 3.0].into(),
        ..Histogram::default()
    };
    let mut appender = HistogramAppender::new(Encoding::Histogram).unwrap();
    assert!(appender.append(1000, 0, &histogram).unwrap());
    let golden = "0001c000ee5ca28c52e7d8ff55555555555557c7d1320020000000000004ae";
    assert_eq!(appender.bytes(), hex(golden));
    let (_, histograms, _) = decode(Encoding::Histogram, appender.bytes()).unwrap();
    assert_eq!(*histograms[0], histogram);
}

#[track_caller]
fn check_cut(before: &Histogram, next: &Histogram, expect: Option<ResetHeader>) {
    for encoding in ALL {
        let mut appender = HistogramAppender::new(encoding).unwrap();
        assert!(appender.append(1000, 0, before).unwrap());
        let bytes = appender.bytes().to_vec();
        let successor = appender.successor(Counts::Whole, next);
        let joined = appender.append(2000, 0, next).unwrap();
        assert_eq!(joined, expect.is_none(), "{encoding:?}");
        if let Some(header) = expect {
            assert_eq!(
                appender.bytes(),
                bytes,
                "a refused histogram changes nothing"
            );
            assert_eq!(successor.header(), header, "{encoding:?}");
        }
    }
}

#[test]
fn a_chunk_ends_where_the_counter_or_its_layout_breaks() {
    let [_, base, _] = growing();
    let with = |change: &dyn Fn(&mut Histogram)| {
        let mut histogram = base.clone();
        change(&mut histogram);
        histogram
    };
    check_cut(&base, &base, None);
    check_cut(&base, &with(&|h| h.count = 5.0), Some(ResetHeader::Reset));
    check_cut(
        &base,
        &with(&|h| h.zero_count = 0.0),
        Some(ResetHeader::Reset),
    );
    check_cut(
        &base,
        &with(&|h| h.positive.counts[1] = 2.0),
        Some(ResetHeader::Reset),
    );
    check_cut(
        &base,
        &with(&|h| h.positive = buckets(&[(0, 1)], &[9.0])),
        Some(ResetHeader::Reset),
    );
    check_cut(
        &base,
        &with(&|h| h.reset_hint = ResetHint::Reset),
        Some(ResetHeader::Reset),
    );
    check_cut(&base, &with(&|h| h.schema = 2), Some(ResetHeader::Unknown));
    check_cut(
        &base,
        &with(&|h| h.zero_threshold = 0.25),
        Some(ResetHeader::Unknown),
    );
    check_cut(
        &base,
        &with(&|h| h.reset_hint = ResetHint::Gauge),
        Some(ResetHeader::Gauge),
    );
    check_cut(&base, &Histogram::stale(), None);
    check_cut(&Histogram::stale(), &base, Some(ResetHeader::Unknown));
    let gauge = with(&|h| h.reset_hint = ResetHint::Gauge);
    let lower = Histogram {
        count: 1.0,
        positive: buckets(&[(1, 2)], &[1.0, 0.0]),
        ..gauge.clone()
    };
    check_cut(&gauge, &lower, None);
    check_cut(&gauge, &base, Some(ResetHeader::Unknown));
    let custom = |bound: f64| Histogram {
        schema: -53,
        zero_threshold: 0.0,
        custom_bounds: [bound].into(),
        ..base.clone()
    };
    check_cut(&custom(1.0), &custom(1.0), None);
    check_cut(&custom(1.0), &custom(2.0), Some(ResetHeader::Reset));
}

#[test]
fn a_finer_schema_than_ours_is_made_coarser() {
    let fine = Histogram {
        schema: 10,
        count: 21.0,
        // Of four fine buckets each coarse one is: up to 0, 1 to 4, 5 to 8, 13 to 16.
        positive: buckets(&[(-1, 4), (2, 1), (9, 1)], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ..Histogram::default()
    };
    let mut appender = HistogramAppender::new(Encoding::Histogram).unwrap();
    assert!(appender.append(1, 0, &fine).unwrap());
    let (_, histograms, _) = decode(Encoding::Histogram, appender.bytes()).unwrap();
    let coarse = Histogram {
        schema: 8,
        positive: buckets(&[(0, 3), (1, 1)], &[3.0, 7.0, 5.0, 6.0]),
        ..fine
    };
    assert_eq!(*histograms[0], coarse);
}

#[test]
fn a_bucket_that_never_counted_may_be_missing() {
    let [_, base, _] = growing();
    let wide = Histogram {
        positive: buckets(&[(0, 4)], &[2.0, 3.0, 0.0, 0.0]),
        ..base.clone()
    };
    let mut appender = HistogramAppender::new(Encoding::Histogram).unwrap();
    for (t, histogram) in [(1, &wide), (2, &base), (3, &wide)] {
        assert!(appender.append(t, 0, histogram).unwrap());
    }
    let (_, histograms, _) = decode(Encoding::Histogram, appender.bytes()).unwrap();
    assert!(histograms.iter().all(|h| h.positive == wide.positive));
}

#[test]
fn what_is_no_histogram_is_refused() {
    let mut appender = HistogramAppender::new(Encoding::FloatHistogram).unwrap();
    for positive in [
        buckets(&[(0, 2)], &[1.0]),
        buckets(&[(0, 1), (-1, 1)], &[1.0, 1.0]),
        buckets(&[(i32::MAX, 1)], &[1.0]),
    ] {
        let histogram = Histogram {
            positive,
            ..Histogram::default()
        };
        assert!(matches!(
            appender.append(1, 0, &histogram),
            Err(ChunkError::Layout { .. })
        ));
    }
    assert!(HistogramAppender::new(Encoding::Xor).is_err());
    let mut whole = HistogramAppender::new(Encoding::Histogram).unwrap();
    let half = Histogram {
        count: 0.5,
        ..Histogram::default()
    };
    assert!(whole.append(1, 0, &half).is_err());
    assert!(whole.append(1, 0, &Histogram::default()).unwrap());
    assert!(!whole.append(2, 0, &half).unwrap());
    let next = whole.successor(Counts::Whole, &half);
    assert_eq!(next.encoding(), Encoding::FloatHistogram);
}

fn encode(counts: Counts, histograms: &[Histogram], starts: &[i64]) -> Vec<EncodedChunk> {
    let times: Vec<i64> = (0i64..)
        .take(histograms.len())
        .map(|i| i * 15_000)
        .collect();
    let histograms: Vec<_> = histograms.iter().cloned().map(Arc::new).collect();
    encode_histograms(counts, &times, &histograms, Some(starts)).unwrap()
}

#[test]
fn columns_are_cut_at_a_kibibyte_and_hold_ten_at_least() {
    let histogram = |i: u32, n: u32| Histogram {
        count: f64::from(i),
        positive: buckets(
            &[(0, n)],
            &(0..n).map(|b| f64::from(i * b) * 1.1).collect::<Vec<_>>(),
        ),
        ..Histogram::default()
    };
    let small: Vec<_> = (0..500).map(|i| histogram(i, 4)).collect();
    let chunks = encode(Counts::Float, &small, &[]);
    assert!(1 < chunks.len());
    for chunk in chunks.iter().rev().skip(1) {
        assert!((HISTOGRAM_CHUNK_BYTES..HISTOGRAM_CHUNK_BYTES + 64).contains(&chunk.data.len()));
        assert_eq!(chunk.encoding, Encoding::FloatHistogram);
    }
    let large: Vec<_> = (0..35).map(|i| histogram(i, 400)).collect();
    let sizes: Vec<usize> = encode(Counts::Whole, &large, &[])
        .iter()
        .map(|chunk| n_samples(chunk.encoding, &chunk.data).unwrap())
        .collect();
    // The first counts nothing, so it alone is whole.
    assert_eq!(sizes, [1, HISTOGRAM_SAMPLES_MIN, 10, 10, 4]);
}

fn arb_histogram() -> impl Strategy<Value = Histogram> {
    let span = (0i32..3, 1u32..4);
    let side = prop::collection::vec(span, 0..3);
    (side.clone(), side, 0u32..40, 0u8..8, 0u8..12, any::<bool>()).prop_map(
        |(positive, negative, n, schema, kind, is_whole)| {
            let count = f64::from(n) + if is_whole { 0.0 } else { 0.5 };
            let filled = |spans: &[(i32, u32)]| {
                let n_buckets: u32 = spans.iter().map(|(_, length)| length).sum();
                buckets(
                    spans,
                    &(0..n_buckets)
                        .map(|b| count * f64::from(b))
                        .collect::<Vec<_>>(),
                )
            };
            match kind {
                0 => Histogram::stale(),
                _ => Histogram {
                    reset_hint: if kind == 1 {
                        ResetHint::Gauge
                    } else {
                        ResetHint::Unknown
                    },
                    schema: if schema == 0 { 1 } else { 0 },
                    zero_count: count,
                    count: count * 100.0,
                    sum: count * 1.1,
                    positive: filled(&positive),
                    negative: filled(&negative),
                    ..Histogram::default()
                },
            }
        },
    )
}

/// Indexes and counts of the buckets that count.
fn counted(buckets: &Buckets) -> Vec<(i64, u64)> {
    let mut index = 0i64;
    let mut indexes = Vec::new();
    for span in &buckets.spans {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            indexes.push(index);
            index += 1;
        }
    }
    let counts = buckets.counts.iter().map(|count| count.to_bits());
    indexes
        .into_iter()
        .zip(counts)
        .filter(|(_, count)| *count != 0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn histograms_round_trip_through_as_many_chunks_as_it_takes(
        histograms in prop::collection::vec((arb_histogram(), 0i64..3), 0..60),
        counts in prop_oneof![Just(Counts::Whole), Just(Counts::Float)],
    ) {
        let (histograms, starts): (Vec<_>, Vec<_>) = histograms.into_iter().unzip();
        let chunks = encode(counts, &histograms, &starts);
        let (mut found, mut found_starts) = (Vec::new(), Vec::new());
        for chunk in &chunks {
            let (times, histograms, starts) = decode(chunk.encoding, &chunk.data).unwrap();
            prop_assert_eq!((times.first(), times.last()), (Some(&chunk.min_t), Some(&chunk.max_t)));
            let resumed = HistogramAppender::resume(chunk.encoding, &chunk.data).unwrap();
            prop_assert_eq!(resumed.bytes(), &chunk.data);
            prop_assert!(counts == Counts::Whole || matches!(
                chunk.encoding,
                Encoding::FloatHistogram | Encoding::FloatHistogramSt
            ));
            found.extend(histograms);
            found_starts.extend(starts);
        }
        prop_assert_eq!(found_starts, starts);
        prop_assert_eq!(found.len(), histograms.len());
        for (found, expect) in found.iter().zip(&histograms) {
            if expect.is_stale() {
                prop_assert!(found.is_stale());
                continue;
            }
            prop_assert_eq!(counted(&found.positive), counted(&expect.positive));
            prop_assert_eq!(counted(&found.negative), counted(&expect.negative));
            prop_assert_eq!(
                (found.schema, found.count, found.zero_count, found.sum),
                (expect.schema, expect.count, expect.zero_count, expect.sum)
            );
            prop_assert_eq!(
                found.reset_hint == ResetHint::Gauge,
                expect.reset_hint == ResetHint::Gauge
            );
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_histograms(
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        for encoding in ALL {
            if let Ok((times, ..)) = decode(encoding, &data) {
                prop_assert_eq!(times.len(), n_samples(encoding, &data).unwrap());
            }
            HistogramAppender::resume(encoding, &data).ok();
        }
    }
}

#[test]
fn deleted_histograms_are_gone_and_the_rest_is_as_it_was() {
    for encoding in ALL {
        let data = growing_chunk(encoding);
        let (_, before, _) = decode(encoding, &data).unwrap();
        let second = [Interval {
            min: 1500,
            max: 2500,
        }];
        let chunk = without_intervals(encoding, &data, &second)
            .unwrap()
            .unwrap();
        assert_eq!(
            (chunk.min_t, chunk.max_t, chunk.encoding),
            (1000, 3500, encoding)
        );
        let (times, after, starts) = decode(encoding, &chunk.data).unwrap();
        assert_eq!(times, [1000, 3500]);
        assert_eq!(after, [Arc::clone(&before[0]), Arc::clone(&before[2])]);
        let knows_starts = has_start_times(encoding, &data);
        assert_eq!(starts, if knows_starts { [900, 2100] } else { [0; 2] });
        let nothing = without_intervals(encoding, &data, &[Interval::ALL]).unwrap();
        assert_eq!(nothing, None);
    }
}

#[test]
fn a_patched_chunk_shows_its_first_histograms() {
    for encoding in ALL {
        let patched = with_n_samples(encoding, &growing_chunk(encoding), 2).unwrap();
        let (times, ..) = decode(encoding, &patched).unwrap();
        assert_eq!(times, [1000, 2000]);
    }
}

#[test]
fn every_truncation_is_an_error() {
    for encoding in ALL {
        let data = growing_chunk(encoding);
        for len in 0..data.len() - 1 {
            let result = decode(encoding, &data[..len]);
            assert!(
                matches!(
                    result,
                    Err(ChunkError::Short { .. } | ChunkError::Header(_))
                ),
                "{encoding:?} len {len}: {result:?}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_decodes() {
    for encoding in ALL {
        let data = growing_chunk(encoding);
        for bit in 0..data.len() * 8 {
            let mut damaged = data.clone();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok((times, ..)) = decode(encoding, &damaged) {
                assert_eq!(
                    times.len(),
                    n_samples(encoding, &damaged).unwrap(),
                    "bit {bit}"
                );
            }
        }
    }
}

#[test]
fn a_large_count_reserves_only_what_the_bytes_could_hold() {
    let mut data = growing_chunk(Encoding::Histogram);
    data[..2].copy_from_slice(&[0xff, 0xff]);
    let (mut times, mut histograms) = (Vec::new(), Vec::new());
    let result = decode_histograms(Encoding::Histogram, &data, &mut times, &mut histograms);
    assert!(result.is_err());
    assert!(
        times.capacity() <= 2 * data.len() + 2,
        "{}",
        times.capacity()
    );
    assert!(histograms.capacity() <= 2 * data.len() + 2);
}
