//! Buckets are kept in order whatever happens: over a directory and over S3.
mod damage;
mod passes;
mod two;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::block::{
    Block, BlockMeta, NewBlock, ThanosFile, ThanosMeta, meta::META_FILE, write_block,
};
use crate::bucket::contract::in_directory;
use crate::bucket::s3_server::S3Server;
use crate::bucket::{Bucket, keys};
use crate::catalog::Catalog;
use crate::chunk::{decode_floats, encode_floats};
use crate::compactor::survey::survey;
use crate::compactor::{Compactor, CompactorSettings, Survey};
use crate::foundation::durable::{create_dirs, replace_file};
use crate::foundation::{ManualClock, Pool};
use crate::inventory::BucketInventory;
use crate::model::{BlockId, Interval, Labels, TimeRange};
use crate::storage::{ChunkSeries, ChunkSlice, Queryable, SelectHints, VecSeriesSet};

const HOUR_MS: i64 = 3_600_000;
/// Long after the blocks of the tests were named.
const NOW_MS: i64 = 1_700_000_000_000;

fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 7)
}

/// Times and values of one series by its labels.
type Model = BTreeMap<String, BTreeMap<i64, u64>>;

/// A bucket, and a compactor with a scratch directory of its own.
struct World {
    _server: Option<S3Server>,
    root: tempfile::TempDir,
    bucket: Arc<dyn Bucket>,
    clock: ManualClock,
    pool: Pool,
}

impl World {
    fn directory() -> Self {
        let root = tempfile::tempdir().unwrap();
        let bucket = in_directory(&root.path().join("bucket"));
        Self::new(None, root, bucket)
    }

    async fn s3() -> Self {
        let server = S3Server::start().await;
        let bucket = server.bucket("");
        Self::new(Some(server), tempfile::tempdir().unwrap(), bucket)
    }

    fn new(server: Option<S3Server>, root: tempfile::TempDir, bucket: Arc<dyn Bucket>) -> Self {
        Self {
            _server: server,
            root,
            bucket,
            clock: ManualClock::new(NOW_MS),
            pool: Pool::new("compactor", 2, 16).unwrap(),
        }
    }

    fn settings(&self) -> CompactorSettings {
        CompactorSettings::new(self.root.path().join("scratch"))
    }

    fn compactor(&self) -> Compactor {
        self.compactor_with(self.settings(), Arc::clone(&self.bucket))
    }

    fn compactor_with(&self, settings: CompactorSettings, bucket: Arc<dyn Bucket>) -> Compactor {
        let catalog = Catalog::absent("test".to_owned());
        let clock = Arc::new(self.clock.clone());
        let runtime = tokio::runtime::Handle::current();
        let inventory = Arc::new(BucketInventory::new(bucket, catalog, 4));
        Compactor::new(settings, inventory, clock, (runtime, self.pool.clone()))
    }

    async fn survey(&self) -> Survey {
        let catalog = Catalog::absent("test".to_owned());
        let inventory = BucketInventory::new(Arc::clone(&self.bucket), catalog, 4);
        survey(&inventory).await.unwrap()
    }

    /// What blocks that are not to be deleted hold together; of blocks that do not open, nothing.
    async fn content(&self) -> Model {
        let mut model = Model::new();
        for block in self.survey().await.blocks {
            if block.deletion_ms.is_none() {
                let dir = tempfile::tempdir().unwrap();
                if let Some(block) = self.fetch(block.meta.ulid, dir.path()).await {
                    read_into(&block, &mut model);
                }
            }
        }
        model
    }

    /// Names of whole blocks without a deletion mark.
    async fn alive(&self) -> Vec<BlockId> {
        let blocks = self.survey().await.blocks.into_iter();
        let alive = blocks.filter(|block| block.deletion_ms.is_none());
        alive.map(|block| block.meta.ulid).collect()
    }

    async fn fetch(&self, block: BlockId, dir: &Path) -> Option<Block> {
        for info in self.bucket.list(&block.to_string()).await.unwrap() {
            let path = dir.join(info.key);
            create_dirs(path.parent().unwrap()).unwrap();
            let bytes = self
                .bucket
                .get(&info_key(&path, dir), 1 << 30)
                .await
                .unwrap();
            replace_file(&path, &bytes).unwrap();
        }
        Block::open(&dir.join(block.to_string())).ok()
    }

    /// Nothing of work that ended is left on the disk.
    fn assert_tidy(&self) {
        let scratch = self.root.path().join("scratch");
        let left: Vec<_> = std::fs::read_dir(scratch).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn info_key(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap().display().to_string()
}

fn read_into(block: &Block, model: &mut Model) {
    let Ok(mut set) = block.select(&[], &SelectHints::new(Interval::ALL)) else {
        return;
    };
    while let Some(series) = set.next() {
        let Ok(ChunkSeries { labels, chunks }) = series else {
            return;
        };
        let samples = model.entry(labels.to_string()).or_default();
        for chunk in chunks {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            let decoded = decode_floats(chunk.encoding, &chunk.data, &mut times, &mut values);
            if decoded.is_ok() {
                samples.extend(times.into_iter().zip(values.into_iter().map(f64::to_bits)));
            }
        }
    }
}

fn slices(times: &[i64], value: f64) -> Vec<ChunkSlice> {
    let values: Vec<f64> = (0u32..)
        .zip(times)
        .map(|(n, _)| value + f64::from(n))
        .collect();
    let chunks = encode_floats(times, &values).unwrap().into_iter();
    let slices = chunks.map(|chunk| ChunkSlice {
        min_t: chunk.min_t,
        max_t: chunk.max_t,
        encoding: chunk.encoding,
        data: chunk.data.into(),
    });
    slices.collect()
}

/// Writes block `n` of `{cluster="a"}` from one hour to another into `dir`: three series, a sample a minute.
fn write(dir: &Path, n: u64, (from_h, to_h): (i64, i64)) -> BlockMeta {
    let range = TimeRange {
        min: from_h * HOUR_MS,
        max: to_h * HOUR_MS,
    };
    let times: Vec<i64> = (range.min..range.max).step_by(60_000).collect();
    let own = format!("only-{n}");
    let series = ["a", "b", own.as_str()].map(|job| ChunkSeries {
        labels: Labels::new(&[("__name__", "up"), ("job", job)]).unwrap(),
        chunks: slices(&times, f64::from(i32::try_from(from_h).unwrap())),
    });
    let mut set = VecSeriesSet::new(series.into(), Vec::new());
    write_block(dir, NewBlock::new(id(n), range), &mut set)
        .unwrap()
        .unwrap()
}

/// Gives a local block what Thanos' blocks have, and uploads it.
async fn upload(bucket: &dyn Bucket, dir: &Path, mut meta: BlockMeta, labels: &[(&str, &str)]) {
    let block_dir = dir.join(meta.ulid.to_string());
    let mut names: Vec<String> = std::fs::read_dir(block_dir.join("chunks"))
        .unwrap()
        .map(|entry| format!("chunks/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    names.sort_unstable();
    names.push("index".to_owned());
    let mut files = Vec::new();
    for name in names {
        let bytes = std::fs::read(block_dir.join(&name)).unwrap();
        files.push(ThanosFile {
            rel_path: name.clone(),
            size_bytes: Some(bytes.len() as u64),
            hash: None,
        });
        let key = keys::in_block(meta.ulid, &name);
        bucket.put(&key, Bytes::from(bytes)).await.unwrap();
    }
    files.push(ThanosFile {
        rel_path: META_FILE.to_owned(),
        ..ThanosFile::default()
    });
    let labels = labels.iter();
    meta.thanos = Some(ThanosMeta {
        version: 1,
        labels: labels
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        source: "sidecar".to_owned(),
        files,
        ..ThanosMeta::default()
    });
    let text = Bytes::from(meta.encode());
    bucket.put(&keys::meta(meta.ulid), text).await.unwrap();
}

/// Writes and uploads healthy blocks of `{cluster="a"}`.
async fn fill(bucket: &dyn Bucket, blocks: &[(u64, (i64, i64))]) {
    let dir = tempfile::tempdir().unwrap();
    for (n, span) in blocks {
        let meta = write(dir.path(), *n, *span);
        upload(bucket, dir.path(), meta, &[("cluster", "a")]).await;
    }
}
