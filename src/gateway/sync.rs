//! Bringing the served blocks up to date with the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::block::BlockMeta;
use crate::bucket::{Bucket, keys};
use crate::catalog::Catalog;
use crate::foundation::Clock;
use crate::gateway::ahead::BLOCKS_AT_ONCE;
use crate::gateway::error::GatewayError;
use crate::gateway::lazy::{LazyBlock, Shelf};
use crate::gateway::limits::Limiter;
use crate::gateway::pages::{PageCache, PageSettings};
use crate::gateway::plan::{ExcludeReason, plan_loading};
use crate::gateway::remote::size_flaws;
use crate::gateway::settings::GatewaySettings;
use crate::gateway::snapshot::{BlockInfo, Snapshot};
use crate::gateway::stats::{GatewayStats, Stats};
use crate::inventory::{BucketInventory, Inventory, KnownBlock, KnownFile, Partial};
use crate::model::{BlockId, Labels, Resolution};
use crate::storage::{Flaws, Guarded, Queryable, StorageError};

/// Index headers fetched at once in the background.
const HEADER_FETCHES: usize = 4;
const HOUR: Duration = Duration::from_hours(1);

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
    /// Served blocks that are open: their index headers are in memory.
    pub n_open: usize,
    /// Whole blocks that are not served, and why.
    pub excluded: BTreeMap<BlockId, ExcludeReason>,
    /// Blocks that are not whole.
    pub partial: Vec<Partial>,
    /// Served blocks that did not open when they were asked last, and why. They are tried again.
    pub aside: BTreeMap<BlockId, String>,
    /// Served blocks of which some bytes are damaged; the rest of them answers.
    pub damaged: BTreeMap<BlockId, Vec<String>>,
    /// Bytes of pages in memory.
    pub memory_bytes: u64,
    /// Bytes of pages and index headers on the disk.
    pub cached_bytes: u64,
    /// How much that may be.
    pub bytes_max: (u64, u64),
    /// Selects that went beyond a limit, by limit.
    pub refused: Vec<(&'static str, u64)>,
}

/// Serves the blocks of a bucket.
#[derive(Debug)]
pub struct Gateway {
    settings: GatewaySettings,
    bucket: Arc<dyn Bucket>,
    inventory: Arc<BucketInventory>,
    shelf: Arc<Shelf>,
    flaws: Flaws,
    state: Mutex<State>,
    /// One sync at a time.
    syncing: tokio::sync::Mutex<()>,
    /// One walk over missing headers at a time.
    fetching: tokio::sync::Mutex<()>,
    snapshot: ArcSwap<Snapshot>,
}

#[derive(Debug, Default)]
struct State {
    loaded: BTreeMap<BlockId, Loaded>,
    excluded: BTreeMap<BlockId, ExcludeReason>,
}

#[derive(Debug, Clone)]
struct Loaded {
    info: BlockInfo,
    block: Arc<LazyBlock>,
}

impl Gateway {
    /// Serves what the catalog remembers of the bucket, until the first sync. Requests run on `runtime`.
    pub fn new(
        settings: GatewaySettings,
        bucket: Arc<dyn Bucket>,
        catalog: Catalog,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> std::io::Result<Self> {
        let limiter = Arc::new(Limiter::new(settings.limits));
        let pages = PageSettings {
            directory: settings.cache_directory.clone(),
            memory_max: settings.memory_bytes_max,
            disk_max: settings.cache_bytes_max,
            requests_max: settings.requests_max,
        };
        let scanning = runtime.clone();
        let pages = Arc::new(PageCache::open(
            pages,
            Arc::clone(&bucket),
            runtime,
            Arc::clone(&limiter),
            Arc::new(Stats::default()),
        )?);
        let concurrency = settings.fetch_concurrency;
        let inventory = BucketInventory::new(Arc::clone(&bucket), catalog, concurrency);
        let shelf = Shelf {
            pages,
            clock,
            limiter,
            turns: Arc::new(Semaphore::new(BLOCKS_AT_ONCE)),
        };
        let gateway = Self {
            settings,
            bucket,
            inventory: Arc::new(inventory),
            shelf: Arc::new(shelf),
            flaws: Flaws::default(),
            state: Mutex::default(),
            syncing: tokio::sync::Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            snapshot: ArcSwap::default(),
        };
        gateway.serve(&gateway.inventory.current(), false);
        let store = Arc::clone(gateway.shelf.pages.store());
        scanning.spawn_blocking(move || {
            if let Err(error) = store.scan() {
                tracing::warn!(error = %error, "what an earlier run left in the cache is not counted");
            }
        });
        Ok(gateway)
    }

    /// What is served now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// What is known of the bucket; whoever else works with the bucket shares it.
    pub fn inventory(&self) -> &Arc<BucketInventory> {
        &self.inventory
    }

    /// What was counted since the start.
    pub fn stats(&self) -> GatewayStats {
        self.shelf.pages.stats().read()
    }

    /// What is in the bucket and what is made of it.
    pub fn status(&self) -> GatewayStatus {
        let state = self.state.lock();
        let blocks = || state.loaded.iter();
        let aside = blocks().filter_map(|(id, loaded)| Some((*id, loaded.block.damage()?)));
        let (memory_bytes, cached_bytes) = self.shelf.pages.store().n_bytes();
        GatewayStatus {
            served: blocks().map(|(_, loaded)| loaded.info.clone()).collect(),
            n_open: blocks()
                .filter(|(_, loaded)| loaded.block.is_open())
                .count(),
            excluded: state.excluded.clone(),
            partial: self.inventory.current().partial.clone(),
            aside: aside.collect(),
            damaged: self.flaws.all(),
            memory_bytes,
            cached_bytes,
            bytes_max: self.shelf.pages.store().bytes_max(),
            refused: self.shelf.limiter.refused().to_vec(),
        }
    }

    /// Looks what the bucket holds and replaces the snapshot once. After an error everything is as it was.
    pub async fn sync(&self) -> Result<SyncReport, GatewayError> {
        let _one_at_a_time = self.syncing.lock().await;
        self.noted(self.inventory.refresh().await.map_err(GatewayError::from))
    }

    /// Looks at these blocks only, because somebody said that they came, changed or went.
    pub async fn look_at(&self, blocks: &[BlockId]) -> Result<SyncReport, GatewayError> {
        let _one_at_a_time = self.syncing.lock().await;
        let known = self.inventory.refresh_blocks(blocks).await;
        self.noted(known.map_err(GatewayError::from))
    }

    fn noted(
        &self,
        known: Result<Arc<Inventory>, GatewayError>,
    ) -> Result<SyncReport, GatewayError> {
        let stats = self.shelf.pages.stats();
        stats.syncs.add(1);
        match known {
            Ok(inventory) => Ok(self.serve(&inventory, true)),
            Err(error) => {
                stats.sync_failures.add(1);
                Err(error)
            }
        }
    }

    /// The least time between two listings of the whole bucket: large buckets are listed less often.
    pub fn sync_pause_min(&self) -> Duration {
        let pages = u32::try_from(self.inventory.n_pages()).unwrap_or(u32::MAX);
        let an_hour = self.settings.list_requests_per_hour_max.max(1);
        HOUR.saturating_mul(pages) / an_hour
    }

    /// `is_seen`: the bucket was asked; what a catalog does not remember may be there for all that.
    fn serve(&self, inventory: &Inventory, is_seen: bool) -> SyncReport {
        let now_ms = self.shelf.clock.now_ms();
        let mut excluded = self.settings.partition.excluded(&inventory.blocks, now_ms);
        let mark_delay_ms = self.settings.mark_delay_ms;
        let mut plan = if excluded.is_empty() {
            plan_loading(&inventory.blocks, now_ms, mark_delay_ms)
        } else {
            let here = inventory.blocks.iter();
            let here = here.filter(|known| !excluded.contains_key(&known.meta.ulid));
            plan_loading(&here.cloned().collect::<Vec<_>>(), now_ms, mark_delay_ms)
        };
        excluded.append(&mut plan.excluded);
        let mut state = self.state.lock();
        let before: BTreeSet<_> = state.loaded.keys().copied().collect();
        let mut loaded = BTreeMap::new();
        let mut changed = BTreeSet::new();
        for known in &inventory.blocks {
            let id = known.meta.ulid;
            if !plan.load.contains(&id) {
                continue;
            }
            match state.loaded.remove(&id) {
                Some(same) if is_same(same.block.known(), known) => {
                    loaded.insert(id, same);
                }
                other => {
                    changed.extend(other.map(|_| id));
                    loaded.insert(id, self.load(known));
                }
            }
        }
        let after: BTreeSet<_> = loaded.keys().copied().collect();
        if is_seen {
            self.forget_others(&after, &changed);
        }
        let served = loaded.values().map(|loaded| self.guarded(loaded)).collect();
        self.snapshot.store(Arc::new(Snapshot::new(served)));
        *state = State { loaded, excluded };
        let report = SyncReport {
            added: after.difference(&before).copied().collect(),
            removed: before.difference(&after).copied().collect(),
            n_served: after.len(),
        };
        let stats = self.shelf.pages.stats();
        stats.block_loads.add(report.added.len() as u64);
        stats.block_drops.add(report.removed.len() as u64);
        report
    }

    fn load(&self, known: &KnownBlock) -> Loaded {
        let id = known.meta.ulid;
        for flaw in size_flaws(&known.meta, |name| known.size_of(name)) {
            self.flaws.add(id, &flaw);
        }
        let meta_path = self.bucket.local_path(&keys::meta(id));
        let dir = meta_path.and_then(|path| Some(path.parent()?.to_owned()));
        let block = LazyBlock::new(Arc::new(known.clone()), dir, Arc::clone(&self.shelf));
        Loaded {
            info: self.describe(&known.meta),
            block,
        }
    }

    fn guarded(&self, loaded: &Loaded) -> (BlockInfo, Arc<dyn Queryable>) {
        let guarded = Guarded {
            block: loaded.info.id,
            inner: Arc::clone(&loaded.block),
            flaws: self.flaws.clone(),
        };
        (loaded.info.clone(), Arc::new(guarded))
    }

    /// What is kept of blocks that are gone, or are others than they were.
    fn forget_others(&self, served: &BTreeSet<BlockId>, changed: &BTreeSet<BlockId>) {
        self.flaws.retain(|block| served.contains(&block));
        let is_kept = |block: BlockId| served.contains(&block) && !changed.contains(&block);
        if let Err(error) = self.shelf.pages.store().retain(&is_kept) {
            tracing::warn!(error = %error, "pages of blocks that are gone were not removed");
        }
    }

    fn blocks(&self) -> Vec<Arc<LazyBlock>> {
        let state = self.state.lock();
        let blocks = state.loaded.values();
        blocks.map(|loaded| Arc::clone(&loaded.block)).collect()
    }

    /// Closes blocks that nobody has asked for a while.
    pub fn close_idle(&self) {
        let idle_ms = i64::try_from(self.settings.idle_timeout.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.shelf.clock.now_ms().saturating_sub(idle_ms);
        for block in self.blocks() {
            block.close_unless_used(before_ms);
        }
    }

    /// Fetches index headers that are not here, those of the newest blocks first, until half of the disk budget is used
    /// or the bucket does not answer; how many came.
    pub async fn fetch_headers(&self) -> usize {
        let _one_at_a_time = self.fetching.lock().await;
        let mut missing = self.blocks();
        missing.retain(|block| block.lacks_header());
        missing.sort_by_key(|block| std::cmp::Reverse(block.known().meta.max_time));
        let store = self.shelf.pages.store();
        let is_room = || store.n_bytes().1 < store.bytes_max().1 / 2;
        let mut n_fetched = 0;
        let fetch = |block: Arc<LazyBlock>| tokio::task::spawn_blocking(move || block.prefetch());
        let rounds = missing.chunks(HEADER_FETCHES);
        for round in rounds.map(<[Arc<LazyBlock>]>::to_vec) {
            if !is_room() {
                break;
            }
            let fetched: Vec<_> = stream::iter(round.into_iter().map(fetch))
                .buffer_unordered(HEADER_FETCHES)
                .collect()
                .await;
            let is_away = |answer: &Result<Result<(), StorageError>, _>| {
                matches!(answer, Err(_) | Ok(Err(StorageError::Unavailable(_))))
            };
            n_fetched += fetched
                .iter()
                .filter(|answer| matches!(answer, Ok(Ok(()))))
                .count();
            if fetched.iter().any(is_away) {
                break;
            }
        }
        n_fetched
    }

    /// Those of `blocks` that are served under this appliance's own labels, as they are or in a block compacted from
    /// them, and have been open at least once; the others are opened for it.
    pub async fn verified(&self, blocks: BTreeSet<BlockId>) -> BTreeSet<BlockId> {
        let wanted: Vec<_> = {
            let state = self.state.lock();
            let own = state.loaded.iter();
            // What was compacted meanwhile holds the samples of its sources too, unless it is coarser.
            let own = own.filter(|(_, loaded)| {
                loaded.info.is_own && loaded.info.resolution == Resolution::Raw
            });
            own.flat_map(|(id, loaded)| {
                let held = std::iter::once(id).chain(&loaded.info.sources);
                let held = held.filter(|id| blocks.contains(id));
                held.map(|id| (*id, Arc::clone(&loaded.block)))
            })
            .collect()
        };
        let opened = tokio::task::spawn_blocking(move || {
            let open = wanted.into_iter().filter(|(_, block)| block.opens());
            open.map(|(id, _)| id).collect()
        });
        opened.await.unwrap_or_default()
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

/// Are these the same index, chunks and deletions? Marks may differ.
fn is_same(left: &KnownBlock, right: &KnownBlock) -> bool {
    fn content(known: &KnownBlock) -> impl Iterator<Item = &KnownFile> {
        let is_content = |file: &&KnownFile| !file.path.ends_with(".json");
        known.files.iter().filter(is_content)
    }
    left.meta == right.meta && content(left).eq(content(right))
}
