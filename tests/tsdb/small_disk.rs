//! A file system of sixteen megabytes, filled to its last byte while samples come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use gauntlet::head::HeadSettings;
use gauntlet::model::{Interval, Labels};
use gauntlet::storage::{AppendError, Appendable};
use gauntlet::tsdb::{Tsdb, TsdbSettings};
use gauntlet::wal::WalSettings;

use crate::support::{Samples, canonical, open, samples};

/// Set for the process that sees the small file system: where it is mounted.
const MOUNTED: &str = "GAUNTLET_SMALL_DISK";
const NAME: &str = "small_disk::a_disk_filled_to_the_last_byte_loses_nothing_and_is_written_again_when_there_is_room";
/// What the shell answers when it may not mount.
const MAY_NOT_MOUNT: i32 = 75;
const N_SERIES: usize = 200;

fn settings() -> TsdbSettings {
    TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: 400,
            wal: WalSettings {
                segment_bytes_max: 256 << 10,
                ..WalSettings::default()
            },
            chunk_file_bytes_max: 128 << 10,
            reserve_bytes: 64 << 20,
            ..HeadSettings::default()
        },
        ..TsdbSettings::default()
    }
}

#[derive(Default)]
struct Load {
    t: i64,
    sent: Samples,
    taken: Samples,
    n_refused: usize,
}

impl Load {
    /// One scrape of all series; whether it was taken.
    fn append(&mut self, db: &Tsdb) -> bool {
        self.t += 1;
        let mut batch = BTreeMap::new();
        let mut appender = db.appender();
        for n in 0..N_SERIES {
            let labels = Labels::new(&[("__name__", "m"), ("n", &n.to_string())]).unwrap();
            let seed = u32::try_from(n).unwrap().wrapping_mul(2_654_435_761);
            let v = f64::from(seed ^ u32::try_from(self.t).unwrap().wrapping_mul(40_503)).sqrt();
            appender.append_labels(&labels, self.t, v).unwrap();
            batch.insert(canonical(&labels), v.to_bits());
        }
        let committed = appender.commit();
        if let Err(error) = &committed {
            assert!(matches!(error, AppendError::Wal(_)), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("disk is full") && text.contains("make room"),
                "{text}"
            );
            self.n_refused += 1;
        }
        for (series, bits) in batch {
            if committed.is_ok() {
                self.taken
                    .entry(series.clone())
                    .or_default()
                    .insert(self.t, bits);
            }
            self.sent.entry(series).or_default().insert(self.t, bits);
        }
        committed.is_ok()
    }

    fn check(&self, db: &Tsdb, when: &str) {
        let found = samples(&*db.timeline(), Interval::ALL);
        for (series, taken) in &self.taken {
            for (t, bits) in taken {
                assert_eq!(found[series].get(t), Some(bits), "{when}: {series} {t}");
            }
        }
        for (series, found) in &found {
            for (t, bits) in found {
                assert_eq!(self.sent[series].get(t), Some(bits), "{when}: {series} {t}");
            }
        }
    }
}

fn say(what: &str) {
    writeln!(std::io::stdout(), "{what}").unwrap();
}

/// Takes every byte that is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut step = 1 << 16;
    while step > 0 {
        match file.write_all(&vec![7; step]) {
            Ok(()) => (),
            Err(_) => step /= 2,
        }
    }
}

fn unfinished(data: &Path) -> Vec<String> {
    let names = std::fs::read_dir(data).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".tmp")).collect()
}

fn load(mounted: &Path) {
    let (data, ballast) = (mounted.join("data"), mounted.join("ballast"));
    let mut load = Load::default();
    let mut db = open(&data, settings());
    for _ in 0..500 {
        assert!(load.append(&db));
    }
    fill(&ballast);
    assert!(!db.head().note_redo_point(0).unwrap(), "without room");
    assert_eq!(unfinished(&data), [""; 0]);
    std::fs::remove_file(&ballast).unwrap();
    assert!(load.append(&db) && db.head().note_redo_point(0).unwrap());
    for round in 0..4 {
        fill(&ballast);
        // A segment or a page may have room yet; then it is over.
        let n_taken = (0..200).filter(|_| load.append(&db)).count();
        assert!(n_taken < 200, "the disk never was full");
        assert!(db.head().is_full() && db.head().poisoned().is_none());
        load.check(&db, "while full");
        if round % 2 == 0 {
            // There is nothing to be shipped, so nothing may go.
            assert_eq!(db.make_room(&|_| false).unwrap(), []);
        } else {
            drop(db);
            db = open(&data, settings());
            load.check(&db, "started while full");
        }
        // What is held back is enough for a block.
        while db.cut_due().is_some() {
            if let Err(error) = db.cut() {
                assert!(error.is_full(), "{error}");
                assert_eq!(unfinished(&data), [""; 0]);
                break;
            }
        }
        load.check(&db, "cut while full");
        std::fs::remove_file(&ballast).unwrap();
        for _ in 0..50 {
            assert!(load.append(&db), "there is room again, round {round}");
        }
        while db.cut().unwrap().is_some() {}
        load.check(&db, "after");
    }
    let n_gone = shipped_blocks_make_room(&mut load, &db, &ballast);
    let (n_refused, t) = (load.n_refused, load.t);
    drop(db);
    load.check(&open(&data, settings()), "at the end");
    say(&format!(
        "{t} commits, {n_refused} refused, 5 times full, {n_gone} blocks made room"
    ));
}

/// Nobody frees the disk: local blocks of which the bucket has a copy go, the oldest first and no
/// other, until as much is free as is held back, and writing goes on. How many went.
fn shipped_blocks_make_room(load: &mut Load, db: &Tsdb, ballast: &Path) -> usize {
    while db.blocks().len() < 9 {
        assert!(load.append(db));
        db.cut().unwrap();
    }
    let all: Vec<_> = db
        .blocks()
        .iter()
        .map(|block| block.meta().clone())
        .collect();
    let shipped: Vec<_> = all[1..all.len() - 1].iter().map(|meta| meta.ulid).collect();
    fill(ballast);
    while load.append(db) {}
    assert!(db.head().is_full());
    let deleted = db.make_room(&|meta| shipped.contains(&meta.ulid)).unwrap();
    assert!((1..shipped.len()).contains(&deleted.len()), "{deleted:?}");
    assert_eq!(deleted, shipped[..deleted.len()]);
    for meta in all.iter().filter(|meta| deleted.contains(&meta.ulid)) {
        for taken in load.taken.values_mut() {
            taken.retain(|t, _| *t < meta.min_time || meta.max_time <= *t);
        }
    }
    assert!(!db.head().is_full(), "what went made room");
    assert!(load.append(db) && load.append(db));
    load.check(db, "shipped blocks made room");
    std::fs::remove_file(ballast).unwrap();
    deleted.len()
}

#[test]
fn a_disk_filled_to_the_last_byte_loses_nothing_and_is_written_again_when_there_is_room() {
    if let Some(mounted) = std::env::var_os(MOUNTED) {
        load(Path::new(&mounted));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"mount -t tmpfs -o size=16m tmpfs "$1" || exit {MAY_NOT_MOUNT}; shift; exec "$@""#
    );
    let run = Command::new("unshare")
        .args(["-Urm", "sh", "-c", &script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", NAME])
        .env(MOUNTED, dir.path())
        .output();
    let may_not = match &run {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            output.status.code() == Some(MAY_NOT_MOUNT) || said.starts_with("unshare:")
        }
        Err(_) => true,
    };
    if may_not {
        say(&format!(
            "COULD NOT RUN: this machine lets nobody mount a small file system (unshare -Urm): {run:?}"
        ));
        assert!(
            std::env::var_os("CI").is_none(),
            "it must run where it counts"
        );
        return;
    }
    let output = run.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    let last = said.lines().find(|line| line.contains("refused"));
    say(last.unwrap_or_else(|| panic!("it did not run: {said}")));
}
