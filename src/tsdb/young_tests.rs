//! Samples are taken while the log is replayed, and nothing is lost or comes twice when that is done, or cut short.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::foundation::ManualClock;
use crate::model::Interval;
use crate::storage::{Appendable, LabelHints, Queryable, SelectHints};
use crate::tsdb::tests::{Model, all, append, labels, open, samples, scratch, settings};
use crate::tsdb::{Opening, ReadOnlyTsdb, Tsdb, TsdbError};

/// Takes samples at once.
fn open_at_once(dir: &Path) -> (Tsdb, Opening) {
    let clock = Arc::new(ManualClock::new(5000));
    let (db, opening) = Tsdb::open_at_once(dir, settings(), clock, &Arc::default()).unwrap();
    (db, opening.unwrap())
}

fn warnings(db: &Tsdb, interval: Interval) -> Vec<String> {
    let timeline = db.timeline();
    let mut set = timeline
        .select(&all(), &SelectHints::new(interval))
        .unwrap();
    while set.next().is_some() {}
    let of_series = set.warnings();
    let hints = LabelHints::new(interval);
    let names = timeline.label_names(&[], &hints).unwrap().warnings;
    let values = timeline.label_values("n", &[], &hints).unwrap().warnings;
    assert_eq!((&names, &values), (&of_series, &of_series));
    of_series
}

/// A directory with a block and a log that holds something.
fn lived(dir: &Path) -> Model {
    let mut model = Model::new();
    let db = open(dir);
    append(&db, &["a", "b"], (0..300).map(|n| n * 10), &mut model);
    assert!(db.cut().unwrap().is_some());
    model
}

fn young_dirs(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap();
    names
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("head-young")
        })
        .count()
}

#[test]
fn samples_are_taken_and_answers_say_what_they_lack_until_the_log_is_replayed() {
    let dir = scratch();
    let mut model = lived(dir.path());
    let (db, mut opening) = open_at_once(dir.path());
    assert!(db.is_replaying());
    let mut young = Model::new();
    append(&db, &["a", "c"], [5000, 5010], &mut young);
    // The block, and what came since the start.
    let mut now = young.clone();
    for (name, samples) in &model {
        let samples = samples.range(..1000).map(|(t, v)| (*t, *v));
        now.entry(name.clone()).or_default().extend(samples);
    }
    assert_eq!(samples(&*db.timeline()), now);
    let missing = "the log is being replayed: segment 0 of 0; samples from 1970-01-01T00:00:01Z \
                   to 1970-01-01T00:00:05Z are not all visible yet";
    assert_eq!(warnings(&db, Interval::ALL), [missing]);
    assert_eq!(warnings(&db, Interval { min: 0, max: 999 }), [""; 0]);
    assert_eq!(
        warnings(
            &db,
            Interval {
                min: 5001,
                max: 9000
            }
        ),
        [""; 0]
    );
    let held = db.timeline();
    let taken = opening.run().unwrap();
    assert_eq!((taken.n_samples, taken.n_refused), (4, 0));
    for (name, samples) in young {
        model.entry(name).or_default().extend(samples);
    }
    assert!(!db.is_replaying() && young_dirs(dir.path()) == 0);
    assert_eq!(samples(&*db.timeline()), model);
    assert_eq!(samples(&*held), model, "held since before");
    assert_eq!(warnings(&db, Interval::ALL), [""; 0]);
    append(&db, &["a", "c"], [5020], &mut model);
    db.cut().unwrap().unwrap();
    drop((db, opening, held));
    assert_eq!(samples(&*open(dir.path()).timeline()), model);
}

#[test]
fn what_a_young_head_held_at_a_kill_is_found_by_the_next_start_of_either_kind() {
    let dir = scratch();
    let mut model = lived(dir.path());
    for n in 0..3 {
        // The process ends while the log is replayed.
        let (db, opening) = open_at_once(dir.path());
        append(&db, &["a", "d"], [5000 + n * 100], &mut model);
        drop((db, opening));
    }
    assert_eq!(young_dirs(dir.path()), 1);
    let (db, mut opening) = open_at_once(dir.path());
    append(&db, &["a", "d"], [6000], &mut model);
    assert_eq!(samples(&*db.timeline())["d"], model["d"]);
    let copy = scratch();
    crate::tsdb::tests::copy_dir(dir.path(), copy.path());
    let tools = ReadOnlyTsdb::open(dir.path(), copy.path()).unwrap();
    assert_eq!(samples(&tools.timeline()), model);
    drop(tools);
    let taken = opening.run().unwrap();
    assert_eq!((taken.n_samples, taken.n_known), (8, 0));
    assert_eq!(samples(&*db.timeline()), model);
    drop((db, opening));
    for dir in [&dir, &copy] {
        std::fs::remove_file(dir.path().join("lock")).ok();
        assert_eq!(samples(&*open(dir.path()).timeline()), model);
        assert_eq!(young_dirs(dir.path()), 0);
        assert_eq!(samples(&*open(dir.path()).timeline()), model);
    }
}

#[test]
fn appends_go_on_while_one_head_gives_way_to_the_other() {
    let dir = scratch();
    let mut model = lived(dir.path());
    let (db, mut opening) = open_at_once(dir.path());
    let is_over = Arc::new(AtomicBool::new(false));
    let (writer, over) = (db.clone(), Arc::clone(&is_over));
    let (began, begun) = crossbeam::channel::bounded(1);
    let thread = std::thread::Builder::new()
        .spawn(move || {
            let (mut written, mut known) = (Model::new(), None);
            for t in 5000.. {
                let mut appender = writer.appender();
                let v = f64::from(i32::try_from(t).unwrap()) * 0.1;
                // As whoever keeps references does.
                let appended = known.map(|series| appender.append(series, t, v));
                if !matches!(appended, Some(Ok(()))) {
                    known = Some(appender.append_labels(&labels("w"), t, v).unwrap());
                }
                appender.commit().unwrap();
                let samples: &mut std::collections::BTreeMap<i64, u64> =
                    written.entry("w".to_owned()).or_default();
                samples.insert(t, v.to_bits());
                if t == 5200 {
                    began.send(()).unwrap();
                }
                if over.load(Ordering::SeqCst) && t > 5400 {
                    break;
                }
            }
            written
        })
        .unwrap();
    begun.recv().unwrap();
    let taken = opening.run().unwrap();
    is_over.store(true, Ordering::SeqCst);
    model.extend(thread.join().unwrap());
    assert!(taken.n_samples > 200);
    assert_eq!(samples(&*db.timeline()), model);
    drop((db, opening));
    assert_eq!(samples(&*open(dir.path()).timeline()), model);
}

#[test]
fn nothing_is_cut_deleted_or_copied_before_the_log_is_replayed() {
    let dir = scratch();
    let mut model = lived(dir.path());
    let (db, mut opening) = open_at_once(dir.path());
    append(&db, &["a"], [5000, 8000], &mut Model::new());
    assert_eq!((db.cut_due(), db.cut().unwrap()), (None, None));
    assert!(db.cut_out_of_order().unwrap().is_empty());
    assert!(db.evict_stale().unwrap().is_empty());
    let is_no = |result: Result<(), TsdbError>| {
        let refusal = result.unwrap_err();
        assert!(matches!(refusal, TsdbError::Replaying { .. }), "{refusal}");
    };
    is_no(db.delete_series(&all(), Interval::ALL));
    is_no(db.snapshot(false).map(|_| ()));
    is_no(db.clean_tombstones().map(|_| ()));
    db.tune(|head| head.set_out_of_order_window(70));
    db.sync().unwrap();
    opening.run().unwrap();
    assert_eq!(db.head().out_of_order_window(), 70);
    for t in [5000, 8000] {
        let bits = (f64::from(t) * 0.1).to_bits();
        model.get_mut("a").unwrap().insert(i64::from(t), bits);
    }
    assert!(db.cut().unwrap().is_some());
    db.snapshot(false).unwrap();
    assert_eq!(samples(&*db.timeline()), model);
}

#[test]
fn an_empty_directory_needs_no_young_head() {
    let dir = scratch();
    let clock = Arc::new(ManualClock::new(5000));
    let (db, opening) = Tsdb::open_at_once(dir.path(), settings(), clock, &Arc::default()).unwrap();
    assert!(opening.is_none() && !db.is_replaying());
}
