//! The head against a map of samples: random transactions, truncations and restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chunk::decode_floats;
use crate::foundation::SystemClock;
use crate::head::{Head, HeadSettings, ReplayProgress};
use crate::model::{Interval, Labels, MatchType, Matcher, Metadata, MetricType, Spelling};
use crate::storage::{AppendError, Appendable, Appender, Queryable, SelectHints, SeriesRef};
use crate::wal::{Compression, WalSettings};

/// Samples by series name and time.
type Model = BTreeMap<String, BTreeMap<i64, u64>>;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// In memory where the system has such a place: these tests make thousands of files, and none outlives its test.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

fn settings() -> HeadSettings {
    HeadSettings {
        chunk_range_ms: 1000,
        wal: WalSettings {
            segment_bytes_max: 32 << 10,
            compression: Compression::Snappy,
        },
        chunk_file_bytes_max: 4 << 10,
        ..HeadSettings::default()
    }
}

fn open(dir: &Path, floor: i64) -> Head {
    let progress = ReplayProgress::default();
    let (head, report) = Head::open(dir, settings(), floor, &progress).unwrap();
    let (n_done, n_total) = progress.get();
    assert_eq!((n_done, n_total), (report.n_segments, report.n_segments));
    head
}

fn labels(name: &str) -> Labels {
    Labels::new(&[("__name__", "m"), ("n", name)]).unwrap()
}

fn samples(source: &dyn Queryable, interval: Interval) -> Model {
    let all = [Matcher::new(MatchType::Regex, "n", ".+").unwrap()];
    let mut set = source.select(&all, &SelectHints::new(interval)).unwrap();
    let mut model = Model::new();
    while let Some(series) = set.next() {
        let series = series.unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for chunk in &series.chunks {
            decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values).unwrap();
            assert_eq!(Some(&chunk.max_t), times.last());
        }
        assert!(
            times.is_sorted_by(|a, b| a < b),
            "{:?} {times:?}",
            series.labels
        );
        let values = values.iter().map(|v| v.to_bits());
        model.insert(
            series.labels.value("n").to_owned(),
            times
                .into_iter()
                .zip(values)
                .filter(|(t, _)| interval.contains(*t))
                .collect(),
        );
    }
    model.retain(|_, samples| !samples.is_empty());
    model
}

fn since(model: &Model, mint: i64) -> Model {
    let mut model: Model = model
        .iter()
        .map(|(name, samples)| {
            (
                name.clone(),
                samples.range(mint..).map(|(t, v)| (*t, *v)).collect(),
            )
        })
        .collect();
    model.retain(|_, samples: &mut BTreeMap<i64, u64>| !samples.is_empty());
    model
}

fn assert_same(found: &Model, expected: &Model, seed: u64) {
    for name in found.keys().chain(expected.keys()) {
        let (found, expected) = (found.get(name), expected.get(name));
        let times =
            |s: Option<&BTreeMap<i64, u64>>| s.map(|s| s.keys().copied().collect::<Vec<_>>());
        assert!(
            found == expected,
            "seed {seed} series {name}:\nfound    {:?}\nexpected {:?}",
            times(found),
            times(expected)
        );
    }
}

/// By labels, by how they are written, or as it was said to come.
fn append_somehow(
    appender: &mut dyn Appender,
    labels: &Labels,
    (t, v): (i64, f64),
) -> Result<(), AppendError> {
    let spelling = Spelling::of_bytes(labels.to_string().as_bytes());
    let mut found = Vec::new();
    if t % 3 != 0 {
        appender.by_spelling(&[spelling], &mut found);
    }
    if let Some(series) = found.first().copied().flatten() {
        if t % 3 == 1 {
            appender.expect(&[SeriesRef(u64::MAX), series, series]);
        }
        let appended = appender.append(series, t, v);
        // A reference alone is worth nothing once the series is dropped.
        if appended != Err(AppendError::UnknownSeries) {
            return appended;
        }
    }
    let series = appender.append_labels(labels, t, v)?;
    appender.learn(spelling, series);
    Ok(())
}

/// One transaction of random samples; the model learns what must have been taken.
fn transact(head: &Head, random: &mut Random, model: &mut Model, now: &mut i64, floor: i64) {
    let mut appender = head.appender();
    let max_t = model
        .values()
        .filter_map(|s| s.keys().last())
        .max()
        .copied();
    let max_t = max_t.map(|t| t.max(floor)).or(head.stats().max_t);
    let mut staged: Vec<(String, i64, f64)> = Vec::new();
    let mut first_bound = None;
    for _ in 0..random.below(40) {
        let name = random.below(12).to_string();
        *now += random.below(20).cast_signed();
        let t = *now - random.below(30).cast_signed() * i64::from(random.below(4) == 0);
        let v = if random.below(3) == 0 {
            1.0
        } else {
            f64::from(u32::try_from(random.below(1 << 31)).unwrap()) * 0.1
        };
        let result = append_somehow(appender.as_mut(), &labels(&name), (t, v));
        let bound = *first_bound
            .get_or_insert(max_t.unwrap_or(t) - 500)
            .max(&mut floor.clone());
        let last = model.get(&name).and_then(|s| s.last_key_value());
        let expected = match last {
            _ if t < bound => Err(AppendError::OutOfBounds { oldest: bound }),
            Some((last_t, _)) if t < *last_t => Err(AppendError::OutOfOrder { newest: *last_t }),
            Some((last_t, bits)) if t == *last_t && *bits != v.to_bits() => {
                Err(AppendError::Duplicate)
            }
            _ => Ok(()),
        };
        assert_eq!(result, expected, "{name} {t} after {last:?} bound {bound}");
        if expected.is_ok() {
            staged.push((name, t, v));
        }
    }
    if random.below(5) == 0 {
        appender.rollback();
        return;
    }
    appender.commit().unwrap();
    for (name, t, v) in staged {
        let samples = model.entry(name).or_default();
        if samples.last_key_value().is_none_or(|(last, _)| *last < t) {
            samples.insert(t, v.to_bits());
        }
    }
    model.retain(|_, samples| !samples.is_empty());
}

fn run(seed: u64) {
    let dir = scratch();
    let mut random = Random(seed);
    let (mut model, mut now, mut floor) = (Model::new(), 10_000i64, i64::MIN);
    let mut head = open(dir.path(), floor);
    for step in 0..50 {
        match random.below(12) {
            0 => {
                drop(head);
                head = open(dir.path(), floor);
            }
            1 => {
                let Some(max_t) = head.stats().max_t else {
                    continue;
                };
                floor = floor.max(max_t - 700);
                head.truncate_before(floor).unwrap();
                // Dropped in memory as a whole: a series starts anew once all of it is old.
                model = since(&model, floor);
            }
            2 => {
                let view = head.view();
                let before = since(&model, floor);
                transact(&head, &mut random, &mut model, &mut now, floor);
                let interval = Interval {
                    min: floor,
                    max: i64::MAX,
                };
                assert_same(&samples(&view, interval), &before, seed);
            }
            _ => transact(&head, &mut random, &mut model, &mut now, floor),
        }
        if step % 7 != 6 {
            continue;
        }
        let interval = Interval {
            min: floor,
            max: i64::MAX,
        };
        assert_same(&samples(&head, interval), &since(&model, floor), seed);
    }
    head.sync(&SystemClock).unwrap();
}

#[test]
fn random_transactions_truncations_and_restarts_keep_exactly_what_was_committed() {
    for seed in 0..200 {
        run(seed);
    }
}

/// The state after each of `n` commits.
fn committed(dir: &Path, n: i32) -> Vec<Model> {
    let head = open(dir, i64::MIN);
    let mut states = vec![Model::new()];
    for commit in 0..n {
        let mut appender = head.appender();
        for name in ["a", "b", "c"] {
            appender
                .append_labels(&labels(name), i64::from(commit) * 15, f64::from(commit))
                .unwrap();
        }
        appender.commit().unwrap();
        states.push(samples(&head, Interval::ALL));
    }
    states
}

fn copy_dir(from: &Path, to: &Path) {
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

#[test]
fn every_truncation_of_the_last_segment_opens_with_a_prefix_of_the_commits() {
    let dir = scratch();
    let states = committed(dir.path(), 12);
    let segment = dir.path().join("wal/00000000");
    let bytes = std::fs::read(&segment).unwrap();
    let mut n_seen = 0;
    for len in 0..=bytes.len() {
        let copy = scratch();
        std::fs::create_dir(copy.path().join("wal")).unwrap();
        crate::foundation::durable::replace_file(&copy.path().join("wal/00000000"), &bytes[..len])
            .unwrap();
        let head = open(copy.path(), i64::MIN);
        let state = samples(&head, Interval::ALL);
        let at = states
            .iter()
            .position(|s| *s == state)
            .unwrap_or_else(|| panic!("cut at {len}: {state:?}"));
        assert!(at >= n_seen, "cut at {len}");
        n_seen = at;
        if len % 50 == 0 {
            // It goes on from there, and once more.
            let mut appender = head.appender();
            appender.append_labels(&labels("a"), 10_000, 1.0).unwrap();
            appender.commit().unwrap();
            let with_new = samples(&head, Interval::ALL);
            drop(head);
            assert_eq!(
                samples(&open(copy.path(), i64::MIN), Interval::ALL),
                with_new
            );
        }
    }
    assert_eq!(n_seen, 12);
}

#[test]
fn every_damaged_byte_of_log_and_chunk_files_opens_and_serves_the_rest() {
    let dir = scratch();
    let states = committed(dir.path(), 150);
    let full = states.last().unwrap();
    for name in ["wal/00000000", "chunks_head/000001"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        assert!(bytes.len() > 500, "{name}");
        for at in (0..bytes.len()).step_by(3) {
            let copy = scratch();
            copy_dir(dir.path(), copy.path());
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            crate::foundation::durable::replace_file(&copy.path().join(name), &damaged).unwrap();
            let head = open(copy.path(), i64::MIN);
            let state = samples(&head, Interval::ALL);
            if name.starts_with("chunks") {
                assert_eq!(&state, full, "{name} at {at}");
            }
            for (series, found) in &state {
                let all = &full[series];
                assert!(
                    found.iter().all(|(t, v)| all.get(t) == Some(v)),
                    "{name} at {at}"
                );
            }
            let before = head.stats();
            drop(head);
            let again = open(copy.path(), i64::MIN);
            assert_eq!(samples(&again, Interval::ALL), state, "{name} at {at}");
            assert!(
                before.wal_corruptions_total
                    + before.chunk_file_corruptions_total
                    + before.wal_unknown_refs_total
                    + before.wal_skipped_records_total
                    > 0
                    || state == *full,
                "{name} at {at}"
            );
        }
    }
}

#[test]
fn metadata_is_kept_by_metric_name_and_comes_back() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let said = Metadata {
        metric_type: MetricType::Gauge,
        help: "An m.".to_owned(),
        unit: String::new(),
    };
    for _ in 0..3 {
        let mut appender = head.appender();
        let series = appender
            .append_labels(&labels("a"), head.stats().max_t.unwrap_or(0) + 10, 1.0)
            .unwrap();
        appender.metadata(series, &said).unwrap();
        appender.commit().unwrap();
    }
    drop(head);
    let head = open(dir.path(), i64::MIN);
    let listed: Vec<_> = head
        .metadata()
        .into_iter()
        .map(|(n, m)| (n, (*m).clone()))
        .collect();
    assert_eq!(listed, [("m".to_owned(), said)]);
    head.truncate_before(1 << 40).unwrap();
    assert!(head.metadata().is_empty());
    assert_eq!(head.stats().n_series, 0);
}

#[test]
fn an_unknown_reference_is_refused_and_an_empty_label_set_too() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let mut appender = head.appender();
    let unknown = appender.append(SeriesRef(77), 1, 1.0);
    assert_eq!(unknown, Err(AppendError::UnknownSeries));
    let empty = appender.append_labels(&Labels::empty(), 1, 1.0);
    assert_eq!(empty, Err(AppendError::EmptyLabels));
}

#[test]
fn a_spelling_finds_its_series_until_that_is_dropped() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let spelling = Spelling::of_bytes(b"a as somebody writes it");
    let find = || {
        let mut found = Vec::new();
        head.appender().by_spelling(&[spelling], &mut found);
        found
    };
    let mut appender = head.appender();
    let old = appender.append_labels(&labels("a"), 100, 1.0).unwrap();
    appender.learn(spelling, old);
    appender.commit().unwrap();
    assert_eq!(find(), [Some(old)]);
    let mut early = head.appender();
    early.by_spelling(&[spelling], &mut Vec::new());
    head.truncate_before(400).unwrap();
    assert_eq!(find(), [None]);
    // Who had found it before is served by the series that comes in its place.
    early.append(old, 500, 2.0).unwrap();
    early.commit().unwrap();
    let left = samples(&head, Interval::ALL);
    assert_eq!(left["a"].keys().collect::<Vec<_>>(), [&500]);
}

#[test]
fn a_series_dropped_between_staging_and_commit_is_made_again() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let mut appender = head.appender();
    appender.append_labels(&labels("a"), 100, 1.0).unwrap();
    appender.commit().unwrap();
    let mut appender = head.appender();
    let old = appender.append_labels(&labels("a"), 500, 2.0).unwrap();
    head.truncate_before(400).unwrap();
    appender.commit().unwrap();
    assert_eq!(samples(&head, Interval::ALL)["a"].len(), 1);
    let mut appender = head.appender();
    assert_eq!(
        appender.append(old, 600, 1.0),
        Err(AppendError::UnknownSeries)
    );
    drop(appender);
    drop(head);
    assert_eq!(samples(&open(dir.path(), 400), Interval::ALL)["a"].len(), 1);
}

#[test]
fn a_poisoned_log_refuses_commits_and_answers_queries() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let mut appender = head.appender();
    appender.append_labels(&labels("a"), 100, 1.0).unwrap();
    appender.commit().unwrap();
    head.inner()
        .committer
        .lock()
        .wal
        .poison("fsync: input/output error".to_owned());
    let mut appender = head.appender();
    appender.append_labels(&labels("a"), 200, 1.0).unwrap();
    let refused = appender.commit();
    assert!(
        matches!(&refused, Err(AppendError::Closed(why)) if why.contains("input/output")),
        "{refused:?}"
    );
    assert_eq!(samples(&head, Interval::ALL)["a"].len(), 1);
    assert_eq!(
        head.poisoned().as_deref(),
        Some("fsync: input/output error")
    );
}

/// Appends to its own and to shared series until told to stop; samples another writer overtakes are lost, not wrong.
fn write_until(head: &Head, writer: i64, is_over: &AtomicBool) {
    for round in 0.. {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let mut appender = head.appender();
        for n in 0..30 {
            // A third of the series fall silent for a while, so that they are dropped and come again.
            if n % 3 == 0 && round / 40 % 2 == 1 {
                continue;
            }
            let name = if n < 20 {
                format!("w{writer}-{n}")
            } else {
                format!("shared-{n}")
            };
            let t = 10_000 + round * 20 + writer;
            let result = append_somehow(appender.as_mut(), &labels(&name), (t, f64::from(n)));
            let is_expected = matches!(
                result,
                Ok(()) | Err(AppendError::OutOfOrder { .. } | AppendError::OutOfBounds { .. })
            );
            assert!(is_expected, "{result:?}");
        }
        appender.commit().unwrap();
    }
}

#[test]
fn writers_and_truncations_at_once_leave_memory_and_log_the_same() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let is_over = AtomicBool::new(false);
    let mut floor = i64::MIN;
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (head, is_over) = (&head, &is_over);
            scope.spawn(move || write_until(head, writer, is_over));
        }
        while head.stats().truncations_total < 60 {
            let Some(max_t) = head.stats().max_t else {
                continue;
            };
            if max_t - 700 > floor {
                floor = max_t - 700;
                head.truncate_before(floor).unwrap();
                samples(
                    &head,
                    Interval {
                        min: floor,
                        max: i64::MAX,
                    },
                );
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let stats = head.stats();
    assert!(
        stats.series_removed_total > 0 && stats.checkpoints_total > 0,
        "{stats:?}"
    );
    let interval = Interval {
        min: floor,
        max: i64::MAX,
    };
    let in_memory = samples(&head, interval);
    drop(head);
    let replayed = open(dir.path(), floor);
    assert_same(&samples(&replayed, interval), &in_memory, 0);
    assert_eq!(replayed.stats().wal_corruptions_total, 0);
    assert_eq!(replayed.stats().wal_unknown_refs_total, 0);
}

#[test]
fn what_was_staged_before_its_range_closed_is_not_committed_into_it() {
    let dir = scratch();
    let head = open(dir.path(), i64::MIN);
    let mut early = head.appender();
    early.append_labels(&labels("late"), 990, 1.0).unwrap();
    early.append_labels(&labels("late"), 1000, 2.0).unwrap();
    head.close_before(1000);
    let before = samples(&head.view(), Interval::ALL);
    early.commit().unwrap();
    let after = samples(&head.view(), Interval::ALL);
    assert_eq!(before, Model::new());
    let times: Vec<i64> = after["late"].keys().copied().collect();
    assert_eq!(times, [1000], "a cut that has begun would have missed 990");
    let refused = head.appender().append_labels(&labels("new"), 999, 1.0);
    assert_eq!(refused, Err(AppendError::OutOfBounds { oldest: 1000 }));
}
