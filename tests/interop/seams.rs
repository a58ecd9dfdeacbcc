//! Real targets for a minute, blocks cut every twenty seconds and shipped: no gap and no double sample at any seam.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, encode, node_exporter, prometheus};

/// How long is scraped.
const SCRAPED_S: u64 = 66;

/// Scrapes a second.
const INTERVAL_MS: i64 = 1000;

/// Timestamps of one scrape may lie this far off its grid (a late scrape keeps its own time).
const JITTER_MS: i64 = 600;

type Times = BTreeMap<String, Vec<i64>>;

#[test]
fn no_sample_is_lost_or_doubled_while_its_block_moves() {
    let dir = tempfile::tempdir().unwrap();
    let Some(node) = node_exporter(dir.path()) else {
        return;
    };
    let home = dir.path().join("scraped");
    fs::create_dir_all(&home).unwrap();
    let Some(scraped) = prometheus(&home, &home.join("data"), "global: {}\n", &[]) else {
        return;
    };
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: node\n  static_configs: [{{targets: ['{}']}}]\n\
         - job_name: prometheus\n  static_configs: [{{targets: ['{}']}}]\n",
        node.addr, scraped.addr
    );
    let data = dir.path().join("data");
    let gauntlet = gauntlet(dir.path(), &data, &config, &["head.block_range=20s"]);
    let query = "{job=~\"node|prometheus\"}[5m]";
    let mut before = Times::new();
    for _ in 0..SCRAPED_S / 3 {
        pass(Duration::from_secs(3));
        let now = times(&gauntlet, query);
        assert_grows(&before, &now);
        before = now;
    }
    let all = times(&gauntlet, query);
    assert_grows(&before, &all);
    // Every scrape wrote `scrape_samples_scraped`: its times are the times of all scrapes. A series that was in every
    // one of them must have a sample at each.
    let n_checked = assert_no_gaps(&all);
    let n_samples: usize = all.values().map(Vec::len).sum();
    let shipped = n_with_meta(&data.join("bucket"));
    println!(
        "{n_samples} samples of {} series, {n_checked} of them gapless, {shipped} blocks in the bucket",
        all.len()
    );
    assert!(shipped >= 2, "{shipped} blocks shipped");
    assert!(
        n_checked > 500,
        "only {n_checked} series were in every scrape"
    );
}

/// Nothing that was there is gone; and no timestamp comes twice.
#[track_caller]
fn assert_grows(before: &Times, after: &Times) {
    for (series, times) in after {
        assert!(
            times.is_sorted_by(|left, right| left < right),
            "{series}: {times:?}"
        );
    }
    for (series, times) in before {
        let now = after
            .get(series)
            .unwrap_or_else(|| panic!("{series} is gone"));
        let lost: Vec<i64> = times
            .iter()
            .filter(|t| now.binary_search(t).is_err())
            .copied()
            .collect();
        assert!(lost.is_empty(), "{series} lost {lost:?}");
    }
}

/// How many series have a sample at every scrape of their job; all whose first and last sample span the whole time do.
fn assert_no_gaps(all: &Times) -> usize {
    let mut n_checked = 0;
    for job in ["node", "prometheus"] {
        let of_job = |series: &&String| series.contains(&format!("\"job\":\"{job}\""));
        let scrapes = all
            .iter()
            .find(|(series, _)| series.contains("\"scrape_samples_scraped\"") && of_job(series));
        let (_, scrapes) = scrapes.unwrap();
        for pair in scrapes.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(
                gap <= INTERVAL_MS + JITTER_MS,
                "{job}: no scrape for {gap} ms after {}",
                pair[0]
            );
        }
        for (_, times) in all.iter().filter(|(series, _)| of_job(series)) {
            let spans_all = times.first() == scrapes.first() && times.last() >= scrapes.last();
            if spans_all && times.len() + 3 >= scrapes.len() {
                let missing: Vec<i64> = scrapes
                    .iter()
                    .filter(|t| times.binary_search(t).is_err())
                    .copied()
                    .collect();
                assert!(missing.is_empty(), "{job}: samples missing at {missing:?}");
                n_checked += 1;
            }
        }
    }
    n_checked
}

/// Sample times of all series a range selector finds.
fn times(gauntlet: &Peer, query: &str) -> Times {
    let answer = gauntlet.get(&format!("/api/v1/query?query={}", encode(query)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    let series = json["data"]["result"].as_array().unwrap();
    let stamp = |pair: &Value| {
        format!("{:.3}", pair[0].as_f64().unwrap())
            .replace('.', "")
            .parse()
            .unwrap()
    };
    let of = |one: &Value| {
        one["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(stamp)
            .collect()
    };
    series
        .iter()
        .map(|one| (one["metric"].to_string(), of(one)))
        .collect()
}

fn n_with_meta(bucket: &std::path::Path) -> usize {
    let entries =
        fs::read_dir(bucket).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>());
    entries
        .unwrap_or_default()
        .iter()
        .filter(|entry| entry.path().join("meta.json").is_file())
        .count()
}

fn pass(time: Duration) {
    std::thread::sleep(time);
}
