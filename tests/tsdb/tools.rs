//! The tools of `gauntlet tsdb` say what promtool says of the same directory, and make the same blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use gauntlet::foundation::durable::replace_file;
use gauntlet::model::{Interval, Labels, Matcher};
use gauntlet::storage::Appendable;
use gauntlet::tsdb::{Tsdb, TsdbSettings};

use crate::peer::Prometheus;
use crate::support::{copy_dir, open};

const START: i64 = 1_699_984_800_000;

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn ours(arguments: &[&str]) -> String {
    run(env!("CARGO_BIN_EXE_gauntlet"), arguments)
}

fn theirs(arguments: &[&str]) -> String {
    run("promtool", arguments)
}

/// Seven hours of twenty series: two blocks, and a head that only the log has.
fn database(dir: &Path) -> Tsdb {
    let db = open(dir, TsdbSettings::default());
    for minute in 0..7 * 60 {
        let mut appender = db.appender();
        for n in (0..20).filter(|n| n % 4 != 3 || minute < 100) {
            let name = ["requests_total", "temperature"][usize::from(n % 3 == 0)];
            let labels = [("__name__", name), ("job", "a\"b\\"), ("n", &n.to_string())];
            let labels = Labels::new(&labels).unwrap();
            let t = START + i64::from(minute) * 60_000 + i64::from(n);
            let v = match n {
                5 if minute % 9 == 0 => f64::NAN,
                6 => f64::NEG_INFINITY,
                _ => f64::from(minute * (n + 1)) * 0.37,
            };
            appender.append_labels(&labels, t, v).unwrap();
        }
        appender.commit().unwrap();
    }
    while db.cut().unwrap().is_some() {}
    let first = Interval {
        min: START,
        max: START + 1_000_000,
    };
    db.delete_series(&[Matcher::equal("n", "1")], first)
        .unwrap();
    db
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

fn path(dir: &Path) -> &str {
    dir.to_str().unwrap()
}

#[test]
fn list_prints_what_promtool_prints() {
    let scratch = tempfile::tempdir().unwrap();
    let db = database(scratch.path());
    assert_eq!(db.blocks().len(), 2);
    for options in [vec![], vec!["-r"]] {
        let arguments = [vec!["tsdb", "list"], options, vec![path(scratch.path())]].concat();
        assert_eq!(ours(&arguments), theirs(&arguments));
    }
}

/// Sections with their lines in any order, for promtool leaves open which of two equal counts comes first.
fn sections(text: &str) -> Vec<BTreeSet<String>> {
    let text = text.replace("Total Series: ", "Series: ");
    let section = |part: &str| part.lines().map(str::to_owned).collect();
    text.split("\n\n").map(section).collect()
}

/// What both say, as far as they mean the same.
pub(crate) fn analyzed(arguments: &[&str]) -> (Vec<BTreeSet<String>>, Vec<BTreeSet<String>>) {
    let (mut ours, mut theirs) = (sections(&ours(arguments)), sections(&theirs(arguments)));
    // How full chunks are is told another way since 2.43.
    ours.truncate(7);
    theirs.truncate(7);
    (ours, theirs)
}

#[test]
fn analyze_counts_what_promtool_counts() {
    let scratch = tempfile::tempdir().unwrap();
    let db = database(scratch.path());
    let ids: Vec<String> = db
        .blocks()
        .iter()
        .map(|block| block.meta().ulid.to_string())
        .collect();
    for more in [vec![ids[0].as_str()], vec!["--extended", ids[1].as_str()]] {
        let limit = vec!["tsdb", "analyze", "--limit=1000", path(scratch.path())];
        let arguments = [limit, more].concat();
        let (ours, theirs) = analyzed(&arguments);
        assert_eq!(ours, theirs);
    }
    let some = "--match={n=~\"[0-5]\"}";
    let arguments = ["tsdb", "analyze", some, path(scratch.path()), &ids[0]];
    let matched = ours(&arguments);
    assert!(
        matched.contains("\nLabel names: 3\nMatched series: 6\n"),
        "{matched}"
    );
    let arguments = ["tsdb", "analyze", "--limit=2", path(scratch.path())];
    let first_list = sections(&ours(&arguments)).remove(1);
    assert_eq!(first_list.len(), 3);
}

#[test]
fn dump_prints_the_samples_promtool_prints_and_changes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    let db = database(&dir);
    let from = format!("--min-time={}", START + 3_000_000);
    let to = format!("--max-time={}", START + 24_000_000);
    for options in [
        vec![],
        vec![from.as_str(), to.as_str()],
        vec!["--match={n=\"5\"}"],
    ] {
        let arguments = [vec!["tsdb", "dump"], options, vec![path(&dir)]].concat();
        let (ours, theirs) = (ours(&arguments), theirs(&arguments));
        assert!(ours.lines().count() > 100, "{arguments:?}");
        assert_eq!(lines(&ours), lines(&theirs), "{arguments:?}");
    }
    let both = ["--match={n=\"5\"}", "--match={n=\"6\"}", path(&dir)];
    let both = ours(&[&["tsdb", "dump"][..], &both].concat());
    assert_eq!(both.lines().count(), 2 * 7 * 60);
    let series = ours(&["tsdb", "dump", "--format=seriesjson", path(&dir)]);
    assert_eq!(series.lines().count(), 20);
    let first: serde_json::Value = serde_json::from_str(series.lines().next().unwrap()).unwrap();
    assert_eq!(first["job"], "a\"b\\");
    // The log of the running database was replayed beside it.
    let names = std::fs::read_dir(&dir).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("sandbox")));
    drop(db);
    assert_eq!(open(&dir, TsdbSettings::default()).replayed().n_damages, 0);
}

/// Lines of `promtool tsdb dump` of the blocks in a directory.
fn dumped(dir: &Path) -> Vec<String> {
    std::fs::create_dir_all(dir.join("wal")).unwrap();
    let dump = theirs(&["tsdb", "dump", path(dir)]);
    let mut lines: Vec<String> = dump.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn what_is_dumped_as_openmetrics_becomes_the_same_blocks_here_and_there() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    database(&dir);
    let text = ours(&["tsdb", "dump-openmetrics", path(&dir)]);
    assert!(text.ends_with("\n# EOF\n"));
    assert!(text.contains("temperature{job=\"a\\\"b\\\\\",n=\"0\"} 0 1699984800.000\n"));
    let input = scratch.path().join("input.om");
    replace_file(&input, text.as_bytes()).unwrap();
    let expect: Vec<String> = {
        let mut lines: Vec<String> = theirs(&["tsdb", "dump", path(&dir)])
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let columns = |text: &str| -> Vec<String> {
        // All but the name, the chunks, and the bytes.
        let row = |line: &str| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            format!("{:?} {:?}", cells.get(1..5), cells.get(6))
        };
        text.lines().skip(1).map(row).collect()
    };
    let made_here = scratch.path().join("ours");
    let made_there = scratch.path().join("theirs");
    let from = ["tsdb", "create-blocks-from", "openmetrics", path(&input)];
    let listed_here = ours(&[&from[..], &[path(&made_here)]].concat());
    let listed_there = theirs(&[&from[..], &[path(&made_there)]].concat());
    assert_eq!(columns(&listed_here), columns(&listed_there));
    assert_eq!(columns(&listed_here).len(), 4);
    assert_eq!(dumped(&made_there), expect);
    assert_eq!(dumped(&made_here), expect);
    let labelled = scratch.path().join("labelled");
    let more = [
        "--label=job=x",
        "--label=y=z",
        "--max-block-duration=7h",
        "-q",
        path(&labelled),
    ];
    assert_eq!(ours(&[&from[..], &more].concat()), "");
    let list = ours(&["tsdb", "list", path(&labelled)]);
    assert_eq!(list.lines().count(), 3);
    let all = dumped(&labelled);
    assert_eq!(all.len(), expect.len());
    assert!(
        all.iter()
            .all(|line| line.contains("job=\"x\"") && line.contains("y=\"z\""))
    );
}

const RULES: &str = r#"
groups:
  - name: backfilled
    interval: 5m
    rules:
      - record: n:temperature:sum
        expr: sum by (n) (temperature)
        labels:
          from: rules
      - alert: Never
        expr: temperature > 1e9
  - name: other
    rules:
      - record: all:count
        expr: count({__name__=~"requests_total|temperature"})
"#;

/// When the series of printed samples, but those named `Never`, have one: in order, by their labels.
fn times_by_series(lines: &[String]) -> BTreeMap<String, Vec<i64>> {
    let mut series = BTreeMap::<String, Vec<i64>>::new();
    for line in lines.iter().filter(|line| !line.contains("Never")) {
        let mut fields = line.rsplitn(3, ' ');
        let t = fields.next().unwrap().parse().unwrap();
        let labels = fields.nth(1).unwrap();
        series.entry(labels.to_owned()).or_default().push(t);
    }
    series.values_mut().for_each(|times| times.sort_unstable());
    series
}

#[test]
fn rules_are_evaluated_by_a_server_and_become_blocks() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("data");
    database(&dir);
    let copy = scratch.path().join("copy");
    copy_dir(&dir, &copy);
    let peer = Prometheus::start(&copy, scratch.path(), "");
    let rules = scratch.path().join("rules.yml");
    replace_file(&rules, RULES.as_bytes()).unwrap();
    let url = peer.url();
    let start = format!("--start={}", START / 1000 + 1800);
    let end = format!("--end={}", START / 1000 + 5 * 3600);
    let made = |program: fn(&[&str]) -> String, name: &str, output: &str| {
        let dir = scratch.path().join(name);
        let url = format!("--url={url}");
        let output = format!("--{output}={}", dir.display());
        let from = ["tsdb", "create-blocks-from", "rules", &url, &start, &end];
        program(&[&from[..], &[&output, path(&rules)]].concat());
        dumped(&dir)
    };
    let theirs = made(theirs, "theirs", "output-dir");
    let ours = made(ours, "ours", "output-dir");
    let (ours_by, theirs_by) = (times_by_series(&ours), times_by_series(&theirs));
    assert_eq!(ours_by.len(), 8);
    assert!(
        ours_by.keys().eq(theirs_by.keys()),
        "{ours_by:?} {theirs_by:?}"
    );
    for (series, ours) in &ours_by {
        let interval = if series.contains("all:count") {
            60_000
        } else {
            300_000
        };
        let is_whole = |pair: &[i64]| pair[1] - pair[0] == interval;
        assert!(ours.windows(2).all(is_whole), "{series}: {ours:?}");
        // The releases differ in where within its interval a group begins, so not in more than one sample a series. What
        // promtool loses in the last second of a block lies between its first and its last.
        let theirs = &theirs_by[series];
        let n = (theirs[theirs.len() - 1] - theirs[0]) / interval + 1;
        let n_ours = i64::try_from(ours.len()).unwrap();
        assert!(n.abs_diff(n_ours) <= 1, "{series}: {ours:?} {theirs:?}");
    }
    for line in ours.iter().step_by(17) {
        let mut fields = line.rsplitn(3, ' ');
        let t: i64 = fields.next().unwrap().parse().unwrap();
        let v: f64 = fields.next().unwrap().parse().unwrap();
        let expr = if line.contains("all:count") {
            "count(%7B__name__=~%22requests_total%7Ctemperature%22%7D)".to_owned()
        } else {
            let n = line
                .split("n=\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap();
            format!("sum(temperature%7Bn=%22{n}%22%7D)")
        };
        let time = format!("{}.{:03}", t / 1000, t % 1000);
        let body = peer.get(&format!("/api/v1/query?query={expr}&time={time}"));
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        let value = answer["data"]["result"][0]["value"][1].as_str().unwrap();
        assert_eq!(
            value.parse::<f64>().unwrap().to_bits(),
            v.to_bits(),
            "{line}"
        );
    }
}
