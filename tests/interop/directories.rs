//! One data directory, two servers.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::compare::{LISTS, QUERIES, count_differences, differences};
use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, copy_tree, node_exporter, prometheus};

/// Scrapes `targets` every second.
fn config(jobs: &[(&str, &str)]) -> String {
    let mut text =
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n".to_owned();
    for (job, addr) in jobs {
        text.push_str(&format!(
            "- job_name: {job}\n  static_configs: [{{targets: ['{addr}']}}]\n"
        ));
    }
    text
}

/// A Prometheus that scrapes nothing: it only answers from its directory.
const IDLE: &str = "global: {scrape_interval: 1h}\n";

fn now_s() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

/// Waits in real time: real servers scrape real targets meanwhile.
fn pass(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

#[track_caller]
fn assert_alike(left: &Peer, right: &Peer, start_s: f64, end_s: f64) {
    let (n, different) = differences(left, right, start_s, end_s);
    assert!(
        n >= 60,
        "{n} questions; {} queries and {} lists",
        QUERIES.len(),
        LISTS.len()
    );
    println!(
        "{} of {n} answers are the same to the byte",
        n - different.len()
    );
    assert!(
        different.is_empty(),
        "{} of {n} differ:\n{}",
        different.len(),
        different.join("\n")
    );
}

/// Moves a time off the one-second scrape grid of both jobs, whatever their offsets are.
fn off_grid(time_s: f64, peer: &Peer) -> f64 {
    let mut candidate = time_s.floor() + 0.003;
    let answer = peer.get(&format!(
        "/api/v1/query?query=timestamp(up)&time={time_s:.3}"
    ));
    let stamps: Vec<f64> = answer
        .body
        .split(",\"")
        .filter_map(|part| part.split('"').next()?.parse().ok())
        .map(|stamp: f64| stamp.rem_euclid(1.0))
        .collect();
    while stamps
        .iter()
        .any(|stamp| (stamp - candidate.rem_euclid(1.0)).abs() < 0.02)
    {
        candidate += 0.037;
    }
    candidate
}

#[test]
fn a_stock_prometheus_on_our_directory_answers_as_we_do() {
    let dir = tempfile::tempdir().unwrap();
    let Some((node, scraped)) = targets(dir.path()) else {
        return;
    };
    let ours = dir.path().join("ours");
    let jobs = config(&[("prometheus", &scraped.addr), ("node", &node.addr)]);
    let started = now_s();
    // Blocks of ten seconds: at the end there are blocks, head chunks and a WAL with a checkpoint behind it.
    let gauntlet = gauntlet(dir.path(), &ours, &jobs, &["head.block_range=10s"]);
    pass(45);
    let copy = dir.path().join("copy");
    copy_tree(&ours, &copy);
    fs::remove_file(copy.join("lock")).ok();
    let per_step = ["--enable-feature=promql-per-step-stats"];
    let stock = prometheus(dir.path(), &copy, IDLE, &per_step).unwrap();
    let end = off_grid(now_s() - 9.0, &gauntlet);
    assert!(n_blocks(&ours) > 0, "no block was cut");
    let start = (started + 5.0).floor() + end.rem_euclid(1.0);
    assert_alike(&gauntlet, &stock, start, end);
    let (n, different) = count_differences(&gauntlet, &stock, start, end);
    println!("{} of {n} counts are the same", n - different.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_stock_prometheus_does_not_mind_what_our_clean_stop_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let Some((node, scraped)) = targets(dir.path()) else {
        return;
    };
    let ours = dir.path().join("ours");
    let jobs = config(&[("prometheus", &scraped.addr), ("node", &node.addr)]);
    let started = now_s();
    let first = gauntlet(dir.path(), &ours, &jobs, &["head.block_range=10s"]);
    pass(30);
    let mut stop = std::process::Command::new("kill");
    stop.args(["-TERM", &first.pid().to_string()]);
    assert!(stop.status().unwrap().success());
    let snapshot = ours.join("head-snapshot");
    let since = Instant::now();
    while !snapshot.exists() {
        assert!(since.elapsed() < Duration::from_secs(60), "no snapshot");
        pass(1);
    }
    drop(first);
    let saved = fs::read(snapshot).unwrap();
    let copy = dir.path().join("copy");
    copy_tree(&ours, &copy);
    fs::remove_file(copy.join("lock")).ok();
    let per_step = ["--enable-feature=promql-per-step-stats,memory-snapshot-on-shutdown"];
    let stock = prometheus(dir.path(), &copy, IDLE, &per_step).unwrap();
    let again = gauntlet(dir.path(), &ours, IDLE, &["head.block_range=10s"]);
    let end = off_grid(now_s() - 9.0, &again);
    let start = (started + 5.0).floor() + end.rem_euclid(1.0);
    assert_alike(&again, &stock, start, end);
    assert_eq!(fs::read(copy.join("head-snapshot")).unwrap(), saved);
}

#[test]
fn we_answer_on_a_stock_directory_as_its_prometheus_does() {
    let dir = tempfile::tempdir().unwrap();
    let Some((node, _scraped)) = targets(dir.path()) else {
        return;
    };
    let theirs = dir.path().join("theirs");
    let start = Instant::now();
    let started = now_s();
    let flags = [
        "--storage.tsdb.min-block-duration=10s",
        "--storage.tsdb.max-block-duration=30s",
    ];
    let me = format!("127.0.0.1:{}", crate::peers::free_port());
    let jobs = config(&[("prometheus", &me), ("node", &node.addr)]);
    let listen = format!("--web.listen-address={me}");
    let mut command = std::process::Command::new(crate::peers::program("prometheus").unwrap());
    let file = dir.path().join("self.yml");
    write(&file, &jobs);
    command.args([
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", theirs.display()),
        listen,
    ]);
    command.args(flags);
    let stock = Peer::start(&mut command, me, &dir.path().join("self.log"), "/-/ready");
    pass(45);
    assert!(start.elapsed() > Duration::from_secs(40));
    let copy = dir.path().join("copy");
    copy_tree(&theirs, &copy);
    fs::remove_file(copy.join("lock")).ok();
    let end = off_grid(now_s() - 9.0, &stock);
    let ours = gauntlet(dir.path(), &copy, IDLE, &[]);
    assert_alike(
        &ours,
        &stock,
        (started + 5.0).floor() + end.rem_euclid(1.0),
        end,
    );
}

/// A node exporter, and a Prometheus to be scraped.
fn targets(dir: &Path) -> Option<(Peer, Peer)> {
    let node = node_exporter(dir)?;
    let home = dir.join("scraped");
    fs::create_dir_all(&home).unwrap();
    let scraped = prometheus(&home, &home.join("data"), IDLE, &[])?;
    Some((node, scraped))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn n_blocks(data: &Path) -> usize {
    let entries = fs::read_dir(data).unwrap().filter_map(Result::ok);
    entries
        .filter(|entry| entry.path().join("meta.json").is_file())
        .count()
}
