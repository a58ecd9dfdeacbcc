//! Append and restart of 100 000 series: samples per CPU second, bytes per series; the restart beside a stock Prometheus
//! on a copy of the same directory, where one is installed.
//!
//! `cargo bench --bench head`, or with the number of series as argument, and with the word `restart` for that alone; with
//! `rounds=` so many scrapes, and with `dir=` in a directory that is kept and not written again.
#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench measures time, prints and stops at the first failure"
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gauntlet::foundation::SystemClock;
use gauntlet::model::{Interval, Labels, SeriesKey};
use gauntlet::storage::{Appendable, Appender, Queryable, SelectHints, SeriesRef};
use gauntlet::tsdb::{Tsdb, TsdbSettings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SAMPLES_PER_SERIES: i64 = 20;
const SERIES_PER_COMMIT: usize = 2000;
const RESTARTS: usize = 5;
const ROUNDS_PER_MINUTE: i64 = 4;
const START: i64 = 1_700_000_000_000;

/// CPU time of this process in seconds, user and system.
fn cpu_seconds() -> f64 {
    cpu_seconds_of("self")
}

fn cpu_seconds_of(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("proc is mounted");
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

/// The most that was ever resident.
fn peak_bytes() -> u64 {
    peak_bytes_of("self")
}

fn peak_bytes_of(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok());
    kib.unwrap_or(0u64) * 1024
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

fn argument(name: &str) -> Option<String> {
    std::env::args().find_map(|argument| Some(argument.strip_prefix(name)?.to_owned()))
}

fn main() {
    if let Some(dir) = argument("open=") {
        return open_alone(Path::new(&dir));
    }
    let n_series: usize = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(100_000);
    let n_rounds = argument("rounds=").map_or(240, |n| n.parse().expect("a number"));
    let kept = argument("dir=").map(PathBuf::from);
    if let Some(dir) = kept.as_deref().filter(|dir| dir.join("wal").exists()) {
        return restart(dir);
    }
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
    if std::env::args().any(|argument| argument == "restart") {
        for round in 0..n_rounds {
            round_by_key(&db, &all, round);
            if round % ROUNDS_PER_MINUTE == 0 {
                // As a server does while it runs.
                let noted = db.head().note_redo_point(4 << 20);
                noted.expect("it is written");
            }
        }
        drop(db);
        if let Some(kept) = kept {
            copy(dir.path(), &kept);
        }
        restart(dir.path());
        return;
    }
    live(&db, &all, n_rounds);
    drop(db);
    restart(dir.path());
}

/// New series, appends, what they take of memory, and a query of everything.
fn live(db: &Tsdb, all: &[Known], n_rounds: i64) {
    let n_series = all.len();
    let before = anonymous_bytes();
    let cpu = cpu_seconds();
    round_by_key(db, all, 0);
    let created = cpu_seconds() - cpu;
    println!(
        "new series: {:.0} per CPU second",
        n_series as f64 / created
    );
    let cpu = cpu_seconds();
    for round in 1..SAMPLES_PER_SERIES {
        round_by_key(db, all, round);
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
    for round in SAMPLES_PER_SERIES..n_rounds {
        round_by_key(db, all, round);
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
}

/// In a process of its own, as a start is: what opening `dir` takes, as numbers in one line.
fn open_alone(dir: &Path) {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    let db = open(dir);
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    let report = db.replayed();
    let n_read = report.n_samples + report.n_samples_old;
    let n_restored = report.n_restored;
    let mib = peak_bytes() >> 20;
    let now = anonymous_bytes() / f64::from(1 << 20);
    if std::env::args().any(|argument| argument == "close") {
        db.close().expect("the head is saved");
    }
    println!("{cpu} {wall} {mib} {now} {n_read} {n_restored}");
}

/// CPU seconds, seconds, MiB at most, MiB at the end, samples read, series restored.
fn opened(dir: &Path, and_close: bool) -> Vec<f64> {
    let program = std::env::current_exe().expect("a program");
    let mut child = Command::new(program);
    child.arg(format!("open={}", dir.display()));
    child.args(and_close.then_some("close"));
    let output = child.output().expect("it runs");
    let numbers = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = numbers.split_whitespace();
    numbers.map(|n| n.parse().expect("a number")).collect()
}

/// Opens copies of `dir`: as it is, without its redo point, and with nothing but the log; then once more after a clean stop.
/// Each a few times, in turn with a stock Prometheus: on a machine that others use too, the least is what it takes.
fn restart(dir: &Path) {
    let kept: [(&str, &[&str]); 3] = [
        ("restart", &["wal", "chunks_head", "head-redo"]),
        ("restart without a redo point", &["wal", "chunks_head"]),
        ("restart with the log alone", &["wal"]),
    ];
    for (what, kept) in kept {
        let copied = || {
            let other = tempfile::tempdir_in(dir.parent().unwrap_or(dir)).expect("a directory");
            for name in kept {
                copy(&dir.join(name), &other.path().join(name));
            }
            other
        };
        let (mut all_ours, mut all_theirs, mut all_idle) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RESTARTS {
            all_ours.push(opened(copied().path(), false));
            let empty = tempfile::tempdir().expect("a directory");
            all_theirs.extend(prometheus(copied().path()));
            all_idle.extend(prometheus(empty.path()));
        }
        let [cpu, wall, peak, now, n_read, _] = least(&all_ours)[..] else {
            panic!("six numbers");
        };
        println!(
            "{what}: {cpu:.2} CPU s, {wall:.2} s, {n_read:.0} samples read, {peak} MiB at most, {now:.0} MiB then",
        );
        if all_theirs.is_empty() {
            println!("no prometheus is installed: nothing to compare with");
        } else {
            let (theirs, idle) = (least(&all_theirs), least(&all_idle));
            let (their_cpu, their_wall) = (theirs[0] - idle[0], theirs[1] - idle[1]);
            println!(
                "  prometheus, beyond an empty start: {their_cpu:.2} CPU s, {their_wall:.2} s, {} MiB at most; ours / theirs: {:.3} of CPU, {:.3} of time",
                theirs[2],
                cpu / their_cpu,
                wall / their_wall
            );
        }
    }
    let stopped = tempfile::tempdir_in(dir.parent().unwrap_or(dir)).expect("a directory");
    copy(&dir.join("wal"), &stopped.path().join("wal"));
    opened(stopped.path(), true);
    let [cpu, wall, _, _, n_read, n_restored] = opened(stopped.path(), false)[..] else {
        panic!("six numbers");
    };
    println!(
        "restart after a clean stop: {cpu:.2} CPU s, {wall:.2} s, {n_restored} series, {n_read} samples replayed"
    );
}

/// Of several measurements the one with the least CPU time, which comes first in each.
fn least(all: &[Vec<f64>]) -> Vec<f64> {
    let by_cpu = |left: &&Vec<f64>, right: &&Vec<f64>| left[0].total_cmp(&right[0]);
    all.iter().min_by(by_cpu).expect("there are some").clone()
}

/// CPU seconds, seconds and peak of resident MiB until a stock Prometheus on `dir` is ready; it is stopped then.
fn prometheus(dir: &Path) -> Option<Vec<f64>> {
    let config = dir.join("prometheus.yml");
    std::fs::File::create(&config).expect("a file");
    let wall = Instant::now();
    let mut child = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.display()))
        .arg("--web.listen-address=127.0.0.1:19391")
        .arg("--storage.tsdb.retention.time=100y")
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    while !is_ready() {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let wall = wall.elapsed().as_secs_f64();
    let cpu = cpu_seconds_of(&child.id().to_string());
    let peak = (peak_bytes_of(&child.id().to_string()) >> 20) as f64;
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    Some(vec![cpu, wall, peak])
}

fn is_ready() -> bool {
    let Ok(mut socket) = TcpStream::connect("127.0.0.1:19391") else {
        return false;
    };
    let mut answer = Vec::new();
    let asked = socket.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n");
    asked.is_ok() && socket.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.0 200")
}

fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).expect("there is room");
        return;
    }
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is there");
        let target = to.join(entry.file_name());
        copy(&entry.path(), &target);
    }
}
