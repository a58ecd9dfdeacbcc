//! Real writers deliver to `/api/v1/write`, and what arrives is what they hold.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, encode, free_port, node_exporter, program, prometheus};

/// A configuration that scrapes nothing.
const IDLE: &str = "global: {scrape_interval: 1h}\n";

/// How long delivery of the first samples may take.
const DELIVERY_MAX: Duration = Duration::from_secs(60);

#[test]
fn a_stock_prometheus_delivers_by_remote_write() {
    let dir = tempfile::tempdir().unwrap();
    let Some(node) = node_exporter(dir.path()) else {
        return;
    };
    let gauntlet = gauntlet(dir.path(), &dir.path().join("ours"), IDLE, &[]);
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{replica: a}}}}\n\
         scrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{}']}}]\n\
         remote_write: [{{url: 'http://{}/api/v1/write', queue_config: {{batch_send_deadline: 500ms}}}}]\n",
        node.addr, gauntlet.addr
    );
    let home = dir.path().join("sender");
    fs::create_dir_all(&home).unwrap();
    let Some(sender) = prometheus(&home, &home.join("data"), &config, &[]) else {
        return;
    };
    wait_until_delivered(&gauntlet, "count(node_cpu_seconds_total{replica=\"a\"})");
    // A second of grace, then the sender stops: from here on both hold the same.
    pass(Duration::from_secs(5));
    let query = "node_cpu_seconds_total[10s]";
    let (theirs, ours) = same_moment(&sender, &gauntlet, query);
    assert!(theirs.contains("values"), "{theirs}");
    assert_eq!(
        ours.replace("\"replica\":\"a\"", "").replace(",}", "}"),
        theirs
    );
}

#[test]
fn vmagent_delivers_by_remote_write() {
    let dir = tempfile::tempdir().unwrap();
    let Some(node) = node_exporter(dir.path()) else {
        return;
    };
    let Some(vmagent) = program("vmagent") else {
        return;
    };
    let gauntlet = gauntlet(dir.path(), &dir.path().join("ours"), IDLE, &[]);
    let file = dir.path().join("vmagent.yml");
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: node\n  static_configs: [{{targets: ['{}']}}]\n",
        node.addr
    );
    write(&file, &config);
    let addr = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(vmagent);
    command.args([
        format!("-promscrape.config={}", file.display()),
        format!("-remoteWrite.url=http://{}/api/v1/receive", gauntlet.addr),
        format!(
            "-remoteWrite.tmpDataPath={}",
            dir.path().join("vmagent-data").display()
        ),
        format!("-httpListenAddr={addr}"),
        "-remoteWrite.flushInterval=500ms".to_owned(),
    ]);
    let agent = Peer::start(
        &mut command,
        addr,
        &dir.path().join("vmagent.log"),
        "/health",
    );
    wait_until_delivered(&gauntlet, "count(node_cpu_seconds_total{job=\"node\"})");
    wait_until_delivered(&gauntlet, "up{job=\"node\"} == 1");
    let metrics = agent.get("/metrics").body;
    let retries = metrics
        .lines()
        .find(|line| line.starts_with("vmagent_remotewrite_retries_count_total"));
    assert!(
        retries.is_some_and(|line| line.ends_with(" 0")),
        "{retries:?}"
    );
}

/// Answers of both for a time that both have seen: a second and a half ago.
fn same_moment(left: &Peer, right: &Peer, query: &str) -> (String, String) {
    let stamp = left
        .get(&format!(
            "/api/v1/query?query={}",
            encode("max(timestamp(up)) - 1.5")
        ))
        .body;
    let time = stamp.rsplit('"').nth(1).unwrap().to_owned();
    let path = format!("/api/v1/query?query={}&time={time}", encode(query));
    let (left, right) = (left.get(&path), right.get(&path));
    assert_eq!(
        (left.status, right.status),
        (200, 200),
        "{} {}",
        left.body,
        right.body
    );
    (left.body, right.body)
}

fn wait_until_delivered(gauntlet: &Peer, query: &str) {
    let start = Instant::now();
    let path = format!("/api/v1/query?query={}", encode(query));
    while gauntlet.get(&path).body.contains("\"result\":[]") {
        assert!(
            start.elapsed() < DELIVERY_MAX,
            "{query} stays empty:\n{}",
            fs::read_to_string(&gauntlet.log).unwrap_or_default()
        );
        pass(Duration::from_millis(200));
    }
}

fn pass(time: Duration) {
    std::thread::sleep(time);
}

fn write(path: &std::path::Path, text: &str) {
    fs::write(path, text).unwrap();
}
