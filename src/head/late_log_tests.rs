//! The log of samples that came out of order: its order, deletions before it, damage, and a full disk.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use crate::foundation::durable::watch::Watch;
use crate::head::Head;
use crate::head::late_tests::{append, open, samples, times, try_append};
use crate::head::values_tests::scratch;
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{AppendError, Appendable};

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn one_commit_that_fills_chunks_comes_back_from_the_log_as_it_was() {
    let dir = scratch();
    let (head, _) = open(dir.path());
    append(&head, [10_000]);
    let mut appender = head.appender();
    for n in 0..75 {
        for name in ["a", "b"] {
            let labels = Labels::new(&[("n", name)]).unwrap();
            let v = f64::from(i32::try_from(n).unwrap());
            appender.append_labels(&labels, 8000 + n * 10, v).unwrap();
        }
    }
    appender.commit().unwrap();
    let (seen, n_chunks) = (samples(&head), head.stats().n_chunks);
    assert_eq!(seen.len(), 76);
    drop(head);
    let (head, report) = open(dir.path());
    assert_eq!(samples(&head), seen);
    // A sample that stands on the wrong side of a marker would be there twice, or not at all.
    assert_eq!(head.stats().n_chunks, n_chunks);
    assert_eq!((report.n_out_of_order_chunks, report.n_damages), (4, 0));
}

#[test]
fn what_comes_late_after_a_deletion_is_there_after_a_restart_too() {
    let dir = scratch();
    let (head, _) = open(dir.path());
    append(&head, (0..10).map(|n| 10_000 + n * 10));
    let gone = Interval {
        min: 10_020,
        max: 10_050,
    };
    head.delete(&[Matcher::equal("n", "a")], gone).unwrap();
    try_append(&head, 10_030, 7.0).unwrap();
    try_append(&head, 10_035, 8.0).unwrap();
    let seen = samples(&head);
    let again = [(10_010, 0.5), (10_030, 7.0), (10_035, 8.0), (10_060, 0.5)];
    assert_eq!(seen[1..5], again);
    assert_eq!(seen.len(), 8);
    drop(head);
    let (head, _) = open(dir.path());
    assert_eq!(samples(&head), seen);
    let frozen = head.freeze_out_of_order().unwrap().unwrap();
    let series: Vec<_> = frozen.series_in(Interval::ALL).collect();
    assert_eq!(series[0].chunks.len(), 1);
}

#[test]
fn a_log_damaged_at_any_byte_loses_what_was_behind_it_and_invents_nothing() {
    let dir = scratch();
    let (head, _) = open(dir.path());
    append(&head, [10_000]);
    let segment = Path::new("wbl/00000000");
    let mut ends = Vec::new();
    for n in 0..36 {
        let v = f64::from(i32::try_from(n * n).unwrap());
        try_append(&head, 9000 - n * 7, v).unwrap();
        ends.push(fs::metadata(dir.path().join(segment)).unwrap().len());
    }
    let expected = samples(&head);
    drop(head);
    let log = fs::read(dir.path().join(segment)).unwrap();
    let n_bytes = usize::try_from(*ends.last().unwrap()).unwrap();
    let mut n_damages = 0;
    for at in 0..n_bytes {
        let mut flipped = log.clone();
        flipped[at] ^= 0x41;
        for damaged in [&log[..at], &flipped] {
            let copy = scratch();
            copy_dir(dir.path(), copy.path());
            overwrite(&copy.path().join(segment), damaged);
            let (head, report) = open(copy.path());
            let found = samples(&head);
            assert!(found.contains(&(10_000, 0.5)), "{at}");
            assert!(found.iter().all(|s| expected.contains(s)), "{at}");
            let n_before = ends.iter().filter(|end| **end <= at as u64).count();
            assert!(n_before < found.len(), "{at}: {n_before} {}", found.len());
            n_damages += report.n_damages;
            if at % 16 == 0 {
                drop(head);
                let (head, report) = open(copy.path());
                assert_eq!((samples(&head), report.n_damages), (found, 0), "{at}");
            }
        }
    }
    assert!(n_damages > 500, "{n_damages}");
}

fn commit_both(head: &Head, n: i64) -> Result<(), AppendError> {
    let labels = Labels::new(&[("n", "a")]).unwrap();
    let mut appender = head.appender();
    appender.append_labels(&labels, 10_000 + n * 10, 1.0)?;
    appender.append_labels(&labels, 7005 + n * 10, 2.0)?;
    appender.commit()
}

#[test]
fn a_disk_that_is_full_anywhere_in_either_log_loses_no_late_sample() {
    let mut n_refused = 0;
    for room in (0..14_000).step_by(271) {
        let dir = scratch();
        let watch = Watch::of(dir.path());
        let (head, _) = open(dir.path());
        watch.set_room(room);
        let mut taken = BTreeSet::new();
        for n in 0..100 {
            let both = [7005 + n * 10, 10_000 + n * 10];
            match commit_both(&head, n) {
                Ok(()) => taken.extend(both),
                Err(error) => {
                    assert!(error.to_string().contains("disk is full"), "{error}");
                    n_refused += 1;
                    if n_refused % 5 == 0 {
                        watch.set_room(600);
                    }
                }
            }
            let here: BTreeSet<i64> = times(&head).into_iter().collect();
            assert!(taken.is_subset(&here), "{room}");
            assert!(
                both.map(|t| here.contains(&t))
                    .iter()
                    .all(|is| *is == here.contains(&both[0]))
            );
            // What waited for room is there, though it was refused.
            taken = here;
        }
        watch.set_room(i64::MAX);
        commit_both(&head, 100).unwrap();
        taken.extend([8005, 11_000]);
        let here: BTreeSet<i64> = times(&head).into_iter().collect();
        assert!(taken.is_subset(&here), "{room}");
        drop(head);
        let again: BTreeSet<i64> = times(&open(dir.path()).0).into_iter().collect();
        assert_eq!(again, here, "{room}");
    }
    assert!(n_refused > 300, "{n_refused}");
}
