//! The seams: what moves from the head to a block is seen once, at any time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::block::Block;
use crate::chunk::decode_floats;
use crate::foundation::ManualClock;
use crate::foundation::durable::replace_file;
use crate::gateway::{BlockInfo, Snapshot};
use crate::head::HeadSettings;
use crate::model::{Interval, Labels, MatchType, Matcher, Resolution};
use crate::storage::{Appendable, LabelHints, Queryable, SelectHints};
use crate::tsdb::{RetentionSettings, Tsdb, TsdbError, TsdbSettings};
use crate::wal::{Compression, WalSettings};

pub(super) type Model = BTreeMap<String, BTreeMap<i64, u64>>;

/// In memory where the system has such a place: these tests make thousands of files, and none outlives its test.
pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

pub(super) fn settings() -> TsdbSettings {
    TsdbSettings {
        head: HeadSettings {
            chunk_range_ms: 1000,
            wal: WalSettings {
                segment_bytes_max: 32 << 10,
                compression: Compression::Snappy,
            },
            chunk_file_bytes_max: 16 << 10,
            ..HeadSettings::default()
        },
        retention: RetentionSettings::default(),
        stale_percent: None,
    }
}

pub(super) fn open(dir: &Path) -> Tsdb {
    Tsdb::open(
        dir,
        settings(),
        Arc::new(ManualClock::new(1_700_000_000_000)),
    )
    .unwrap()
}

pub(super) fn labels(name: &str) -> Labels {
    Labels::new(&[("__name__", "m"), ("n", name)]).unwrap()
}

pub(super) fn all() -> [Matcher; 1] {
    [Matcher::new(MatchType::Regex, "n", ".+").unwrap()]
}

/// Every timestamp once, from the chunk that comes first, as the seam demands of readers.
pub(super) fn samples(source: &dyn Queryable) -> Model {
    let mut set = source
        .select(&all(), &SelectHints::new(Interval::ALL))
        .unwrap();
    let mut model = Model::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let merged: &mut BTreeMap<i64, u64> = model
            .entry(series.labels.value("n").to_owned())
            .or_default();
        for chunk in &series.chunks {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
            for (t, v) in times.into_iter().zip(values) {
                let first = *merged.entry(t).or_insert(v.to_bits());
                assert_eq!(first, v.to_bits(), "{:?} {t}", series.labels);
            }
        }
    }
    model
}

pub(super) fn append(
    db: &Tsdb,
    names: &[&str],
    times: impl IntoIterator<Item = i64>,
    model: &mut Model,
) {
    for t in times {
        let mut appender = db.appender();
        for name in names {
            let v = f64::from(i32::try_from(t).unwrap()) * 0.1;
            appender.append_labels(&labels(name), t, v).unwrap();
            model
                .entry((*name).to_owned())
                .or_default()
                .insert(t, v.to_bits());
        }
        appender.commit().unwrap();
    }
}

#[test]
fn blocks_are_cut_and_everything_is_there_before_after_and_after_a_restart() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a", "b"], (0..500).map(|n| 3 + n * 10), &mut model);
    append(&db, &["c"], [5000], &mut model);
    let early = db.timeline();
    let mut ranges = Vec::new();
    while let Some(meta) = db.cut().unwrap() {
        assert_eq!(
            (meta.compaction.level, meta.compaction.sources),
            (1, vec![meta.ulid])
        );
        ranges.push((
            meta.min_time,
            meta.max_time,
            meta.stats.num_samples,
            meta.stats.num_series,
        ));
        assert_eq!(samples(&*db.timeline()), model);
        assert_eq!(samples(&*early), model);
    }
    assert_eq!(
        ranges,
        [
            (3, 1000, 200, 2),
            (1003, 2000, 200, 2),
            (2003, 3000, 200, 2),
            (3003, 4000, 200, 2)
        ]
    );
    let stats = db.stats();
    assert_eq!(
        (stats.n_blocks, stats.cuts_total, stats.lowest_t),
        (4, 4, Some(3))
    );
    assert_eq!(
        (stats.head.min_t, stats.head.max_t),
        (Some(4003), Some(5000))
    );
    let values = early
        .label_values("n", &[], &LabelHints::new(Interval::ALL))
        .unwrap();
    assert_eq!(values.values, ["a", "b", "c"]);
    drop(early);
    drop(db);
    let db = open(dir.path());
    assert_eq!(samples(&*db.timeline()), model);
    assert_eq!(db.head().stats().min_t, Some(4003));
    assert_eq!(db.quarantined(), []);
}

#[test]
fn a_directory_has_one_owner() {
    let dir = scratch();
    let db = open(dir.path());
    let clock = Arc::new(ManualClock::new(0));
    let twice = Tsdb::open(dir.path(), settings(), clock);
    assert!(matches!(twice, Err(TsdbError::Locked { .. })), "{twice:?}");
    drop(db);
    open(dir.path());
}

#[test]
fn what_does_not_open_is_set_aside_with_its_reason_and_the_rest_answers() {
    let dir = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a"], (0..400).map(|n| n * 10), &mut model);
    while db.cut().unwrap().is_some() {}
    let blocks = db.blocks();
    let damaged = blocks[0].dir().to_owned();
    let range = blocks[0].meta().range();
    drop((blocks, db));
    replace_file(&damaged.join("index"), b"no index").unwrap();
    let id = damaged.file_name().unwrap().to_str().unwrap().to_owned();
    for ending in [".tmp-for-creation", ".tmp-for-deletion", ".tmp"] {
        std::fs::create_dir(dir.path().join(format!("{id}{ending}"))).unwrap();
    }
    std::fs::create_dir(dir.path().join("other.tmp")).unwrap();
    for _ in 0..2 {
        let db = open(dir.path());
        let quarantined = db.quarantined();
        assert_eq!(quarantined.len(), 1);
        assert_eq!(quarantined[0].path, dir.path().join("quarantine").join(&id));
        assert!(quarantined[0].reason.contains("index"), "{quarantined:?}");
        let mut rest = model.clone();
        rest.get_mut("a")
            .unwrap()
            .retain(|t, _| !range.intersects(Interval { min: *t, max: *t }));
        assert_eq!(samples(&*db.timeline()), rest);
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".tmp"))
            .collect();
        assert_eq!(left, ["other.tmp"]);
    }
}

#[test]
fn retention_deletes_released_blocks_only_and_open_queries_keep_them() {
    let dir = scratch();
    let mut model = Model::new();
    let mut settings = settings();
    settings.retention.time_ms = Some(2000);
    let clock = Arc::new(ManualClock::new(7));
    let db = Tsdb::open(dir.path(), settings, clock).unwrap();
    append(&db, &["a"], (0..600).map(|n| n * 10), &mut model);
    while db.cut().unwrap().is_some() {}
    let held = db.timeline();
    assert_eq!(db.blocks().len(), 5);
    assert_eq!(db.apply_retention(&|_| false).unwrap(), []);
    assert_eq!(
        (db.blocks().len(), db.stats().retentions_held_back_total),
        (5, 3)
    );
    let deleted = db.apply_retention(&|meta| meta.min_time >= 1000).unwrap();
    assert_eq!(
        (
            deleted.len(),
            db.blocks().len(),
            db.stats().time_retentions_total
        ),
        (2, 3, 2)
    );
    assert_eq!(samples(&*held), model);
    let now = samples(&*db.timeline());
    assert!(now["a"].range(1000..3000).next().is_none());
    assert_eq!(now["a"].len(), model["a"].len() - 200);
}

#[test]
fn a_block_that_moved_to_another_source_is_seen_all_the_while() {
    let dir = scratch();
    let bucket = scratch();
    let mut model = Model::new();
    let db = open(dir.path());
    append(&db, &["a", "b"], (0..300).map(|n| n * 10), &mut model);
    let before_all = db.timeline();
    let meta = db.cut().unwrap().unwrap();
    let name = meta.ulid.to_string();
    copy_dir(&dir.path().join(&name), &bucket.path().join(&name));
    let shipped = Block::open(&bucket.path().join(&name)).unwrap();
    let local_only = db.timeline();
    let info = BlockInfo {
        id: meta.ulid,
        range: meta.range(),
        resolution: Resolution::Raw,
        sources: vec![meta.ulid],
        external: Labels::empty(),
        is_own: true,
    };
    let served: Vec<(BlockInfo, Arc<dyn Queryable>)> = vec![(info, Arc::new(shipped))];
    db.set_bucket(Arc::new(Snapshot::new(served)));
    let both = db.timeline();
    assert!(db.delete_block(meta.ulid).unwrap());
    assert!(!db.delete_block(meta.ulid).unwrap());
    let retired = db.timeline();
    assert_eq!(retired.blocks().len(), 0);
    for timeline in [before_all, local_only, both, retired] {
        assert_eq!(samples(&*timeline), model);
    }
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a reader must have seen: everything committed before the timeline was made, and of later commits all or nothing.
fn check_seen(db: &Tsdb, committed: &AtomicI64, held: &mut Vec<(i64, Arc<crate::tsdb::Timeline>)>) {
    let floor = committed.load(Ordering::SeqCst);
    held.push((floor, db.timeline()));
    if held.len() > 4 {
        held.remove(0);
    }
    for (floor, timeline) in held {
        let seen = samples(&**timeline);
        let reference = &seen["0"];
        let last = *reference.last_key_value().unwrap().0;
        assert!(*floor <= last, "committed {floor}, seen up to {last}");
        let expected: Vec<i64> = (0..=last).step_by(10).collect();
        for (name, samples) in &seen {
            let times: Vec<i64> = samples.keys().copied().collect();
            assert_eq!(times, expected, "series {name}, floor {floor}");
        }
        assert_eq!(seen.len(), 20);
    }
}

#[test]
fn every_committed_sample_is_seen_exactly_once_while_blocks_are_cut() {
    let dir = scratch();
    let db = open(dir.path());
    let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    append(&db, &names, [0], &mut Model::new());
    let committed = AtomicI64::new(0);
    let is_over = AtomicBool::new(false);
    let n_checks = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    check_seen(&db, &committed, &mut held);
                    n_checks.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                db.cut().unwrap();
            }
        });
        for n in 1..1500 {
            append(&db, &names, [n * 10], &mut Model::new());
            committed.store(n * 10, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    while db.cut().unwrap().is_some() {}
    assert!(db.blocks().len() >= 12, "{}", db.blocks().len());
    assert!(n_checks.load(Ordering::SeqCst) > 5);
    check_seen(&db, &committed, &mut Vec::new());
    drop(db);
    check_seen(&open(dir.path()), &committed, &mut Vec::new());
}

#[test]
fn how_many_series_match_is_known_at_once_where_the_head_has_all_of_them() {
    let dir = scratch();
    let db = open(dir.path());
    let names = ["a", "b"];
    append(&db, &names, (0..400).map(|n| n * 10), &mut Model::new());
    let matcher = Matcher::equal("__name__", "m");
    let at_most = |min, max| {
        let interval = Interval { min, max };
        db.timeline().series_at_most(&[&matcher], interval)
    };
    assert_eq!(at_most(0, 3_990), Some(2));
    assert_eq!(at_most(10_000, 20_000), Some(0));
    let cut = db.cut().unwrap().unwrap();
    let end = cut.max_time;
    assert_eq!(at_most(end - 1, 3_990), None);
    assert_eq!(at_most(end, 3_990), Some(2));
}

#[test]
fn samples_are_left_out_only_where_the_head_has_all_of_them() {
    let dir = scratch();
    let db = open(dir.path());
    let times = (1..400).map(|n| n * 10);
    append(&db, &["a", "b"], times, &mut Model::new());
    let n_samples = |min, max, presence_ms| {
        let hints = SelectHints {
            presence_ms,
            ..SelectHints::new(Interval { min, max })
        };
        let mut set = db.timeline().select(&all(), &hints).unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        while let Some(series) = set.next() {
            for chunk in &series.unwrap().chunks {
                decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
            }
        }
        times.len()
    };
    let reach_ms = Some(300_000);
    assert_eq!(n_samples(0, 3_990, None), 2 * 399);
    assert_eq!(n_samples(0, 3_990, reach_ms), 2 * 2);
    let end = db.cut().unwrap().unwrap().max_time;
    let with_block = n_samples(end - 1, 3_990, None);
    assert_eq!(n_samples(end - 1, 3_990, reach_ms), with_block);
    assert_eq!(n_samples(end, 3_990, reach_ms), 2 * 2);
}
