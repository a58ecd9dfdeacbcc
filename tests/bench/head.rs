//! Append and replay of 100 000 series: samples per CPU second, bytes per series.
//!
//! `cargo bench --bench head`, or with the number of series as argument.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a bench prints and stops at the first failure"
)]

use std::path::Path;
use std::sync::Arc;

use gauntlet::foundation::SystemClock;
use gauntlet::model::{Interval, Labels, SeriesKey};
use gauntlet::storage::{Appendable, Appender, Queryable, SelectHints, SeriesRef};
use gauntlet::tsdb::{Tsdb, TsdbSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SAMPLES_PER_SERIES: i64 = 20;
const SERIES_PER_COMMIT: usize = 2000;
const START: i64 = 1_700_000_000_000;

/// CPU time of this process in seconds, user and system.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let mut fields = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let user: f64 = fields
        .nth(11)
        .and_then(|f| f.parse().ok())
        .unwrap_or_default();
    let system: f64 = fields
        .next()
        .and_then(|f| f.parse().ok())
        .unwrap_or_default();
    (user + system) / 100.0
}

/// Resident bytes that are not file pages.
fn anonymous_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: f64 = line
        .and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or_default();
    kib * 1024.0
}

fn labels(n: usize) -> Labels {
    let (pod, cpu) = (format!("web-{:06}-x7k2p", n / 20), (n % 4).to_string());
    let name = format!("http_server_request_duration_seconds_{}", n % 20);
    let pairs = [
        ("__name__", name.as_str()),
        ("job", "kubernetes-pods"),
        ("namespace", "production"),
        ("instance", pod.as_str()),
        ("cpu", cpu.as_str()),
        ("method", "GET"),
        ("code", "200"),
    ];
    Labels::new(&pairs).expect("the names differ")
}

fn value(n: usize, round: i64) -> f64 {
    match n % 4 {
        0 => round as f64 * 15.0 + n as f64,
        1 => (round as f64 * 0.3 + n as f64).sin() * 100.0,
        2 => n as f64,
        _ => ((round * 7 + 3) % 11) as f64,
    }
}

struct Known {
    key: SeriesKey,
    labels: Labels,
}

fn round_by_key(db: &Tsdb, all: &[Known], round: i64) {
    for (part, chunk) in all.chunks(SERIES_PER_COMMIT).enumerate() {
        let mut appender = db.appender();
        for (at, known) in chunk.iter().enumerate() {
            let series = appender
                .series(known.key, &mut || Ok(known.labels.clone()))
                .expect("labels are good");
            let n = part * SERIES_PER_COMMIT + at;
            append(&mut *appender, series, n, round);
        }
        appender.commit().expect("the log takes it");
    }
}

fn append(appender: &mut dyn Appender, series: SeriesRef, n: usize, round: i64) {
    let t = START + round * 15_000;
    appender
        .append(series, t, value(n, round))
        .expect("samples come in order");
}

fn open(dir: &Path) -> Tsdb {
    Tsdb::open(dir, TsdbSettings::default(), Arc::new(SystemClock)).expect("the directory opens")
}

fn main() {
    let n_series: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(100_000);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let all: Vec<Known> = (0..n_series)
        .map(|n| {
            let labels = labels(n);
            Known {
                key: labels.key(),
                labels,
            }
        })
        .collect();
    let db = open(dir.path());
    let before = anonymous_bytes();
    let cpu = cpu_seconds();
    round_by_key(&db, &all, 0);
    let created = cpu_seconds() - cpu;
    println!(
        "new series: {:.0} per CPU second",
        n_series as f64 / created
    );
    let cpu = cpu_seconds();
    for round in 1..SAMPLES_PER_SERIES {
        round_by_key(&db, &all, round);
    }
    let n_samples = n_series as f64 * (SAMPLES_PER_SERIES - 1) as f64;
    println!(
        "append: {:.0} samples per CPU second",
        n_samples / (cpu_seconds() - cpu)
    );
    let grown = anonymous_bytes() - before;
    println!(
        "memory: {:.0} bytes per series beside its shared labels",
        grown / n_series as f64
    );
    for round in SAMPLES_PER_SERIES..240 {
        round_by_key(&db, &all, round);
    }
    let grown = anonymous_bytes() - before;
    println!(
        "memory after an hour: {:.0} bytes per series",
        grown / n_series as f64
    );
    let cpu = cpu_seconds();
    let mut set = db
        .timeline()
        .select(&[], &SelectHints::new(Interval::ALL))
        .expect("the head answers");
    let mut n_chunks = 0;
    while let Some(series) = set.next() {
        n_chunks += series.expect("the head answers").chunks.len();
    }
    println!(
        "select of all: {:.2} CPU seconds, {n_chunks} chunks",
        cpu_seconds() - cpu
    );
    drop((set, db));
    replay(dir.path());
}

fn replay(dir: &Path) {
    let cpu = cpu_seconds();
    let report = open(dir).replayed();
    let n_read = report.n_samples + report.n_samples_old;
    let seconds = cpu_seconds() - cpu;
    println!(
        "replay: {:.0} samples per CPU second, {seconds:.1} s",
        n_read as f64 / seconds
    );
}
