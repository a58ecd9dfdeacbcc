//! Chunks of all six encodings.

use std::sync::Arc;

use gauntlet::chunk::{
    EncodedChunk, HistogramAppender, Xor2Appender, XorAppender, decode_floats, decode_floats_until,
    decode_floats_with_starts, decode_histograms, decode_histograms_with_starts, decode_times,
    encode_floats, encode_floats_with_starts, encode_histograms, n_samples, with_n_samples,
    without_intervals,
};
use gauntlet::model::{Counts, Encoding, Histogram, Interval};

use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::{broken, shifted};
use crate::samples::{START, custom, exponential, floats, gauge, times};

/// What a chunk says of itself in front of its samples.
const HEADER_BYTES: usize = 3;

/// A lone bit of XOR2 becomes 24 bytes in columns that double when they grow, and they are compared with others.
const FLOATS_PER_BYTE: usize = 8 * 24 * 5;

/// A bit of a sample becomes a count of 8 bytes, its place of 16 and, where each bucket is a run of its own, another 8;
/// four bits become a histogram without buckets.
const HISTOGRAMS_PER_BYTE: usize = 1_024;

/// Chunks of `encoding`, written as the database writes them.
pub(crate) fn seeds(encoding: Encoding) -> Vec<Vec<u8>> {
    let mut chunks: Vec<EncodedChunk> = Vec::new();
    let starts = |n: usize| -> Vec<i64> {
        let start = |i: usize| if i % 40 < 20 { START - 1 } else { START + 60 };
        (0..n).map(start).collect()
    };
    for n in [1, 2, 3, 40, 120] {
        for kind in 0..4 {
            let (times, values) = (times(kind, n), floats(kind, n));
            chunks.extend(encode_floats(&times, &values).unwrap());
            chunks.extend(encode_floats_with_starts(&times, &values, &starts(n)).unwrap());
        }
        let mut plain = Xor2Appender::new();
        for (t, v) in times(1, n).into_iter().zip(floats(3, n)) {
            plain.append(t, 0, v).unwrap();
        }
        chunks.push(EncodedChunk {
            min_t: START,
            max_t: START,
            encoding: Encoding::Xor2,
            data: plain.into_bytes(),
        });
        for kind in [exponential, custom, gauge] {
            let histograms: Vec<Arc<Histogram>> = (0..n).map(|i| Arc::new(kind(i))).collect();
            for counts in [Counts::Whole, Counts::Float] {
                for starts in [None, Some(starts(n))] {
                    let starts = starts.as_deref();
                    let encoded = encode_histograms(counts, &times(1, n), &histograms, starts);
                    chunks.extend(encoded.unwrap());
                }
            }
        }
    }
    let of_encoding = chunks.into_iter().filter(|c| c.encoding == encoding);
    let seeds: Vec<Vec<u8>> = of_encoding.map(|chunk| chunk.data).collect();
    assert!(8 < seeds.len(), "{encoding:?}: {}", seeds.len());
    seeds
}

/// Bytes or bits are broken, and often the number of samples is wrong.
pub(crate) fn broken_chunk(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let seed = &seeds[dice.below(seeds.len())];
    let other = &seeds[dice.below(seeds.len())];
    let mut chunk = match dice.below(3) {
        0 => shifted(dice, seed, HEADER_BYTES),
        _ => broken(dice, seed, other),
    };
    if dice.chance(40)
        && let Some(count) = chunk.first_chunk_mut::<2>()
    {
        *count = match dice.below(3) {
            0 => [0xff, 0xff],
            1 => [0, dice.next().to_le_bytes()[0]],
            _ => [0x3f, 0xff],
        };
    }
    if dice.chance(20) {
        // Long runs of one bit are many short samples.
        let (n, byte) = (dice.below(3000), [0, 0xff, 0x55][dice.below(3)]);
        chunk.resize(chunk.len() + n, byte);
    }
    chunk
}

type Bits = Vec<(i64, u64, i64)>;

fn columns(times: &[i64], values: &[f64], starts: &[i64]) -> Bits {
    let bits = values.iter().map(|v| v.to_bits());
    let pairs = times.iter().copied().zip(bits).zip(starts.iter().copied());
    pairs.map(|((t, v), st)| (t, v, st)).collect()
}

fn all_floats(encoding: Encoding, data: &[u8]) -> Option<Bits> {
    let (mut t, mut v, mut st) = (vec![1], vec![2.0], vec![3]);
    match decode_floats_with_starts(encoding, data, &mut t, &mut v, &mut st) {
        Ok(()) => {
            assert!(t.len() == v.len() && t.len() == st.len(), "columns differ");
            assert_eq!(t.len() - 1, n_samples(encoding, data).unwrap());
            Some(columns(&t, &v, &st))
        }
        Err(_) => {
            assert_eq!((t.len(), v.len(), st.len()), (1, 1, 1), "left behind");
            None
        }
    }
}

/// Reads a chunk in every way there is; the ways agree. How many samples came out.
pub(crate) fn read_floats(encoding: Encoding, data: &[u8]) -> usize {
    let (mut t, mut v) = (vec![1], vec![2.0]);
    let is_whole = decode_floats(encoding, data, &mut t, &mut v).is_ok();
    let all = all_floats(encoding, data);
    assert_eq!(is_whole, all.is_some(), "two ways to read disagree");
    let Some(all) = all else {
        assert_eq!((t.len(), v.len()), (1, 1), "left behind");
        let (mut t, mut v) = (Vec::new(), Vec::new());
        decode_floats_until(encoding, data, START, (&mut t, &mut v)).ok();
        return 0;
    };
    let starts: Vec<i64> = all.iter().map(|sample| sample.2).collect();
    assert_eq!(columns(&t, &v, &starts), all);
    let (mut early_t, mut early_v) = (Vec::new(), Vec::new());
    decode_floats_until(encoding, data, START, (&mut early_t, &mut early_v)).unwrap();
    assert_eq!(early_t, t[1..=early_t.len()], "the first samples");
    drop((early_t, early_v, starts));
    let resumed = if encoding == Encoding::Xor {
        XorAppender::resume(data).map(XorAppender::into_bytes)
    } else {
        Xor2Appender::resume(data).map(Xor2Appender::into_bytes)
    };
    let resumed = resumed.unwrap();
    if encoding == Encoding::Xor2 || 0 < t.len() - 1 {
        assert_eq!(all_floats(encoding, &resumed).unwrap(), all, "written anew");
    }
    read_parts(encoding, data, &t[1..]);
    t.len() - 1
}

/// What deletion and late samples make of chunks.
fn read_parts(encoding: Encoding, data: &[u8], t: &[i64]) {
    let middle = t.len() / 2;
    let shorter = with_n_samples(encoding, data, middle).unwrap();
    let mut times = Vec::new();
    decode_times(encoding, &shorter, &mut times).unwrap();
    assert_eq!(times, t[..middle]);
    let Some(&at) = t.get(middle) else { return };
    let deleted = Interval { min: at, max: at };
    let rest = without_intervals(encoding, data, &[deleted]).unwrap();
    let kept: Vec<i64> = t.iter().copied().filter(|t| *t != at).collect();
    times.clear();
    if let Some(rest) = rest {
        decode_times(rest.encoding, &rest.data, &mut times).unwrap();
    }
    assert_eq!(times, kept);
}

/// The same for histograms. What a foreign chunk holds may be no histogram; then it is not written anew.
pub(crate) fn read_histograms(encoding: Encoding, data: &[u8]) -> usize {
    let (mut t, mut h, mut st) = (Vec::new(), Vec::new(), Vec::new());
    let read = decode_histograms_with_starts(encoding, data, &mut t, &mut h, &mut st);
    if read.is_err() {
        assert_eq!((t.len(), h.len(), st.len()), (0, 0, 0), "left behind");
        assert!(decode_histograms(encoding, data, &mut t, &mut h).is_err());
        assert!(decode_times(encoding, data, &mut t).is_err());
        return 0;
    }
    assert_eq!(t.len(), n_samples(encoding, data).unwrap());
    assert!(h.len() == t.len() && st.len() == t.len(), "columns differ");
    let is_sound = h.iter().all(|h| h.check(Counts::Float).is_ok());
    drop(h);
    let mut times = Vec::new();
    decode_times(encoding, data, &mut times).unwrap();
    assert_eq!(times, t);
    if is_sound && HistogramAppender::resume(encoding, data).is_ok() {
        read_resumed(encoding, data, &t);
    }
    t.len()
}

fn read_resumed(encoding: Encoding, data: &[u8], t: &[i64]) {
    let resumed = HistogramAppender::resume(encoding, data)
        .unwrap()
        .into_bytes();
    let mut times = Vec::new();
    decode_times(encoding, &resumed, &mut times).unwrap();
    assert_eq!(times, t, "written anew");
    let middle = t.len() / 2;
    if let Some(&at) = t.get(middle) {
        let deleted = Interval { min: at, max: at };
        without_intervals(encoding, data, &[deleted]).unwrap();
    }
    with_n_samples(encoding, data, middle).unwrap();
}

/// Whatever the encoding.
pub(crate) fn read_chunk(encoding: Encoding, data: &[u8]) -> usize {
    if encoding.has_histograms() {
        read_histograms(encoding, data)
    } else {
        read_floats(encoding, data)
    }
}

fn fuzz(what: &'static str, encoding: Encoding, salt: u64) {
    let seeds = seeds(encoding);
    for seed in &seeds {
        assert!(0 < read_chunk(encoding, seed), "{what}: an empty seed");
    }
    let held_per_byte = if encoding.has_histograms() {
        HISTOGRAMS_PER_BYTE
    } else {
        FLOATS_PER_BYTE
    };
    let target = Target::new(what, salt).holds(held_per_byte, 64 << 10);
    run(
        target,
        |dice| broken_chunk(dice, &seeds),
        |chunk| read_chunk(encoding, chunk),
    );
}

#[test]
fn broken_chunks_of_floats_are_read_or_refused() {
    fuzz("XOR", Encoding::Xor, 10);
}

#[test]
fn broken_chunks_of_floats_with_start_times_are_read_or_refused() {
    fuzz("XOR2", Encoding::Xor2, 11);
}

#[test]
fn broken_chunks_of_whole_histograms_are_read_or_refused() {
    fuzz("histogram", Encoding::Histogram, 12);
}

#[test]
fn broken_chunks_of_float_histograms_are_read_or_refused() {
    fuzz("float histogram", Encoding::FloatHistogram, 13);
}

#[test]
fn broken_chunks_of_whole_histograms_with_start_times_are_read_or_refused() {
    fuzz("histogram with start times", Encoding::HistogramSt, 14);
}

#[test]
fn broken_chunks_of_float_histograms_with_start_times_are_read_or_refused() {
    let encoding = Encoding::FloatHistogramSt;
    fuzz("float histogram with start times", encoding, 15);
}
