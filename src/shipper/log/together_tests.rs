//! Passes that are under way together, and upkeep beside them.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::{Bucket, StoreBucket};
use crate::shipper::log::tests::{Host, check_beginning, instance, restored, times};
use crate::shipper::{LogReport, ShipError};
use crate::wal::{Wal, WalSettings};

const LATE: Duration = Duration::from_secs(60);

/// A host, the bucket that it ships to, and what is behind that.
fn host() -> (Host, Arc<FaultyBucket>, Arc<dyn Bucket>) {
    let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let faulty = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
    let host = Host::new(Arc::clone(&faulty) as _);
    (host, faulty, inner)
}

/// A pass of its own over what there is now.
fn begin(host: &Host) -> JoinHandle<LogReport> {
    let (shipper, view) = (Arc::clone(&host.shipper), host.view());
    tokio::spawn(async move { shipper.pass(&view).await })
}

/// Until everything that can be done without waiting for `LATE` is done.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pass_whose_upload_takes_long_does_not_keep_the_next_from_its_own() {
    let (mut host, faulty, inner) = host();
    host.append(1);
    host.pass().await;
    let began = Instant::now();
    faulty.fail(0..3, Fault::Late(LATE));
    let mut passes = Vec::new();
    for _ in 0..3 {
        host.append(1);
        passes.push(begin(&host));
        settle().await;
    }
    // One that has nothing to send is not over before what it saw is there.
    passes.push(begin(&host));
    settle().await;
    assert_eq!(faulty.n_operations(), 3);
    assert!(passes.iter().all(|pass| !pass.is_finished()));
    assert_eq!(check_beginning(&*inner, &host).await, Some(0));
    for pass in passes {
        let report = pass.await.unwrap();
        assert!(report.failed.is_none(), "{:?}", report.failed);
    }
    assert!(began.elapsed() < 2 * LATE, "{:?}", began.elapsed());
    assert_eq!(check_beginning(&*inner, &host).await, Some(3));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_behind_a_part_that_is_lost_does_not_count_and_goes_again() {
    for is_restarted in [false, true] {
        let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
        let failing = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
        let slow = Arc::new(FaultyBucket::new(Arc::clone(&failing) as _));
        let mut host = Host::new(Arc::clone(&slow) as _);
        host.append(1);
        host.pass().await;
        // The first of three parts is refused after the others are there.
        slow.fail(0..1, Fault::Late(LATE));
        failing.fail(2..3, Fault::Refused);
        let mut passes = Vec::new();
        for _ in 0..3 {
            host.append(1);
            passes.push(begin(&host));
            settle().await;
        }
        assert_eq!(failing.n_operations(), 2);
        for (number, pass) in passes.into_iter().enumerate() {
            match pass.await.unwrap().failed {
                Some(ShipError::LogBucket { .. }) if number == 0 => (),
                Some(ShipError::LogBehind { .. }) if number != 0 => (),
                other => panic!("{number}: {other:?}"),
            }
        }
        assert_eq!(check_beginning(&*inner, &host).await, Some(0));
        let (_, report) = restored(&*inner, instance(1)).await.unwrap();
        assert_eq!(report.missing, [""; 0]);
        if is_restarted {
            host.restart();
        }
        assert!(host.pass().await.failed.is_none());
        assert_eq!(check_beginning(&*inner, &host).await, Some(3));
    }
}

/// A part that got there although one before it did not is of a log that went on in another way.
#[tokio::test(start_paused = true)]
async fn a_part_behind_a_hole_never_becomes_part_of_a_log_that_went_on_otherwise() {
    let (mut host, faulty, inner) = host();
    host.append(1);
    host.pass().await;
    let backup = tempfile::tempdir().unwrap();
    let segment = host.dir.path().join("wal/00000000");
    fs::copy(&segment, backup.path().join("0")).unwrap();
    faulty.fail(0..1, Fault::Late(LATE));
    host.append(2);
    let lost = begin(&host);
    settle().await;
    host.append(5);
    let stray = begin(&host);
    settle().await;
    // The process ends here, with the second part there and the first one on its way.
    lost.abort();
    stray.abort();
    faulty.fail(0..0, Fault::Refused);
    let dir = format!("gauntlet/wal/{}/wal/00000000/", instance(1));
    let parts = inner.list(dir.trim_end_matches('/')).await.unwrap();
    assert_eq!(parts.len(), 2, "{parts:?}");
    fs::copy(backup.path().join("0"), &segment).unwrap();
    host.next_t = 1;
    host.wal = Wal::open(&host.dir.path().join("wal"), WalSettings::default()).unwrap();
    host.restart();
    host.append(1);
    let report = host.pass().await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    let parts = inner.list(dir.trim_end_matches('/')).await.unwrap();
    assert_eq!(parts.len(), 2, "the part and the end: {parts:?}");
    assert_eq!(check_beginning(&*inner, &host).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_segment_is_sent_before_all_of_the_one_before_it_is_there() {
    let (mut host, faulty, inner) = host();
    host.append(1);
    host.pass().await;
    faulty.fail(0..1, Fault::Late(LATE));
    host.append(1);
    let first = begin(&host);
    settle().await;
    host.wal.next_segment().unwrap();
    host.append(1);
    host.append_late();
    let second = begin(&host);
    settle().await;
    // The end of the segment is under way too; the other segment and the late sample are not.
    assert_eq!(faulty.n_operations(), 2);
    let (_, report) = restored(&*inner, instance(1)).await.unwrap();
    assert_eq!(report.missing, [""; 0]);
    for pass in [first, second] {
        let report = pass.await.unwrap();
        assert!(report.failed.is_none(), "{:?}", report.failed);
    }
    let (dir, _) = restored(&*inner, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2]);
    assert_eq!(times(dir.path(), "wbl"), [-1]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_takes_long_does_not_keep_the_log_waiting() {
    let (mut host, faulty, inner) = host();
    host.append(6);
    host.pass().await;
    let block = host.cut(4);
    host.shipped(block);
    host.append(1);
    let report = host.shipper.pass(&host.view()).await;
    let upkeep = report.upkeep.unwrap();
    faulty.fail(0..1, Fault::Late(LATE));
    let shipper = Arc::clone(&host.shipper);
    let keeping = tokio::spawn(async move { shipper.keep_up(&upkeep).await });
    settle().await;
    assert_eq!(faulty.n_operations(), 1, "the checkpoint is under way");
    let began = Instant::now();
    for _ in 0..5 {
        host.append(2);
        let report = host.shipper.pass(&host.view()).await;
        assert!(report.failed.is_none(), "{:?}", report.failed);
        let there = check_beginning(&*inner, &host).await;
        assert_eq!(there, Some(host.next_t - 1));
    }
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
    assert!(!keeping.is_finished());
    assert!(!keeping.await.unwrap().unwrap(), "all blocks are there");
    let there = check_beginning(&*inner, &host).await;
    assert_eq!(there, Some(host.next_t - 1));
}

/// As when the pass itself panics: nobody is left who would note what became of what it sent.
#[tokio::test(start_paused = true)]
async fn a_part_whose_upload_panics_is_lost_even_when_nobody_waits_for_it_any_more() {
    let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let failing = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
    let slow = Arc::new(FaultyBucket::new(Arc::clone(&failing) as _));
    let mut host = Host::new(Arc::clone(&slow) as _);
    host.append(1);
    host.pass().await;
    slow.fail(0..1, Fault::Late(LATE));
    // After the part of the next pass.
    failing.fail(1..2, Fault::Panic);
    host.append(1);
    let pass = begin(&host);
    settle().await;
    pass.abort();
    host.append(1);
    let behind = begin(&host);
    let report = tokio::time::timeout(2 * LATE, behind).await;
    let failed = report.expect("it waits for what never comes").unwrap();
    assert!(matches!(failed.failed, Some(ShipError::LogBehind { .. })));
    assert!(host.pass().await.failed.is_none());
    assert_eq!(check_beginning(&*inner, &host).await, Some(2));
}

/// Several passes at a time, upkeep beside them, answers that come late or not at all; and after each step what is there is
/// a beginning without a hole.
#[tokio::test(start_paused = true)]
async fn passes_that_overlap_leave_a_beginning_whatever_fails() {
    for seed in 0..24_u64 {
        for fault in [Fault::Refused, Fault::Unheard, Fault::Torn] {
            let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
            let failing = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
            let slow = Arc::new(FaultyBucket::new(Arc::clone(&failing) as _));
            let mut host = Host::new(Arc::clone(&slow) as _);
            assert!(host.pass().await.failed.is_none());
            failing.fail_some(seed, 12, fault);
            slow.fail_some(seed, 60, Fault::Late(LATE));
            let mut passes: Vec<JoinHandle<LogReport>> = Vec::new();
            let mut blocks = Vec::new();
            for step in 0..40_i64 {
                host.append(2);
                match step % 10 {
                    3 => host.wal.next_segment().unwrap(),
                    5 => host.append_late(),
                    7 => blocks.push(host.cut(host.next_t - 4)),
                    9 => {
                        for block in blocks.drain(..) {
                            host.shipped(block);
                        }
                    }
                    _ => (),
                }
                passes.push(begin(&host));
                let pause = (seed * 7 + step.cast_unsigned() * 13) % 90;
                tokio::time::sleep(Duration::from_secs(pause)).await;
                if 3 < passes.len() {
                    let report = passes.remove(0).await.unwrap();
                    if let Some(upkeep) = report.upkeep {
                        let shipper = Arc::clone(&host.shipper);
                        tokio::spawn(async move { shipper.keep_up(&upkeep).await });
                    }
                }
                match restored(&*inner, instance(1)).await {
                    Ok((_, report)) => {
                        assert_eq!(report.missing, [""; 0], "{fault:?} {seed} {step}");
                    }
                    // Half of a state.json, which no bucket keeps.
                    Err(ShipError::Restore { .. }) if fault == Fault::Torn => (),
                    Err(error) => panic!("{fault:?} {seed} {step}: {error}"),
                }
                check_beginning(&*inner, &host).await;
            }
            for pass in passes {
                pass.await.unwrap();
            }
            failing.heal();
            slow.heal();
            // Upkeep that is under way ends.
            tokio::time::sleep(60 * LATE).await;
            if seed % 2 == 0 {
                host.restart();
            }
            let report = host.pass().await;
            assert!(report.failed.is_none(), "{:?}", report.failed);
            assert_eq!(report.backlog_bytes, 0);
            let there = check_beginning(&*inner, &host).await;
            assert_eq!(there, Some(host.next_t - 1), "{fault:?} {seed}");
        }
    }
}
