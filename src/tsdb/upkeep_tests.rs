//! Deletion, compaction and snapshots against a map of samples.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::block::{BlockMeta, meta};
use crate::foundation::ManualClock;
use crate::foundation::durable::replace_file;
use crate::model::{Interval, MatchType, Matcher};
use crate::storage::Appendable;
use crate::tsdb::tests::{Model, append, copy_dir, labels, open, samples, scratch};
use crate::tsdb::{SNAPSHOTS_DIR, Tsdb};

fn named(name: &str) -> [Matcher; 1] {
    [Matcher::equal("n", name)]
}

fn without_empty(mut model: Model) -> Model {
    model.retain(|_, samples: &mut BTreeMap<i64, u64>| !samples.is_empty());
    model
}

fn delete(db: &Tsdb, model: &mut Model, name: Option<&str>, interval: Interval) {
    let matchers = name.map_or_else(
        || [Matcher::new(MatchType::Regex, "n", ".+").unwrap()],
        named,
    );
    db.delete_series(&matchers, interval).unwrap();
    for (here, samples) in model {
        if name.is_none_or(|name| name == here) {
            samples.retain(|t, _| !interval.contains(*t));
        }
    }
}

fn ranges(db: &Tsdb) -> Vec<(i64, i64, u32)> {
    let blocks = db.blocks();
    let metas = blocks.iter().map(crate::block::Block::meta);
    metas
        .map(|meta| (meta.min_time, meta.max_time, meta.compaction.level))
        .collect()
}

fn cut_all(db: &Tsdb) {
    while db.cut_due().is_some() {
        db.cut().unwrap();
    }
}

#[test]
fn blocks_grow_threefold_while_queries_see_the_same_and_parents_go() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a", "b"], (0..1200).map(|n| n * 10), &mut model);
    cut_all(&db);
    assert_eq!(db.blocks().len(), 11);
    let held = db.timeline();
    let mut n_done = 0;
    while let Some(done) = db.compact().unwrap() {
        assert_eq!(samples(&*db.timeline()), model);
        assert_eq!(done.replaced.len(), 3);
        n_done += 1;
    }
    assert_eq!(n_done, 4);
    assert_eq!(
        ranges(&db),
        [(0, 9000, 3), (9000, 10_000, 1), (10_000, 11_000, 1)]
    );
    assert_eq!(samples(&*held), model);
    let meta = db.blocks()[0].meta().clone();
    assert_eq!(
        (meta.compaction.sources.len(), meta.compaction.parents.len()),
        (9, 3)
    );
    assert_eq!(db.stats().compactions_total, 4);
    drop((db, held));
    let db = open(dir.path());
    assert_eq!(samples(&*db.timeline()), model);
}

#[test]
fn a_crash_between_the_result_and_the_end_of_its_sources_is_tidied_up_at_the_start() {
    let dir = scratch();
    let kept = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a"], (0..600).map(|n| n * 10), &mut model);
    cut_all(&db);
    let names = |db: &Tsdb| -> Vec<String> {
        let blocks = db.blocks();
        blocks
            .iter()
            .map(|block| block.meta().ulid.to_string())
            .collect()
    };
    let before = names(&db);
    for name in &before {
        copy_dir(&dir.path().join(name), &kept.path().join(name));
    }
    let done = db.compact().unwrap().unwrap();
    let after = names(&db);
    drop(db);
    for name in &before {
        copy_dir(&kept.path().join(name), &dir.path().join(name));
    }
    let db = open(dir.path());
    assert_eq!(names(&db), after);
    assert_eq!(samples(&*db.timeline()), model);
    for gone in done.replaced {
        assert!(!dir.path().join(gone.to_string()).try_exists().unwrap());
    }
}

#[test]
fn a_block_that_cannot_be_compacted_is_marked_and_the_others_go_on() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a"], (0..1100).map(|n| n * 10), &mut model);
    cut_all(&db);
    let blocks = db.blocks();
    let damaged = blocks[1].dir().to_owned();
    drop((blocks, db));
    let path = damaged.join("chunks/000001");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    replace_file(&path, &bytes).unwrap();
    let db = open(dir.path());
    let error = db.compact().unwrap_err().to_string();
    assert!(error.contains("000001: offset 8"), "{error}");
    assert!(BlockMeta::read(&damaged).unwrap().compaction.failed);
    while db.compact().unwrap().is_some() {}
    let spans: Vec<_> = ranges(&db)
        .into_iter()
        .map(|(min, max, _)| max - min)
        .collect();
    assert_eq!(spans, [1000, 1000, 1000, 3000, 3000, 1000]);
    assert_eq!(db.stats().compactions_failed_total, 1);
}

#[test]
fn what_is_deleted_whole_leaves_no_block_and_cleaning_leaves_no_tombstones() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a", "b"], (0..500).map(|n| n * 10), &mut model);
    cut_all(&db);
    let first = Interval { min: 0, max: 999 };
    delete(&db, &mut model, None, first);
    delete(
        &db,
        &mut model,
        Some("b"),
        Interval {
            min: 500,
            max: 1500,
        },
    );
    assert_eq!(samples(&*db.timeline()), model);
    let parent = db.blocks()[1].meta().ulid;
    assert_eq!(db.clean_tombstones().unwrap(), 2);
    assert_eq!(db.clean_tombstones().unwrap(), 0);
    assert_eq!(samples(&*db.timeline()), model);
    let blocks = db.blocks();
    assert!(blocks.iter().all(|block| block.tombstones().is_empty()));
    assert_eq!((blocks.len(), blocks[0].meta().stats.num_samples), (3, 149));
    let compaction = &blocks[0].meta().compaction;
    assert_eq!((compaction.level, compaction.parents[0].ulid), (1, parent));
    assert_eq!(compaction.sources, [blocks[0].meta().ulid]);
}

#[test]
fn what_was_deleted_whole_does_not_come_back_from_the_log() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a", "b"], (0..240).map(|n| n * 10), &mut model);
    // Deleted from the head, so that the cut finds nothing; and from the newest block, which then goes.
    delete(&db, &mut model, None, Interval { min: 0, max: 999 });
    assert_eq!(db.cut().unwrap(), None);
    append(&db, &["a", "b"], (240..300).map(|n| n * 10), &mut model);
    assert!(db.cut().unwrap().is_some());
    let second = Interval {
        min: 1000,
        max: 1999,
    };
    delete(&db, &mut model, None, second);
    assert_eq!(db.clean_tombstones().unwrap(), 1);
    assert_eq!(db.blocks().len(), 0);
    assert_eq!(samples(&*db.timeline()), model);
    drop(db);
    let db = open(dir.path());
    assert_eq!(db.head().stats().floor, 2000);
    assert_eq!(samples(&*db.timeline()), model);
}

#[test]
fn a_deletable_block_goes_at_the_start() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a"], (0..300).map(|n| n * 10), &mut model);
    cut_all(&db);
    let blocks = db.blocks();
    let mut meta = blocks[0].meta().clone();
    meta.compaction.deletable = true;
    meta.write(blocks[0].dir()).unwrap();
    let gone = blocks[0].dir().join(meta::META_FILE);
    drop((blocks, db));
    let db = open(dir.path());
    assert!(!gone.try_exists().unwrap());
    model.get_mut("a").unwrap().retain(|t, _| *t >= 1000);
    assert_eq!(samples(&*db.timeline()), model);
}

fn snapshot(db: &Tsdb, skip_head: bool) -> (tempfile::TempDir, Model) {
    let name = db.snapshot(skip_head).unwrap();
    let dir = db.dir().join(SNAPSHOTS_DIR).join(&name);
    assert_eq!(name.len(), "20231114T221320Z-0123456789abcdef".len());
    assert!(name.starts_with("20231114T221320Z-"), "{name}");
    let copy = scratch();
    copy_dir(&dir, copy.path());
    std::fs::remove_dir_all(&dir).unwrap();
    let there = samples(&*open(copy.path()).timeline());
    (copy, there)
}

#[test]
fn a_snapshot_is_a_database_of_links_and_a_block_of_the_head() {
    use std::os::unix::fs::MetadataExt;
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a", "b"], (0..300).map(|n| n * 10), &mut model);
    cut_all(&db);
    delete(
        &db,
        &mut model,
        Some("a"),
        Interval {
            min: 900,
            max: 2100,
        },
    );
    let (copy, there) = snapshot(&db, false);
    assert_eq!(there, model);
    drop(copy);
    let name = db.snapshot(true).unwrap();
    let block = db.blocks()[0].clone();
    let linked = db
        .dir()
        .join(SNAPSHOTS_DIR)
        .join(name)
        .join(block.dir().file_name().unwrap());
    for file in ["index", "meta.json", "tombstones", "chunks/000001"] {
        let inode = |dir: &Path| std::fs::metadata(dir.join(file)).unwrap().ino();
        assert_eq!(inode(&linked), inode(block.dir()), "{file}");
    }
    // What is deleted later is not deleted from the snapshot.
    delete(&db, &mut model.clone(), None, Interval::ALL);
    model
        .values_mut()
        .for_each(|samples| samples.retain(|t, _| *t < 2000));
    let there = samples(&*open(linked.parent().unwrap()).timeline());
    assert_eq!(there, without_empty(model));
}

#[derive(Debug, Clone)]
enum Step {
    Append(u8, u8),
    Cut,
    Compact,
    Delete(u8, i64, i64),
    Clean,
    Snapshot(bool),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u8..8, 1u8..200).prop_map(|(who, n)| Step::Append(who, n)),
        4 => Just(Step::Cut),
        3 => Just(Step::Compact),
        4 => (0u8..4, -100i64..9000, 0i64..4000).prop_map(|(n, min, len)| Step::Delete(n, min, min + len)),
        1 => Just(Step::Clean),
        1 => any::<bool>().prop_map(Step::Snapshot),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_comes_back(steps in prop::collection::vec(step(), 1..40)) {
        let dir = scratch();
        let mut db = Some(open(dir.path()));
        let (mut model, mut now) = (Model::new(), 0);
        for step in steps {
            let here = db.clone().unwrap();
            match step {
                Step::Append(who, n) => {
                    let names: Vec<&str> = ["0", "1", "2"]
                        .into_iter()
                        .zip(0..)
                        .filter_map(|(name, bit)| (who >> bit & 1 == 1).then_some(name))
                        .collect();
                    let times = (1..=i64::from(n)).map(|n| now + n * 10);
                    append(&here, &names, times, &mut model);
                    now += i64::from(n) * 10;
                }
                Step::Cut => cut_all(&here),
                Step::Compact => while here.compact().unwrap().is_some() {},
                Step::Delete(n, min, max) => {
                    let name = n.to_string();
                    let name = (n < 3).then_some(name.as_str());
                    delete(&here, &mut model, name, Interval { min, max });
                }
                Step::Clean => {
                    here.clean_tombstones().unwrap();
                }
                Step::Snapshot(skip_head) => {
                    let (_copy, there) = snapshot(&here, skip_head);
                    let mut expect = model.clone();
                    if skip_head {
                        let newest = here.blocks().iter().map(|block| block.meta().max_time).max();
                        let end = newest.unwrap_or(i64::MIN);
                        expect.values_mut().for_each(|samples| samples.retain(|t, _| *t < end));
                    }
                    prop_assert_eq!(there, without_empty(expect));
                }
                Step::Restart => {
                    drop(here);
                    drop(db.take());
                    db = Some(open(dir.path()));
                }
            }
            let seen = samples(&*db.as_ref().unwrap().timeline());
            prop_assert_eq!(seen, without_empty(model.clone()));
        }
    }
}

#[test]
fn series_that_ended_leave_the_head_early_and_may_come_back() {
    let stale = f64::from_bits(crate::model::STALE_NAN_BITS);
    let dir = scratch();
    let mut model = Model::new();
    let mut settings = crate::tsdb::tests::settings();
    settings.stale_percent = Some(50);
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let reopen = || Tsdb::open(dir.path(), settings, Arc::clone(&clock) as _).unwrap();
    let db = reopen();
    append(
        &db,
        &["a", "b", "c", "d"],
        (0..50).map(|n| n * 10),
        &mut model,
    );
    let end = |names: &[&str], t: i64, model: &mut Model| {
        let mut appender = db.appender();
        for name in names {
            appender.append_labels(&labels(name), t, stale).unwrap();
            model.get_mut(*name).unwrap().insert(t, stale.to_bits());
        }
        appender.commit().unwrap();
    };
    end(&["a"], 500, &mut model);
    append(&db, &["b", "c", "d"], (51..100).map(|n| n * 10), &mut model);
    // One of four is not enough, and the second ended too late to be gone for good.
    assert_eq!(db.evict_stale().unwrap(), []);
    end(&["b"], 990 + 1, &mut model);
    append(&db, &["c", "d"], (100..110).map(|n| n * 10), &mut model);
    clock.set(1_700_000_000_000 + 250);
    assert_eq!(db.evict_stale().unwrap(), []);
    append(&db, &["c", "d"], (110..126).map(|n| n * 10), &mut model);
    clock.set(1_700_000_000_000 + 500);
    let before = db.timeline();
    let written = db.evict_stale().unwrap();
    let ranges: Vec<_> = written
        .iter()
        .map(|meta| (meta.min_time, meta.max_time, meta.stats.num_series))
        .collect();
    assert_eq!(ranges, [(0, 1000, 2)]);
    assert!(written[0].has_hint(meta::HINT_STALE_SERIES));
    assert_eq!(db.head().stats().n_series, 2);
    assert_eq!(samples(&*before), model);
    assert_eq!(samples(&*db.timeline()), model);
    append(&db, &["a", "c"], (126..130).map(|n| n * 10), &mut model);
    assert_eq!(samples(&*db.timeline()), model);
    drop((before, db));
    let db = reopen();
    assert_eq!(db.head().stats().n_series, 3);
    assert_eq!(samples(&*db.timeline()), model);
    // The head still takes samples of the time that only the others had.
    assert_eq!(db.head().stats().floor, i64::MIN);
    append(
        &db,
        &["a", "b", "c"],
        (130..300).map(|n| n * 10),
        &mut model,
    );
    while db.cut_due().is_some() {
        db.cut().unwrap();
        assert_eq!(samples(&*db.timeline()), model);
    }
    drop(db);
    assert_eq!(samples(&*reopen().timeline()), model);
}
