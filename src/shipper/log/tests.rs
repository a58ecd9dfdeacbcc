//! A log that is shipped while it is written comes back without holes, whatever fails on the way.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::{BlockMeta, meta::META_FILE};
use crate::bucket::contract::in_directory;
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::s3_server::S3Server;
use crate::bucket::{Bucket, StoreBucket, keys};
use crate::foundation::durable::{create_dirs, replace_file};
use crate::foundation::{Cancel, Clock, ManualClock, SystemClock};
use crate::model::{BlockId, Labels};
use crate::shipper::log::state::{Instance, LogState};
use crate::shipper::log::upkeep::{JOINED_FOR_MS, remove_abandoned};
use crate::shipper::{
    INSTANCE_FILE, LogReport, LogShipper, LogShipperSettings, LogView, RestoreReport, ShipError,
    check_target, list_logs, plan_restore, restore, state,
};
use crate::wal::{
    CheckpointWanted, RecordKind, SamplesEncoder, SegmentReader, SeriesEncoder, Wal, WalSettings,
    decode_samples, last_checkpoint, list_segments, remove_before, write_checkpoint,
};

/// By the clock of a host.
pub(super) const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// A data directory with one series, whose samples are at 0, 1, 2 …, and whoever ships its log.
pub(super) struct Host {
    pub(super) dir: tempfile::TempDir,
    bucket: Arc<dyn Bucket>,
    pub(super) clock: ManualClock,
    pub(super) wal: Wal,
    wbl: Option<Wal>,
    pub(super) shipper: Arc<LogShipper>,
    /// The next sample's time.
    pub(super) next_t: i64,
    floor_ms: Option<i64>,
    /// Samples older than this are in blocks that are in the bucket.
    in_bucket: i64,
    n_late: i64,
}

/// In memory where the system has such a place: these tests make thousands of files, and none outlives its test.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_not_there| tempfile::tempdir())
        .unwrap()
}

pub(super) fn instance(n: u128) -> BlockId {
    BlockId::from_parts(1_700_000_000_000, n)
}

fn log_shipper(dir: &Path, bucket: &Arc<dyn Bucket>, clock: &ManualClock) -> Arc<LogShipper> {
    let settings = LogShipperSettings {
        directory: dir.to_owned(),
        external: Labels::new(&[("cluster", "c1")]).unwrap(),
        new_instance: instance(1),
        abandoned_after_ms: Some(30 * DAY_MS),
        counters: Arc::default(),
    };
    LogShipper::new(settings, Arc::clone(bucket), Arc::new(clock.clone()))
}

impl Host {
    pub(super) fn new(bucket: Arc<dyn Bucket>) -> Self {
        let clock = ManualClock::new(NOW_MS);
        let dir = scratch();
        let mut wal = Wal::open(&dir.path().join("wal"), WalSettings::default()).unwrap();
        let mut series = SeriesEncoder::default();
        series.push(1, &Labels::new(&[("__name__", "up")]).unwrap());
        wal.append(&[series.record().unwrap()]).unwrap();
        let shipper = log_shipper(dir.path(), &bucket, &clock);
        Self {
            dir,
            bucket,
            clock,
            wal,
            wbl: None,
            shipper,
            next_t: 0,
            floor_ms: None,
            in_bucket: 0,
            n_late: 0,
        }
    }

    pub(super) fn append(&mut self, n: usize) {
        for _ in 0..n {
            let mut samples = SamplesEncoder::default();
            samples.push(1, self.next_t, 1.0);
            self.wal.append(&[samples.record().unwrap()]).unwrap();
            self.next_t += 1;
        }
    }

    pub(super) fn append_late(&mut self) {
        let mut samples = SamplesEncoder::default();
        samples.push(1, -1 - self.n_late, 1.0);
        let dir = self.dir.path().join("wbl");
        let wbl = match &mut self.wbl {
            Some(wbl) => wbl,
            none => none.insert(Wal::open(&dir, WalSettings::default()).unwrap()),
        };
        wbl.append(&[samples.record().unwrap()]).unwrap();
        self.n_late += 1;
    }

    /// What is older than `t` is in a block, and the log lets go of it.
    pub(super) fn cut(&mut self, t: i64) -> BlockId {
        let id = instance(1000 + u128::try_from(t).unwrap());
        let dir = self.dir.path().join(id.to_string());
        create_dirs(&dir).unwrap();
        let text = format!(
            r#"{{"version": 1, "ulid": "{id}", "minTime": 0, "maxTime": {t},
            "stats": {{"numSamples": 5}}, "compaction": {{"level": 1}}}}"#
        );
        BlockMeta::decode(text.as_bytes()).unwrap();
        replace_file(&dir.join(META_FILE), text.as_bytes()).unwrap();
        self.floor_ms = Some(t);
        let wal = self.dir.path().join("wal");
        let upto = self.wal.segment();
        self.wal.next_segment().unwrap();
        let wanted = CheckpointWanted {
            mint: t,
            keeps: &|_| true,
            cancel: &Cancel::new(),
        };
        write_checkpoint(&wal, upto, WalSettings::default(), &wanted).unwrap();
        remove_before(&wal, upto).unwrap();
        id
    }

    /// The block is in the bucket.
    pub(super) fn shipped(&mut self, block: BlockId) {
        let (mut uploaded, _) = state::read(self.dir.path());
        uploaded.insert(block);
        state::write(self.dir.path(), &Vec::from_iter(uploaded)).unwrap();
        self.in_bucket = self.floor_ms.unwrap();
    }

    pub(super) fn view(&self) -> LogView {
        let mut ends = vec![("wal".to_owned(), self.wal.end())];
        ends.extend(self.wbl.as_ref().map(|wbl| ("wbl".to_owned(), wbl.end())));
        LogView {
            ends,
            is_replaying: false,
            floor_ms: self.floor_ms,
            at_ms: self.clock.now_ms(),
        }
    }

    pub(super) async fn pass(&mut self) -> LogReport {
        pass(&self.shipper, &self.view()).await
    }

    /// Another process begins.
    pub(super) fn restart(&mut self) {
        self.wal = Wal::open(&self.dir.path().join("wal"), WalSettings::default()).unwrap();
        self.shipper = log_shipper(self.dir.path(), &self.bucket, &self.clock);
    }
}

/// Sends all there is, then brings the log in the bucket in order.
pub(super) async fn pass(shipper: &Arc<LogShipper>, view: &LogView) -> LogReport {
    let mut report = shipper.pass(view).await;
    if let Some(upkeep) = &report.upkeep {
        report.failed = shipper.keep_up(upkeep).await.err();
    }
    report
}

/// Restores into a new directory.
pub(super) async fn restored(
    bucket: &dyn Bucket,
    instance: BlockId,
) -> Result<(tempfile::TempDir, RestoreReport), ShipError> {
    let plan = plan_restore(bucket, instance).await?;
    let dir = scratch();
    let target = (dir.path(), super::tests::instance(2));
    let log = restore(bucket, &plan, target, &mut |_| ()).await?;
    Ok((dir, log.publish()?))
}

/// Times of the samples below `dir`, by log.
pub(super) fn times(dir: &Path, log: &str) -> Vec<i64> {
    let wal = dir.join(log);
    let checkpoint = last_checkpoint(&wal).unwrap().map(|it| it.path);
    let dirs: Vec<PathBuf> = checkpoint.into_iter().chain([wal]).collect();
    let mut samples = Vec::new();
    for segment in dirs.iter().flat_map(|dir| list_segments(dir).unwrap()) {
        let mut reader = SegmentReader::open(&segment.path).unwrap();
        while let Ok(Some(body)) = reader.next_record() {
            if RecordKind::of(body) == RecordKind::Samples {
                decode_samples(body, &mut samples).unwrap();
            }
        }
    }
    samples.iter().map(|sample| sample.t).collect()
}

/// What comes back is everything from the blocks of the bucket on, up to some sample; says which.
pub(super) async fn check_beginning(bucket: &dyn Bucket, host: &Host) -> Option<i64> {
    let (dir, report) = match restored(bucket, instance(1)).await {
        Ok(restored) => restored,
        // Nothing was shipped yet.
        Err(ShipError::Restore { problem }) => {
            assert!(problem.contains("state.json"), "{problem}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let times = times(dir.path(), "wal");
    let first = times.first().copied().unwrap_or(host.in_bucket);
    assert!(first <= host.in_bucket, "{first} {}", host.in_bucket);
    let expect: Vec<i64> = (first..).take(times.len()).collect();
    assert_eq!(times, expect, "{:?}", report.missing);
    assert!(times.last().is_none_or(|last| *last < host.next_t));
    let late = self::times(dir.path(), "wbl");
    assert!(i64::try_from(late.len()).unwrap() <= host.n_late);
    let plan = plan_restore(bucket, instance(1)).await.unwrap();
    assert!(plan.floor_ms.is_none_or(|floor| floor <= host.in_bucket));
    Some(times.last().map_or(-1, |last| *last))
}

/// A life with everything that happens to a log; a step each, and a pass after each.
fn step(host: &mut Host, number: usize) {
    match number {
        0 | 1 | 8 | 12 => host.append(3),
        2 | 3 | 9 => {
            host.wal.next_segment().unwrap();
            host.append(2);
        }
        4 => host.append_late(),
        5 => {
            host.cut(4);
            host.append(2);
        }
        6 => {
            host.append(1);
            host.append_late();
        }
        7 => {
            let block = instance(1004);
            host.shipped(block);
        }
        10 => {
            let block = host.cut(12);
            host.shipped(block);
            host.append(1);
        }
        11 => {
            host.restart();
            host.append(4);
        }
        _ => (),
    }
}

const STEPS: usize = 13;

#[tokio::test]
async fn whichever_operation_fails_what_is_there_is_a_beginning_and_the_next_pass_completes_it() {
    let mut n_tried = 0;
    for fault in [Fault::Refused, Fault::Unheard, Fault::Torn] {
        for lasts in [1, u64::MAX] {
            for number in 0.. {
                let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
                let faulty = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
                faulty.fail(number..number.saturating_add(lasts), fault);
                let mut host = Host::new(Arc::clone(&faulty) as _);
                let mut newest = None;
                for at in 0..STEPS {
                    step(&mut host, at);
                    let report = host.pass().await;
                    let there = check_beginning(&*inner, &host).await;
                    // A bucket that keeps half of an object, which none does, may lose the state until the next pass.
                    let is_torn = fault == Fault::Torn && there.is_none();
                    assert!(newest <= there || is_torn, "{fault:?} {number}");
                    newest = there.or(newest);
                    if report.failed.is_none() {
                        assert_eq!(newest, Some(host.next_t - 1), "{fault:?} {number} {at}");
                        assert_eq!(report.backlog_bytes, 0);
                    }
                }
                let is_over = faulty.n_operations() <= number;
                faulty.heal();
                let report = host.pass().await;
                assert!(report.failed.is_none(), "{:?}", report.failed);
                let there = check_beginning(&*inner, &host).await;
                assert_eq!(there, Some(host.next_t - 1), "{fault:?} {number}");
                if is_over {
                    break;
                }
                n_tried += 1;
            }
        }
    }
    assert!(200 < n_tried, "only {n_tried} places");
}

#[tokio::test]
async fn the_restored_files_are_the_same_to_the_byte_and_what_is_in_blocks_is_gone() {
    let server = S3Server::start().await;
    let place = tempfile::tempdir().unwrap();
    let buckets: [Arc<dyn Bucket>; 2] = [
        server.bucket("tenant"),
        in_directory(&place.path().join("b")),
    ];
    for bucket in buckets {
        let mut host = Host::new(Arc::clone(&bucket));
        for at in 0..STEPS {
            step(&mut host, at);
            let report = host.pass().await;
            assert!(report.failed.is_none(), "{:?}", report.failed);
        }
        let (dir, report) = restored(&*bucket, instance(1)).await.unwrap();
        assert_eq!(report.missing, [""; 0]);
        assert_eq!(report.span.unwrap().1, host.next_t - 1);
        let mut here = files(&host.dir.path().join("wal"));
        // The segment that the second life began holds something; nothing empty is shipped.
        here.retain(|(_, bytes)| !bytes.is_empty());
        assert_eq!(files(&dir.path().join("wal")), here);
        assert_eq!(
            files(&dir.path().join("wbl")),
            files(&host.dir.path().join("wbl"))
        );
        let stored = bucket.list("gauntlet").await.unwrap();
        let old: Vec<_> = stored
            .iter()
            .filter(|info| info.key.contains("/wal/00000000/"))
            .collect();
        assert!(old.is_empty(), "{old:?}");
        assert!(
            stored
                .iter()
                .all(|info| keys::block_of(&info.key).is_none())
        );
        let logs = list_logs(&*bucket).await.unwrap();
        assert_eq!(logs.len(), 1);
        assert_eq!(logs[0].labels, [("cluster".to_owned(), "c1".to_owned())]);
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_pass_sends_only_what_is_new() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(bucket);
    host.append(5);
    assert_eq!(host.pass().await.n_parts, 1);
    assert_eq!(host.pass().await.n_parts, 0);
    host.append(1);
    let before = host.wal.end().n_bytes;
    let report = host.pass().await;
    assert_eq!(report.n_parts, 1);
    assert!(report.n_bytes < before);
    host.restart();
    // The segment that was open has its end now; the new one is empty.
    assert_eq!(host.pass().await.n_bytes, 0);
    let counts = host.shipper.counters().counts();
    assert_eq!((counts.n_parts, counts.backlog_bytes), (1, 0));
}

#[tokio::test]
async fn bytes_that_were_not_acknowledged_stay_here() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(Arc::clone(&bucket));
    host.append(2);
    let view = host.view();
    host.append(3);
    pass(&host.shipper, &view).await;
    let (dir, _) = restored(&*bucket, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1]);
}

#[tokio::test]
async fn a_lost_part_is_named_and_what_comes_later_is_left_out() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(Arc::clone(&bucket));
    for _ in 0..4 {
        host.append(2);
        host.pass().await;
        host.wal.next_segment().unwrap();
    }
    host.append(2);
    host.pass().await;
    let listed = bucket.list("gauntlet").await.unwrap();
    let part = |segment: &str| {
        let found = listed.iter().find(|info| info.key.contains(segment));
        found.unwrap().key.clone()
    };
    // Other bytes under the name of a part.
    let key = part("wal/00000002/");
    let content = bucket.get(&key, 1 << 20).await.unwrap();
    let mut flipped = content.to_vec();
    flipped[10] ^= 1;
    bucket.put(&key, flipped.into()).await.unwrap();
    let (dir, report) = restored(&*bucket, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2, 3]);
    assert!(report.missing[0].contains("00000002"), "{report:?}");
    bucket.delete(&key).await.unwrap();
    let plan = plan_restore(&*bucket, instance(1)).await.unwrap();
    assert!(
        plan.missing[0].contains("2 later segments are left out"),
        "{:?}",
        plan.missing
    );
    let (dir, _) = restored(&*bucket, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_directory_that_is_older_than_the_bucket_ships_its_own_log() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(Arc::clone(&bucket));
    host.append(2);
    host.pass().await;
    let backup = tempfile::tempdir().unwrap();
    let segment = host.dir.path().join("wal/00000000");
    fs::copy(&segment, backup.path().join("0")).unwrap();
    host.append(3);
    host.wal.next_segment().unwrap();
    host.append(3);
    host.pass().await;
    // The file system is put back to where it was, and goes on in another way.
    fs::remove_file(host.dir.path().join("wal/00000001")).unwrap();
    fs::copy(backup.path().join("0"), &segment).unwrap();
    host.next_t = 2;
    host.restart();
    host.append(1);
    let report = host.pass().await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    let (dir, _) = restored(&*bucket, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2]);
}

#[tokio::test]
async fn the_restored_directory_ships_under_a_new_name_and_the_old_one_goes() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(Arc::clone(&bucket));
    host.append(4);
    host.pass().await;
    let (dir, _) = restored(&*bucket, instance(1)).await.unwrap();
    let found = Instance::read(dir.path()).unwrap();
    assert_eq!(found, Some(Instance::new(instance(2), Some(instance(1)))));
    host.dir = dir;
    host.restart();
    host.append(1);
    let report = host.pass().await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    let logs = list_logs(&*bucket).await.unwrap();
    let names: Vec<BlockId> = logs.iter().map(|log| log.instance).collect();
    assert_eq!(names, [instance(2)]);
    let (dir, _) = restored(&*bucket, instance(2)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn what_came_while_the_log_was_replayed_comes_back_too() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(Arc::clone(&bucket));
    host.append(3);
    host.pass().await;
    host.restart();
    let young = host.dir.path().join("head-young/wal");
    let mut log = Wal::open(&young, WalSettings::default()).unwrap();
    let mut samples = SamplesEncoder::default();
    samples.push(1, 77, 1.0);
    log.append(&[samples.record().unwrap()]).unwrap();
    let view = LogView {
        ends: vec![("head-young/wal".to_owned(), log.end())],
        is_replaying: true,
        floor_ms: None,
        at_ms: NOW_MS,
    };
    let report = pass(&host.shipper, &view).await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    let (dir, report) = restored(&*bucket, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2]);
    assert_eq!(times(&dir.path().join("head-young"), "wal"), [77]);
    assert_eq!(report.n_samples, 4);
    // The log has it now.
    fs::remove_dir_all(host.dir.path().join("head-young")).unwrap();
    host.next_t = 77;
    host.append(1);
    host.pass().await;
    let (dir, _) = restored(&*bucket, instance(1)).await.unwrap();
    assert_eq!(times(dir.path(), "wal"), [0, 1, 2, 77]);
    assert!(!dir.path().join("head-young").try_exists().unwrap());
}

#[test]
fn only_an_empty_directory_or_an_unfinished_restore_is_a_target() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    check_target(&dir.join("none")).unwrap();
    check_target(dir).unwrap();
    fs::create_dir(dir.join("lost+found")).unwrap();
    check_target(dir).unwrap();
    replace_file(&dir.join(INSTANCE_FILE), b"{}").unwrap();
    assert!(
        check_target(dir)
            .unwrap_err()
            .to_string()
            .contains(INSTANCE_FILE)
    );
    fs::create_dir(dir.join("restore.tmp")).unwrap();
    check_target(dir).unwrap();
    fs::create_dir(dir.join("wal")).unwrap();
    let error = check_target(dir).unwrap_err().to_string();
    assert!(error.contains("nothing is overwritten"), "{error}");
}

#[tokio::test]
async fn many_small_parts_become_one_and_go_when_nobody_can_be_reading_them_any_more() {
    for fault in [Fault::Refused, Fault::Unheard, Fault::Torn] {
        for number in 64..72 {
            let inner: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
            let faulty = Arc::new(FaultyBucket::new(Arc::clone(&inner)));
            faulty.fail(number..number + 1, fault);
            let mut host = Host::new(Arc::clone(&faulty) as _);
            let dir = format!("gauntlet/wal/{}/wal", instance(1));
            for n in 0..80 {
                host.append(1);
                let is_done = host.pass().await.failed.is_none();
                if n % 8 == 0 || (60..75).contains(&n) {
                    let there = check_beginning(&*inner, &host).await;
                    let is_all = there == Some(n);
                    assert!(is_all || !is_done, "{fault:?} {number} {n}");
                }
            }
            assert!(70 < inner.list(&dir).await.unwrap().len());
            host.clock.advance(JOINED_FOR_MS - 1);
            host.pass().await;
            assert!(70 < inner.list(&dir).await.unwrap().len());
            // Whoever goes on does not know which were replaced when, and waits as long.
            host.restart();
            host.append(1);
            host.pass().await;
            host.clock.advance(JOINED_FOR_MS);
            assert!(host.pass().await.failed.is_none());
            assert_eq!(check_beginning(&*inner, &host).await, Some(80));
            let n_left = inner.list(&dir).await.unwrap().len();
            assert!(n_left < 24, "{n_left}");
        }
    }
}

#[tokio::test]
async fn a_log_that_nobody_writes_goes_after_a_month_and_one_that_is_idle_stays() {
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let mut host = Host::new(Arc::clone(&bucket));
    host.append(1);
    host.pass().await;
    let n_objects = bucket.list("gauntlet").await.unwrap().len();
    let written_ms = SystemClock.now_ms();
    for (own, days, expect) in [
        (instance(2), 29, vec![]),
        (instance(1), 31, vec![]),
        (instance(2), 31, vec![instance(1)]),
    ] {
        let times = (written_ms + days * DAY_MS, 30 * DAY_MS);
        let removed = remove_abandoned(&*bucket, own, times).await.unwrap();
        assert_eq!(removed, expect, "{days} days");
        let n_left = bucket.list("gauntlet").await.unwrap().len();
        assert_eq!(n_left, if expect.is_empty() { n_objects } else { 0 });
    }
    // Whoever has a log says so once a day.
    let mut host = Host::new(Arc::clone(&bucket));
    for (passed_ms, expect) in [(0, 0), (DAY_MS - 1, 0), (1, DAY_MS), (DAY_MS, 2 * DAY_MS)] {
        host.clock.advance(passed_ms);
        assert!(host.pass().await.failed.is_none());
        let key = format!("gauntlet/wal/{}/state.json", instance(1));
        let text = bucket.get(&key, 1 << 20).await.unwrap();
        let state = LogState::decode(&text).unwrap();
        assert_eq!(state.at_ms - NOW_MS, expect);
    }
}
