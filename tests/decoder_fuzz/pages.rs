//! Pages of targets and requests of remote writes.

use gauntlet::exposition::{
    Entry, Exemplar, HistogramOptions, LabelBuffer, MediaType, Parser, ParserOptions,
};
use gauntlet::remote::{WriteLimits, WriteVersion, append_write_request, compress};

use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::broken;
use crate::seeds;
use crate::sink::Sink;

/// What comes out of one entry may be this many times larger than all that went in, and a little.
const GROWTH_MAX: usize = 16;
const LITTLE: usize = 4 << 10;

/// Longest request after decompression.
const DECODED_BYTES_MAX: usize = 1 << 20;

/// Reads a page to its end or its error: how many entries, and how large the largest was.
fn read_page(input: &[u8], media_type: MediaType, options: ParserOptions) -> (usize, usize) {
    let mut parser = Parser::new(input, media_type, options);
    let (mut labels, mut exemplar) = (LabelBuffer::new(), Exemplar::default());
    let (mut n_entries, mut largest) = (0, 0);
    loop {
        let size = match parser.next_entry() {
            Ok(None) | Err(_) => return (n_entries, largest),
            Ok(Some(Entry::Series(_))) => 0,
            Ok(Some(Entry::Histogram(line))) => line.sample.histogram.n_bytes(),
            Ok(Some(_)) => continue,
        };
        n_entries += 1;
        parser.labels(&mut labels);
        let mut n_exemplars = 0;
        while parser.next_exemplar(&mut exemplar) {
            n_exemplars += 1;
            assert!(n_exemplars <= input.len(), "exemplars without an end");
        }
        parser.start_timestamp();
        let texts: usize = labels.iter().map(|(name, v)| name.len() + v.len()).sum();
        largest = largest.max(size + texts + parser.text().len());
        assert!(n_entries <= 4 * input.len() + 4, "entries without an end");
    }
}

fn options(dice: &mut Dice) -> ParserOptions {
    ParserOptions {
        histograms: HistogramOptions {
            native: dice.chance(70),
            keeps_classic: dice.chance(50),
            converts_classic: dice.chance(50),
        },
        start_timestamps: dice.chance(50),
    }
}

fn fuzz_pages(target: Target, media_type: MediaType, seeds: &[Vec<u8>]) {
    for seed in seeds {
        let (n_entries, _) = read_page(seed, media_type, ParserOptions::default());
        assert!(
            4 < n_entries,
            "{}: a seed without anything in it",
            target.what
        );
    }
    let make = |dice: &mut Dice| {
        let seed = &seeds[dice.below(seeds.len())];
        let other = &seeds[dice.below(seeds.len())];
        (broken(dice, seed, other), options(dice))
    };
    run(target, make, |(page, options)| {
        let (n_entries, largest) = read_page(page, media_type, *options);
        let most = GROWTH_MAX * page.len() + LITTLE;
        assert!(largest <= most, "{largest} bytes out of {}", page.len());
        n_entries
    });
}

fn fuzz_writes(target: Target, version: WriteVersion, seed: &[u8]) {
    let limits = WriteLimits {
        decoded_bytes_max: DECODED_BYTES_MAX,
        now_ms: 1_000_000,
        ahead_ms_max: 600_000,
    };
    let make = |dice: &mut Dice| {
        let mut body = broken(dice, seed, seed);
        body.truncate(DECODED_BYTES_MAX);
        let body = compress(&body).unwrap();
        if dice.chance(10) {
            return broken(dice, &body, seed);
        }
        body
    };
    run(target, make, |body| {
        let (sink, mut scratch) = (Sink::default(), Vec::new());
        let written = append_write_request((body, version), limits, &sink, &mut scratch);
        if let Ok(report) = written {
            let lines = report.refusal_lines().join("\n");
            assert!(lines.len() < 32 << 10, "an answer of {} bytes", lines.len());
        }
        let (largest, n_bytes) = (sink.largest(), scratch.len() + body.len());
        let most = GROWTH_MAX * n_bytes + LITTLE;
        assert!(largest <= most, "{largest} bytes out of {n_bytes}");
        // One is for the request itself, which may be empty.
        sink.n_taken() + 1
    });
}

#[test]
fn broken_text_pages_are_read_or_refused() {
    fuzz_pages(Target::new("text", 1), MediaType::Text, &seeds::text());
}

#[test]
fn broken_openmetrics_pages_are_read_or_refused() {
    let target = Target::new("OpenMetrics", 2);
    fuzz_pages(target, MediaType::OpenMetrics, &seeds::openmetrics());
}

#[test]
fn broken_protobuf_pages_are_read_or_refused() {
    let target = Target::new("protobuf", 3);
    fuzz_pages(target, MediaType::Protobuf, &seeds::protobuf());
}

#[test]
fn broken_requests_of_version_1_are_taken_or_refused() {
    // A decompressed request, whose length a broken body may overstate, and what is made of it.
    let target = Target::new("remote write 1", 4).holds(64, 2 * DECODED_BYTES_MAX);
    fuzz_writes(target, WriteVersion::V1, &seeds::write_v1());
}

#[test]
fn broken_requests_of_version_2_are_taken_or_refused() {
    let target = Target::new("remote write 2", 5).holds(64, 2 * DECODED_BYTES_MAX);
    fuzz_writes(target, WriteVersion::V2, &seeds::write_v2());
}
