//! Blocks go up whole, once and in order, whatever fails on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::{Block, BlockMeta, NewBlock, write_block};
use crate::bucket::contract::in_directory;
use crate::bucket::faulty::{Fault, FaultyBucket};
use crate::bucket::s3_server::S3Server;
use crate::bucket::{Bucket, MeteredBucket, Operation, StoreBucket, keys};
use crate::catalog::Catalog;
use crate::chunk::encode_floats;
use crate::foundation::ManualClock;
use crate::foundation::durable::replace_file;
use crate::foundation::sha256::sha256_file;
use crate::model::{BlockId, ExternalLabels, Interval, Labels, Matcher, TimeRange};
use crate::shipper::{
    STATE_FILE, ShipError, ShipReport, Shipper, ShipperSettings, SkipReason,
    default_external_labels,
};
use crate::storage::{ChunkSeries, ChunkSlice, VecSeriesSet};

fn id(n: u128) -> BlockId {
    BlockId::from_parts(1_700_000_000_000, n)
}

/// A block of three series with 300 samples each, from `hour` on.
fn write(dir: &Path, n: u128, hour: i64) -> BlockId {
    let start = hour * 3_600_000;
    let times: Vec<i64> = (0..300).map(|k| start + k * 1_000).collect();
    let values: Vec<f64> = (0..300).map(f64::from).collect();
    let series = ["a", "b", "c"].map(|job| ChunkSeries {
        labels: Labels::new(&[("__name__", "up"), ("job", job)]).unwrap(),
        chunks: encode_floats(&times, &values)
            .unwrap()
            .into_iter()
            .map(|chunk| ChunkSlice {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                encoding: chunk.encoding,
                data: chunk.data.into(),
            })
            .collect(),
    });
    let range = TimeRange {
        min: start,
        max: start + 3_600_000,
    };
    let mut set = VecSeriesSet::new(series.into(), Vec::new());
    write_block(dir, NewBlock::new(id(n), range), &mut set)
        .unwrap()
        .unwrap();
    id(n)
}

fn shipper(dir: &Path, bucket: Arc<dyn Bucket>) -> Shipper {
    let labels = Labels::new(&[("cluster", "c1"), ("replica", "r1")]).unwrap();
    shipper_called(ExternalLabels(labels), dir, bucket)
}

fn shipper_called(external: ExternalLabels, dir: &Path, bucket: Arc<dyn Bucket>) -> Shipper {
    let settings = ShipperSettings {
        directory: dir.to_owned(),
        external,
        source: "sidecar".to_owned(),
        upload_compacted: false,
        is_foreign: false,
        counters: Arc::default(),
    };
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    Shipper::new(settings, bucket, Catalog::absent("test".to_owned()), clock)
}

/// Ships with a shipper that was started for it, as after a crash.
async fn ship(dir: &Path, bucket: &Arc<dyn Bucket>) -> ShipReport {
    shipper(dir, Arc::clone(bucket)).sync().await
}

/// Everything in the bucket.
async fn content(bucket: &dyn Bucket) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for info in bucket.list("").await.unwrap() {
        let bytes = bucket.get(&info.key, 1 << 30).await.unwrap();
        found.insert(info.key, bytes.to_vec());
    }
    found
}

/// A block that has a meta.json is there whole: every file it lists, with its size.
async fn check_commit_marker(bucket: &dyn Bucket) {
    let content = content(bucket).await;
    for (key, text) in &content {
        let Some(block) = keys::block_of(key).filter(|_| key.ends_with("/meta.json")) else {
            continue;
        };
        let Ok(meta) = BlockMeta::decode(text) else {
            continue;
        };
        for file in meta.thanos.unwrap().files {
            let key = keys::in_block(block, &file.rel_path);
            let size = content.get(&key).map(|bytes| bytes.len() as u64);
            assert!(size.is_some(), "{key} is missing beside meta.json");
            assert!(
                file.size_bytes.is_none() || file.size_bytes == size,
                "{key}: {size:?}"
            );
        }
    }
}

/// The bucket holds exactly the files of the block, byte for byte, and its stamped meta.json.
async fn check_exactly(bucket: &dyn Bucket, dir: &Path, blocks: &[BlockId]) {
    check_commit_marker(bucket).await;
    let mut content = content(bucket).await;
    for block in blocks {
        let local = dir.join(block.to_string());
        for name in ["chunks/000001", "index"] {
            let remote = content.remove(&keys::in_block(*block, name));
            assert!(
                remote == Some(fs::read(local.join(name)).unwrap()),
                "{block} {name}"
            );
        }
        let meta = BlockMeta::decode(&content.remove(&keys::meta(*block)).unwrap()).unwrap();
        let mut unstamped = meta.clone();
        unstamped.thanos = None;
        assert_eq!(unstamped, BlockMeta::read(&local).unwrap());
    }
    assert_eq!(
        content.into_keys().collect::<Vec<_>>(),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn whichever_operation_fails_the_next_pass_completes_the_block() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let mut n_failed = 0;
    for fault in [Fault::Refused, Fault::Unheard, Fault::Torn] {
        for number in 0.. {
            fs::remove_file(dir.path().join(STATE_FILE)).ok();
            let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
            let bucket = Arc::clone(&faulty) as Arc<dyn Bucket>;
            faulty.fail(number..number + 1, fault);
            let report = ship(dir.path(), &bucket).await;
            if faulty.n_operations() <= number {
                assert!(report.failed.is_none(), "{:?}", report.failed);
                break;
            }
            faulty.heal();
            assert!(
                report.failed.is_some(),
                "{fault:?} of operation {number} went unnoticed"
            );
            check_commit_marker(&*faulty).await;
            let report = ship(dir.path(), &bucket).await;
            assert!(
                report.failed.is_none(),
                "{fault:?} {number}: {:?}",
                report.failed
            );
            assert_eq!(report.shipped, [block], "{fault:?} {number}");
            check_exactly(&*faulty, dir.path(), &[block]).await;
            n_failed += 1;
        }
    }
    // Look for meta.json, list, two uploads, list, put, get: each of them three times.
    assert_eq!(n_failed, 21);
}

#[tokio::test]
async fn a_resumed_upload_sends_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let metered = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
    let faulty = Arc::new(FaultyBucket::new(Arc::clone(&metered) as Arc<dyn Bucket>));
    let bucket = Arc::clone(&faulty) as Arc<dyn Bucket>;
    // The upload of the index.
    faulty.fail(3..4, Fault::Refused);
    assert!(ship(dir.path(), &bucket).await.failed.is_some());
    faulty.heal();
    ship(dir.path(), &bucket).await;
    let puts = metered
        .counts()
        .into_iter()
        .find(|(what, _)| *what == Operation::Put);
    // Chunks, index, meta.json: once each (the faulty bucket turns uploads into puts).
    assert_eq!(puts.unwrap().1.n_started, 3);
    check_exactly(&*faulty, dir.path(), &[block]).await;
}

#[tokio::test]
async fn older_data_goes_first_and_newer_data_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (newer, older) = (write(dir.path(), 1, 9), write(dir.path(), 2, 3));
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    faulty.fail(0..u64::MAX, Fault::Refused);
    let mut shipper = shipper(dir.path(), Arc::clone(&faulty) as Arc<dyn Bucket>);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let report = shipper.sync().await;
        assert_eq!(report.shipped, []);
        let failed = report.failed.as_ref().unwrap().to_string();
        assert!(
            failed.contains(&older.to_string()) && failed.ends_with("on purpose"),
            "{failed}"
        );
        pauses.push(report.retry_after.unwrap().as_secs());
    }
    assert_eq!(pauses[..4], [5, 10, 20, 40]);
    assert_eq!(pauses.last(), Some(&600));
    assert_eq!(faulty.n_operations(), 12, "the newer block was tried");
    faulty.heal();
    let report = shipper.sync().await;
    assert_eq!(
        (report.shipped, report.retry_after),
        (vec![older, newer], None)
    );
    assert_eq!(shipper.uploaded(), &BTreeSet::from([older, newer]));
    let report = shipper.sync().await;
    assert_eq!(report.shipped, []);
    check_exactly(&*faulty, dir.path(), &[older, newer]).await;
}

#[tokio::test]
async fn what_the_bucket_has_is_not_sent_again_though_the_state_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let metered = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
    let bucket = Arc::clone(&metered) as Arc<dyn Bucket>;
    ship(dir.path(), &bucket).await;
    let before = metered.counts();
    replace_file(&dir.path().join(STATE_FILE), b"{").unwrap();
    assert_eq!(ship(dir.path(), &bucket).await.shipped, [block]);
    let after = metered.counts();
    for what in [Operation::Upload, Operation::Put] {
        let n = |counts: &[(Operation, crate::bucket::OperationCounts)]| {
            counts
                .iter()
                .find(|(operation, _)| *operation == what)
                .unwrap()
                .1
                .n_started
        };
        assert_eq!(n(&before), n(&after), "{what:?}");
    }
    // Known again: the bucket is not even asked.
    ship(dir.path(), &bucket).await;
    let asked = |counts: Vec<(Operation, crate::bucket::OperationCounts)>| {
        counts
            .iter()
            .map(|(_, counts)| counts.n_started)
            .sum::<u64>()
    };
    assert_eq!(asked(metered.counts()), asked(after));
}

#[tokio::test]
async fn a_block_deleted_in_the_bucket_is_not_shipped_again() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    ship(dir.path(), &bucket).await;
    for key in content(&*bucket).await.into_keys() {
        bucket.delete(&key).await.unwrap();
    }
    assert_eq!(ship(dir.path(), &bucket).await.shipped, []);
    fs::remove_dir_all(dir.path().join(block.to_string())).unwrap();
    let mut shipper = shipper(dir.path(), bucket);
    shipper.sync().await;
    assert_eq!(shipper.uploaded(), &BTreeSet::new());
}

#[tokio::test]
async fn unfinished_and_empty_blocks_stay_and_damaged_ones_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), 1, 5);
    let damaged = write(dir.path(), 2, 1);
    let unreadable = write(dir.path(), 3, 2);
    let empty = write(dir.path(), 4, 3);
    let path = |block: BlockId| dir.path().join(block.to_string());
    let index = path(damaged).join("index");
    let mut bytes = fs::read(&index).unwrap();
    let end = bytes.len();
    bytes[end - 20] ^= 1;
    replace_file(&index, &bytes).unwrap();
    replace_file(&path(unreadable).join("meta.json"), b"{}").unwrap();
    let mut meta = BlockMeta::read(&path(empty)).unwrap();
    meta.stats.num_samples = 0;
    meta.write(&path(empty)).unwrap();
    for name in ["tmp-for-creation", "tmp-for-deletion", "tmp"] {
        fs::create_dir(dir.path().join(format!("{}.{name}", id(9)))).unwrap();
    }
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let report = ship(dir.path(), &bucket).await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    assert_eq!(report.shipped, [good]);
    assert_eq!(report.skipped, [(empty, SkipReason::Empty)]);
    let mut aside: Vec<PathBuf> = report
        .damaged
        .iter()
        .map(|(path, _)| path.clone())
        .collect();
    aside.sort();
    assert_eq!(aside, [path(damaged), path(unreadable)]);
    let why: Vec<_> = report.damaged.iter().map(|(_, why)| why.as_str()).collect();
    assert!(
        why.iter().any(|why| why.contains("index: offset")),
        "{why:?}"
    );
    check_exactly(&*bucket, dir.path(), &[good]).await;
}

#[tokio::test]
async fn without_external_labels_nothing_is_shipped() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1, 1);
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let nobody = ExternalLabels::default();
    let report = shipper_called(nobody, dir.path(), Arc::clone(&bucket))
        .sync()
        .await;
    assert!(
        matches!(report.failed, Some(ShipError::NoExternalLabels)),
        "{report:?}"
    );
    assert!(content(&*bucket).await.is_empty());
    let host = default_external_labels();
    assert!(!host.0.value("gauntlet").is_empty());
    let report = shipper_called(host, dir.path(), bucket).sync().await;
    assert!(report.failed.is_none(), "{report:?}");
}

#[tokio::test]
async fn the_meta_of_the_bucket_says_whose_block_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    ship(dir.path(), &bucket).await;
    let text = bucket.get(&keys::meta(block), 1 << 20).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let size = |name: &str| {
        let path = dir.path().join(block.to_string()).join(name);
        fs::metadata(path).unwrap().len()
    };
    let hash = |name: &str| {
        let path = dir.path().join(block.to_string()).join(name);
        serde_json::json!({"hashFunc": "SHA256", "value": sha256_file(&path).unwrap().1})
    };
    let expect = serde_json::json!({
        "version": 1,
        "labels": {"cluster": "c1", "replica": "r1"},
        "downsample": {"resolution": 0},
        "source": "sidecar",
        "segment_files": ["000001"],
        "files": [
            {"rel_path": "chunks/000001", "size_bytes": size("chunks/000001"), "hash": hash("chunks/000001")},
            {"rel_path": "index", "size_bytes": size("index"), "hash": hash("index")},
            {"rel_path": "meta.json"},
        ],
        "upload_time": "2023-11-14T22:13:20Z",
    });
    assert_eq!(json["thanos"], expect);
    assert!(
        BlockMeta::read(&dir.path().join(block.to_string()))
            .unwrap()
            .thanos
            .is_none()
    );
}

#[tokio::test]
async fn what_was_deleted_here_is_deleted_there() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let local = dir.path().join(block.to_string());
    let opened = Block::open(&local).unwrap();
    opened
        .delete(&[Matcher::equal("job", "b")], Interval::ALL)
        .unwrap();
    let bucket = in_directory(&dir.path().join("bucket"));
    ship(dir.path(), &bucket).await;
    let remote = Block::open(&dir.path().join("bucket").join(block.to_string())).unwrap();
    assert_eq!(remote.tombstones().n_intervals(), 1);
    check_commit_marker(&*bucket).await;
}

#[tokio::test]
async fn a_directory_bucket_holds_blocks_that_open_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let bucket = in_directory(&dir.path().join("bucket"));
    ship(dir.path(), &bucket).await;
    check_exactly(&*bucket, dir.path(), &[block]).await;
    let opened = Block::open(&dir.path().join("bucket").join(block.to_string())).unwrap();
    assert_eq!(opened.meta().thanos.as_ref().unwrap().labels.len(), 2);
}

#[tokio::test]
async fn s3_holds_the_block_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let block = write(dir.path(), 1, 1);
    let server = S3Server::start().await;
    let bucket = server.bucket("tenant");
    let report = ship(dir.path(), &bucket).await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    check_exactly(&*bucket, dir.path(), &[block]).await;
}

/// Makes a block look as if it had been compacted here.
fn compacted(dir: &Path, n: u128, hour: i64) -> BlockId {
    let block = write(dir, n, hour);
    let path = dir.join(block.to_string());
    let mut meta = BlockMeta::read(&path).unwrap();
    meta.compaction.level = 2;
    meta.write(&path).unwrap();
    block
}

fn shipper_with(
    dir: &Path,
    bucket: &Arc<dyn Bucket>,
    change: impl FnOnce(&mut ShipperSettings),
) -> Shipper {
    let labels = Labels::new(&[("cluster", "c1"), ("replica", "r1")]).unwrap();
    let mut settings = ShipperSettings {
        directory: dir.to_owned(),
        external: ExternalLabels(labels),
        source: "sidecar".to_owned(),
        upload_compacted: false,
        is_foreign: false,
        counters: Arc::default(),
    };
    change(&mut settings);
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let catalog = Catalog::absent("test".to_owned());
    Shipper::new(settings, Arc::clone(bucket), catalog, clock)
}

#[tokio::test]
async fn compacted_blocks_go_up_where_the_bucket_has_none_of_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let bucket: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let first = write(dir.path(), 1, 2);
    ship(dir.path(), &bucket).await;
    let (over, beside) = (compacted(dir.path(), 2, 2), compacted(dir.path(), 3, 7));
    let again = compacted(dir.path(), 4, 7);
    let counters = Arc::<crate::shipper::ShipCounters>::default();
    let mut shipper = shipper_with(dir.path(), &bucket, |settings| {
        settings.upload_compacted = true;
        settings.counters = Arc::clone(&counters);
    });
    let report = shipper.sync().await;
    assert!(report.failed.is_none(), "{:?}", report.failed);
    assert_eq!(report.shipped, [beside]);
    let expect = [
        (over, SkipReason::Overlaps(first)),
        (again, SkipReason::Overlaps(beside)),
    ];
    assert_eq!(report.skipped, expect);
    let counts = counters.counts();
    assert_eq!((counts.n_syncs, counts.n_uploads), (1, 1));
    assert!(counts.is_compacted_done);
    // Of others' blocks at the same times nobody minds.
    let other: Arc<dyn Bucket> = Arc::new(StoreBucket::in_memory());
    let labels = Labels::new(&[("cluster", "c2")]).unwrap();
    let foreign = shipper_called(ExternalLabels(labels), dir.path(), Arc::clone(&other));
    let mut foreign = foreign;
    foreign.sync().await;
    fs::remove_file(dir.path().join(STATE_FILE)).unwrap();
    fs::remove_dir_all(dir.path().join(first.to_string())).unwrap();
    let mut shipper = shipper_with(dir.path(), &other, |settings| {
        settings.upload_compacted = true;
    });
    assert_eq!(shipper.sync().await.shipped, [over, beside]);
}

#[tokio::test]
async fn blocks_of_another_prometheus_are_read_through_second_names_and_stay() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("prometheus");
    fs::create_dir(&dir).unwrap();
    let block = write(&dir, 1, 1);
    // An earlier life ended within an upload.
    let left = dir.join("thanos/upload").join(id(9).to_string());
    fs::create_dir_all(&left).unwrap();
    for bucket in [
        Arc::new(StoreBucket::in_memory()) as Arc<dyn Bucket>,
        in_directory(&place.path().join("bucket")),
    ] {
        fs::remove_file(dir.join(STATE_FILE)).ok();
        let mut shipper = shipper_with(&dir, &bucket, |settings| settings.is_foreign = true);
        let report = shipper.sync().await;
        assert!(report.failed.is_none(), "{:?}", report.failed);
        check_exactly(&*bucket, &dir, &[block]).await;
        assert!(!left.try_exists().unwrap());
        assert!(
            dir.join(block.to_string())
                .join("index")
                .try_exists()
                .unwrap()
        );
        let staged = dir.join("thanos/upload").join(block.to_string());
        assert!(!staged.try_exists().unwrap());
    }
    // It deletes the block while it goes up: the second names still have it.
    let staged = crate::shipper::local::Staged::of(&dir, block)
        .unwrap()
        .unwrap();
    fs::remove_dir_all(dir.join(block.to_string())).unwrap();
    let files = crate::shipper::local::readable_files(staged.dir(), block).unwrap();
    assert_eq!(files.len(), 2);
}

#[tokio::test]
async fn what_an_interrupted_upload_left_counts_only_when_it_is_the_same_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let server = S3Server::start().await;
    for bucket in [
        server.bucket("resumed"),
        in_directory(&dir.path().join("bucket")),
    ] {
        fs::remove_file(dir.path().join(STATE_FILE)).ok();
        let block = write(dir.path(), 1, 1);
        let local = dir.path().join(block.to_string());
        let metered = Arc::new(MeteredBucket::new(bucket));
        for (name, flip) in [("index", false), ("chunks/000001", true)] {
            let mut bytes = fs::read(local.join(name)).unwrap();
            bytes[100] ^= u8::from(flip);
            let key = keys::in_block(block, name);
            metered.put(&key, bytes.into()).await.unwrap();
        }
        let shared = Arc::clone(&metered) as Arc<dyn Bucket>;
        let report = ship(dir.path(), &shared).await;
        assert!(report.failed.is_none(), "{:?}", report.failed);
        let uploads = metered.counts().into_iter();
        let uploads = uploads.filter(|(what, _)| *what == Operation::Upload);
        assert_eq!(uploads.map(|(_, counts)| counts.n_started).sum::<u64>(), 1);
        check_exactly(&*metered, dir.path(), &[block]).await;
        fs::remove_dir_all(&local).unwrap();
    }
}

#[tokio::test]
async fn the_state_file_names_what_is_here_oldest_first_and_waits_for_a_whole_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (newer, older) = (write(dir.path(), 1, 9), write(dir.path(), 2, 3));
    let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
    let bucket = Arc::clone(&faulty) as Arc<dyn Bucket>;
    // The second block's.
    faulty.fail(7..8, Fault::Refused);
    let mut shipper = shipper(dir.path(), Arc::clone(&bucket));
    assert_eq!(shipper.sync().await.shipped, [older]);
    assert!(!dir.path().join(STATE_FILE).try_exists().unwrap());
    faulty.heal();
    assert_eq!(shipper.sync().await.shipped, [newer]);
    let text = fs::read_to_string(dir.path().join(STATE_FILE)).unwrap();
    let expect = format!(
        "{{\n\t\"version\": 1,\n\t\"uploaded\": [\n\t\t\"{older}\",\n\t\t\"{newer}\"\n\t]\n}}\n"
    );
    assert_eq!(text, expect);
    fs::remove_dir_all(dir.path().join(older.to_string())).unwrap();
    fs::remove_dir_all(dir.path().join(newer.to_string())).unwrap();
    shipper.sync().await;
    let text = fs::read_to_string(dir.path().join(STATE_FILE)).unwrap();
    assert_eq!(text, "{\n\t\"version\": 1,\n\t\"uploaded\": null\n}\n");
}
