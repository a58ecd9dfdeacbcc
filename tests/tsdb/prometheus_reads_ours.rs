//! What is written here opens there.

use std::path::Path;
use std::process::Command;

use gauntlet::foundation::durable::replace_file;
use gauntlet::model::{Interval, Labels};
use gauntlet::storage::Appendable;
use gauntlet::tsdb::{Tsdb, TsdbSettings};

use crate::peer::{Prometheus, without_stale};
use crate::support::{assert_same, copy_dir, open, samples};

const START: i64 = 1_699_999_980_000;
const STEP: i64 = 15_000;

fn labels(n: i64) -> Labels {
    let name = if n % 2 == 0 {
        "requests_total"
    } else {
        "temperature"
    };
    Labels::new(&[
        ("__name__", name),
        ("job", "test"),
        ("n", &n.to_string()),
        ("odd", "ä\"\\\n"),
    ])
    .unwrap()
}

fn value(n: i64, round: i64) -> f64 {
    let round = f64::from(i32::try_from(round).unwrap());
    let kind = n % 5;
    let n = f64::from(i32::try_from(n).unwrap());
    match kind {
        0 => round * 3.0,
        1 => (round * 0.1 + n).sin() * 20.0,
        2 => n,
        3 if round % 97.0 == 0.0 => f64::NAN,
        3 => f64::INFINITY.copysign(round - 400.0),
        _ => (round * n * 0.37).fract() * 1e9,
    }
}

/// Five and a half hours of forty series, some of which begin late and end early.
fn fill(db: &Tsdb) {
    for round in 0..1320 {
        let mut appender = db.appender();
        for n in 0..40 {
            let is_on = (n < 30 || round > 600) && (n % 7 != 3 || round < 900);
            if is_on {
                let t = START + round * STEP + n * 7;
                appender
                    .append_labels(&labels(n), t, value(n, round))
                    .unwrap();
            }
        }
        appender.commit().unwrap();
        if round % 400 == 399 {
            while db.cut().unwrap().is_some() {}
        }
    }
}

#[test]
fn a_stock_prometheus_opens_a_copy_of_our_directory_and_answers_the_same() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = scratch.path().join("ours");
    let db = open(&ours, TsdbSettings::default());
    fill(&db);
    assert!(db.blocks().len() >= 2, "{}", db.blocks().len());
    // Never closed: as if the process had been killed.
    let copy = scratch.path().join("copy");
    copy_dir(&ours, &copy);
    let stats = db.stats();
    let peer = Prometheus::start(&copy, scratch.path(), "");
    let end = START + 1320 * STEP + 1;
    let range = 6 * 3_600_000;
    let theirs = peer.samples(end, range);
    let interval = Interval {
        min: end - range,
        max: end,
    };
    let found = without_stale(samples(&*db.timeline(), interval));
    assert_eq!(found.len(), 40);
    assert_same(&found, &without_nan_bits(theirs, &found));
    let metric = |name: &str| peer.metric(name);
    assert_eq!(metric("prometheus_tsdb_head_series"), stats.head.n_series);
    assert_eq!(metric("prometheus_tsdb_head_chunks"), stats.head.n_chunks);
    assert_eq!(metric("prometheus_tsdb_wal_corruptions_total"), 0);
    assert_eq!(metric("prometheus_tsdb_mmap_chunk_corruptions_total"), 0);
    let log = peer.stop();
    let complaints: Vec<_> = log
        .lines()
        .filter(|line| {
            line.contains("level=error")
                || line.contains("corrupt")
                || line.contains("nknown series")
        })
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    // And back: what it leaves behind opens here with the same samples.
    let back = open(&copy, TsdbSettings::default());
    assert_same(&without_stale(samples(&*back.timeline(), interval)), &found);
}

/// Every NaN prints as `NaN`; its bits are taken from the other side.
fn without_nan_bits(
    mut theirs: crate::support::Samples,
    ours: &crate::support::Samples,
) -> crate::support::Samples {
    for (key, series) in &mut theirs {
        for (t, bits) in series {
            let other = ours.get(key).and_then(|s| s.get(t)).copied();
            if f64::from_bits(*bits).is_nan() && other.is_some_and(|b| f64::from_bits(b).is_nan()) {
                *bits = other.unwrap_or_default();
            }
        }
    }
    theirs
}

fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(args)
        .output()
        .expect("Debian's package prometheus is needed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn promtool_analyzes_and_dumps_our_blocks() {
    let scratch = tempfile::tempdir().unwrap();
    let db = open(scratch.path(), TsdbSettings::default());
    fill(&db);
    let dir = scratch.path().to_str().unwrap();
    let block = &db.blocks()[0];
    let analysis = promtool(&["tsdb", "analyze", dir, &block.meta().ulid.to_string()]);
    assert!(analysis.contains("Series: 30\n"), "{analysis}");
    let listed = promtool(&["tsdb", "list", dir]);
    assert_eq!(listed.lines().count(), db.blocks().len() + 1, "{listed}");
    let dump = promtool(&["tsdb", "dump", dir]);
    let n_samples: usize = samples(&*db.timeline(), Interval::ALL)
        .values()
        .map(std::collections::BTreeMap::len)
        .sum();
    assert_eq!(dump.lines().count(), n_samples);
}

/// The chunk file of the only block in `dir`.
fn chunks_of(dir: &Path) -> Vec<u8> {
    let block = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("meta.json").is_file())
        .unwrap();
    std::fs::read(block.join("chunks/000001")).unwrap()
}

#[test]
fn chunks_are_cut_where_promtool_cuts_them_byte_for_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let mut text = String::from("# TYPE m gauge\n");
    let db = open(&scratch.path().join("ours"), TsdbSettings::default());
    let start = START - START % 7_200_000;
    // A steady series, a slow one, one that speeds up, one that jumps, one with gaps.
    let times: [Vec<i64>; 5] = [
        (0..480).map(|n| n * 15_000).collect(),
        (0..25).map(|n| n * 240_000 + 77).collect(),
        (0..40)
            .map(|n| n * 60_000)
            .chain((0..900).map(|n| 2_400_001 + n * 1000))
            .collect(),
        (0..300).map(|n| n * 10_000 + (n * n) % 977).collect(),
        (0..200).map(|n| n * 5_000 + (n / 50) * 1_000_000).collect(),
    ];
    // One transaction, so that every time is in bounds.
    let mut appender = db.appender();
    for (n, times) in times.iter().enumerate() {
        let series = Labels::new(&[("__name__", "m"), ("n", &n.to_string())]).unwrap();
        for t in times {
            let v = t / 7000 % 19;
            let seconds = format!("{}.{:03}", (start + t) / 1000, (start + t) % 1000);
            text.push_str(&format!("m{{n=\"{n}\"}} {v} {seconds}\n"));
            let v = f64::from(i32::try_from(v).unwrap());
            appender.append_labels(&series, start + t, v).unwrap();
        }
    }
    appender.commit().unwrap();
    text.push_str("# EOF\n");
    let mut appender = db.appender();
    appender
        .append_labels(&labels(1), start + 4 * 3_600_000, 1.0)
        .unwrap();
    appender.commit().unwrap();
    db.cut().unwrap().unwrap();
    let input = scratch.path().join("input.om");
    replace_file(&input, text.as_bytes()).unwrap();
    let theirs = scratch.path().join("theirs");
    promtool(&[
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        input.to_str().unwrap(),
        theirs.to_str().unwrap(),
    ]);
    assert!(chunks_of(&theirs) == chunks_of(db.dir()));
}
