//! The process is killed and its disk is gone: what is in the bucket gives back all but the last seconds.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use gauntlet::model::Sample;
use gauntlet::remote::WriteRequestEncoder;
use serde_json::Value;

use crate::harness::{Appliance, Start, eventually, gauntlet, now_ms, pause, report};
use crate::s3::S3Server;

/// Series written at once, where GAUNTLET_HOST_LOSS_SERIES does not say otherwise.
const SERIES: usize = 20_000;
/// Series in one request.
const SERIES_PER_REQUEST: usize = 5000;
/// The setting that bounds what is lost, where GAUNTLET_HOST_LOSS_INTERVAL_MS does not say otherwise.
const INTERVAL_MS: i64 = 1000;
/// What a pass may take on top of it on a machine that runs other tests, where GAUNTLET_HOST_LOSS_SLACK_MS does not say
/// otherwise.
const SLACK_MS: i64 = 4000;
/// Between two samples of a series.
const STEP_MS: i64 = 2000;
/// Rounds before anything is killed, where GAUNTLET_HOST_LOSS_ROUNDS does not say otherwise: longer than a block.
const ROUNDS_MIN: usize = 20;

/// What the variable says.
fn said<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

fn n_series() -> usize {
    said("GAUNTLET_HOST_LOSS_SERIES").unwrap_or(SERIES)
}

fn interval_ms() -> i64 {
    said("GAUNTLET_HOST_LOSS_INTERVAL_MS").unwrap_or(INTERVAL_MS)
}

fn slack_ms() -> i64 {
    said("GAUNTLET_HOST_LOSS_SLACK_MS").unwrap_or(SLACK_MS)
}

/// Where the bucket's objects are files, and the file that describes it.
struct Elsewhere {
    objects: PathBuf,
    file: PathBuf,
    _server: Option<S3Server>,
}

/// A bucket that is a directory beside the data.
fn in_directory(start: &Start) -> Elsewhere {
    let objects = start.dir().path().join("elsewhere");
    let text = format!(
        "type: FILESYSTEM\nconfig:\n  directory: {}\n",
        objects.display()
    );
    Elsewhere {
        file: start.write("bucket.yml", &text),
        objects,
        _server: None,
    }
}

/// A bucket behind a server.
fn in_s3(start: &Start) -> Elsewhere {
    let server = S3Server::start(&start.dir().path().join("s3"));
    Elsewhere {
        file: start.write("bucket.yml", &server.yaml()),
        objects: server.directory(),
        _server: Some(server),
    }
}

fn ships_log(start: Start, file: &Path) -> Start {
    start
        .set("bucket.config_file", &file.display().to_string())
        .set("bucket.wal_interval", &format!("{}ms", interval_ms()))
        .set("bucket.sync_interval", "1s")
        .set("head.block_range", "20s")
        .set("head.out_of_order_window", "1h")
        .set("retention.time", "0")
        // Blocks of twenty seconds and many series take longer than that on a small machine.
        .expect_log("duty is behind")
}

/// Sends a request; whether it was acknowledged. Not when the process is gone.
fn sends(http: &str, body: &[u8]) -> bool {
    let sent = || {
        let mut stream = TcpStream::connect(http)?;
        let head = format!(
            "POST /api/v1/write HTTP/1.0\r\nHost: {http}\r\nContent-Length: {}\r\n\
             Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    sent().is_ok_and(|answer| answer.split(' ').nth(1) == Some("204"))
}

fn body(series: impl Iterator<Item = usize>, (t, v): (i64, f64)) -> Vec<u8> {
    let mut request = WriteRequestEncoder::new();
    for number in series {
        let labels = [("__name__", "counted"), ("n", &number.to_string())];
        request.series(labels, &[Sample { t, v }]);
    }
    let mut snappy = snap::raw::Encoder::new();
    snappy.compress_vec(request.as_bytes()).unwrap()
}

/// A sample: its time, its value, and when it was acknowledged.
type Sent = (i64, f64, i64);

/// What was sent and acknowledged, and what was on its way when the process was killed.
#[derive(Default)]
struct Written {
    /// Of each tracked series.
    acked: BTreeMap<usize, Vec<Sent>>,
    /// Out of order, of series 0.
    late: Vec<Sent>,
    /// Sent, but nobody knows what became of it.
    unsure: Option<(i64, f64)>,
    n_rounds: usize,
}

/// Series that are looked at sample by sample: one of each request, so that between two of their samples there is no more
/// than a request takes.
fn tracked(n_series: usize) -> impl Iterator<Item = usize> {
    (0..n_series).step_by(SERIES_PER_REQUEST)
}

/// Writes round after round until the process does not answer any more.
fn write_on(http: &str, n_series: usize, first_ms: i64, rounds: &AtomicUsize) -> Written {
    let mut written = Written::default();
    for round in 0_u32.. {
        let t = first_ms + i64::from(round) * STEP_MS;
        let v = f64::from(round) / 8.0;
        for from in (0..n_series).step_by(SERIES_PER_REQUEST) {
            let series = from..(from + SERIES_PER_REQUEST).min(n_series);
            if !sends(http, &body(series.clone(), (t, v))) {
                written.unsure = Some((t, v));
                return written;
            }
            let at = now_ms();
            written.acked.entry(from).or_default().push((t, v, at));
        }
        if round % 9 == 8 {
            // Out of order, between two that are there.
            let t = t - STEP_MS * 5 / 2;
            if !sends(http, &body(0..1, (t, v))) {
                written.unsure = Some((t, v));
                return written;
            }
            written.late.push((t, v, now_ms()));
        }
        written.n_rounds += 1;
        rounds.store(written.n_rounds, Ordering::Relaxed);
        pause(std::time::Duration::from_millis(50));
    }
    written
}

/// The most that any moment could have lost until the process does not answer any more: how long it was since the bucket
/// had everything.
fn worst_moment_ms(http: &str) -> f64 {
    let metrics = || {
        let mut stream = TcpStream::connect(http)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let mut worst_ms = 0.0f64;
    loop {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let at_ms = now_ms() as f64;
        let Ok(answer) = metrics() else {
            return worst_ms;
        };
        let name = "gauntlet_shipper_log_complete_timestamp_seconds ";
        let complete_s = answer.lines().find_map(|line| line.strip_prefix(name));
        if let Some(complete_s) = complete_s {
            worst_ms = worst_ms.max(at_ms - complete_s.parse::<f64>().unwrap() * 1000.0);
        }
        pause(std::time::Duration::from_millis(10));
    }
}

fn restore(file: &Path, data: &Path, more: &[&str]) -> (Value, String, i32) {
    let file = file.display().to_string();
    let data = data.display().to_string();
    let mut arguments = vec![
        "restore",
        "--objstore.config-file",
        &file,
        "--data-dir",
        &data,
        "--output",
        "json",
    ];
    arguments.extend(more);
    let output = gauntlet(&arguments, Path::new("/"));
    let said = String::from_utf8(output.stderr).unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (answer, said, output.status.code().unwrap())
}

fn blocks_in(bucket: &Path) -> usize {
    let entries = fs::read_dir(bucket).unwrap();
    let is_block = |entry: &fs::DirEntry| entry.path().join("meta.json").try_exists().unwrap();
    entries.map(Result::unwrap).filter(is_block).count()
}

/// As long as a million series take on a small machine.
fn patiently(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is_so() {
            return;
        }
        pause(std::time::Duration::from_millis(500));
    }
    panic!("this never came true: {what}");
}

/// Of what was acknowledged in this order, a beginning is there; says how long before the end the first sample that is lost
/// was acknowledged.
fn assert_a_beginning(seen: &[(i64, f64)], sent: &[Sent], killed_ms: i64) -> i64 {
    let is_seen = |(t, v, _): &&Sent| seen.contains(&(*t, *v));
    let n_seen = sent.iter().take_while(is_seen).count();
    assert_eq!(sent.iter().filter(is_seen).count(), n_seen, "a hole");
    let lost = sent.get(n_seen);
    let lost_ms = lost.map_or(0, |(.., at)| killed_ms - at);
    assert!(
        lost_ms <= interval_ms() + slack_ms(),
        "the sample at {:?}, acknowledged {lost_ms} ms before the end, is lost",
        lost.map(|(t, ..)| t)
    );
    lost_ms
}

/// How long stopping took, and which stage of it.
fn stop_and_tell(kind: &str, appliance: Appliance) {
    let stopping_ms = now_ms();
    let lines = appliance.stop();
    let stopping_ms = now_ms() - stopping_ms;
    let stages = lines
        .iter()
        .filter(|line| line.contains("stage stopped") || line.contains("saved the head"));
    report(&format!(
        "{kind}: stopped in {stopping_ms} ms: {:#?}",
        stages.collect::<Vec<_>>()
    ));
}

fn a_lost_host(kind: &str, elsewhere: fn(&Start) -> Elsewhere) {
    let n_series = n_series();
    let start = Start::new();
    let bucket = elsewhere(&start);
    let appliance = ships_log(start, &bucket.file).run();
    let (dir, data, http) = (appliance.dir(), appliance.data(), appliance.http.clone());
    let first_ms = now_ms() - 3_600_000;
    let rounds = AtomicUsize::new(0);
    let rounds_min = said("GAUNTLET_HOST_LOSS_ROUNDS").unwrap_or(ROUNDS_MIN);
    let (written, killed_ms, peak_mib, worst_ms) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(&http, n_series, first_ms, &rounds));
        let watcher = scope.spawn(|| worst_moment_ms(&http));
        patiently("a block is in the bucket and more was written", || {
            rounds_min <= rounds.load(Ordering::Relaxed) && 0 < blocks_in(&bucket.objects)
        });
        let peak_mib = appliance.peak_mib();
        let killed_ms = now_ms();
        appliance.kill();
        let worst_ms = watcher.join().unwrap();
        (writer.join().unwrap(), killed_ms, peak_mib, worst_ms)
    });
    fs::remove_dir_all(&data).unwrap();
    let (plan, said, code) = restore(&bucket.file, &data, &["--dry-run"]);
    assert_eq!((code, &plan["restored"]), (0, &Value::Null), "{said}");
    assert!(!data.try_exists().unwrap());
    let restored_ms = now_ms();
    let (told, said, code) = restore(&bucket.file, &data, &[]);
    let nothing = Value::Array(Vec::new());
    assert_eq!((code, &told["missing"]), (0, &nothing), "{said}");
    let restoring_ms = now_ms() - restored_ms;
    let (_, said, code) = restore(&bucket.file, &data, &[]);
    assert!(code == 2 && said.contains("is not empty"), "{code} {said}");

    let started_ms = now_ms();
    let appliance = ships_log(Start::new().again_in(&dir), &bucket.file).run();
    patiently("the log is replayed", || {
        appliance.get("/-/ready").status == 200
    });
    let replaying_ms = now_ms() - started_ms;
    let replay_mib = appliance.peak_mib();
    let mut lost_ms = 0;
    for number in tracked(n_series) {
        let selector = format!("counted{{n=\"{number}\"}}");
        let seen = appliance.samples(&selector, first_ms - 10_000, killed_ms);
        let sent = &written.acked[&number];
        lost_ms = lost_ms.max(assert_a_beginning(&seen, sent, killed_ms));
        let late: &[Sent] = if number == 0 { &written.late } else { &[] };
        lost_ms = lost_ms.max(assert_a_beginning(&seen, late, killed_ms));
        let acked = sent.iter().chain(late).map(|(t, v, _)| (*t, *v));
        let known: Vec<(i64, f64)> = acked.chain(written.unsure).collect();
        for sample in &seen {
            let is_known = known.contains(sample);
            assert!(is_known, "{sample:?} of series {number} was never sent");
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let (all, end) = (n_series as f64, killed_ms as f64 / 1000.0);
    let count = appliance.value("count(count_over_time(counted[2h]))", end);
    assert_eq!(count, Some(all), "every series");
    report(&format!(
        "{kind}: {n_series} series, {} rounds; what was acknowledged in the last {lost_ms} ms of {} is lost, \
         {worst_ms:.0} ms at the worst moment; restored in {restoring_ms} ms, replayed in {replaying_ms} ms; peak memory \
         {peak_mib} MiB, {replay_mib} MiB while replaying, {} MiB with the queries: {}",
        written.n_rounds,
        interval_ms(),
        appliance.peak_mib(),
        told["restored"]
    ));
    stop_and_tell(kind, appliance);
}

#[test]
fn a_lost_host_loses_at_most_the_last_seconds_and_nothing_is_invented() {
    a_lost_host("directory", in_directory);
}

#[test]
fn a_host_that_ships_to_s3_is_lost_with_at_most_the_last_seconds() {
    a_lost_host("S3", in_s3);
}

#[test]
fn after_a_clean_stop_nothing_is_missing_and_a_second_life_has_a_log_of_its_own() {
    let start = Start::new();
    let file = in_directory(&start).file;
    let appliance = ships_log(start, &file).run();
    let (dir, data) = (appliance.dir(), appliance.data());
    let t = now_ms() - 30_000;
    assert_eq!(appliance.write(&[("__name__", "a")], &[(t, 1.0)]), 204);
    appliance.stop();
    for life in 1..4 {
        fs::remove_dir_all(&data).unwrap();
        let (told, said, code) = restore(&file, &data, &[]);
        assert_eq!(code, 0, "{said}");
        let newest = t + (life - 1) * 1000;
        assert_eq!(
            told["restored"]["newest"],
            Value::from(newest),
            "life {life}"
        );
        let appliance = ships_log(Start::new().again_in(&dir), &file).run();
        eventually("the log is replayed", || {
            (appliance.get("/-/ready").status == 200).then_some(())
        });
        let sample = (t + life * 1000, 1.0);
        assert_eq!(appliance.write(&[("__name__", "a")], &[sample]), 204);
        assert_eq!(
            appliance.samples("a", t - 1000, now_ms()).len(),
            usize::try_from(life).unwrap() + 1
        );
        eventually("the log is in the bucket", || {
            let parts = appliance.metric("gauntlet_shipper_log_parts_total")?;
            (0.0 < parts).then_some(())
        });
        appliance.stop();
    }
}

#[test]
fn without_a_log_or_a_bucket_restoring_says_what_is_wrong() {
    let start = Start::new();
    let file = in_directory(&start).file;
    fs::create_dir(start.dir().path().join("elsewhere")).unwrap();
    let (_, said, code) = restore(&file, &start.data(), &[]);
    assert!(code == 1 && said.contains("has no log"), "{code} {said}");
    let data = start.data().display().to_string();
    let output = gauntlet(&["restore", "--data-dir", &data], start.dir().path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("which bucket?"), "{said}");
    assert!(!start.data().try_exists().unwrap());
}
