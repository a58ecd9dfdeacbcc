//! The process is killed and its disk is gone: what is in the bucket gives back all but the last seconds.

use std::fs;
use std::path::{Path, PathBuf};

use gauntlet::model::Sample;
use gauntlet::remote::WriteRequestEncoder;
use serde_json::Value;

use crate::harness::{Appliance, Start, eventually, gauntlet, now_ms, pause, report};

/// Series written at once, where GAUNTLET_HOST_LOSS_SERIES does not say otherwise.
const SERIES: usize = 500;
/// Series in one request.
const SERIES_PER_REQUEST: usize = 5000;
/// The setting that bounds what is lost, and what a pass may take on top of it on a busy machine.
const INTERVAL_MS: i64 = 1000;
const SLACK_MS: i64 = 4000;

fn n_series() -> usize {
    std::env::var("GAUNTLET_HOST_LOSS_SERIES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SERIES)
}

/// A bucket that is a directory beside the data, as Thanos' YAML says it.
fn bucket_file(start: &Start) -> PathBuf {
    let dir = start.dir().path().join("elsewhere");
    let text = format!(
        "type: FILESYSTEM\nconfig:\n  directory: {}\n",
        dir.display()
    );
    start.write("bucket.yml", &text)
}

fn ships_log(start: Start) -> (Start, PathBuf) {
    let file = bucket_file(&start);
    let start = start
        .set("bucket.config_file", &file.display().to_string())
        .set("bucket.wal_interval", "1s")
        .set("bucket.sync_interval", "1s")
        .set("head.block_range", "20s")
        .set("head.out_of_order_window", "1h")
        .set("retention.time", "0");
    (start, file)
}

/// One sample for each of `n_series` series at `t`; whether all were acknowledged.
fn write_all(appliance: &Appliance, n_series: usize, t: i64, v: f64) -> bool {
    let numbers: Vec<String> = (0..n_series).map(|n| n.to_string()).collect();
    numbers.chunks(SERIES_PER_REQUEST).all(|some| {
        let mut request = WriteRequestEncoder::new();
        for number in some {
            let labels = [("__name__", "counted"), ("n", number.as_str())];
            request.series(labels, &[Sample { t, v }]);
        }
        let body = snap::raw::Encoder::new()
            .compress_vec(request.as_bytes())
            .unwrap();
        let headers = [
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
            ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        ];
        let answer = appliance.request("POST", "/api/v1/write", &headers, &body);
        answer.unwrap().status == 204
    })
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

/// A sample: its time, its value, and when it was acknowledged.
type Sent = (i64, f64, i64);

/// Writes rounds of samples, and now and then one out of order.
fn load(
    appliance: &Appliance,
    n_series: usize,
    (first_ms, rounds, step_ms): (i64, i64, i64),
) -> (Vec<Sent>, Vec<Sent>) {
    let (mut sent, mut late) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let t = first_ms + round * step_ms;
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let v = round as f64 / 8.0;
        assert!(write_all(appliance, n_series, t, v));
        sent.push((t, v, now_ms()));
        if round % 9 == 8 {
            // Out of order, between two that are there.
            let t = t - step_ms * 5 / 2;
            let labels = [("__name__", "counted"), ("n", "0")];
            assert_eq!(appliance.write(&labels, &[(t, v)]), 204);
            late.push((t, v, now_ms()));
        }
        pause(std::time::Duration::from_millis(100));
    }
    (sent, late)
}

#[test]
fn a_lost_host_loses_at_most_the_last_seconds_and_nothing_is_invented() {
    let n_series = n_series();
    let (start, file) = ships_log(Start::new());
    let bucket = start.dir().path().join("elsewhere");
    let appliance = start.run();
    let dir = appliance.dir();
    // Ninety seconds of samples: fewer of each series where there are many.
    let rounds = i64::try_from(2_000_000 / n_series).unwrap().clamp(9, 90);
    let step_ms = 90_000 / rounds;
    let first_ms = now_ms() - rounds * step_ms;
    let began_ms = now_ms();
    let (sent, late) = load(&appliance, n_series, (first_ms, rounds, step_ms));
    patiently("a block is in the bucket", || 0 < blocks_in(&bucket));
    let killed_ms = now_ms();
    let data = appliance.data();
    appliance.kill();
    fs::remove_dir_all(&data).unwrap();
    let (plan, said, code) = restore(&file, &data, &["--dry-run"]);
    assert_eq!((code, &plan["restored"]), (0, &Value::Null), "{said}");
    assert!(!data.try_exists().unwrap());
    let restored_ms = now_ms();
    let (told, said, code) = restore(&file, &data, &[]);
    assert_eq!(
        (code, &told["missing"]),
        (0, &Value::Array(Vec::new())),
        "{said}"
    );
    let took_ms = now_ms() - restored_ms;
    let (_, said, code) = restore(&file, &data, &[]);
    assert!(code == 2 && said.contains("is not empty"), "{code} {said}");

    let (start, _) = ships_log(Start::new().again_in(&dir));
    let appliance = start.run();
    patiently("the log is replayed", || {
        appliance.get("/-/ready").status == 200
    });
    let mut newest_ms = 0;
    for number in [0, n_series / 2, n_series - 1] {
        let selector = format!("counted{{n=\"{number}\"}}");
        let seen = appliance.samples(&selector, first_ms - 10_000, killed_ms);
        let mut expect: Vec<Sent> = sent.clone();
        if number == 0 {
            expect.extend(&late);
            expect.sort_by_key(|(t, ..)| *t);
        }
        // In order of their acknowledgement, what is there is a beginning; nothing else is there.
        let is_seen = |(t, v, _): &&Sent| seen.contains(&(*t, *v));
        let acked = expect.iter().filter(is_seen).map(|(.., at)| *at).max();
        let acked = acked.unwrap_or(0);
        let there: Vec<(i64, f64)> = expect
            .iter()
            .filter(|(.., at)| *at <= acked)
            .map(|(t, v, _)| (*t, *v))
            .collect();
        assert_eq!(seen, there, "series {number}");
        for (t, _, at) in &expect {
            assert!(
                *at <= acked || killed_ms - *at <= INTERVAL_MS + SLACK_MS,
                "the sample at {t}, acknowledged {} ms before the end, is lost",
                killed_ms - *at
            );
        }
        newest_ms = newest_ms.max(acked);
    }
    report(&format!(
        "{n_series} series, {} rounds in {} ms: the last {} ms before the end are lost; restored in {took_ms} ms: {}",
        sent.len(),
        killed_ms - began_ms,
        (sent.last().unwrap().2 - newest_ms).max(0),
        told["restored"]
    ));
    appliance.stop();
}

#[test]
fn after_a_clean_stop_nothing_is_missing_and_a_second_life_has_a_log_of_its_own() {
    let (start, file) = ships_log(Start::new());
    let appliance = start.run();
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
        let (start, _) = ships_log(Start::new().again_in(&dir));
        let appliance = start.run();
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
    let file = bucket_file(&start);
    fs::create_dir(start.dir().path().join("elsewhere")).unwrap();
    let (_, said, code) = restore(&file, &start.data(), &[]);
    assert!(code == 1 && said.contains("has no log"), "{code} {said}");
    let data = start.data().display().to_string();
    let output = gauntlet(&["restore", "--data-dir", &data], start.dir().path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("which bucket?"), "{said}");
    assert!(!start.data().try_exists().unwrap());
}
