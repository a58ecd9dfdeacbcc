//! What taking samples costs: remote write and scraped pages in samples per CPU second, bytes per series, and how long
//! requests wait while a block is cut.
//!
//! `cargo bench --bench ingest`, or with some of `write`, `scrape`, `memory=SERIES`, `cut` as arguments, and `rounds=` so many
//! samples of each series for the memory.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a bench measures time, prints and stops at the first failure"
)]

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gauntlet::exposition::MediaType;
use gauntlet::foundation::SystemClock;
use gauntlet::head::HeadSettings;
use gauntlet::model::{Labels, Sample};
use gauntlet::remote::{
    WriteLimits, WriteRequestEncoder, WriteVersion, append_write_request, compress,
};
use gauntlet::scrape::PageIngest;
use gauntlet::storage::Appendable;
use gauntlet::tsdb::{Tsdb, TsdbSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 15_000;
/// Blocks that are cut, for how long requests wait meanwhile.
const CUTS: usize = 4;
const SERIES_PER_REQUEST: usize = 2_000;
const LIMITS: WriteLimits = WriteLimits {
    decoded_bytes_max: 64 << 20,
    now_ms: i64::MAX / 2,
    ahead_ms_max: 0,
};

/// CPU time of this process in seconds, user and system.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

/// Resident bytes: those of files, and all others.
fn resident_bytes() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let read = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
        kib.unwrap_or(0.0) * 1024.0
    };
    (read("RssFile:"), read("RssAnon:"))
}

fn open(dir: &Path, chunk_range_ms: i64) -> Tsdb {
    let settings = TsdbSettings {
        head: HeadSettings {
            chunk_range_ms,
            ..HeadSettings::default()
        },
        ..TsdbSettings::default()
    };
    Tsdb::open(dir, settings, Arc::new(SystemClock)).expect("the directory opens")
}

fn labels(n: usize) -> Labels {
    let (metric, instance) = (n % 500, n / 500);
    let name = format!("bench_subsystem_{}_metric_{metric}_total", metric % 40);
    let address = format!("10.0.{}.{}:9100", instance / 250, instance % 250);
    let (job, pod) = (
        format!("job-{}", metric % 7),
        format!("app-{}-{instance:05}-0", metric % 11),
    );
    let (dc, rack) = (format!("dc{}", instance % 3), format!("r{}", instance % 17));
    let pairs = [
        ("__name__", name.as_str()),
        ("cluster", "eu-1"),
        ("dc", dc.as_str()),
        ("env", "prod"),
        ("instance", address.as_str()),
        ("job", job.as_str()),
        ("mode", "user"),
        ("pod", pod.as_str()),
        ("rack", rack.as_str()),
    ];
    Labels::new(&pairs).expect("the names differ")
}

/// Counters, gauges and constants.
fn value(n: usize, round: i64) -> f64 {
    let noise = (n as u64 ^ (round as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    match n % 5 {
        0 | 1 => round as f64 * (50 + n % 7) as f64 + (noise % 50) as f64 + n as f64,
        2 | 3 => (noise % 1000) as f64,
        _ => n as f64,
    }
}

/// Bodies of one round, compressed.
fn bodies(series: &[Labels], first: usize, round: i64) -> Vec<(Vec<u8>, usize)> {
    let mut bodies = Vec::new();
    for (part, chunk) in series.chunks(SERIES_PER_REQUEST).enumerate() {
        let mut request = WriteRequestEncoder::new();
        for (at, labels) in chunk.iter().enumerate() {
            let n = first + part * SERIES_PER_REQUEST + at;
            let sample = Sample {
                t: START + round * STEP_MS,
                v: value(n, round),
            };
            request.series(labels, &[sample]);
        }
        let body = compress(request.as_bytes()).expect("it compresses");
        bodies.push((body, chunk.len()));
    }
    bodies
}

fn send(db: &dyn Appendable, body: &[u8], scratch: &mut Vec<u8>) -> u64 {
    let report = append_write_request((body, WriteVersion::V1), LIMITS, db, scratch);
    report.expect("the request is good").n_samples
}

fn remote_write(n_series: usize, n_rounds: i64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = open(dir.path(), HeadSettings::default().chunk_range_ms);
    let series: Vec<Labels> = (0..n_series).map(labels).collect();
    let mut scratch = Vec::new();
    let mut spent = 0.0;
    let mut n_samples = 0;
    for round in 0..n_rounds {
        let bodies = bodies(&series, 0, round);
        let before = cpu_seconds();
        let n: u64 = bodies
            .iter()
            .map(|(body, _)| send(&db, body, &mut scratch))
            .sum();
        let took = cpu_seconds() - before;
        if round == 0 {
            println!(
                "remote write, {n_series} new series: {:.2} M per CPU second",
                n as f64 / took / 1e6
            );
        } else {
            spent += took;
            n_samples += n;
        }
    }
    println!(
        "remote write, {n_series} series: {:.2} M samples per CPU second",
        n_samples as f64 / spent / 1e6
    );
}

/// A page as exporters write it, with help and type before every family.
fn page(n_lines: usize, round: i64) -> String {
    let mut text = String::new();
    for family in 0..n_lines / 20 {
        let name = format!("bench_subsystem_{}_metric_{family}_total", family % 40);
        writeln!(text, "# HELP {name} What {name} counts, in words.").ok();
        writeln!(text, "# TYPE {name} counter").ok();
        for line in 0..20 {
            let v = value(family * 20 + line, round);
            writeln!(
                text,
                "{name}{{mode=\"user\",device=\"disk{line}\",method=\"GET\",code=\"200\"}} {v}"
            )
            .ok();
        }
    }
    text
}

fn scrape(n_targets: usize, n_lines: usize, n_rounds: i64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = Arc::new(open(dir.path(), HeadSettings::default().chunk_range_ms));
    let mut targets: Vec<PageIngest> = (0..n_targets)
        .map(|n| {
            let instance = format!("10.0.0.{n}:9100");
            let pairs = [("instance", instance.as_str()), ("job", "node")];
            let labels = Labels::new(&pairs).expect("the names differ");
            PageIngest::new(Arc::clone(&db) as Arc<dyn Appendable>, labels)
        })
        .collect();
    let (mut spent, mut n_samples) = (0.0, 0);
    for round in 0..n_rounds {
        let page = page(n_lines, round);
        let before = cpu_seconds();
        for target in &mut targets {
            let t = START + round * STEP_MS;
            let n = target.take(page.as_bytes(), MediaType::Text, t);
            n_samples += n.expect("the page is good") * usize::from(0 < round);
        }
        if 0 < round {
            spent += cpu_seconds() - before;
        }
    }
    println!(
        "scrape, {n_targets} targets of {n_lines} lines: {:.2} M samples per CPU second",
        n_samples as f64 / spent / 1e6
    );
}

/// Bytes per series, by remote write so that nobody else holds any labels.
fn memory(n_series: usize, n_rounds: i64) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = open(dir.path(), HeadSettings::default().chunk_range_ms);
    let mut scratch = Vec::new();
    let base = resident_bytes();
    let (mut most, mut most_round) = (0.0, 0);
    for round in 0..n_rounds {
        for first in (0..n_series).step_by(SERIES_PER_REQUEST) {
            let some: Vec<Labels> = (first..n_series.min(first + SERIES_PER_REQUEST))
                .map(labels)
                .collect();
            for (body, _) in bodies(&some, first, round) {
                send(&db, &body, &mut scratch);
            }
        }
        let (files, others) = resident_bytes();
        if most < files + others {
            (most, most_round) = (files + others, round + 1);
        }
        if matches!(round, 0 | 4 | 29 | 59 | 119 | 239) || round + 1 == n_rounds {
            println!(
                "memory, {n_series} series of {} samples: {:.0} bytes per series, and {:.0} of mapped files",
                round + 1,
                (others - base.1) / n_series as f64,
                (files - base.0) / n_series as f64
            );
        }
    }
    let most = (most - base.0 - base.1) / n_series as f64;
    println!(
        "memory, {n_series} series: {most:.0} bytes per series at most, at {most_round} samples"
    );
}

fn percentiles(mut waits: Vec<Duration>) -> String {
    waits.sort_unstable();
    let at = |share: f64| {
        let place = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
        waits.get(place).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!(
        "{} requests, p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms",
        waits.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// How long requests wait, over several cuts: during one there are so few that the longest would be their p99.
fn cuts(n_series: usize) {
    let mut all = (Vec::new(), Vec::new());
    for _ in 0..CUTS {
        let (quiet, during) = cut(n_series);
        all.0.extend(quiet);
        all.1.extend(during);
    }
    println!("before the cuts: {}", percentiles(all.0));
    println!("during the cuts: {}", percentiles(all.1));
}

/// Two senders write a quarter each of what comes at a steady pace; meanwhile a block of an hour is cut. How long each
/// request took, before and during the cut.
fn cut(n_series: usize) -> (Vec<Duration>, Vec<Duration>) {
    const RANGE_MS: i64 = 3_600_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let db = open(dir.path(), RANGE_MS);
    let series: Vec<Labels> = (0..n_series).map(labels).collect();
    let mut scratch = Vec::new();
    // From the beginning of a range until its block is due.
    let mut round = (RANGE_MS - START.rem_euclid(RANGE_MS)) / STEP_MS + 1;
    let n_before = RANGE_MS * 8 / 5 / STEP_MS;
    for _ in 0..n_before {
        for (body, _) in bodies(&series, 0, round) {
            send(&db, &body, &mut scratch);
        }
        round += 1;
    }
    let is_cutting = AtomicBool::new(false);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let senders: Vec<_> = [0, 1]
            .map(|sender| {
                let half = series.len() / 2;
                let mine = series.get(sender * half..(sender + 1) * half);
                let (db, flags) = (&db, (&is_cutting, &is_over));
                let part = (mine.unwrap_or_default(), sender * half, round);
                scope.spawn(move || send_steadily(db, part, flags))
            })
            .into_iter()
            .collect();
        std::thread::sleep(Duration::from_secs(6));
        is_cutting.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        let block = db.cut().expect("the disk takes it");
        let took = begun.elapsed();
        is_over.store(true, Ordering::SeqCst);
        let n = block.expect("a block is due").stats.num_samples;
        println!("cut of {n} samples: {:.2} s", took.as_secs_f64());
        let mut all = (Vec::new(), Vec::new());
        for sender in senders {
            let (quiet, during) = sender.join().expect("no sender fails");
            all.0.extend(quiet);
            all.1.extend(during);
        }
        all
    })
}

/// How long each request took, before and during the cut.
fn send_steadily(
    db: &Tsdb,
    (series, first, mut round): (&[Labels], usize, i64),
    (is_cutting, is_over): (&AtomicBool, &AtomicBool),
) -> (Vec<Duration>, Vec<Duration>) {
    const PAUSE: Duration = Duration::from_millis(20);
    let mut waits = (Vec::new(), Vec::new());
    let mut scratch = Vec::new();
    loop {
        for (body, _) in bodies(series, first, round) {
            let was_cutting = is_cutting.load(Ordering::SeqCst);
            let begun = Instant::now();
            send(db, &body, &mut scratch);
            let took = begun.elapsed();
            if is_over.load(Ordering::SeqCst) {
                return waits;
            }
            let side = if was_cutting {
                &mut waits.1
            } else {
                &mut waits.0
            };
            side.push(took);
            std::thread::sleep(PAUSE);
        }
        round += 1;
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let asked = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    if asked("write") {
        remote_write(50_000, 60);
    }
    if asked("scrape") {
        scrape(10, 10_000, 30);
    }
    if asked("cut") {
        cuts(100_000);
    }
    let n_series = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("memory=")?.parse().ok());
    if let Some(n_series) = n_series.or(arguments.is_empty().then_some(100_000)) {
        let n_rounds = arguments
            .iter()
            .find_map(|argument| argument.strip_prefix("rounds=")?.parse().ok());
        memory(n_series, n_rounds.unwrap_or(240));
    }
}
