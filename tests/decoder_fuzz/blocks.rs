//! What lies beside index and chunks of a block.

use gauntlet::block::{BlockMeta, Tombstones};
use gauntlet::foundation::checksum::crc32c;
use gauntlet::foundation::cursor::{put_uvarint, put_varint};
use gauntlet::inventory::DeletionMark;

use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::{broken, odd_number};
use crate::samples::START;

/// Magic and version of a tombstone file.
const TOMBSTONES_HEADER: [u8; 5] = [0x01, 0x30, 0xba, 0x30, 1];

#[test]
fn broken_tombstones_are_read_or_refused() {
    let make = |dice: &mut Dice| {
        let mut entries = Vec::new();
        for _ in 0..dice.below(60) {
            let first = START + dice.between(-1_000, 1_000);
            let last = first + dice.between(-2, 500);
            put_uvarint(&mut entries, 16 + dice.next() % 4);
            if dice.chance(10) {
                put_varint(&mut entries, odd_number(dice).cast_signed());
                put_varint(&mut entries, odd_number(dice).cast_signed());
            } else {
                put_varint(&mut entries, first);
                put_varint(&mut entries, last);
            }
        }
        if dice.chance(50) {
            entries = broken(dice, &entries, &TOMBSTONES_HEADER);
        }
        let mut bytes = TOMBSTONES_HEADER.to_vec();
        bytes.extend_from_slice(&entries);
        bytes.extend_from_slice(&crc32c(&entries).to_be_bytes());
        if dice.chance(10) {
            bytes = broken(dice, &bytes, &entries);
        }
        bytes
    };
    run(Target::new("tombstones", 50), make, |bytes| {
        let Ok(tombstones) = Tombstones::decode(bytes) else {
            return 0;
        };
        for (series, intervals) in tombstones.iter() {
            assert!(intervals.iter().all(|one| one.min <= one.max), "{series}");
            let is_apart = intervals.is_sorted_by(|a, b| a.max.saturating_add(1) < b.min);
            assert!(is_apart, "series {series}: {intervals:?}");
        }
        let again = Tombstones::decode(&tombstones.encode()).unwrap();
        assert_eq!(again, tombstones, "written anew");
        1 + tombstones.n_intervals()
    });
}

#[test]
fn falling_tombstones_of_one_series_take_no_longer_than_rising_ones() {
    let mut entries = Vec::new();
    for n in (0..1_000_000).rev() {
        put_uvarint(&mut entries, 16);
        put_varint(&mut entries, n * 10);
        put_varint(&mut entries, n * 10 + 3);
    }
    let mut bytes = TOMBSTONES_HEADER.to_vec();
    bytes.extend_from_slice(&entries);
    bytes.extend_from_slice(&crc32c(&entries).to_be_bytes());
    // The watch-dog ends a round that puts each in its place.
    let target = Target::new("falling tombstones", 53).rounds(1);
    let read = |bytes: &Vec<u8>| Tombstones::decode(bytes).unwrap().n_intervals();
    run(target, |_| bytes.clone(), read);
    assert_eq!(read(&bytes), 1_000_000);
}

/// With everything that Prometheus and Thanos write, and more.
const META: &[u8] = br#"{
	"ulid": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
	"minTime": 1700000000000,
	"maxTime": 1700007200000,
	"stats": {"numSamples": 553673232, "numFloatSamples": 5, "numHistogramSamples": 7, "numSeries": 1346066, "numChunks": 4440437, "numTombstones": 1},
	"compaction": {
		"level": 2,
		"sources": ["01ARZ3NDEKTSV4RRFFQ69G5FAW", "01ARZ3NDEKTSV4RRFFQ69G5FAX"],
		"parents": [{"ulid": "01ARZ3NDEKTSV4RRFFQ69G5FAW", "minTime": 1700000000000, "maxTime": 1700003600000}],
		"hints": ["from-out-of-order"], "deletable": false, "failed": false
	},
	"version": 1,
	"thanos": {
		"version": 1,
		"labels": {"cluster": "eu-1", "replica": "\u00e9\n\ud83d\ude00"},
		"downsample": {"resolution": 300000},
		"source": "sidecar",
		"segment_files": null,
		"files": [{"rel_path": "chunks/000001", "size_bytes": 536870882}, {"rel_path": "index", "size_bytes": 401, "hash": {"hashFunc": "SHA256", "hash": "00ff", "value": "ab"}}, {"rel_path": "meta.json"}],
		"index_stats": {"series_max_size": 1.5e-3, "chunk_max_size": [null, true, {}]},
		"rewrites": []
	},
	"unknown": {"kept": [1, 2.5, "three"]}
}
"#;

/// What stands between the pieces of a text, and what breaks readers.
const TOKENS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "-9223372036854775808",
    "\"\\ud800\"",
    "{\"a\":",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\u{feff}",
];

fn broken_text(dice: &mut Dice, seed: &[u8]) -> Vec<u8> {
    let mut text = seed.to_vec();
    for _ in 0..=dice.below(2) {
        if dice.chance(40) {
            text = broken(dice, &text, seed);
            continue;
        }
        // A whole value or sign gives way to another.
        let is_break = |byte: &u8| matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ');
        let start = dice.below(text.len() + 1);
        let n = text[start..].iter().position(is_break).unwrap_or(0);
        let token = TOKENS[dice.below(TOKENS.len())].repeat(1 + dice.below(3) * dice.below(80));
        text.splice(start..start + n, token.into_bytes());
    }
    text
}

#[test]
fn broken_meta_is_read_or_refused() {
    let whole = BlockMeta::decode(META).unwrap();
    let mut rewritten = whole.clone();
    rewritten.thanos = None;
    let seeds = [META.to_vec(), whole.encode(), rewritten.encode()];
    let make = |dice: &mut Dice| {
        let seed = &seeds[dice.below(seeds.len())];
        if dice.chance(30) {
            return seed.clone();
        }
        broken_text(dice, seed)
    };
    // A value of two bytes is kept as a node of a tree, twice while unknown keys are collected.
    let target = Target::new("meta.json", 51).holds(256, 16 << 10);
    run(target, make, |text| {
        let Ok(meta) = BlockMeta::decode(text) else {
            return 0;
        };
        assert!(meta.min_time <= meta.max_time, "{meta:?}");
        let again = BlockMeta::decode(&meta.encode()).unwrap();
        assert_eq!((again.ulid, again.stats), (meta.ulid, meta.stats));
        assert_eq!(again.compaction, meta.compaction);
        2
    });
}

#[test]
fn broken_deletion_marks_are_read_or_refused() {
    let seed = br#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","version":1,"details":"source of compacted block","deletion_time":1700000000}"#;
    let make = |dice: &mut Dice| {
        if dice.chance(30) {
            return seed.to_vec();
        }
        broken_text(dice, seed)
    };
    let target = Target::new("deletion-mark.json", 52).holds(256, 16 << 10);
    run(target, make, |text| {
        let Ok(mark) = DeletionMark::decode(text) else {
            return 0;
        };
        mark.since_ms();
        2
    });
}
