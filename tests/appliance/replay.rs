//! Scraping, writing and asking while the log is replayed, as the real process does it.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::harness::{
    Appliance, Start, escaped, eventually, free_address, now, now_ms, pause, report,
};

/// Holds the replay back until it is opened: a pipe that the process wants to read before it begins.
struct Held(PathBuf);

impl Held {
    fn new(dir: &Path) -> Self {
        let path = dir.join("replay-after");
        if !path.try_exists().unwrap() {
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        Self(path)
    }

    fn start(&self, start: Start) -> Start {
        start.environment("GAUNTLET_REPLAY_AFTER", self.0.to_str().unwrap())
    }

    /// Waits until the process has come so far, and lets it go on.
    fn release(&self) {
        drop(
            std::fs::OpenOptions::new()
                .write(true)
                .open(&self.0)
                .unwrap(),
        );
    }
}

/// Listens already, and replays as long as it is held.
fn start_held(start: Start) -> (Appliance, Held) {
    let held = Held::new(start.dir().path());
    let http = free_address();
    let mut appliance = held.start(start).at(&http).spawn();
    appliance.http = http;
    eventually("it takes samples", || {
        let ready = appliance.request("GET", "/-/ready", &[], &[]).ok()?;
        ready.text().contains("samples are taken").then_some(())
    });
    (appliance, held)
}

fn warnings(appliance: &Appliance, query: &str, t: f64) -> Vec<String> {
    let answer = appliance.get(&format!("/api/v1/query?query={}&time={t}", escaped(query)));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json();
    let warnings = json["warnings"].as_array().cloned().unwrap_or_default();
    let texts = warnings.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Nothing of the series `old` is there yet.
fn assert_says_what_is_missing(appliance: &Appliance) {
    assert_eq!(appliance.value("old", now()), None);
    let said = warnings(appliance, "old", now());
    assert!(
        said.len() == 1 && said[0].starts_with("the log is being replayed: segment "),
        "{said:?}"
    );
    let labels = appliance.get("/api/v1/labels").json();
    assert!(
        labels["warnings"][0]
            .as_str()
            .unwrap()
            .contains("not all visible yet")
    );
    let replay = appliance.get("/api/v1/status/walreplay").json();
    assert_ne!(replay["data"]["state"], "done");
    assert!(
        appliance
            .get("/")
            .text()
            .starts_with("The log is being replayed")
    );
    let refused = appliance.post("/api/v1/admin/tsdb/delete_series?match[]=old");
    assert_eq!(refused.json()["errorType"], "unavailable");
}

#[test]
fn it_scrapes_takes_and_answers_while_the_log_is_replayed_and_then_has_everything() {
    let exporter = Start::new().run();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: e\n  static_configs: [{{targets: ['{}']}}]\n",
        exporter.http
    );
    let appliance = Start::new().scrape(&config).run();
    let old_t = now_ms() - 60_000;
    assert_eq!(
        appliance.write(&[("__name__", "old")], &[(old_t, 1.0)]),
        204
    );
    let scraped_before = eventually("a scrape", || {
        appliance.value("up", now()).map(|_| now_ms())
    });
    let dir = appliance.dir();
    appliance.kill();

    let start = Start::new().again_in(&dir).scrape(&config);
    let (appliance, held) = start_held(start.set("http.admin_api", "true"));
    assert_eq!(appliance.get("/-/ready").status, 503);
    assert_eq!(appliance.get("/-/healthy").status, 200);
    let young_t = now_ms();
    assert_eq!(
        appliance.write(&[("__name__", "young")], &[(young_t, 2.0)]),
        204
    );
    let up = eventually("a scrape while the log is replayed", || {
        appliance.value("up{job=\"e\"}", now())
    });
    assert!(up > 0.5);
    assert_eq!(appliance.value("young", now()), Some(2.0));
    assert_says_what_is_missing(&appliance);
    held.release();
    eventually("the log is replayed", || {
        (appliance.get("/-/ready").status == 200).then_some(())
    });
    assert_eq!(appliance.value("old", now()), Some(1.0));
    assert_eq!(warnings(&appliance, "old", now()), [""; 0]);
    assert_eq!(
        appliance.samples("young", young_t, young_t),
        [(young_t, 2.0)]
    );
    let replay = appliance.get("/api/v1/status/walreplay").json();
    assert_eq!(replay["data"]["state"], "done");
    // The target's series go on across both starts, each time once.
    let ups = appliance.samples("up{job=\"e\"}", old_t, now_ms());
    assert!(ups.first().unwrap().0 <= scraped_before && ups.last().unwrap().0 >= young_t);
    let young = appliance.data().join("head-young");
    // Its samples are in the replayed head before it goes.
    eventually("the directory of the young head goes", || {
        (!young.try_exists().unwrap()).then_some(())
    });
    exporter.kill();
    eventually("the series ends in the replayed head", || {
        (appliance.value("up{job=\"e\"}", now()) == Some(0.0)).then_some(())
    });
    appliance.stop();
    let appliance = Start::new().again_in(&dir).run();
    assert_eq!(
        appliance.samples("young", young_t, young_t),
        [(young_t, 2.0)]
    );
    assert_eq!(appliance.samples("old", old_t, old_t), [(old_t, 1.0)]);
    appliance.stop();
}

#[test]
fn kills_while_the_log_is_replayed_lose_nothing_that_was_acknowledged() {
    let rounds = std::env::var("GAUNTLET_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    let appliance = Start::new().run();
    let first_t = now_ms() - 3_000_000;
    assert_eq!(
        appliance.write(&[("__name__", "counted")], &[(first_t, 0.0)]),
        204
    );
    let dir = appliance.dir();
    appliance.kill();
    let mut acknowledged = vec![(first_t, 0.0)];
    let (mut n_held, mut n_between) = (0, 0);
    for round in 1..=rounds {
        let (appliance, held) = start_held(Start::new().again_in(&dir));
        for n in 0..3_i32 {
            let sample = (
                first_t + i64::from(round * 10 + n),
                f64::from(round * 10 + n),
            );
            assert_eq!(appliance.write(&[("__name__", "counted")], &[sample]), 204);
            acknowledged.push(sample);
        }
        match round % 4 {
            // The young head is left as it is, and the next start has more of it.
            0 | 1 => n_held += 1,
            // Somewhere in the replay, in the taking over or soon after.
            2 => {
                held.release();
                let us = u64::from(round.unsigned_abs()) * 997 % 40_000;
                pause(std::time::Duration::from_micros(us));
                n_between += 1;
            }
            _ => {
                held.release();
                eventually("the log is replayed", || {
                    (appliance.get("/-/ready").status == 200).then_some(())
                });
                let seen = appliance.samples("counted", first_t, now_ms());
                assert_eq!(seen, acknowledged, "round {round}");
            }
        }
        appliance.kill();
    }
    let appliance = Start::new().again_in(&dir).run();
    assert_eq!(
        appliance.samples("counted", first_t, now_ms()),
        acknowledged
    );
    report(&format!(
        "{} acknowledged samples survived {rounds} kills, {n_held} while the replay was held and {n_between} within it",
        acknowledged.len()
    ));
    appliance.stop();
}
