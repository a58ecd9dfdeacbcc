//! Records of the write-ahead log and of the log of out-of-order samples, and the segments that hold them.

use std::fs;
use std::path::Path;

use gauntlet::foundation::checksum::crc32c;
use gauntlet::model::{Counts, Histogram, Interval, Metadata, MetricType, SampleTime};
use gauntlet::wal::{
    ExemplarsEncoder, HistogramsEncoder, MarkersEncoder, MetadataEncoder, RecordKind, RefMarker,
    RefTombstone, RepairOutcome, SamplesEncoder, SegmentReader, SeriesEncoder,
    StartedSamplesEncoder, decode_exemplars, decode_histograms, decode_markers, decode_metadata,
    decode_samples, decode_series, decode_tombstones, encode_tombstones, repair_segment,
};

use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::{NUMBERS, broken, odd_number};
use crate::samples::{START, custom, exemplar, exponential, floats, gauge, series, times};

const PAGE_BYTES: usize = 32 << 10;
const FRAGMENT_HEADER_BYTES: usize = 7;
const SNAPPY: u8 = 0x08;
const ZSTD: u8 = 0x10;

fn samples_record(is_started: bool) -> Vec<u8> {
    let (mut plain, mut started) = (SamplesEncoder::default(), StartedSamplesEncoder::default());
    for (i, (t, v)) in times(1, 20).into_iter().zip(floats(3, 20)).enumerate() {
        let series = 7 + u64::try_from(i * i % 31).unwrap();
        plain.push(series, t, v);
        let start_t = [0, START, START, START + 5][i % 4];
        started.push(series, SampleTime { t, start_t }, v);
    }
    let record = if is_started {
        started.record()
    } else {
        plain.record()
    };
    record.unwrap().to_vec()
}

fn histograms_record(mut encoder: HistogramsEncoder, kind: fn(usize) -> Histogram) -> Vec<u8> {
    for (i, t) in times(1, 5).into_iter().enumerate() {
        let at = SampleTime {
            t,
            start_t: START - 1,
        };
        encoder.push(u64::try_from(9 - i).unwrap(), at, &kind(i));
    }
    encoder.record().unwrap().to_vec()
}

fn series_records() -> [Vec<u8>; 4] {
    let (mut names, mut metadata) = (SeriesEncoder::default(), MetadataEncoder::default());
    let (mut exemplars, mut tombstones) = (ExemplarsEncoder::default(), Vec::new());
    for i in 0..5 {
        let reference = 300 + u64::try_from(i).unwrap();
        names.push(reference, &series(i));
        let described = Metadata {
            metric_type: MetricType::Counter,
            help: "Requests.".into(),
            unit: "seconds".into(),
        };
        metadata.push(reference, &described);
        exemplars.push(reference, &exemplar(i));
        tombstones.push(RefTombstone {
            series: reference,
            interval: Interval {
                min: START - 1,
                max: i64::MAX,
            },
        });
    }
    [
        names.record().unwrap().to_vec(),
        metadata.record().unwrap().to_vec(),
        exemplars.record().unwrap().to_vec(),
        encode_tombstones(&tombstones),
    ]
}

fn marker_record() -> Vec<u8> {
    let mut markers = MarkersEncoder::default();
    for i in 0..6u32 {
        markers.push(RefMarker {
            series: 300 + u64::from(i),
            file: i / 2,
            offset: 8 + i * 100,
        });
    }
    markers.record().unwrap().to_vec()
}

/// Records of all kinds that the write-ahead log has.
fn wal_records() -> Vec<Vec<u8>> {
    let mut all = vec![samples_record(false), samples_record(true)];
    all.extend(series_records());
    for counts in [Counts::Whole, Counts::Float] {
        let whole_or_gauge = match counts {
            Counts::Whole => exponential,
            Counts::Float => gauge,
        };
        all.push(histograms_record(
            HistogramsEncoder::new(counts, false),
            whole_or_gauge,
        ));
        all.push(histograms_record(
            HistogramsEncoder::new(counts, true),
            custom,
        ));
        for kind in [whole_or_gauge, custom] {
            all.push(histograms_record(
                HistogramsEncoder::with_starts(counts),
                kind,
            ));
        }
    }
    all
}

/// Records of the kinds that the log of out-of-order samples has.
fn wbl_records() -> Vec<Vec<u8>> {
    let in_both = [2, 7, 8, 9, 10, 11, 12, 13];
    let is_late = |record: &Vec<u8>| in_both.contains(&record[0]);
    let mut all: Vec<_> = wal_records().into_iter().filter(is_late).collect();
    all.extend([marker_record(), marker_record(), marker_record()]);
    all
}

/// Floats that were read are written anew and read the same.
fn read_samples(body: &[u8]) -> usize {
    let mut out = Vec::new();
    if decode_samples(body, &mut out).is_err() {
        return 0;
    }
    let mut encoder = StartedSamplesEncoder::default();
    for sample in &out {
        let at = SampleTime {
            t: sample.t,
            start_t: sample.start_t,
        };
        encoder.push(sample.series, at, sample.v);
    }
    let mut again = Vec::new();
    if let Some(body) = encoder.record() {
        decode_samples(body, &mut again).unwrap();
    }
    assert_eq!(out.len(), again.len());
    for (before, after) in out.iter().zip(&again) {
        assert_eq!((before.series, before.t), (after.series, after.t));
        assert_eq!(before.start_t, after.start_t);
        assert_eq!(before.v.to_bits(), after.v.to_bits());
    }
    out.len()
}

/// What replay does with a record: how many entries came out, zero where it was refused.
fn read_record(body: &[u8]) -> usize {
    match RecordKind::of(body) {
        RecordKind::Series => {
            let mut n = 0;
            decode_series(body, |_, labels| {
                n += 1 + labels.map_or(0, |labels| labels.len());
            })
            .ok();
            n
        }
        RecordKind::Samples | RecordKind::SamplesV2 => read_samples(body),
        RecordKind::Tombstones => decode_tombstones(body).map_or(0, |all| all.len()),
        RecordKind::Exemplars => decode_exemplars(body).map_or(0, |all| all.len()),
        RecordKind::MmapMarkers => decode_markers(body).map_or(0, |all| {
            let mut encoder = MarkersEncoder::default();
            all.iter().for_each(|marker| encoder.push(*marker));
            assert_eq!(encoder.record().unwrap_or(&[5]), body, "written anew");
            all.len()
        }),
        RecordKind::Metadata => decode_metadata(body).map_or(0, |all| all.len()),
        RecordKind::Histograms
        | RecordKind::FloatHistograms
        | RecordKind::CustomHistograms
        | RecordKind::CustomFloatHistograms
        | RecordKind::HistogramsV2
        | RecordKind::FloatHistogramsV2 => decode_histograms(body).map_or(0, |all| {
            for entry in &all {
                entry.histogram.check(Counts::Float).unwrap();
            }
            all.len()
        }),
        RecordKind::Unknown(_) => 0,
    }
}

fn fuzz_records(target: Target, seeds: &[Vec<u8>]) {
    for seed in seeds {
        assert!(4 < read_record(seed), "a seed without anything in it");
    }
    let make = |dice: &mut Dice| {
        let seed = &seeds[dice.below(seeds.len())];
        let other = &seeds[dice.below(seeds.len())];
        broken(dice, seed, other)
    };
    run(target, make, |body| read_record(body));
}

#[test]
fn broken_records_are_read_or_refused() {
    let target = Target::new("log records", 30).rounds(20_000);
    fuzz_records(target, &wal_records());
}

#[test]
fn broken_records_of_out_of_order_samples_are_read_or_refused() {
    let target = Target::new("records of the out-of-order log", 31).rounds(20_000);
    fuzz_records(target, &wbl_records());
}

/// Cuts stored records into fragments that are whole but may be of the wrong kind, length or place.
fn segment(dice: &mut Dice, records: &[Vec<u8>], has_zstd: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..1 + dice.below(12) {
        let mut body = records[dice.below(records.len())].clone();
        if dice.chance(10) {
            body = body.repeat(1 + dice.below(600));
        }
        if dice.chance(20) {
            body = broken(dice, &body, &records[0]);
        }
        let (mut stored, flag) = match dice.below(3) {
            0 => (body, 0),
            1 if has_zstd => (zstd::bulk::compress(&body, 1).unwrap(), ZSTD),
            _ => {
                let mut encoder = snap::raw::Encoder::new();
                (encoder.compress_vec(&body).unwrap(), SNAPPY)
            }
        };
        if dice.chance(20) {
            let number = NUMBERS[dice.below(NUMBERS.len())];
            stored = broken(dice, &stored, number);
        }
        push_fragments(dice, &stored, flag, &mut out);
    }
    if dice.chance(40) {
        out = broken(dice, &out, &[0; 64]);
    }
    out
}

fn push_fragments(dice: &mut Dice, stored: &[u8], flag: u8, out: &mut Vec<u8>) {
    let mut rest = stored;
    let mut is_first = true;
    while is_first || !rest.is_empty() {
        let left = PAGE_BYTES - out.len() % PAGE_BYTES;
        if left <= FRAGMENT_HEADER_BYTES || dice.chance(2) {
            out.resize(out.len() + left, 0);
            continue;
        }
        let len = rest.len().min(left - FRAGMENT_HEADER_BYTES);
        let (part, after) = rest.split_at(len);
        let kind = match (is_first, after.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        let odd = u8::from(dice.chance(3)) * dice.next().to_le_bytes()[0];
        out.push((kind | flag) ^ odd);
        out.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        out.extend_from_slice(&crc32c(part).to_be_bytes());
        out.extend_from_slice(part);
        (rest, is_first) = (after, false);
    }
}

/// Reads a segment as replay does: records, and what lies behind damage.
fn read_segment(path: &Path, n_bytes: usize) -> (usize, usize) {
    let mut reader = SegmentReader::open(path).unwrap();
    let (mut n_records, mut n_damages) = (0, 0);
    loop {
        assert!(
            n_records + n_damages <= n_bytes / FRAGMENT_HEADER_BYTES + 1,
            "without an end"
        );
        match reader.next_record() {
            Ok(Some(body)) => {
                read_record(body);
                n_records += 1;
            }
            Ok(None) => return (n_records, n_damages),
            Err(damage) => {
                assert!(damage.offset <= n_bytes as u64, "beyond the end: {damage}");
                n_damages += 1;
                if !reader.resync().unwrap() {
                    return (n_records, n_damages);
                }
            }
        }
    }
}

fn fuzz_segments(target: Target, has_zstd: bool) {
    let mut records = wal_records();
    records.push(marker_record());
    let dir = crate::directories::scratch();
    let (path, aside) = (dir.path().join("00000000"), dir.path().join("aside"));
    let make = |dice: &mut Dice| {
        let is_repaired = dice.below(8) == 0 || odd_number(dice) == 0;
        (segment(dice, &records, has_zstd), is_repaired)
    };
    run(target, make, |(bytes, is_repaired)| {
        fs::write(&path, bytes).unwrap();
        let (n_records, n_damages) = read_segment(&path, bytes.len());
        if *is_repaired {
            let outcome = repair_segment(&path, &aside).unwrap();
            assert_eq!(outcome == RepairOutcome::Intact, n_damages == 0);
            let len = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
            assert_eq!(
                read_segment(&path, len),
                (n_records, 0),
                "after {outcome:?}"
            );
            fs::remove_dir_all(&aside).ok();
        }
        n_records + 1
    });
}

#[test]
fn broken_segments_of_a_log_are_read_around_the_damage() {
    // Snappy makes 64 bytes of one at most, and entries come of those; a page and a compressor besides.
    let target = Target::new("log segment", 32).rounds(1_500);
    fuzz_segments(target.holds(64 * 16, 1 << 20), false);
}

#[test]
fn broken_segments_of_a_log_with_zstd_are_read_around_the_damage() {
    // A record of zeros is a few bytes: only the longest record that is believed is a bound.
    let target = Target::new("log segment with zstd", 33).rounds(1_500);
    fuzz_segments(target.holds(64 * 16, 2 << 30), true);
}
