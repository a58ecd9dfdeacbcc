//! Bringing the served blocks up to date with the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::block::{Block, BlockMeta};
use crate::bucket::{Bucket, keys};
use crate::catalog::Catalog;
use crate::foundation::{Clock, Verdict};
use crate::gateway::error::GatewayError;

use crate::gateway::pages::PageCache;
use crate::gateway::plan::{ExcludeReason, plan_loading};
use crate::gateway::remote::{RemoteBlock, RemoteError, size_flaws};
use crate::gateway::snapshot::{BlockInfo, Snapshot};
use crate::inventory::{BucketInventory, Partial};
use crate::model::{BlockId, ExternalLabels, Labels, Resolution};
use crate::storage::{Flaws, Guarded, Queryable};

/// Blocks opened at once.
const OPEN_CONCURRENCY: usize = 8;

/// How the bucket is served.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Labels of this appliance: blocks that carry exactly these are its own.
    pub external: ExternalLabels,
    /// A block marked for deletion is served for so long; less than the time after which it is deleted.
    pub mark_delay_ms: i64,
    /// Metas read at once.
    pub fetch_concurrency: usize,
    /// Where headers and pages of remote blocks are kept.
    pub cache_directory: PathBuf,
    /// How many bytes of pages.
    pub cache_bytes_max: u64,
}

/// What one sync changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Served from now on.
    pub added: Vec<BlockId>,
    /// Not served any more.
    pub removed: Vec<BlockId>,
    /// Blocks served now.
    pub n_served: usize,
}

/// What is in the bucket and what is made of it.
#[derive(Debug, Clone, Default)]
pub struct GatewayStatus {
    /// Served blocks.
    pub served: Vec<BlockInfo>,
    /// Whole blocks that are not served, and why.
    pub excluded: BTreeMap<BlockId, ExcludeReason>,
    /// Blocks that are not whole.
    pub partial: Vec<Partial>,
    /// Blocks that do not open: set aside, and why. Every sync tries them again.
    pub aside: BTreeMap<BlockId, String>,
    /// Served blocks of which some bytes are damaged; the rest of them answers.
    pub damaged: BTreeMap<BlockId, Vec<String>>,
    /// Bytes of pages on disk.
    pub cached_bytes: u64,
}

/// Serves the blocks of a bucket.
#[derive(Debug)]
pub struct Gateway {
    settings: GatewaySettings,
    bucket: Arc<dyn Bucket>,
    inventory: BucketInventory,
    clock: Arc<dyn Clock>,
    pages: Arc<PageCache>,
    flaws: Flaws,
    state: Mutex<State>,
    /// One sync at a time.
    syncing: tokio::sync::Mutex<()>,
    snapshot: ArcSwap<Snapshot>,
}

#[derive(Default)]
struct State {
    loaded: BTreeMap<BlockId, Loaded>,
    excluded: BTreeMap<BlockId, ExcludeReason>,
    partial: Vec<Partial>,
    aside: BTreeMap<BlockId, String>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("n_loaded", &self.loaded.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Loaded {
    info: BlockInfo,
    block: Arc<dyn Queryable>,
}

impl Gateway {
    /// Serves nothing until the first sync. Reads of remote blocks run on `runtime`.
    pub fn new(
        settings: GatewaySettings,
        bucket: Arc<dyn Bucket>,
        catalog: Catalog,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> std::io::Result<Self> {
        let pages = PageCache::open(
            settings.cache_directory.clone(),
            settings.cache_bytes_max,
            Arc::clone(&bucket),
            runtime,
        )?;
        let inventory =
            BucketInventory::new(Arc::clone(&bucket), catalog, settings.fetch_concurrency);
        Ok(Self {
            settings,
            bucket,
            inventory,
            clock,
            pages: Arc::new(pages),
            flaws: Flaws::default(),
            state: Mutex::default(),
            syncing: tokio::sync::Mutex::default(),
            snapshot: ArcSwap::default(),
        })
    }

    /// What is served now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// What is in the bucket and what is made of it.
    pub fn status(&self) -> GatewayStatus {
        let state = self.state.lock();
        GatewayStatus {
            served: state
                .loaded
                .values()
                .map(|loaded| loaded.info.clone())
                .collect(),
            excluded: state.excluded.clone(),
            partial: state.partial.clone(),
            aside: state.aside.clone(),
            damaged: self.flaws.all(),
            cached_bytes: self.pages.n_bytes(),
        }
    }

    /// Looks what the bucket holds, opens what is new and replaces the snapshot once. After an error everything is as
    /// it was.
    pub async fn sync(&self) -> Result<SyncReport, GatewayError> {
        let _one_at_a_time = self.syncing.lock().await;
        let inventory = self.inventory.refresh().await?;
        let now_ms = self.clock.now_ms();
        let plan = plan_loading(&inventory.blocks, now_ms, self.settings.mark_delay_ms);
        let mut loaded = self.state.lock().loaded.clone();
        let before: BTreeSet<_> = loaded.keys().copied().collect();
        loaded.retain(|id, _| plan.load.contains(id));
        let new = inventory
            .blocks
            .iter()
            .map(|candidate| &candidate.meta)
            .filter(|meta| plan.load.contains(&meta.ulid) && !loaded.contains_key(&meta.ulid))
            .cloned();
        let opened: Vec<_> = stream::iter(new.collect::<Vec<_>>())
            .map(|meta| async move { (meta.ulid, self.open(meta).await) })
            .buffer_unordered(OPEN_CONCURRENCY)
            .collect()
            .await;
        let mut aside = BTreeMap::new();
        for (id, opened) in opened {
            match opened? {
                Ok(block) => {
                    loaded.insert(id, block);
                }
                Err(reason) => {
                    tracing::warn!(block = %id, reason, "bucket block set aside");
                    aside.insert(id, reason);
                }
            }
        }
        let after: BTreeSet<_> = loaded.keys().copied().collect();
        self.forget_others(&after);
        let served = loaded
            .values()
            .cloned()
            .map(|block| (block.info, block.block));
        self.snapshot
            .store(Arc::new(Snapshot::new(served.collect())));
        *self.state.lock() = State {
            loaded,
            excluded: plan.excluded,
            partial: inventory.partial.clone(),
            aside,
        };
        Ok(SyncReport {
            added: after.difference(&before).copied().collect(),
            removed: before.difference(&after).copied().collect(),
            n_served: after.len(),
        })
    }

    fn forget_others(&self, served: &BTreeSet<BlockId>) {
        self.flaws.retain(|block| served.contains(&block));
        if let Err(error) = self.pages.retain(|block| served.contains(&block)) {
            tracing::warn!(error = %error, "pages of blocks that are gone were not removed");
        }
    }

    /// The inner error is about this block alone.
    async fn open(&self, meta: BlockMeta) -> Result<Result<Loaded, String>, GatewayError> {
        let info = self.describe(&meta);
        let id = meta.ulid;
        let (block, flaws): (Arc<dyn Queryable>, _) = match self.bucket.local_path(&keys::meta(id))
        {
            Some(path) => {
                let dir = path.parent().unwrap_or(&path).to_owned();
                match tokio::task::spawn_blocking(move || open_local(&dir)).await? {
                    Ok((block, flaws)) => (Arc::new(block), flaws),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
            None => match RemoteBlock::open(meta, Arc::clone(&self.pages)).await {
                Ok((block, flaws)) => (Arc::new(block), flaws),
                Err(RemoteError::Bucket(error))
                    if matches!(error.verdict(), Verdict::RetryAfter(_) | Verdict::Refuse) =>
                {
                    return Err(error.into());
                }
                Err(error) => return Ok(Err(error.to_string())),
            },
        };
        for flaw in flaws {
            self.flaws.add(id, &flaw);
        }
        let block = Arc::new(Guarded {
            block: id,
            inner: block,
            flaws: self.flaws.clone(),
        });
        Ok(Ok(Loaded { info, block }))
    }

    fn describe(&self, meta: &BlockMeta) -> BlockInfo {
        let labels = meta.thanos.iter().flat_map(|thanos| &thanos.labels);
        let pairs: Vec<_> = labels.collect();
        // Names of a JSON object may be empty, which no label is; such a block has no owner.
        let external = Labels::new(&pairs).unwrap_or_else(|_flawed| Labels::empty());
        BlockInfo {
            id: meta.ulid,
            range: meta.range(),
            // Others are not loaded.
            resolution: meta.resolution().unwrap_or(Resolution::Raw),
            sources: known_sources(meta),
            is_own: external.is_empty() || external == self.settings.external.0,
            external,
        }
    }
}

/// The blocks of level 1 whose samples it holds, each as it was made, and nothing else; none where it was rewritten.
fn known_sources(meta: &BlockMeta) -> Vec<BlockId> {
    let rewrites = meta.thanos.as_ref().and_then(|t| t.other.get("rewrites"));
    let is_rewritten = rewrites.is_some_and(|rewrites| match rewrites {
        Value::Null => false,
        Value::Array(each) => !each.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => true,
    });
    if is_rewritten {
        return Vec::new();
    }
    meta.compaction.sources.clone()
}

/// The second result names what is not as meta.json says; the block answers for the rest.
fn open_local(dir: &Path) -> Result<(Block, Vec<String>), String> {
    let block = Block::open(dir).map_err(|error| error.to_string())?;
    let flaws = size_flaws(block.meta(), |name| {
        let metadata = std::fs::metadata(dir.join(name)).ok()?;
        Some(metadata.len())
    });
    Ok((block, flaws))
}
