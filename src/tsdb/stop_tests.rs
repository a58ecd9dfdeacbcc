//! Who stops the process does not wait for a block: what was begun is given up, and nothing is lost.

use std::path::Path;
use std::sync::Arc;

use crate::foundation::ManualClock;
use crate::head::HeadSettings;
use crate::model::{Interval, Labels};
use crate::storage::{Appendable, Queryable, SelectHints};
use crate::tsdb::{Tsdb, TsdbSettings};

const RANGE_MS: i64 = 10_000;
const SERIES: usize = 3_000;

fn open(dir: &Path) -> Tsdb {
    let settings = TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: RANGE_MS,
            out_of_order_window_ms: RANGE_MS,
            ..HeadSettings::default()
        },
        ..TsdbSettings::default()
    };
    Tsdb::open(dir, settings, Arc::new(ManualClock::new(1_000_000))).unwrap()
}

/// A sample of every series at each of these seconds.
fn append(db: &Tsdb, seconds: impl Iterator<Item = i64>) {
    for second in seconds {
        let mut appender = db.appender();
        for number in 0..SERIES {
            let number = number.to_string();
            let labels = Labels::new(&[("__name__", "x"), ("n", &number)]).unwrap();
            appender.append_labels(&labels, second * 1000, 1.0).unwrap();
        }
        appender.commit().unwrap();
    }
}

/// Series, and the chunks of all of them.
fn n_held(db: &Tsdb) -> (usize, usize) {
    let timeline = db.timeline();
    let hints = SelectHints::new(Interval::ALL);
    let mut set = timeline.select(&[], &hints).unwrap();
    let mut n_samples = 0;
    let mut n_series = 0;
    while let Some(series) = set.next() {
        let series = series.unwrap();
        n_series += 1;
        let chunks = series.chunks.iter();
        let n = |encoding, data: &[u8]| crate::chunk::n_samples(encoding, data).unwrap();
        n_samples += chunks
            .map(|chunk| n(chunk.encoding, &chunk.data))
            .sum::<usize>();
    }
    (n_series, n_samples)
}

/// Directories of blocks, finished or not.
fn block_dirs(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.len() >= 26).collect()
}

/// Begins to cut and stops making blocks as soon as there is something of the first; how many were cut before that was seen.
fn cut_and_stop(db: &Tsdb, dir: &Path) -> usize {
    std::thread::scope(|scope| {
        let cutting = scope.spawn(|| {
            let mut n_cuts = 0;
            while db.cut_due().is_some() {
                match db.cut() {
                    Ok(_) => n_cuts += 1,
                    Err(error) => assert!(error.is_canceled(), "{error}"),
                }
            }
            n_cuts
        });
        while block_dirs(dir).is_empty() {
            std::thread::yield_now();
        }
        db.stop_making_blocks();
        cutting.join().unwrap()
    })
}

#[test]
fn a_cut_that_is_under_way_is_given_up_and_the_samples_stay() {
    let expect = (SERIES, 5 * SERIES);
    let mut attempts = 0..20;
    let (dir, db) = loop {
        assert!(attempts.next().is_some(), "no cut is ever given up");
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path());
        append(&db, [0, 9, 12, 21, 33].into_iter());
        assert_eq!(n_held(&db), expect);
        // A busy machine may show a block only when it is whole.
        if cut_and_stop(&db, dir.path()) == 0 {
            break (dir, db);
        }
    };
    assert_eq!(block_dirs(dir.path()), [""; 0]);
    assert_eq!(n_held(&db), expect);
    // Nothing begins either.
    assert_eq!((db.cut_due(), db.cut().unwrap()), (None, None));
    db.close().unwrap();
    drop(db);
    let db = open(dir.path());
    assert_eq!(n_held(&db), expect);
    while db.cut_due().is_some() {
        db.cut().unwrap();
    }
    assert_eq!(db.blocks().len(), 2);
    assert_eq!(n_held(&db), expect);
}

#[test]
fn nothing_else_that_reads_the_whole_head_goes_on_either() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    append(&db, [9, 12, 11].into_iter());
    let expect = n_held(&db);
    db.stop_making_blocks();
    assert!(db.cut_out_of_order().unwrap_err().is_canceled());
    assert!(db.snapshot(false).unwrap_err().is_canceled());
    assert_eq!(block_dirs(dir.path()), [""; 0]);
    assert_eq!(block_dirs(&dir.path().join("snapshots")), [""; 0]);
    assert_eq!(n_held(&db), expect);
    db.close().unwrap();
    drop(db);
    let db = open(dir.path());
    assert_eq!(n_held(&db), expect);
    assert_eq!(db.cut_out_of_order().unwrap().len(), 1);
    assert_eq!(n_held(&db), expect);
}
