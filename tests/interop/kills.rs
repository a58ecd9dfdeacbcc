//! What was committed before a kill is there after it, once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::peers::gauntlet::gauntlet;
use crate::peers::{Peer, encode};
use crate::target::Target;

/// Rounds in a test run, where GAUNTLET_KILL_ROUNDS does not say otherwise.
const ROUNDS: usize = 50;

/// So many minutes are looked at in every round, and everything in one of so many and in the last.
const MINUTES: i64 = 2;
const ROUNDS_PER_WHOLE_LOOK: usize = 25;

/// Series of the scripted target.
const N_SERIES: usize = 40;

type Samples = BTreeMap<String, BTreeMap<i64, String>>;

#[test]
fn kill_9_loses_nothing_committed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let target = Target::start(N_SERIES);
    let config = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\nscrape_configs:\n\
         - job_name: killed\n  static_configs: [{{targets: ['{}']}}]\n",
        target.addr
    );
    let rounds = std::env::var("GAUNTLET_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    let mut seen = Samples::new();
    let mut n_blocks_max = 0;
    for round in 0..rounds {
        // Blocks of three seconds: kills hit appends, cuts, truncations and checkpoints alike.
        let gauntlet = gauntlet(dir.path(), &data, &config, &["head.block_range=3s"]);
        let is_whole = round % ROUNDS_PER_WHOLE_LOOK == 0 || round + 1 == rounds;
        let (now, since_ms) = read(&gauntlet, is_whole);
        assert_nothing_lost(&seen, &now, since_ms, round);
        add(&mut seen, now);
        pass(Duration::from_millis(
            300 + u64::try_from(round % 7).unwrap() * 100,
        ));
        let (now, since_ms) = read(&gauntlet, is_whole);
        assert_nothing_lost(&seen, &now, since_ms, round);
        add(&mut seen, now);
        n_blocks_max = n_blocks_max.max(n_blocks(&data));
        kill_9(&gauntlet);
        drop(gauntlet);
    }
    let n_samples: usize = seen.values().map(BTreeMap::len).sum();
    println!(
        "{rounds} kills, {n_samples} samples of {} series, up to {n_blocks_max} blocks",
        seen.len()
    );
    assert_eq!(seen.len(), N_SERIES);
    assert!(n_blocks_max > 0, "no block was ever cut");
    assert!(n_samples > rounds * N_SERIES, "only {n_samples} samples");
}

fn add(seen: &mut Samples, now: Samples) {
    for (series, samples) in now {
        seen.entry(series).or_default().extend(samples);
    }
}

/// Every sample of `before` from `since_ms` on is in `after` with the same value.
#[track_caller]
fn assert_nothing_lost(before: &Samples, after: &Samples, since_ms: i64, round: usize) {
    for (series, samples) in before {
        let now = after
            .get(series)
            .unwrap_or_else(|| panic!("round {round}: {series} is gone"));
        let lost: BTreeSet<i64> = samples
            .range(since_ms..)
            .filter(|(t, v)| now.get(t) != Some(v))
            .map(|(t, _)| *t)
            .collect();
        assert!(
            lost.is_empty(),
            "round {round}: {series} lost or changed samples at {lost:?}"
        );
    }
}

/// Samples of the target's series, all of them or those of the last minutes, and since when; a timestamp that comes
/// twice fails the test.
fn read(gauntlet: &Peer, is_whole: bool) -> (Samples, i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let (range, since_ms) = if is_whole {
        ("1d".to_owned(), 0)
    } else {
        // Half of what is asked for: the question takes its time.
        (format!("{MINUTES}m"), now_ms - MINUTES * 30_000)
    };
    let query = format!("kill_ticks[{range}]");
    let answer = gauntlet.get(&format!("/api/v1/query?query={}", encode(&query)));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json: Value = serde_json::from_str(&answer.body).unwrap();
    let mut all = Samples::new();
    for series in json["data"]["result"].as_array().unwrap() {
        let mut samples = BTreeMap::new();
        for pair in series["values"].as_array().unwrap() {
            let t: i64 = format!("{:.3}", pair[0].as_f64().unwrap())
                .replace('.', "")
                .parse()
                .unwrap();
            let twice = samples.insert(t, pair[1].as_str().unwrap().to_owned());
            assert_eq!(twice, None, "{t} comes twice in {}", series["metric"]);
        }
        all.insert(series["metric"].to_string(), samples);
    }
    (all, since_ms)
}

fn kill_9(gauntlet: &Peer) {
    let pid = gauntlet.pid().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &pid])
            .status()
            .unwrap()
            .success()
    );
}

fn n_blocks(data: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(data).unwrap().filter_map(Result::ok);
    entries
        .filter(|entry| entry.path().join("meta.json").is_file())
        .count()
}

fn pass(time: Duration) {
    std::thread::sleep(time);
}
