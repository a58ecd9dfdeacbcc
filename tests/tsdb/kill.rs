//! `kill -9` while appending and cutting.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use gauntlet::head::HeadSettings;
use gauntlet::model::{Interval, Labels};
use gauntlet::storage::Appendable;
use gauntlet::tsdb::TsdbSettings;
use gauntlet::wal::WalSettings;

use crate::peer::wait_ms;
use crate::support::{open, samples};

/// Set for the process that is going to be killed: its data directory.
const CHILD_DIR: &str = "GAUNTLET_KILL_TEST_DIR";
const N_SERIES: usize = 25;
const STEP: i64 = 10;

fn settings() -> TsdbSettings {
    TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: 1000,
            wal: WalSettings {
                segment_bytes_max: 64 << 10,
                ..WalSettings::default()
            },
            chunk_file_bytes_max: 32 << 10,
            ..HeadSettings::default()
        },
        ..TsdbSettings::default()
    }
}

/// Appends and cuts for ever; says on stdout what is committed.
fn append_until_killed(dir: &Path) {
    let db = open(dir, settings());
    let start = db.stats().head.max_t.unwrap_or(0);
    let cutter = db.clone();
    let thread = std::thread::Builder::new().spawn(move || {
        loop {
            cutter.cut().unwrap();
            wait_ms(1);
        }
    });
    let mut out = std::io::stdout();
    for round in 1.. {
        let t = start + round * STEP;
        let v = f64::from(i32::try_from(t).unwrap());
        let mut appender = db.appender();
        for n in 0..N_SERIES {
            let labels = Labels::new(&[("__name__", "m"), ("n", &n.to_string())]).unwrap();
            appender.append_labels(&labels, t, v).unwrap();
        }
        appender.commit().unwrap();
        writeln!(out, "\ncommitted {t}").unwrap();
        out.flush().unwrap();
        assert!(!thread.as_ref().unwrap().is_finished());
    }
}

#[test]
fn every_sample_committed_before_a_kill_is_there_after_it_and_none_twice() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        append_until_killed(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut n_blocks = 0;
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "kill::every_sample_committed_before_a_kill_is_there_after_it_and_none_twice",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::Builder::new().spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            let times = lines.filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
            times.last().unwrap_or(0i64)
        });
        wait_ms(150 + round * 37 % 200);
        child.kill().unwrap();
        child.wait().unwrap();
        let committed = reader.unwrap().join().unwrap();
        let db = open(dir.path(), settings());
        let found = samples(&*db.timeline(), Interval::ALL);
        let last = found
            .values()
            .next()
            .and_then(|s| s.keys().last().copied())
            .unwrap_or(0);
        assert!(
            last >= committed,
            "round {round}: committed {committed}, found up to {last}"
        );
        let expected: Vec<i64> = (1..=last / STEP).map(|n| n * STEP).collect();
        for (series, samples) in &found {
            let times: Vec<i64> = samples.keys().copied().collect();
            assert_eq!(times, expected, "round {round} {series}");
        }
        assert!(last == 0 || found.len() == N_SERIES);
        assert_eq!(db.quarantined(), []);
        n_blocks = db.blocks().len();
    }
    assert!(n_blocks > 5, "{n_blocks}");
}
