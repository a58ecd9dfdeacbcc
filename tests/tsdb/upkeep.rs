//! Deletions, compactions and snapshots of one database are those of the other.

use std::path::Path;

use gauntlet::model::{Interval, Labels, Matcher};
use gauntlet::storage::Appendable;
use gauntlet::tsdb::{SNAPSHOTS_DIR, Tsdb, TsdbSettings};

use crate::peer::Prometheus;
use crate::support::{Samples, assert_same, copy_dir, open, samples};

/// A multiple of six hours, the first level above two.
const START: i64 = 1_699_984_800_000;
const HOUR: i64 = 3_600_000;

/// Thirteen hours, a sample a minute, of twelve series.
fn fill(db: &Tsdb) {
    for minute in 0..13 * 60 {
        let mut appender = db.appender();
        for n in 0..12 {
            let labels = Labels::new(&[("__name__", "m"), ("n", &n.to_string())]).unwrap();
            let v = f64::from(minute * (n + 1)) * 0.37;
            let t = START + i64::from(minute) * 60_000;
            appender.append_labels(&labels, t, v).unwrap();
        }
        appender.commit().unwrap();
        while db.cut().unwrap().is_some() {}
    }
}

const ALL: Interval = Interval {
    min: START - HOUR,
    max: START + 14 * HOUR,
};

fn ours(db: &Tsdb) -> Samples {
    samples(&*db.timeline(), ALL)
}

fn theirs(peer: &Prometheus) -> Samples {
    peer.samples(ALL.max, ALL.max - ALL.min)
}

/// Deleted in several blocks and in the head.
const GONE: Interval = Interval {
    min: START + HOUR / 2,
    max: START + 12 * HOUR + HOUR / 3,
};

fn expected(mut all: Samples) -> Samples {
    for (labels, series) in &mut all {
        series.retain(|t, _| {
            let is_third = labels.contains("n=\"3\"") && GONE.contains(*t);
            let is_fifth = labels.contains("n=\"5\"");
            !is_third && !is_fifth
        });
    }
    all.retain(|_, series| !series.is_empty());
    all
}

/// Opens a copy of `dir` there and compares.
fn check_there(dir: &Path, expect: &Samples) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("data");
    copy_dir(dir, &copy);
    let peer = Prometheus::start(&copy, scratch.path(), "");
    assert_same(&theirs(&peer), expect);
    let log = peer.stop();
    assert!(!log.contains("level=error"), "{log}");
    scratch
}

#[test]
fn prometheus_answers_as_we_do_after_deletions_compactions_and_from_snapshots() {
    let scratch = tempfile::tempdir().unwrap();
    let db = open(&scratch.path().join("ours"), TsdbSettings::default());
    fill(&db);
    let whole = ours(&db);
    assert_eq!((whole.len(), db.blocks().len()), (12, 5));
    db.delete_series(&[Matcher::equal("n", "3")], GONE).unwrap();
    db.delete_series(&[Matcher::equal("n", "5")], Interval::ALL)
        .unwrap();
    let expect = expected(whole);
    assert_same(&ours(&db), &expect);
    check_there(db.dir(), &expect);
    let done = db.compact().unwrap().unwrap();
    assert_eq!(done.replaced.len(), 3);
    assert_eq!(db.compact().unwrap(), None);
    assert_same(&ours(&db), &expect);
    let name = db.snapshot(false).unwrap();
    check_there(&db.dir().join(SNAPSHOTS_DIR).join(name), &expect);
    check_there(db.dir(), &expect);
    db.clean_tombstones().unwrap();
    check_there(db.dir(), &expect);
}

#[test]
fn we_answer_as_prometheus_does_after_its_deletions_and_from_its_snapshots() {
    let scratch = tempfile::tempdir().unwrap();
    let data = scratch.path().join("data");
    let db = open(&data, TsdbSettings::default());
    fill(&db);
    let expect = expected(ours(&db));
    drop(db);
    let peer = Prometheus::start(&data, scratch.path(), "");
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let (from, to) = (seconds(GONE.min), seconds(GONE.max));
    let query = format!("delete_series?match[]=%7Bn=%223%22%7D&start={from}&end={to}");
    assert_eq!(peer.administer(&query), (204, String::new()));
    let query = "delete_series?match[]=%7Bn=%225%22%7D";
    assert_eq!(peer.administer(query), (204, String::new()));
    assert_same(&theirs(&peer), &expect);
    let (status, body) = peer.administer("snapshot");
    assert_eq!(status, 200, "{body}");
    // Killed, so that what was deleted from its head is in its log only.
    peer.kill();
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    let name = answer["data"]["name"].as_str().unwrap();
    let snapshot = open(
        &data.join(SNAPSHOTS_DIR).join(name),
        TsdbSettings::default(),
    );
    assert_same(&ours(&snapshot), &expect);
    let db = open(&data, TsdbSettings::default());
    assert!(
        db.blocks()
            .iter()
            .any(|block| !block.tombstones().is_empty())
    );
    assert!(db.head().n_tombstones() > 0);
    assert_same(&ours(&db), &expect);
}
