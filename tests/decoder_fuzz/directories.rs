//! Whole directories with damage in some of their files: a head opens and answers, a block answers or says why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gauntlet::block::{Block, NewBlock, verify, write_block};
use gauntlet::model::{BlockId, Counts, Interval, SampleTime, TimeRange};
use gauntlet::storage::{Appendable, LabelHints, Queryable, SelectHints, VecSeriesSet};
use gauntlet::tsdb::{Head, HeadSettings, ReplayProgress};

use crate::chunks::read_chunk;
use crate::dice::Dice;
use crate::harness::{Target, run};
use crate::mutate::broken;
use crate::samples::{START, exemplar, exponential, floats, gauge, series, times};

/// In memory where the system has such a place: these tests make many files, and none outlives its test.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

/// Files by their path within a directory.
type Files = Vec<(PathBuf, Vec<u8>)>;

fn load(dir: &Path) -> Files {
    fn walk(root: &Path, dir: &Path, out: &mut Files) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let within = path.strip_prefix(root).unwrap().to_owned();
                out.push((within, fs::read(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    walk(dir, dir, &mut files);
    files.sort();
    files
}

fn store(dir: &Path, files: &Files) {
    for (within, bytes) in files {
        let path = dir.join(within);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

/// Breaks one to three files, or takes one away.
fn break_some(dice: &mut Dice, files: &mut Files) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(files.len());
        let other = files[dice.below(files.len())].1.clone();
        match dice.below(10) {
            0 => files[at].1 = Vec::new(),
            1 => files[at].1 = other,
            _ => files[at].1 = broken(dice, &files[at].1, &other),
        }
    }
    if dice.chance(5) {
        files.remove(dice.below(files.len()));
    }
}

fn settings() -> HeadSettings {
    HeadSettings {
        chunk_range_ms: 3_600_000,
        chunk_file_bytes_max: 4 << 10,
        keeps_start_times: true,
        out_of_order_window_ms: 1_800_000,
        ..HeadSettings::default()
    }
}

fn open(dir: &Path) -> Head {
    let progress = ReplayProgress::default();
    let opened = Head::open(dir, settings(), i64::MIN, &progress);
    opened.unwrap().0
}

/// Floats, histograms, exemplars and late samples, some of them in chunk files.
fn head_files() -> Files {
    let dir = scratch();
    let head = open(dir.path());
    let times = times(0, 300);
    for part in 0..3 {
        let mut appender = head.appender();
        for n in 0..9 {
            let labels = series(n);
            let to = appender.series(labels.key(), &mut || Ok(labels.clone()));
            let to = to.unwrap();
            for (i, &t) in times.iter().enumerate().skip(part * 100).take(100) {
                let at = SampleTime { t, start_t: START };
                match n % 3 {
                    0 => appender.append_at(to, at, floats(2, i + 1)[i]).unwrap(),
                    1 => {
                        let whole = Arc::new(exponential(i));
                        appender
                            .append_histogram(to, at, Counts::Whole, &whole)
                            .unwrap();
                    }
                    _ => {
                        let float = Arc::new(gauge(i));
                        appender
                            .append_histogram(to, at, Counts::Float, &float)
                            .unwrap();
                    }
                }
            }
            appender.exemplar(to, &exemplar(part * 100)).unwrap();
            if 0 < part && n % 3 == 0 {
                for late in 0..40 {
                    let at = SampleTime::from(times[part * 100] - 7 - late * 1_000);
                    appender.append_at(to, at, 1.5).unwrap();
                }
            }
        }
        appender.commit().unwrap();
    }
    assert!(head.note_redo_point(0).unwrap());
    head.close_before(times[200]);
    drop(head);
    let files = load(dir.path());
    for part in ["wal", "wbl", "chunks_head", "head-redo"] {
        assert!(
            files.iter().any(|(path, _)| path.starts_with(part)),
            "{part}"
        );
    }
    files
}

/// Everything a source says, as far as it can; what went wrong, and how many samples came.
fn read_all(source: &dyn Queryable) -> (usize, usize) {
    let Ok(mut set) = source.select(&[], &SelectHints::new(Interval::ALL)) else {
        return (1, 0);
    };
    let (mut n_errors, mut n_samples, mut n_series) = (0, 0, 0);
    while let Some(item) = set.next() {
        n_series += 1;
        assert!(n_series < 10_000, "series without an end");
        let Ok(series) = item else {
            n_errors += 1;
            continue;
        };
        for chunk in series.chunks {
            n_samples += read_chunk(chunk.encoding, &chunk.data);
        }
    }
    let hints = LabelHints::new(Interval::ALL);
    source.label_names(&[], &hints).ok();
    source.label_values("job", &[], &hints).ok();
    (n_errors, n_samples)
}

impl crate::harness::Input for (Files, ()) {
    fn n_bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

#[test]
fn a_head_opens_over_any_damage_and_again_with_the_same_samples() {
    let files = head_files();
    let make = |dice: &mut Dice| {
        let mut files = files.clone();
        break_some(dice, &mut files);
        (files, ())
    };
    // Segments, shards of the series map and the ring of exemplars are there whatever the input.
    let target = Target::new("head directory", 60).rounds(60);
    run(target.holds(256, 64 << 20), make, |(files, ())| {
        let dir = scratch();
        store(dir.path(), files);
        let first = open(dir.path());
        let (n_errors, n_samples) = read_all(&first.view());
        assert_eq!(n_errors, 0, "a head answers");
        drop(first);
        let again = read_all(&open(dir.path()).view());
        assert_eq!(
            again,
            (0, n_samples),
            "the second start reads something else"
        );
        1 + n_samples
    });
}

fn block_files() -> Files {
    let dir = scratch();
    let head_dir = scratch();
    store(head_dir.path(), &head_files());
    let head = open(head_dir.path());
    let range = TimeRange {
        min: START,
        max: START + 7_200_000,
    };
    let id = BlockId::from_parts(1, 7);
    let series: Vec<_> = head.view().series_in(Interval::ALL).collect();
    let mut set = VecSeriesSet::new(series, Vec::new());
    let meta = write_block(dir.path(), NewBlock::new(id, range), &mut set);
    let path = dir.path().join(meta.unwrap().unwrap().ulid.to_string());
    load(&path)
}

#[test]
fn a_damaged_block_answers_what_it_can_or_says_why_not() {
    let files = block_files();
    let make = |dice: &mut Dice| {
        let mut files = files.clone();
        break_some(dice, &mut files);
        (files, ())
    };
    let target = Target::new("block directory", 61).rounds(200);
    run(target.holds(256, 1 << 20), make, |(files, ())| {
        let dir = scratch();
        store(dir.path(), files);
        let report = verify(dir.path());
        let Ok(block) = Block::open(dir.path()) else {
            assert!(
                !report.is_healthy(),
                "a block that does not open is healthy"
            );
            return 0;
        };
        let (n_errors, n_samples) = read_all(&block);
        assert!(n_errors == 0 || !report.is_healthy(), "{n_errors} errors");
        1 + n_samples
    });
}
