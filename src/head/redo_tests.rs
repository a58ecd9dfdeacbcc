//! That a replay from a redo point finds what a replay of the whole log finds, and that one which does not fit is not used.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::chunk::{HEAD_FILE_HEADER_BYTES, HeadChunk};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::foundation::durable::replace_file;
use crate::head::frames::{FrameKind, FrameWriter, read_frames};
use crate::head::pictures::picture_since;
use crate::head::redo::REDO_POINT;
use crate::head::values_tests::{Model, Random, content, labels, scratch};
use crate::head::whole_tests::{assert_same, assert_same_content, copy, live_and, open, rich};
use crate::head::{Head, HeadSettings, ReplayProgress};
use crate::model::{Interval, stale_nan};
use crate::storage::Appendable;
use crate::wal::list_segments;

const FILE: &str = "head-redo";

/// Commits floats of `n_series` series at `n` times from `t` on.
fn commit(head: &Head, n_series: u64, (t, n): (i64, i64)) {
    for t in (0..n).map(|n| t + n * 10) {
        let mut appender = head.appender();
        for number in 0..n_series {
            let v = f64::from(u32::try_from(t).unwrap()) * 0.37
                + f64::from(u32::try_from(number).unwrap());
            let labels = labels(&number.to_string());
            appender.append_labels(&labels, t, v).unwrap();
        }
        appender.commit().unwrap();
    }
}

fn all(head: &Head) -> Model {
    content(head, Interval::ALL)
}

/// The newest file of a directory that has bytes.
fn newest(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| 0 < fs::metadata(path).unwrap().len());
    files.max().unwrap()
}

fn cut(path: &Path, n_bytes: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(n_bytes)).unwrap();
}

#[test]
fn a_replay_from_a_redo_point_finds_what_one_of_the_whole_log_finds() {
    let mut n_chunked = 0;
    for seed in 0..32 {
        let dir = scratch();
        let settings = rich(seed % 8 == 7);
        let mut random = Random(seed + 4000);
        let may_leave = seed % 4 == 3;
        let n_steps = if may_leave { 30 } else { 70 };
        let between = |head: &Head, random: &mut Random| {
            if random.below(3) == 0 {
                head.note_redo_point(0).unwrap();
            }
        };
        let (head, floor) = live_and(
            dir.path(),
            settings,
            (&mut random, n_steps, may_leave),
            between,
        );
        let seen = all(&head);
        drop(head);
        for n_threads in [1, 2, 3] {
            let found = [true, false].map(|is_kept| {
                let other = scratch();
                copy(dir.path(), other.path());
                if !is_kept {
                    fs::remove_file(other.path().join(FILE)).ok();
                }
                let (head, report) = open(other.path(), settings, floor, n_threads);
                assert!(is_kept || report.n_records_redone == 0);
                n_chunked += report.n_records_redone;
                let since_floor = Interval {
                    min: floor,
                    max: i64::MAX,
                };
                let mut expected = seen.clone();
                for samples in expected.values_mut() {
                    samples.retain(|t, _| floor <= *t);
                }
                expected.retain(|_, samples| !samples.is_empty());
                assert_same_content(&content(&head, since_floor), &expected, seed);
                picture_since(&head, floor)
            });
            let [from_there, whole] = found;
            assert_same(&from_there, &whole, seed);
        }
    }
    writeln!(std::io::stdout(), "{n_chunked} records passed over").unwrap();
    assert!(400 < n_chunked, "{n_chunked}");
}

/// A head of which the log is mostly in chunk files.
fn mostly_chunked(dir: &Path) -> (HeadSettings, Model) {
    let settings = HeadSettings {
        chunk_file_bytes_max: 4 << 10,
        ..rich(false)
    };
    let head = open(dir, settings, 0, 2).0;
    commit(&head, 9, (1000, 700));
    assert!(head.note_redo_point(0).unwrap());
    assert!(!head.note_redo_point(0).unwrap(), "nothing came since");
    commit(&head, 9, (7995, 1));
    (settings, all(&head))
}

/// How many records a start passes over after `change`, which finds what one finds without the redo point.
fn reopened(dir: &Path, settings: HeadSettings, change: impl Fn(&Path)) -> u64 {
    let [there, whole] = [scratch(), scratch()];
    for other in [&there, &whole] {
        copy(dir, other.path());
        change(other.path());
    }
    fs::remove_file(whole.path().join(FILE)).unwrap();
    let [there, whole] = [there, whole].map(|dir| {
        let progress = ReplayProgress::default();
        let opened = Head::open_with(dir.path(), (settings, 0), &progress, 1);
        let (head, report) = opened.unwrap();
        (all(&head), report.n_records_redone)
    });
    assert_same_content(&there.0, &whole.0, 0);
    there.1
}

#[test]
fn a_redo_point_that_is_damaged_is_not_used_and_nothing_is_missing() {
    let dir = scratch();
    let (settings, _) = mostly_chunked(dir.path());
    let n_chunked = reopened(dir.path(), settings, |_| ());
    assert!(
        500 < n_chunked,
        "{n_chunked} of 700 records are passed over"
    );
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    let with = |bytes: &[u8]| {
        let write = |dir: &Path| replace_file(&dir.join(FILE), bytes).unwrap();
        reopened(dir.path(), settings, write)
    };
    // All of its beginning and its end, and of the chunks between them some.
    let n = bytes.len();
    let few = |from: usize| from < 60 || n - 60 <= from || from.is_multiple_of(53);
    for len in (0..n).filter(|len| few(*len)) {
        assert_eq!(with(&bytes[..len]), 0, "{len} bytes");
    }
    for bit in (0..n * 8).step_by(3).filter(|bit| few(bit / 8)) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(with(&flipped), 0, "bit {bit}");
    }
    assert_eq!(with(&[0; 2 << 20]), 0, "nothing of it");
}

/// Cuts a whole chunk off the end.
fn shorten(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let (_, at) = last_chunk(&bytes);
    bytes.truncate(at);
    replace_file(path, &bytes).unwrap();
}

/// The last chunk of a file, and where it lies.
fn last_chunk(bytes: &[u8]) -> (HeadChunk, usize) {
    let bytes = Bytes::copy_from_slice(bytes);
    let (mut at, mut last) = (HEAD_FILE_HEADER_BYTES, None);
    while let Some((chunk, next)) = HeadChunk::decode(&bytes, at).unwrap() {
        last = Some((chunk, at));
        at = next;
    }
    last.unwrap()
}

#[test]
fn a_redo_point_whose_chunk_files_changed_is_not_used_and_nothing_is_missing() {
    let dir = scratch();
    let (settings, _) = mostly_chunked(dir.path());
    let chunks = |dir: &Path| dir.join("chunks_head");
    let n_files = fs::read_dir(chunks(dir.path())).unwrap().count();
    assert!(3 < n_files, "{n_files} files");
    let after = |change: &dyn Fn(&Path)| reopened(dir.path(), settings, |dir| change(&chunks(dir)));
    assert_eq!(after(&|chunks| fs::remove_dir_all(chunks).unwrap()), 0);
    let first_gone = |chunks: &Path| fs::remove_file(chunks.join("000001")).unwrap();
    assert_eq!(after(&first_gone), 0);
    for n_bytes in [1, 5, 100, 1000] {
        let cut_last = |chunks: &Path| cut(&newest(chunks), n_bytes);
        assert_eq!(after(&cut_last), 0, "{n_bytes} bytes of the last file");
    }
    let flip_middle = |chunks: &Path| {
        let path = chunks.join("000002");
        let mut bytes = fs::read(&path).unwrap();
        bytes[2000] ^= 4;
        replace_file(&path, &bytes).unwrap();
    };
    assert_eq!(after(&flip_middle), 0);
    // A whole chunk fewer at the end of a file that is not the last.
    assert_eq!(after(&|chunks| shorten(&chunks.join("000002"))), 0);
    // As many chunks and bytes, but the last is of another series.
    let other_series = |chunks: &Path| {
        let path = newest(chunks);
        let mut bytes = fs::read(&path).unwrap();
        let len = bytes.len();
        let (mut chunk, at) = last_chunk(&bytes);
        chunk.series_ref = 1 + chunk.series_ref % 9;
        bytes.truncate(at);
        chunk.encode(&mut bytes);
        assert_eq!(bytes.len(), len);
        replace_file(&path, &bytes).unwrap();
    };
    assert_eq!(after(&other_series), 0);
}

#[test]
fn a_log_that_lost_its_end_and_became_as_long_again_is_replayed_whole() {
    let dir = scratch();
    let (settings, _) = mostly_chunked(dir.path());
    // Far more than what came after the redo point, the same number of bytes every time.
    for n_lost in [2, 3] {
        let other = scratch();
        copy(dir.path(), other.path());
        let segments = list_segments(&other.path().join("wal")).unwrap();
        for segment in segments.iter().rev().take(n_lost) {
            fs::remove_file(&segment.path).unwrap();
        }
        let progress = ReplayProgress::default();
        let opened = Head::open_with(other.path(), (settings, 0), &progress, 1);
        let (head, report) = opened.unwrap();
        assert_eq!(report.n_records_redone, 0);
        commit(&head, 9, (8100, 700));
        let seen = all(&head);
        let n_segments = list_segments(&other.path().join("wal")).unwrap().len();
        assert!(segments.len() <= n_segments, "the log is shorter");
        drop(head);
        let (head, report) = open(other.path(), settings, 0, 1);
        assert_eq!(report.n_records_redone, 0);
        assert_same_content(&all(&head), &seen, 0);
    }
}

/// One series leaves and comes back: to a log that names it twice, and later to chunk files under its first number.
#[test]
fn nothing_is_noted_while_the_log_says_that_a_series_left() {
    let dir = scratch();
    let settings = rich(false);
    let head = open(dir.path(), settings, 0, 1).0;
    commit(&head, 3, (1000, 300));
    assert!(head.note_redo_point(0).unwrap());
    let mut appender = head.appender();
    let one = labels("0");
    appender.append_labels(&one, 4000, stale_nan()).unwrap();
    appender.commit().unwrap();
    assert_eq!(head.evict(&head.stale_series(4000)).unwrap(), 1);
    commit(&head, 3, (4100, 300));
    assert!(!head.note_redo_point(0).unwrap());
    drop(head);
    for is_saved in [false, true] {
        let head = open(dir.path(), settings, 0, 1).0;
        let t = if is_saved { 15_000 } else { 8000 };
        commit(&head, 3, (t, 600));
        assert!(!head.note_redo_point(0).unwrap(), "{is_saved}");
        let seen = all(&head);
        drop(head);
        let (head, _) = open(dir.path(), settings, 0, 1);
        assert_same_content(&all(&head), &seen, 0);
        head.save().unwrap();
    }
}

/// A snapshot knows the chunks that were there when it was made; what came later is in the log for it.
#[test]
fn of_a_snapshot_and_a_redo_point_the_newer_one_is_used() {
    let dir = scratch();
    let settings = rich(false);
    let head = open(dir.path(), settings, 0, 1).0;
    commit(&head, 3, (1000, 300));
    assert!(head.note_redo_point(0).unwrap());
    let older = fs::read(dir.path().join(FILE)).unwrap();
    head.save().unwrap().unwrap();
    drop(head);
    assert!(!fs::exists(dir.path().join(FILE)).unwrap());
    // As if the process had ended before it was gone.
    replace_file(&dir.path().join(FILE), &older).unwrap();
    let (head, report) = open(dir.path(), settings, 0, 1);
    assert_eq!((report.n_restored, report.n_records_redone), (3, 0));
    let before = all(&head);
    let copied = scratch();
    commit(&head, 3, (4100, 600));
    assert!(head.note_redo_point(0).unwrap());
    commit(&head, 3, (11_000, 7));
    let seen = all(&head);
    drop(head);
    copy(dir.path(), copied.path());
    for n_threads in [1, 2] {
        let (head, report) = open(dir.path(), settings, 0, n_threads);
        let found = (report.n_restored, report.n_records_redone, report.n_samples);
        assert_eq!(found, (0, 900, 21), "the rest of both lives is not read");
        assert_same_content(&all(&head), &seen, 0);
    }
    // Neither that nor the snapshot keeps anybody from the log.
    cut(&dir.path().join(FILE), 1);
    let (head, report) = open(dir.path(), settings, 0, 2);
    assert_eq!((report.n_restored, report.n_records_redone), (3, 0));
    assert_same_content(&all(&head), &seen, 0);
    drop(head);
    fs::remove_file(copied.path().join("head-snapshot")).unwrap();
    let (head, report) = open(copied.path(), settings, 0, 1);
    assert_eq!((report.n_restored, report.n_records_redone), (0, 900));
    assert_same_content(&all(&head), &seen, 0);
    assert!(before.len() == seen.len() && before != seen);
}

#[test]
fn a_redo_point_has_what_no_chunk_file_has_and_later_chunks_take_its_place() {
    let dir = scratch();
    let settings = rich(false);
    let head = open(dir.path(), settings, 0, 1).0;
    commit(&head, 9, (1000, 50));
    assert!(head.note_redo_point(0).unwrap());
    let mut seen = all(&head);
    drop(head);
    let mut t = 1500;
    // From now on with no redo point but that one: of the last rounds chunk files have more than it has.
    for (n_times, n_redone) in [(0, 9), (20, 9), (200, 0)] {
        let (head, report) = open(dir.path(), settings, 0, 2);
        assert_eq!((report.n_records_redone, report.n_chunks_redone), (50, 9));
        assert_same_content(&all(&head), &seen, 0);
        commit(&head, 9, (t, n_times));
        t += n_times * 10;
        seen = all(&head);
        drop(head);
        let (head, report) = open(dir.path(), settings, 0, 1);
        assert_eq!(report.n_records_redone, 50, "the redo point holds");
        assert_eq!(report.n_chunks_redone, n_redone, "{n_times}");
        assert_same_content(&all(&head), &seen, 0);
        drop(head);
        let other = scratch();
        copy(dir.path(), other.path());
        fs::remove_file(other.path().join(FILE)).unwrap();
        let (whole, _) = open(other.path(), settings, 0, 1);
        assert_same_content(&all(&whole), &seen, 0);
    }
}

#[test]
fn what_is_noted_beside_commits_is_what_the_log_says() {
    for round in 0..6 {
        let dir = scratch();
        let settings = rich(round % 2 == 1);
        let head = open(dir.path(), settings, 0, 2).0;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2u64 {
                let (head, is_over) = (&head, &is_over);
                scope.spawn(move || {
                    let mut n = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let mut appender = head.appender();
                        // Every few commits a series that is new.
                        for series in 0..5 + n / 8 {
                            let labels = labels(&format!("{writer}-{series}"));
                            let v = f64::from(n) * 0.7;
                            let t = 1000 + i64::from(n) * 10;
                            // One that is far behind the other is refused.
                            appender.append_labels(&labels, t, v).ok();
                        }
                        appender.commit().unwrap();
                        n += 1;
                    }
                });
            }
            let mut n_noted = 0;
            while n_noted < 10 {
                n_noted += u32::from(head.note_redo_point(0).unwrap());
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let seen = all(&head);
        drop(head);
        let other = scratch();
        copy(dir.path(), other.path());
        fs::remove_file(other.path().join(FILE)).unwrap();
        let pictures = [&dir, &other].map(|dir| {
            let (head, report) = open(dir.path(), settings, 0, 2);
            assert_eq!(report.n_damages, 0);
            assert_same_content(&all(&head), &seen, round);
            (picture_since(&head, 0), report.n_records_redone)
        });
        let [(from_there, n_redone), (whole, 0)] = pictures else {
            panic!("the whole log is read where there is no redo point");
        };
        assert!(0 < n_redone);
        assert_same(&from_there, &whole, round);
    }
}

#[test]
fn what_is_given_up_leaves_the_redo_point_before_it() {
    let dir = scratch();
    let settings = rich(false);
    let head = open(dir.path(), settings, 0, 1).0;
    commit(&head, 1500, (1000, 40));
    assert!(head.note_redo_point(0).unwrap());
    let path = dir.path().join(FILE);
    let before = fs::read(&path).unwrap();
    assert!(300 << 10 < before.len(), "{} bytes", before.len());
    commit(&head, 1500, (1400, 100));
    let cancel = Cancel::new();
    cancel.cancel(CancelReason::Canceled);
    assert!(!head.note_redo_point_with(0, &cancel).unwrap());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!dir.path().join("head-redo.tmp").try_exists().unwrap());
    // The log has to grow by as much as the file has.
    commit(&head, 1500, (2400, 1));
    assert!(!head.note_redo_point(0).unwrap());
    commit(&head, 1500, (2410, 100));
    assert!(head.note_redo_point(0).unwrap());
    let seen = all(&head);
    drop(head);
    replace_file(&dir.path().join("head-redo.tmp"), b"half of one").unwrap();
    let (head, report) = open(dir.path(), settings, 0, 2);
    assert_eq!(report.n_records_redone, 241);
    assert_same_content(&all(&head), &seen, 0);
    assert!(!dir.path().join("head-redo.tmp").try_exists().unwrap());
}

/// The series went and came back: the log names it under two numbers, of which a replay takes the first.
#[test]
fn chunks_of_a_series_that_has_another_number_now_are_taken() {
    let dir = scratch();
    let settings = rich(false);
    let head = open(dir.path(), settings, 0, 1).0;
    commit(&head, 300, (1000, 30));
    assert!(head.note_redo_point(0).unwrap());
    head.truncate_before(5000).unwrap();
    assert!(!dir.path().join(FILE).try_exists().unwrap());
    assert_eq!(head.stats().n_series, 0);
    commit(&head, 3, (5000, 50));
    assert!(
        head.note_redo_point(0).unwrap(),
        "however long the one before it was"
    );
    let seen = all(&head);
    drop(head);
    let (head, report) = open(dir.path(), settings, 5000, 2);
    assert_eq!(head.inner().retired.lock().aliases.len(), 3);
    assert_eq!((report.n_records_redone, report.n_chunks_redone), (80, 3));
    assert_same_content(&all(&head), &seen, 0);
}

/// All its checksums are right, and yet a chunk is none.
#[test]
fn a_redo_point_with_chunks_that_do_not_decode_is_not_used() {
    let dir = scratch();
    let (settings, _) = mostly_chunked(dir.path());
    let path = dir.path().join(FILE);
    let frames = read_frames(&fs::read(&path).unwrap().into(), REDO_POINT).unwrap();
    let n_redone = |change: &dyn Fn(&mut Vec<u8>)| {
        reopened(dir.path(), settings, |dir| {
            let mut file = FrameWriter::create(&dir.join(FILE), REDO_POINT).unwrap();
            for (kind, body) in &frames {
                let mut body = body.to_vec();
                if *kind == FrameKind::Chunks {
                    change(&mut body);
                }
                file.frame(*kind, &body).unwrap();
            }
            file.finish(false).unwrap();
        })
    };
    assert!(500 < n_redone(&|_| ()));
    // Number, newest time of two bytes, length of two bytes, then the kind of values.
    assert_eq!(n_redone(&|body| body[5] = 9), 0);
    let of_series_1 = |body: &mut Vec<u8>| assert_eq!(body[0], 1);
    assert!(500 < n_redone(&of_series_1));
}

#[test]
fn nothing_is_noted_when_the_log_takes_nothing_any_more() {
    let dir = scratch();
    let head = open(dir.path(), rich(false), 0, 1).0;
    commit(&head, 3, (1000, 30));
    let mut committer = head.inner().committer.lock();
    committer.wal.poison("fsync: input/output error".to_owned());
    drop(committer);
    assert!(!head.note_redo_point(0).unwrap());
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(FILE))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
