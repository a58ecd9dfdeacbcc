//! Golden bytes, round trips and damage.

use proptest::prelude::*;

use crate::chunk::{
    ChunkError, Xor2Appender, XorAppender, XorIter, decode_floats, decode_floats_with_starts,
    encode_floats, encode_floats_with_starts, has_start_times, n_samples, with_n_samples,
    without_intervals,
};
use crate::model::{Encoding, Interval, STALE_NAN_BITS, Sample};

type Pairs = Vec<(i64, u64)>;

fn xor(samples: &[(i64, f64)]) -> Vec<u8> {
    let mut appender = XorAppender::new();
    for &(t, v) in samples {
        appender.append(t, v).unwrap();
    }
    appender.into_bytes()
}

fn decode(encoding: Encoding, data: &[u8]) -> Result<Pairs, ChunkError> {
    let (mut times, mut values) = (vec![7], vec![7.0]);
    let result = decode_floats(encoding, data, &mut times, &mut values);
    assert_eq!((times[0], values[0]), (7, 7.0));
    if encoding == Encoding::Xor {
        // Two decoders, one fast and one that stops at the first flaw: they agree on everything.
        let walked: Result<Pairs, ChunkError> = XorIter::new(data).and_then(|iter| {
            iter.map(|sample| sample.map(|sample| (sample.t, sample.v.to_bits())))
                .collect()
        });
        let columns = times
            .iter()
            .copied()
            .zip(values.iter().map(|v| v.to_bits()));
        match &walked {
            Ok(walked) => assert_eq!(columns.skip(1).collect::<Pairs>(), *walked),
            Err(_) => assert!(result.is_err(), "{walked:?}"),
        }
    }
    if let Err(error) = result {
        assert_eq!((times.len(), values.len()), (1, 1));
        return Err(error);
    }
    let pairs = times.into_iter().zip(values.into_iter().map(f64::to_bits));
    Ok(pairs.skip(1).collect())
}

fn bits_of(samples: &[(i64, f64)]) -> Pairs {
    samples.iter().map(|&(t, v)| (t, v.to_bits())).collect()
}

/// A counter, a gauge, gaps, stale markers, and times at every class boundary.
fn assorted() -> Vec<(i64, f64)> {
    let mut samples = Vec::new();
    let mut t = 1_700_000_000_000i64;
    for (dod, i) in [
        0i64, 0, 3, -3, 8192, -8191, 8193, -8192, 65_536, -65_535, 65_537, -65_536,
    ]
    .into_iter()
    .chain([524_288, -524_287, 524_289, -524_288, 0, 0, 1])
    .zip(0u32..)
    {
        t += 15_000_000 + dod;
        let v = match i % 5 {
            0 => f64::from(i),
            1 => f64::from(i) * 1.1,
            2 => f64::from_bits(STALE_NAN_BITS),
            3 => -0.0,
            _ => f64::MAX,
        };
        samples.push((t, v));
    }
    samples
}

#[test]
fn a_chunk_of_three_samples_has_these_bytes() {
    let data = xor(&[(1000, 1.0), (2000, 1.0), (3000, 2.0)]);
    let mut expect = vec![0, 3];
    expect.extend([0xd0, 0x0f]); // varint 1000
    expect.extend(1.0f64.to_be_bytes());
    expect.extend([0xe8, 0x07]); // uvarint 1000
    // 0: same value; 0: same delta; 11 00001 001011: 1 leading, 11 significant;
    // 1.0 ^ 2.0 = 0x7ff0… : 11 ones.
    expect.extend([0b0011_0000, 0b1001_0111, 0b1111_1111, 0b1100_0000]);
    assert_eq!(data, expect);
}

#[test]
fn a_chunk_that_ends_in_whole_bytes_has_one_more() {
    let mut expect = vec![0, 1, 0xd0, 0x0f];
    expect.extend(1.0f64.to_be_bytes());
    expect.push(0);
    assert_eq!(xor(&[(1000, 1.0)]), expect);
    let appender = XorAppender::resume(&expect).unwrap();
    assert_eq!(appender.bytes(), expect);
    assert_eq!(xor(&[]), [0, 0]);
}

#[test]
fn delta_of_delta_classes_are_shifted_by_one() {
    // (delta-of-delta, bits of it) behind two samples of equal value and distance.
    for (dod, n_bits) in [
        (0i64, 1usize),
        (1, 16),
        (8192, 16),
        (-8191, 16),
        (8193, 20),
        (-8192, 20),
        (65_536, 20),
        (-65_535, 20),
        (65_537, 24),
        (-65_536, 24),
        (524_288, 24),
        (-524_287, 24),
        (524_289, 68),
        (-524_288, 68),
    ] {
        let samples = [(0, 1.0), (1_000_000, 1.0), (2_000_000 + dod, 1.0)];
        let data = xor(&samples);
        // count, t0, v0, t1, then one bit of value, the field, one bit of value.
        assert_eq!(
            data.len(),
            2 + 1 + 8 + 3 + (2 + n_bits).div_ceil(8),
            "{dod}"
        );
        assert_eq!(
            decode(Encoding::Xor, &data).unwrap(),
            bits_of(&samples),
            "{dod}"
        );
    }
}

#[test]
fn resuming_at_any_sample_gives_the_same_bytes() {
    let samples = assorted();
    let whole = xor(&samples);
    for n in 0..=samples.len() {
        let mut appender = XorAppender::resume(&xor(&samples[..n])).unwrap();
        assert_eq!(appender.n_samples(), n);
        for &(t, v) in &samples[n..] {
            appender.append(t, v).unwrap();
        }
        assert_eq!(appender.bytes(), whole, "resumed at {n}");
        assert_eq!(appender.n_bytes(), whole.len());
    }
}

#[test]
fn samples_added_together_give_the_same_bytes() {
    let samples = assorted();
    let whole = xor(&samples);
    let samples: Vec<Sample> = samples.iter().map(|&(t, v)| Sample { t, v }).collect();
    for first in 0..samples.len().min(40) {
        for size in [1, 2, 3, 15, 16, 17, 100] {
            let (alone, together) = samples.split_at(first);
            let mut appender = XorAppender::new();
            for sample in alone {
                appender.append(sample.t, sample.v).unwrap();
            }
            for some in together.chunks(size) {
                appender.append_all(some).unwrap();
            }
            assert_eq!(appender.bytes(), whole, "{first} alone, then {size} each");
            assert_eq!(appender.n_samples(), samples.len());
            assert_eq!(appender.last().map(|s| s.t), samples.last().map(|s| s.t));
        }
    }
    let mut appender = XorAppender::new();
    let many = vec![Sample { t: 0, v: 1.0 }; 65_535];
    appender.append_all(&many).unwrap();
    let before = appender.bytes().to_vec();
    let more = appender.append_all(&many[..1]);
    assert!(matches!(more, Err(ChunkError::Full(65_535))), "{more:?}");
    assert_eq!(appender.bytes(), before);
}

#[test]
fn resuming_a_patched_chunk_cuts_what_is_hidden() {
    let samples = assorted();
    let whole = xor(&samples);
    for n in 0..samples.len() {
        let patched = with_n_samples(Encoding::Xor, &whole, n).unwrap();
        assert_eq!(
            decode(Encoding::Xor, &patched).unwrap(),
            bits_of(&samples[..n])
        );
        let mut appender = XorAppender::resume(&patched).unwrap();
        for &(t, v) in &samples[n..] {
            appender.append(t, v).unwrap();
        }
        assert_eq!(appender.bytes(), whole, "patched to {n}");
    }
}

#[test]
fn a_full_chunk_refuses_the_next_sample() {
    let mut appender = XorAppender::new();
    for t in 0..65_535 {
        appender.append(t, 1.0).unwrap();
    }
    let result = appender.append(65_535, 1.0);
    assert!(
        matches!(result, Err(ChunkError::Full(65_535))),
        "{result:?}"
    );
    assert_eq!(
        decode(Encoding::Xor, appender.bytes()).unwrap().len(),
        65_535
    );
}

#[test]
fn deleted_samples_are_gone_and_the_rest_is_bit_equal() {
    let samples = assorted();
    let data = xor(&samples);
    let deleted = [Interval {
        min: samples[3].0,
        max: samples[6].0 - 1,
    }];
    let chunk = without_intervals(Encoding::Xor, &data, &deleted)
        .unwrap()
        .unwrap();
    let mut expect = bits_of(&samples[..3]);
    expect.extend(bits_of(&samples[6..]));
    assert_eq!(decode(Encoding::Xor, &chunk.data).unwrap(), expect);
    assert_eq!(
        (chunk.min_t, chunk.max_t),
        (samples[0].0, samples[samples.len() - 1].0)
    );
    let nothing = without_intervals(Encoding::Xor, &data, &[Interval::ALL]).unwrap();
    assert_eq!(nothing, None);
}

#[test]
fn columns_are_cut_into_chunks_of_a_hundred_and_twenty() {
    let times: Vec<i64> = (0..250).map(|i| i * 1000).collect();
    let values: Vec<f64> = (0..250).map(f64::from).collect();
    let chunks = encode_floats(&times, &values).unwrap();
    let spans: Vec<_> = chunks
        .iter()
        .map(|chunk| (chunk.min_t, chunk.max_t))
        .collect();
    assert_eq!(
        spans,
        [(0, 119_000), (120_000, 239_000), (240_000, 249_000)]
    );
}

#[test]
fn histograms_are_refused_by_name_and_counted() {
    let result = decode(Encoding::FloatHistogram, &[0, 1, 0]);
    let text = result.unwrap_err().to_string();
    assert_eq!(
        text,
        "chunk encoding FloatHistogram holds native histograms, not floats"
    );
    assert_eq!(n_samples(Encoding::Histogram, &[1, 2, 0]).unwrap(), 258);
    assert_eq!(
        n_samples(Encoding::HistogramSt, &[0x81, 2, 0]).unwrap(),
        258
    );
    let patched = with_n_samples(Encoding::HistogramSt, &[0x81, 2, 9], 3).unwrap();
    assert_eq!(patched, [0x80, 3, 9]);
}

/// XOR2 with a start timestamp per sample (zero for none).
fn xor2(samples: &[(i64, u64, i64)]) -> Vec<u8> {
    let mut appender = Xor2Appender::new();
    for &(t, v, st) in samples {
        appender.append(t, st, f64::from_bits(v)).unwrap();
    }
    assert_eq!(appender.n_samples(), samples.len());
    let resumed = Xor2Appender::resume(appender.bytes()).unwrap();
    assert_eq!(resumed.bytes(), appender.bytes());
    appender.into_bytes()
}

/// The bytes are what the `tsdb/chunkenc` of Prometheus 3.14 makes of these samples.
#[test]
fn a_chunk_with_start_timestamps_has_these_bytes() {
    let samples = [
        (1000, 1.0, 900),
        (2000, 2.0, 900),
        (3500, 2.0, 2100),
        (5000, 2.5, 2100),
    ];
    let samples = samples.map(|(t, v, st): (i64, f64, i64)| (t, v.to_bits(), st));
    assert_eq!(
        xor2(&samples),
        [
            0, 4, 0x82, 0xd0, 0x0f, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0xc8, 0x01, 0xe8, 0x07, 0xc1,
            0x2f, 0xff, 0xe0, 0xfa, 0x3b, 0x39, 0x5a, 0x0f, 0xcb, 0xb8
        ]
    );
}

#[test]
fn columns_with_start_timestamps_are_xor2_chunks() {
    let times: Vec<i64> = (0..250).map(|i| i * 1000).collect();
    let values: Vec<f64> = (0..250).map(f64::from).collect();
    let mut starts = vec![0; 250];
    let chunks = encode_floats_with_starts(&times, &values, &starts).unwrap();
    assert_eq!(chunks, encode_floats(&times, &values).unwrap());
    // The first chunk knows none, the second learns of one late.
    starts[240..].fill(7);
    let chunks = encode_floats_with_starts(&times, &values, &starts).unwrap();
    let knows: Vec<bool> = chunks
        .iter()
        .map(|chunk| has_start_times(chunk.encoding, &chunk.data))
        .collect();
    assert_eq!(knows, [false, false, true]);
    let mut found = (Vec::new(), Vec::new(), Vec::new());
    for chunk in &chunks {
        let (t, v, st) = (&mut found.0, &mut found.1, &mut found.2);
        decode_floats_with_starts(chunk.encoding, &chunk.data, t, v, st).unwrap();
    }
    assert_eq!(found, (times, values, starts));
}

#[test]
fn deleting_keeps_the_start_timestamps_of_the_rest() {
    let samples = [(1000, 0, 900), (2000, 0, 900), (3000, 0, 2500)];
    let deleted = [Interval { min: 1, max: 1000 }];
    let chunk = without_intervals(Encoding::Xor2, &xor2(&samples), &deleted)
        .unwrap()
        .unwrap();
    assert_eq!(chunk.data, xor2(&samples[1..]));
}

fn arb_samples() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![
        3 => Just(15_000i64),
        2 => 14_990i64..15_010,
        1 => 1i64..10_000_000,
        1 => any::<i64>(),
    ];
    let value = prop_oneof![
        2 => Just(1.0f64),
        2 => (0u32..1000).prop_map(f64::from),
        2 => any::<f64>(),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(f64::from_bits(STALE_NAN_BITS)),
    ];
    prop::collection::vec((step, value), 0..200).prop_map(|steps| {
        let mut t = 1_700_000_000_000i64;
        steps
            .into_iter()
            .map(|(step, v)| {
                t = t.wrapping_add(step);
                (t, v)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn xor_round_trips_bit_by_bit(samples in arb_samples()) {
        let data = xor(&samples);
        prop_assert_eq!(n_samples(Encoding::Xor, &data).unwrap(), samples.len());
        prop_assert_eq!(decode(Encoding::Xor, &data).unwrap(), bits_of(&samples));
    }

    #[test]
    fn xor2_is_read_with_and_without_start_timestamps(
        samples in prop::collection::vec((1i64..600_000, any::<u32>(), 0u8..4), 0..200),
        has_starts in any::<bool>(),
    ) {
        let mut t = 1_700_000_000_000i64;
        let mut start = 0;
        let samples: Vec<(i64, u64, i64)> = samples
            .into_iter()
            .map(|(step, raw, kind)| {
                t += if kind == 0 { step } else { 15_000 };
                let v = match kind {
                    1 => STALE_NAN_BITS,
                    2 => 1.5f64.to_bits(),
                    _ => f64::from(raw).to_bits(),
                };
                if has_starts && raw % 7 == 0 {
                    start = t - 1;
                }
                (t, v, start)
            })
            .collect();
        let expect: Pairs = samples.iter().map(|&(t, v, _)| (t, v)).collect();
        let data = xor2(&samples);
        prop_assert_eq!(decode(Encoding::Xor2, &data).unwrap(), expect);
        let (mut times, mut values, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        decode_floats_with_starts(Encoding::Xor2, &data, &mut times, &mut values, &mut starts)
            .unwrap();
        let expect: Vec<i64> = samples.iter().map(|&(_, _, st)| st).collect();
        prop_assert_eq!(starts, expect);
    }

    #[test]
    fn a_chunk_resumed_at_any_sample_is_as_it_was_then(
        steps in prop::collection::vec((prop_oneof![4 => Just(15_000i64), 1 => any::<i64>()], 0u8..6, any::<u64>()), 0..80),
    ) {
        let mut appender = XorAppender::new();
        let (mut t, mut v) = (0i64, 0u64);
        for (step, kind, wild) in steps {
            let resumed = XorAppender::resume(appender.bytes()).unwrap();
            prop_assert_eq!(format!("{resumed:?}"), format!("{appender:?}"));
            let mut longer = appender.clone();
            longer.append(t.wrapping_sub(1 << 40), f64::from_bits(!v)).unwrap();
            let mut patched = longer.bytes().to_vec();
            patched[..2].copy_from_slice(&appender.bytes()[..2]);
            let cut = XorAppender::resume(&patched).unwrap();
            prop_assert_eq!(format!("{cut:?}"), format!("{appender:?}"));
            t = t.wrapping_add(step);
            v = match kind {
                0..=2 => v,
                // So many bits that a byte ends with them, in turn with others.
                3 => v ^ 0xffff_0000,
                4 => v ^ (wild & 0xff00),
                _ => wild,
            };
            appender.append(t, f64::from_bits(v)).unwrap();
        }
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_samples(data in prop::collection::vec(any::<u8>(), 0..300)) {
        for encoding in [Encoding::Xor, Encoding::Xor2] {
            if let Ok(pairs) = decode(encoding, &data) {
                prop_assert_eq!(pairs.len(), n_samples(encoding, &data).unwrap());
            }
        }
        XorAppender::resume(&data).ok();
    }
}

#[test]
fn what_does_not_decode_is_not_gone_on_with() {
    let whole = xor(&assorted());
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|n| whole[..n].to_vec()).collect();
    damaged.extend((0..whole.len() * 8).map(|bit| {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    }));
    let mut n_refused = 0;
    for data in damaged {
        let decoded = decode(Encoding::Xor, &data).err();
        let resumed = XorAppender::resume(&data).err();
        let kind = |error: &ChunkError| std::mem::discriminant(error);
        let kinds = [&resumed, &decoded].map(|error| error.as_ref().map(kind));
        assert_eq!(kinds[0], kinds[1], "{resumed:?} {decoded:?}");
        n_refused += usize::from(resumed.is_some());
    }
    assert!(whole.len() < n_refused, "{n_refused}");
}

#[test]
fn every_truncation_is_an_error() {
    let samples = assorted();
    let with_starts: Vec<_> = samples
        .iter()
        .map(|&(t, v)| (t, v.to_bits(), t - 5))
        .collect();
    for (encoding, data) in [
        (Encoding::Xor, xor(&samples)),
        (Encoding::Xor2, xor2(&with_starts)),
    ] {
        for len in 0..data.len() {
            let result = decode(encoding, &data[..len]);
            assert!(
                matches!(
                    result,
                    Err(ChunkError::Short { .. } | ChunkError::Header(_))
                ),
                "{encoding:?} len {len}: {result:?}"
            );
        }
        assert_eq!(decode(encoding, &data).unwrap(), bits_of(&samples));
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_decodes() {
    let samples = assorted();
    let with_starts: Vec<_> = samples.iter().map(|&(t, v)| (t, v.to_bits(), 0)).collect();
    for (encoding, data) in [
        (Encoding::Xor, xor(&samples)),
        (Encoding::Xor2, xor2(&with_starts)),
    ] {
        for bit in 0..data.len() * 8 {
            let mut damaged = data.clone();
            damaged[bit / 8] ^= 0x80 >> (bit % 8);
            if let Ok(pairs) = decode(encoding, &damaged) {
                assert_eq!(
                    pairs.len(),
                    n_samples(encoding, &damaged).unwrap(),
                    "bit {bit}"
                );
            }
        }
    }
}

#[test]
fn a_large_count_reserves_only_what_the_bytes_could_hold() {
    let mut data = xor(&[(1000, 1.0), (2000, 1.0)]);
    data[..2].copy_from_slice(&[0xff, 0xff]);
    let (mut times, mut values) = (Vec::new(), Vec::new());
    assert!(decode_floats(Encoding::Xor, &data, &mut times, &mut values).is_err());
    assert!(
        times.capacity() <= 4 * data.len() + 2,
        "{}",
        times.capacity()
    );
    assert!(
        values.capacity() <= 4 * data.len() + 2,
        "{}",
        values.capacity()
    );
}
