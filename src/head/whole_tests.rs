//! Everything a head can hold, and that each way to open it finds the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::foundation::checksum::crc32c;
use crate::foundation::durable::replace_file;
use crate::head::pictures::picture;
use crate::head::series::MemSeries;
use crate::head::values_tests::{Model, Random, append, content, labels, scratch, settings};
use crate::head::{Head, HeadSettings, ReplayProgress, ReplayReport};
use crate::model::{
    Exemplar, Interval, Labels, Matcher, Metadata, MetricType, SampleTime, stale_nan,
};
use crate::storage::Appendable;
use crate::wal::{
    Compression, RecordKind, SegmentReader, WalSettings, list_segments, read_samples,
};

pub(super) fn rich(keeps_starts: bool) -> HeadSettings {
    HeadSettings {
        out_of_order_window_ms: 3000,
        ..settings(keeps_starts)
    }
}

pub(super) fn open(
    dir: &Path,
    settings: HeadSettings,
    floor: i64,
    n_threads: usize,
) -> (Head, ReplayReport) {
    let progress = ReplayProgress::default();
    let opened = Head::open_with(dir, (settings, floor), &progress, n_threads).unwrap();
    let report = opened.1;
    assert_eq!((report.n_damages, report.n_records_skipped), (0, 0));
    assert_eq!(progress.n_samples(), report.n_samples);
    assert_counted(&opened.0);
    opened
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// The chunks that are counted are those that are there.
#[track_caller]
fn assert_counted(head: &Head) {
    let mut n_chunks = 0;
    let count = |series: &Arc<MemSeries>| n_chunks += series.lock().n_chunks() as u64;
    head.inner().series.for_each(count);
    assert_eq!(head.stats().n_chunks, n_chunks);
}

/// What was appended: series and times.
type Used = BTreeSet<(u64, i64)>;

fn exemplar(random: &mut Random, t: i64) -> Exemplar {
    Exemplar {
        labels: Labels::new(&[("trace", random.below(1 << 30).to_string())]).unwrap(),
        t,
        v: 0.5,
        has_own_time: true,
    }
}

fn transact(head: &Head, random: &mut Random, (now, used): (&mut i64, &mut Used)) {
    let mut appender = head.appender();
    for _ in 0..random.below(80) {
        *now += random.below(4).cast_signed();
        let number = random.below(9);
        let labels = labels(&number.to_string());
        let series = appender
            .series(labels.key(), &mut || Ok(labels.clone()))
            .unwrap();
        let ago = [0, 0, 0, 40, 300, 900][usize::try_from(random.below(6)).unwrap()];
        let t = *now - ago;
        // Of two that come late for one time, either may be answered.
        if !used.insert((number, t)) {
            continue;
        }
        let start_t = [0, t - 50, 7][usize::try_from(random.below(3)).unwrap()];
        let start_t = if head.settings().keeps_start_times {
            start_t
        } else {
            0
        };
        // Refusals are as good as anything else: what counts is what the log has.
        append(
            &mut *appender,
            random,
            (series, number),
            SampleTime { t, start_t },
        )
        .0
        .ok();
        if random.below(9) == 0 {
            appender.exemplar(series, &exemplar(random, t)).ok();
        }
        if random.below(20) == 0 {
            let metadata = Metadata {
                metric_type: MetricType::Gauge,
                help: random.below(3).to_string(),
                unit: String::new(),
            };
            appender.metadata(series, &metadata).unwrap();
        }
    }
    // Nothing of these comes late, so they leave when they end, and come back.
    *now += 1;
    for name in ["10", "11", "12"] {
        let v = if random.below(2) == 0 {
            stale_nan()
        } else {
            0.5
        };
        appender.append_labels(&labels(name), *now, v).unwrap();
    }
    appender.commit().unwrap();
}

/// A life of `n_steps` steps, at the end of which the directory is as a process leaves it that is killed.
fn live(dir: &Path, settings: HeadSettings, random: &mut Random, n_steps: usize) -> (Head, i64) {
    live_and(dir, settings, (random, n_steps, true), |_, _| ())
}

/// The same, where series leave early only if they may, with something else between the steps.
pub(super) fn live_and(
    dir: &Path,
    settings: HeadSettings,
    (random, n_steps, may_leave): (&mut Random, usize, bool),
    between: impl Fn(&Head, &mut Random),
) -> (Head, i64) {
    let (mut now, mut floor) = (20_000, i64::MIN);
    let mut used = Used::new();
    let mut head = open(dir, settings, floor, 2).0;
    for _ in 0..n_steps {
        match random.below(16) {
            0 => {
                drop(head);
                let n_threads = 1 + usize::try_from(random.below(4)).unwrap();
                head = open(dir, settings, floor, n_threads).0;
            }
            1 if head.stats().max_t.is_some() => {
                floor = floor.max(now - 900);
                head.truncate_before(floor).unwrap();
            }
            2 if may_leave => {
                let stale = head.stale_series(i64::MAX);
                head.evict(&stale).unwrap();
            }
            3 => {
                let max = now - random.below(600).cast_signed();
                let min = max - random.below(900).cast_signed();
                let number = random.below(9).to_string();
                let matchers = [Matcher::equal("n", &number)];
                head.delete(&matchers, Interval { min, max }).unwrap();
            }
            4 if random.below(4) == 0 => {
                if let Some(frozen) = head.freeze_out_of_order().unwrap() {
                    head.drop_frozen(frozen).unwrap();
                }
            }
            5 => head.rotate_log(),
            _ => transact(&head, random, (&mut now, &mut used)),
        }
        between(&head, random);
        assert_counted(&head);
    }
    (head, floor)
}

#[test]
fn any_number_of_threads_replays_the_same_head() {
    let mut n_samples = 0;
    let (mut n_late, mut n_aliases) = (0, 0);
    for seed in 0..24 {
        let dir = scratch();
        let settings = rich(seed % 2 == 1);
        let (head, floor) = live(dir.path(), settings, &mut Random(seed), 60);
        drop(head);
        let open_copy = |n_threads| {
            let other = scratch();
            copy(dir.path(), other.path());
            let (head, report) = open(other.path(), settings, floor, n_threads);
            let aliases = head.inner().retired.lock().aliases.len();
            (picture(&head), report, aliases)
        };
        let (alone, report, aliases) = open_copy(1);
        for n_threads in [2, 3, 16] {
            let (together, same_report, _) = open_copy(n_threads);
            for (left, right) in alone.iter().zip(&together) {
                assert_eq!(left, right, "seed {seed}, {n_threads} threads");
            }
            assert_eq!(alone.len(), together.len());
            assert_eq!(report, same_report, "seed {seed}, {n_threads} threads");
        }
        n_samples += report.n_samples;
        n_late += report.n_out_of_order_chunks;
        n_aliases += aliases;
    }
    writeln!(
        std::io::stdout(),
        "{n_samples} samples, {n_late} out-of-order chunks, {n_aliases} aliases"
    )
    .unwrap();
    assert!(n_samples > 10_000, "{n_samples}");
    assert!(n_late > 10 && n_aliases > 10, "{n_late} {n_aliases}");
}

/// A log of a few batches in each segment; the series come first.
fn long_log(dir: &Path, compression: Compression, random: &mut Random) -> HeadSettings {
    let settings = HeadSettings {
        wal: WalSettings {
            segment_bytes_max: 512 << 10,
            compression,
        },
        ..HeadSettings::default()
    };
    let head = Head::open(dir, settings, 0, &ReplayProgress::default());
    let head = head.unwrap().0;
    for round in 0..180 {
        let mut appender = head.appender();
        for n in 0..400 - round % 7 * 20 {
            let labels = labels(&n.to_string());
            let series = appender.series(labels.key(), &mut || Ok(labels.clone()));
            let v = f64::from_bits(random.below(1 << 31) << 29 | random.below(1 << 31));
            appender
                .append(series.unwrap(), 1000 + round * 15, v)
                .unwrap();
        }
        appender.commit().unwrap();
    }
    settings
}

/// Damages a segment behind its first page: a byte of one place, and the payload of a whole fragment elsewhere, whose
/// checksum then is right.
fn damage_segment(path: &Path, random: &mut Random) {
    const PAGE: usize = 32 << 10;
    const FULL: u8 = 1;
    let mut bytes = fs::read(path).unwrap();
    let mut whole = Vec::new();
    let mut at = 0;
    while at + 7 < bytes.len() {
        let len = usize::from(u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]));
        if bytes[at] == 0 || PAGE - at % PAGE < 7 {
            at = at / PAGE * PAGE + PAGE;
            continue;
        }
        if bytes[at] & 7 == FULL && 7 < bytes[at] && PAGE < at {
            whole.push((at, len));
        }
        at += 7 + len;
        if PAGE - at % PAGE < 7 {
            at = at / PAGE * PAGE + PAGE;
        }
    }
    for _ in 0..3 {
        let here = usize::try_from(random.below(u64::MAX >> 34)).unwrap();
        if let Some((at, len)) = whole.get(here % whole.len().max(1)) {
            let payload = *at + 7..*at + 7 + *len;
            bytes[payload.clone()][..5].fill(0xff);
            let crc = crc32c(&bytes[payload]);
            bytes[*at + 3..*at + 7].copy_from_slice(&crc.to_be_bytes());
        }
    }
    for _ in 0..2 {
        let here = usize::try_from(random.below(u64::MAX >> 34)).unwrap();
        let n_behind = bytes.len() - PAGE;
        bytes[PAGE + here % n_behind] ^= 0x41;
    }
    replace_file(path, &bytes).unwrap();
}

/// Floats and damaged places that reading one record after the other finds.
fn read_one_by_one(dir: &Path) -> (u64, u64) {
    let (mut n_floats, mut n_damages) = (0, 0);
    for segment in list_segments(&dir.join("wal")).unwrap() {
        let mut reader = SegmentReader::open(&segment.path).unwrap();
        loop {
            match reader.next_record() {
                Ok(None) => break,
                Ok(Some(body)) if RecordKind::of(body) == RecordKind::Samples => {
                    let read = read_samples(body, |_| n_floats += 1);
                    n_damages += u64::from(read.is_err());
                }
                Ok(Some(_)) => (),
                Err(_) => {
                    n_damages += 1;
                    if !reader.resync().unwrap() {
                        break;
                    }
                }
            }
        }
    }
    (n_floats, n_damages)
}

#[test]
fn of_a_record_the_floats_before_the_floor_are_left_out_and_counted() {
    let dir = scratch();
    let settings = HeadSettings::default();
    let (head, _) = open(dir.path(), settings, 0, 1);
    let mut appender = head.appender();
    for n in 0..60 {
        let t = 1000 + i64::from(n % 3) * 100;
        let labels = labels(&n.to_string());
        appender.append_labels(&labels, t, f64::from(n)).unwrap();
    }
    appender.commit().unwrap();
    drop(head);
    let (head, report) = open(dir.path(), settings, 1100, 2);
    assert_eq!((report.n_samples, report.n_samples_old), (40, 20));
    assert_eq!(head.stats().min_t, Some(1100));
}

#[test]
fn any_number_of_threads_finds_the_same_in_a_log_that_is_damaged_in_the_middle() {
    let compressions = [Compression::Snappy, Compression::Zstd, Compression::None];
    for (seed, compression) in (0..6).zip(compressions.into_iter().cycle()) {
        let dir = scratch();
        let mut random = Random(seed);
        let settings = long_log(dir.path(), compression, &mut random);
        let (n_written, _) = read_one_by_one(dir.path());
        let segments = list_segments(&dir.path().join("wal")).unwrap();
        for segment in segments.iter().filter(|s| 200 << 10 < s.n_bytes) {
            damage_segment(&segment.path, &mut random);
        }
        let (n_floats, n_damages) = read_one_by_one(dir.path());
        assert!(
            n_floats < n_written && 1 < n_damages,
            "{n_floats} {n_damages}"
        );
        let mut alone = None;
        for n_threads in [1, 2, 3, 16] {
            let other = scratch();
            copy(dir.path(), other.path());
            let progress = ReplayProgress::default();
            let opened = Head::open_with(other.path(), (settings, 0), &progress, n_threads);
            let (head, report) = opened.unwrap();
            assert_counted(&head);
            assert_eq!(report.n_samples + report.n_samples_old, n_floats, "{seed}");
            assert_eq!(report.n_damages, n_damages, "seed {seed}");
            let (n_done, n_total) = progress.get();
            assert_eq!((n_done, n_total), (report.n_segments, report.n_segments));
            let found = (picture(&head), report);
            let alone = alone.get_or_insert_with(|| found.clone());
            assert!(*alone == found, "seed {seed}, {n_threads} threads");
        }
    }
}

#[test]
fn a_head_that_was_saved_comes_back_as_it_was_and_replays_what_came_later() {
    for seed in 0..24 {
        let dir = scratch();
        let settings = rich(seed % 2 == 1);
        let mut random = Random(seed + 1000);
        let (head, floor) = live(dir.path(), settings, &mut random, 60);
        let saved = head.save().unwrap().unwrap();
        let before = picture(&head);
        drop(head);
        let n_threads = 1 + usize::try_from(random.below(4)).unwrap();
        let (head, report) = open(dir.path(), settings, floor, n_threads);
        assert_eq!((report.n_restored, report.n_samples), (saved.n_series, 0));
        assert_same(&picture(&head), &before, seed);
        // The same samples go on in the same chunks, and the next start finds them in the log behind the snapshot.
        let (mut now, mut used) = (90_000, Used::new());
        for _ in 0..3 {
            transact(&head, &mut random, (&mut now, &mut used));
        }
        let stale = head.stale_series(i64::MAX);
        head.evict(&stale).unwrap();
        transact(&head, &mut random, (&mut now, &mut used));
        let seen = content(&head, Interval::ALL);
        drop(head);
        let (head, report) = open(dir.path(), settings, floor, n_threads);
        assert_eq!(report.n_restored, saved.n_series);
        assert!(report.n_samples > 0);
        assert_same_content(&content(&head, Interval::ALL), &seen, seed);
        drop(head);
        fs::remove_file(dir.path().join("head-snapshot")).unwrap();
        let (head, report) = open(dir.path(), settings, floor, n_threads);
        assert_eq!(report.n_restored, 0);
        let since_floor = Interval {
            min: floor,
            max: i64::MAX,
        };
        let mut expected = seen;
        for samples in expected.values_mut() {
            samples.retain(|t, _| floor <= *t);
        }
        expected.retain(|_, samples| !samples.is_empty());
        assert_same_content(&content(&head, since_floor), &expected, seed);
    }
}

#[test]
fn a_snapshot_that_is_damaged_or_does_not_fit_is_not_used_and_nothing_is_missing() {
    let dir = scratch();
    let settings = rich(true);
    let (head, floor) = live(dir.path(), settings, &mut Random(5), 12);
    head.save().unwrap().unwrap();
    let seen = content(&head, Interval::ALL);
    drop(head);
    let bytes = fs::read(dir.path().join("head-snapshot")).unwrap();
    let reopened = |change: &dyn Fn(&Path)| {
        let other = scratch();
        copy(dir.path(), other.path());
        change(other.path());
        let (head, report) = open(other.path(), settings, floor, 2);
        assert_eq!(content(&head, Interval::ALL), seen);
        report.n_restored
    };
    assert!(reopened(&|_| ()) > 0);
    let write = |dir: &Path, bytes: &[u8]| {
        replace_file(&dir.join("head-snapshot"), bytes).unwrap();
    };
    let step = (bytes.len() / 40).max(1);
    for len in (0..bytes.len()).step_by(step) {
        assert_eq!(reopened(&|dir| write(dir, &bytes[..len])), 0, "{len} bytes");
    }
    for bit in (0..bytes.len() * 8).step_by(step * 8 + 1) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(reopened(&|dir| write(dir, &flipped)), 0, "bit {bit}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(reopened(&|dir| write(dir, &longer)), 0);
    // Chunks that are in no file any more.
    let files = |dir: &Path| fs::remove_dir_all(dir.join("chunks_head")).unwrap();
    assert_eq!(reopened(&files), 0);
    let newest = |dir: &Path| {
        let segments = list_segments(&dir.join("wal")).unwrap();
        segments.last().unwrap().path.clone()
    };
    // The log is shorter, or says something else.
    let other = scratch();
    copy(dir.path(), other.path());
    let file = fs::File::options().write(true).open(newest(other.path()));
    let file = file.unwrap();
    file.set_len(file.metadata().unwrap().len().saturating_sub(1))
        .unwrap();
    let progress = ReplayProgress::default();
    let opened = Head::open_with(other.path(), (settings, floor), &progress, 2);
    assert_eq!(opened.unwrap().1.n_restored, 0);
}

/// So many that most of the log is runs of series that follow each other.
#[test]
fn many_series_in_a_row_come_back_as_they_were() {
    let dir = scratch();
    let settings = rich(false);
    let mut random = Random(77);
    let head = open(dir.path(), settings, 0, 1).0;
    for round in 0..60i64 {
        let mut appender = head.appender();
        for series in 0..700u64 {
            // Some are missing now and then, or have a time of their own, and some change places with another.
            if random.below(300) == 0 {
                continue;
            }
            let series = if random.below(400) == 0 {
                700 - series
            } else {
                series
            };
            let t = 1000 + round * 10 + i64::from(random.below(200) == 0);
            let v = f64::from(u32::try_from(series * 100).unwrap())
                + f64::from(i32::try_from(round).unwrap());
            let labels = labels(&series.to_string());
            appender.append_labels(&labels, t, v).ok();
        }
        appender.commit().unwrap();
    }
    let seen = content(&head, Interval::ALL);
    drop(head);
    assert_eq!(seen.len(), 701);
    for n_threads in [1, 2, 3] {
        let other = scratch();
        copy(dir.path(), other.path());
        let (head, report) = open(other.path(), settings, 0, n_threads);
        assert_eq!(report.n_damages, 0);
        assert_same_content(&content(&head, Interval::ALL), &seen, 77);
    }
}

pub(super) fn assert_same(left: &[String], right: &[String], seed: u64) {
    for (left, right) in left.iter().zip(right) {
        assert_eq!(left, right, "seed {seed}");
    }
    assert_eq!(left.len(), right.len());
}

pub(super) fn assert_same_content(found: &Model, expected: &Model, seed: u64) {
    let names = |model: &Model| model.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "seed {seed}");
    for (name, samples) in expected {
        let times = |samples: &BTreeMap<i64, String>, others: &BTreeMap<i64, String>| {
            let differs = |(t, text): &(&i64, &String)| others.get(t) != Some(text);
            let differing = samples.iter().filter(differs);
            differing
                .map(|(t, text)| (*t, text.clone()))
                .collect::<Vec<_>>()
        };
        let found = &found[name];
        let (missing, more) = (times(samples, found), times(found, samples));
        assert_eq!(missing, more, "seed {seed}, series {name}");
    }
}
