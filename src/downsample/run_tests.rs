//! Whole blocks, here and in a bucket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::block::{
    Block, BlockMeta, BlockSource, NewBlock, ThanosDownsample, ThanosMeta, Tombstones, verify,
    write_block,
};
use crate::bucket::s3_server::S3Server;
use crate::bucket::{Bucket, BucketKind, BucketSettings, keys};
use crate::chunk::{AggregateChunk, decode_floats, encode_floats};
use crate::downsample::{DownsampleError, fetch_block, publish_block, run};
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::foundation::durable::replace_file;
use crate::foundation::verdict::Verdict;
use crate::model::{
    Aggregate, BlockId, Encoding, Interval, Labels, STALE_NAN_BITS, TimeRange, TimestampMs,
};
use crate::storage::{ChunkSeries, ChunkSlice, Queryable, SelectHints, VecSeriesSet};

const START: i64 = 1_700_006_400_000;
const MINUTE: i64 = 60_000;
const SPAN: i64 = 48 * 60 * MINUTE;

fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 0)
}

fn thanos(resolution: i64) -> ThanosMeta {
    let mut thanos = ThanosMeta {
        version: 1,
        labels: BTreeMap::from([("cluster".to_owned(), "a".to_owned())]),
        downsample: ThanosDownsample { resolution },
        source: "sidecar".to_owned(),
        segment_files: vec!["000007".to_owned()],
        ..ThanosMeta::default()
    };
    let (uploaded, extension) = (
        serde_json::json!("2023-11-14T22:13:20Z"),
        serde_json::json!({"a": 1}),
    );
    thanos.other.insert("upload_time".to_owned(), uploaded);
    thanos.other.insert("extensions".to_owned(), extension);
    thanos
}

fn float_slices(times: &[TimestampMs], value: f64) -> Vec<ChunkSlice> {
    let chunks = encode_floats(times, &vec![value; times.len()]).unwrap();
    let slice = |chunk: crate::chunk::EncodedChunk| ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: chunk.data.into(),
    };
    chunks.into_iter().map(slice).collect()
}

/// Two series of a sample a minute, and between them one that was stale all the time.
fn raw_block(dir: &Path) -> Block {
    let times: Vec<TimestampMs> = (START..START + SPAN).step_by(60_000).collect();
    let stale = f64::from_bits(STALE_NAN_BITS);
    let series = [("a", 1.0), ("b", stale), ("c", 3.0)].map(|(name, value)| ChunkSeries {
        labels: Labels::new(&[("__name__", name), ("job", "node")]).unwrap(),
        chunks: float_slices(&times, value),
    });
    let range = TimeRange {
        min: START,
        max: START + SPAN,
    };
    let mut new = NewBlock::new(id(1), range);
    new.thanos = Some(thanos(0));
    new.level = 3;
    new.sources = vec![id(11), id(12)];
    let mut set = VecSeriesSet::new(series.to_vec(), Vec::new());
    write_block(dir, new, &mut set).unwrap().unwrap();
    Block::open(&dir.join(id(1).to_string())).unwrap()
}

fn downsampled(
    dir: &Path,
    name: u64,
    source: &dyn BlockSource,
) -> Result<Option<BlockMeta>, DownsampleError> {
    run(dir, id(name), source, &Cancel::new(), &mut |_| ())
}

/// Counts of each series.
fn n_samples(block: &Block) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let mut set = block.select(&[], &SelectHints::new(Interval::ALL)).unwrap();
    while let Some(series) = set.next() {
        let ChunkSeries { labels, chunks } = series.unwrap();
        for chunk in chunks {
            assert_eq!(chunk.encoding, Encoding::Aggregate);
            let parts = AggregateChunk::decode(&chunk.data).unwrap();
            let (encoding, data) = parts.part(Aggregate::Count).unwrap();
            let (mut t, mut v) = (Vec::new(), Vec::new());
            decode_floats(encoding, data, &mut t, &mut v).unwrap();
            *all.entry(labels.to_string()).or_default() += v.iter().sum::<f64>();
        }
    }
    all
}

fn both(n: f64) -> BTreeMap<String, f64> {
    let name = |name: &str| format!("{{__name__=\"{name}\", job=\"node\"}}");
    BTreeMap::from([(name("a"), n), (name("c"), n)])
}

#[test]
fn the_result_descends_as_its_source_does_and_says_what_it_holds() {
    let root = tempfile::tempdir().unwrap();
    let source = raw_block(root.path());
    let made = downsampled(root.path(), 2, &source).unwrap().unwrap();
    let dir = root.path().join(id(2).to_string());
    assert_eq!(BlockMeta::read(&dir).unwrap(), made);
    assert_eq!(made.compaction, source.meta().compaction);
    assert_eq!(
        (made.compaction.level, made.range()),
        (3, source.meta().range())
    );
    let (stats, thanos) = (made.stats, made.thanos.clone().unwrap());
    // 576 windows of two series in five chunks each; who was stale all the time is left out.
    assert_eq!(
        (stats.num_series, stats.num_chunks, stats.num_samples),
        (2, 10, 1_152)
    );
    assert_eq!(
        (stats.num_float_samples, stats.num_histogram_samples),
        (0, 0)
    );
    assert_eq!(
        (thanos.source.as_str(), thanos.downsample.resolution),
        ("compactor", 300_000)
    );
    assert_eq!(thanos.segment_files, ["000001"]);
    assert_eq!(thanos.labels["cluster"], "a");
    assert_eq!(thanos.other["extensions"]["a"], 1);
    assert!(!thanos.other.contains_key("upload_time"));
    assert!(thanos.other["index_stats"]["series_max_size"].as_u64() > Some(0));
    let block = Block::open(&dir).unwrap();
    assert_eq!(n_samples(&block), both(2_880.0));

    let hour = downsampled(root.path(), 3, &block).unwrap().unwrap();
    assert_eq!((hour.stats.num_series, hour.stats.num_samples), (2, 96));
    let hour = Block::open(&root.path().join(id(3).to_string())).unwrap();
    assert_eq!(n_samples(&hour), both(2_880.0));
    let error = downsampled(root.path(), 4, &hour).unwrap_err();
    assert!(matches!(
        error,
        DownsampleError::Resolution {
            resolution_ms: 3_600_000,
            ..
        }
    ));
    assert_eq!(error.verdict(), Verdict::Refuse);
}

#[test]
fn what_was_deleted_is_in_no_aggregate() {
    let root = tempfile::tempdir().unwrap();
    let source = raw_block(root.path());
    let mut tombstones = Tombstones::new();
    let ids = source.index().all_series().unwrap();
    // Half a window, a whole day, and all of the last series.
    let gone = |min, max| Interval { min, max };
    tombstones.add(u64::from(ids[0]), gone(START, START + 3 * MINUTE - 1));
    tombstones.add(u64::from(ids[0]), gone(START + SPAN / 2, START + SPAN));
    tombstones.add(u64::from(ids[2]), Interval::ALL);
    tombstones.write(source.dir()).unwrap();
    let source = Block::open(source.dir()).unwrap();
    downsampled(root.path(), 2, &source).unwrap().unwrap();
    let block = Block::open(&root.path().join(id(2).to_string())).unwrap();
    let mut expect = both(1_437.0);
    expect.pop_last();
    assert_eq!(n_samples(&block), expect);
}

#[test]
fn a_damaged_chunk_and_a_cancel_leave_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let source = raw_block(root.path());
    let cancel = Cancel::new();
    cancel.cancel(CancelReason::Canceled);
    let error = run(root.path(), id(2), &source, &cancel, &mut |_| ()).unwrap_err();
    assert!(matches!(error, DownsampleError::Canceled));
    let segment = source.dir().join("chunks/000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    replace_file(&segment, &bytes).unwrap();
    let source = Block::open(source.dir()).unwrap();
    let error = downsampled(root.path(), 2, &source).unwrap_err();
    assert!(error.to_string().contains("000001: offset "), "{error}");
    assert_eq!(error.verdict(), Verdict::Quarantine);
    let names: Vec<_> = std::fs::read_dir(root.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "only the source: {names:?}");
}

#[test]
fn a_block_of_nothing_but_stale_markers_becomes_none() {
    let root = tempfile::tempdir().unwrap();
    let stale = float_slices(&[START, START + 1], f64::from_bits(STALE_NAN_BITS));
    let series = ChunkSeries {
        labels: Labels::new(&[("__name__", "a")]).unwrap(),
        chunks: stale,
    };
    let range = TimeRange {
        min: START,
        max: START + 2,
    };
    let mut set = VecSeriesSet::new(vec![series], Vec::new());
    write_block(root.path(), NewBlock::new(id(1), range), &mut set).unwrap();
    let source = Block::open(&root.path().join(id(1).to_string())).unwrap();
    assert_eq!(downsampled(root.path(), 2, &source).unwrap(), None);
}

async fn through(bucket: Arc<dyn Bucket>, is_local: bool) {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let raw = raw_block(here.path());
    let now_ms = 1_700_200_000_000;
    publish_block(&*bucket, raw.dir(), raw.meta().clone(), now_ms)
        .await
        .unwrap();
    let mark = bytes::Bytes::from_static(b"{}");
    bucket
        .put(&keys::in_block(id(1), "no-compact-mark.json"), mark)
        .await
        .unwrap();
    let source = fetch_block(&*bucket, id(1), there.path()).await.unwrap();
    assert_eq!(source.dir().starts_with(there.path()), !is_local);
    let made = downsampled(there.path(), 2, &source).unwrap().unwrap();
    let dir = there.path().join(id(2).to_string());
    let n_bytes = publish_block(&*bucket, &dir, made.clone(), now_ms)
        .await
        .unwrap();

    let again = tempfile::tempdir().unwrap();
    let block = fetch_block(&*bucket, id(2), again.path()).await.unwrap();
    let report = verify(block.dir());
    assert!(report.is_healthy(), "{:?}", report.problems);
    assert_eq!(
        (n_samples(&block), block.n_bytes()),
        (both(2_880.0), n_bytes)
    );
    let thanos = block.meta().thanos.clone().unwrap();
    assert_eq!(thanos.other["upload_time"], "2023-11-17T05:46:40Z");
    let files: Vec<&str> = thanos
        .files
        .iter()
        .map(|file| file.rel_path.as_str())
        .collect();
    assert_eq!(files, ["chunks/000001", "index", "meta.json"]);
    assert_eq!(thanos.files[2].size_bytes, None);
}

#[tokio::test]
async fn a_bucket_that_is_a_directory_is_read_where_it_lies() {
    let root = tempfile::tempdir().unwrap();
    let settings = BucketSettings {
        kind: BucketKind::Filesystem {
            directory: root.path().to_owned(),
        },
        prefix: String::new(),
    };
    through(crate::bucket::open(&settings).unwrap(), true).await;
}

#[tokio::test]
async fn blocks_of_s3_are_fetched_downsampled_and_shown() {
    let server = S3Server::start().await;
    through(server.bucket(""), false).await;
}
