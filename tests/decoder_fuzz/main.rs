//! What foreign bytes do to the decoders of expositions and of remote writes: nothing but an error.
//!
//! Good pages and requests are broken at random and read. A run reads a few thousand; with `GAUNTLET_FUZZ_SECONDS` it
//! goes on for that long, and `GAUNTLET_FUZZ_SEED` repeats one. Nothing may panic, and nothing that comes out may be
//! larger than what went in allows.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the run is timed and prints its figures"
)]

#[path = "../promql_fuzz/dice.rs"]
#[expect(dead_code, reason = "expressions need more kinds of chance than bytes")]
mod dice;
#[path = "../interop/messages.rs"]
mod messages;
mod seeds;
#[path = "../promql_fuzz/settings.rs"]
#[expect(dead_code, reason = "there are no texts to be told")]
mod settings;
mod sink;

use std::time::{Duration, Instant};

use gauntlet::exposition::{
    Entry, Exemplar, HistogramOptions, LabelBuffer, MediaType, Parser, ParserOptions,
};
use gauntlet::remote::{WriteLimits, WriteVersion, append_write_request, compress};

use dice::Dice;
use sink::Sink;

/// Rounds of a run that was told nothing.
const N_ROUNDS: u64 = 4_000;

/// What comes out of one entry may be this many times larger than all that went in, and a little.
const GROWTH_MAX: usize = 16;
const LITTLE: usize = 4 << 10;

/// Numbers that lengths and counts break on.
const NUMBERS: [&[u8]; 6] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0x00],
    &[0x7f],
];

/// One to three changes of any kind; `other` gives pieces.
fn broken(dice: &mut Dice, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = dice.below(bytes.len());
        let end = (at + dice.below(24)).min(bytes.len());
        match dice.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = dice.next().to_le_bytes()[0],
            3 => {
                bytes.drain(at..end);
            }
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                bytes.splice(at..end, NUMBERS[dice.below(NUMBERS.len())].iter().copied());
            }
            6 => {
                let from = dice.below(other.len());
                let to = (from + dice.below(48)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
    }
    bytes
}

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

/// What a run saw.
#[derive(Debug, Default)]
struct Figures {
    n_rounds: u64,
    n_bytes: usize,
    n_taken: usize,
    largest: usize,
}

fn run(what: &str, salt: u64, mut round: impl FnMut(&mut Dice) -> (usize, usize, usize)) {
    let seed = settings::number("GAUNTLET_FUZZ_SEED").unwrap_or(20_261_121) ^ salt;
    let long = settings::number("GAUNTLET_FUZZ_SECONDS").map(Duration::from_secs);
    let began = Instant::now();
    let mut figures = Figures::default();
    loop {
        let is_over = match long {
            Some(long) => long <= began.elapsed(),
            None => N_ROUNDS <= figures.n_rounds,
        };
        if is_over {
            break;
        }
        let mut dice = Dice::new(seed, figures.n_rounds);
        let (n_bytes, n_taken, largest) = round(&mut dice);
        assert!(
            largest <= GROWTH_MAX * n_bytes + LITTLE,
            "seed {seed} round {}: {largest} bytes out of {n_bytes}",
            figures.n_rounds
        );
        figures.n_rounds += 1;
        figures.n_bytes += n_bytes;
        figures.n_taken += n_taken;
        figures.largest = figures.largest.max(largest);
    }
    println!("{what}: seed {seed}, {figures:?}");
    // Broken, but not beyond all reading.
    assert!(figures.n_rounds / 2 < figures.n_taken as u64, "{figures:?}");
}

fn fuzz_pages(what: &str, salt: u64, media_type: MediaType, seeds: &[Vec<u8>]) {
    for seed in seeds {
        let (n_entries, _) = read_page(seed, media_type, ParserOptions::default());
        assert!(4 < n_entries, "{what}: a seed without anything in it");
    }
    run(what, salt, |dice| {
        let seed = &seeds[dice.below(seeds.len())];
        let other = &seeds[dice.below(seeds.len())];
        let input = broken(dice, seed, other);
        let options = options(dice);
        let (n_entries, largest) = read_page(&input, media_type, options);
        (input.len(), n_entries, largest)
    });
}

fn fuzz_writes(what: &str, salt: u64, version: WriteVersion, seed: &[u8]) {
    let limits = WriteLimits {
        decoded_bytes_max: 1 << 20,
        now_ms: 1_000_000,
        ahead_ms_max: 600_000,
    };
    let mut scratch = Vec::new();
    run(what, salt, |dice| {
        let mut body = broken(dice, seed, seed);
        body.truncate(1 << 20);
        let mut body = compress(&body).unwrap();
        if dice.chance(10) {
            body = broken(dice, &body, seed);
        }
        let sink = Sink::default();
        let written = append_write_request((&body, version), limits, &sink, &mut scratch);
        if let Ok(report) = written {
            let lines = report.refusal_lines().join("\n");
            assert!(lines.len() < 32 << 10, "an answer of {} bytes", lines.len());
        }
        // One is for the request itself, which may be empty.
        (
            scratch.len() + body.len(),
            sink.n_taken() + 1,
            sink.largest(),
        )
    });
}

#[test]
fn broken_text_pages_are_read_or_refused() {
    fuzz_pages("text", 1, MediaType::Text, &seeds::text());
}

#[test]
fn broken_openmetrics_pages_are_read_or_refused() {
    fuzz_pages(
        "OpenMetrics",
        2,
        MediaType::OpenMetrics,
        &seeds::openmetrics(),
    );
}

#[test]
fn broken_protobuf_pages_are_read_or_refused() {
    fuzz_pages("protobuf", 3, MediaType::Protobuf, &seeds::protobuf());
}

#[test]
fn broken_requests_of_version_1_are_taken_or_refused() {
    fuzz_writes("remote write 1", 4, WriteVersion::V1, &seeds::write_v1());
}

#[test]
fn broken_requests_of_version_2_are_taken_or_refused() {
    fuzz_writes("remote write 2", 5, WriteVersion::V2, &seeds::write_v2());
}
