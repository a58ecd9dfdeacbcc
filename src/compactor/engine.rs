//! The compactor: what it works with, and what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::block::BlockMeta;
use crate::chunk::SEGMENT_BYTES_MAX;
use crate::compactor::ahead::Waiting;
use crate::compactor::backlog::Backlog;
use crate::compactor::duty::{Duty, DutyProgress, Ledger};
use crate::compactor::plan::INDEX_BYTES_MAX;
use crate::compactor::run::Workshop;
use crate::compactor::survey::{Survey, of, survey};
use crate::compactor::{CompactorError, Deduplication, RetentionSettings};
use crate::foundation::{Clock, Pool};
use crate::inventory::BucketInventory;
use crate::model::{BlockId, TimestampMs};

/// How the bucket is kept in order.
#[derive(Debug, Clone)]
pub struct CompactorSettings {
    /// A directory of its own for what is being made.
    pub directory: PathBuf,
    /// External labels in which replicas differ.
    pub replica_labels: BTreeSet<String>,
    /// How samples of replicas become those of one.
    pub deduplication: Deduplication,
    /// How long each resolution is kept.
    pub retention: RetentionSettings,
    /// Coarser resolutions are made.
    pub downsamples: bool,
    /// Blocks stay so long after they were marked for deletion.
    pub delete_delay_ms: i64,
    /// Blocks of others are left alone for so long after they were named.
    pub consistency_delay_ms: i64,
    /// Largest index of a result.
    pub index_bytes_max: u64,
    /// Where a chunk segment of a result ends.
    pub segment_bytes_max: u64,
    /// Groups compacted, and blocks downsampled, at once.
    pub concurrency: usize,
    /// What the bucket was found to hold is believed for so long, by those who have changed nothing since.
    pub survey_age_ms_max: i64,
}

impl CompactorSettings {
    /// What Thanos does when nothing is set; replicas stay apart and everything is kept.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            replica_labels: BTreeSet::new(),
            deduplication: Deduplication::OneToOne,
            retention: RetentionSettings::default(),
            downsamples: true,
            delete_delay_ms: 48 * 3_600_000,
            consistency_delay_ms: 30 * 60_000,
            index_bytes_max: INDEX_BYTES_MAX,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            concurrency: 1,
            survey_age_ms_max: 0,
        }
    }
}

/// Events since the start.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub n_compactions: AtomicU64,
    pub n_vertical: AtomicU64,
    pub n_failures: AtomicU64,
    pub n_passes: AtomicU64,
    pub n_downsampled: AtomicU64,
    pub n_downsample_failures: AtomicU64,
    pub n_repaired: AtomicU64,
    pub n_marked_deleted: AtomicU64,
    pub n_marked_no_compact: AtomicU64,
    pub n_garbage: AtomicU64,
    pub n_cleaned: AtomicU64,
    pub n_cleanup_failures: AtomicU64,
    pub n_cleanups: AtomicU64,
    pub n_partial_deleted: AtomicU64,
    pub n_retries: AtomicU64,
    pub n_bytes_read: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// A block that compaction goes around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// What is wrong with it.
    pub reason: String,
    /// What would help.
    pub what_to_do: String,
}

/// What is left to do, as the last look at the bucket told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactorStatus {
    /// Compaction.
    pub backlog: Backlog,
    /// Blocks that wait to be downsampled.
    pub n_to_downsample: u64,
    /// Blocks whose time is over.
    pub n_to_retire: u64,
    /// Blocks kept beyond their time because nothing coarser is there.
    pub n_held: u64,
    /// Marked blocks whose delay is not over yet, and leftovers.
    pub n_to_delete: u64,
    /// Compaction goes around them.
    pub aside: BTreeMap<BlockId, Aside>,
    /// Downsampling goes around them.
    pub aside_coarser: BTreeMap<BlockId, Aside>,
    /// When the bucket was looked at.
    pub at_ms: TimestampMs,
}

/// When the bucket was looked at, and how often anybody had walked over it then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    at_ms: TimestampMs,
    n_walks: u64,
}

/// Keeps a bucket in order. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Compactor(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: CompactorSettings,
    pub(crate) inventory: Arc<BucketInventory>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workshop: Workshop,
    pub(crate) pool: Pool,
    pub(crate) counters: Counters,
    pub(crate) status: Mutex<CompactorStatus>,
    pub(crate) ledger: Ledger,
    /// Blocks that were read whole, so that what they cover may go.
    pub(crate) read_through: Mutex<BTreeSet<BlockId>>,
    /// The last look at the bucket, unless it was changed since.
    pub(crate) last_look: tokio::sync::Mutex<Option<Look>>,
    pub(crate) is_cleared: tokio::sync::Mutex<bool>,
}

impl Compactor {
    /// Does nothing until it is asked. What others found out about the bucket by `inventory` is not asked for again.
    /// Sockets are waited for on `runtime`, work is done in `pool`.
    pub fn new(
        settings: CompactorSettings,
        inventory: Arc<BucketInventory>,
        clock: Arc<dyn Clock>,
        (runtime, pool): (Handle, Pool),
    ) -> Self {
        let bucket = Arc::clone(inventory.bucket());
        let workshop = Workshop {
            waiting: Waiting::new(bucket, runtime),
            scratch: settings.directory.clone(),
            segment_bytes_max: settings.segment_bytes_max,
            deduplication: settings.deduplication,
        };
        Self(Arc::new(Inner {
            ledger: Ledger::new(Arc::clone(&clock)),
            settings,
            inventory,
            clock,
            workshop,
            pool,
            counters: Counters::default(),
            status: Mutex::default(),
            read_through: Mutex::default(),
            last_look: tokio::sync::Mutex::default(),
            is_cleared: tokio::sync::Mutex::default(),
        }))
    }

    /// How it was set.
    pub fn settings(&self) -> &CompactorSettings {
        &self.0.settings
    }

    /// What happened since the start.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What is left to do.
    pub fn status(&self) -> CompactorStatus {
        self.0.status.lock().clone()
    }

    /// How far a duty is.
    pub fn progress(&self, duty: Duty) -> DutyProgress {
        self.0.ledger.progress(duty)
    }

    /// What the bucket holds, found out lately.
    pub(crate) async fn survey(&self) -> Result<Survey, CompactorError> {
        let now_ms = self.0.clock.now_ms();
        let age_ms_max = self.0.settings.survey_age_ms_max;
        let inventory = &self.0.inventory;
        let mut last_look = self.0.last_look.lock().await;
        if let Some(look) = last_look.as_mut() {
            let n_walks = inventory.n_walks();
            // A listing of many blocks takes many requests: that of somebody else will do.
            if look.n_walks < n_walks || now_ms < look.at_ms.saturating_add(age_ms_max) {
                if look.n_walks < n_walks {
                    *look = Look {
                        at_ms: now_ms,
                        n_walks,
                    };
                }
                return Ok(of(&inventory.current()));
            }
        }
        let found = survey(inventory).await?;
        *last_look = Some(Look {
            at_ms: now_ms,
            n_walks: inventory.n_walks(),
        });
        Ok(found)
    }

    /// The next look is at the bucket itself.
    pub(crate) async fn look_again(&self) {
        *self.0.last_look.lock().await = None;
    }

    pub(crate) fn new_id(&self) -> BlockId {
        let now_ms = u64::try_from(self.0.clock.now_ms()).unwrap_or(0);
        BlockId::from_parts(now_ms, rand::random())
    }

    /// Does `work` in the pool.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Workshop) -> T + Send + 'static,
    ) -> Result<T, CompactorError> {
        let inner = Arc::clone(&self.0);
        let running = self.0.pool.run(move || work(&inner.workshop));
        let running = running.map_err(|busy| CompactorError::Threads(busy.to_string()))?;
        running
            .await
            .map_err(|panic| CompactorError::Threads(panic.to_string()))
    }

    /// Removes, once, what a run before the last end of the process left.
    pub(crate) async fn clear_once(&self, survey: &Survey) -> Result<(), CompactorError> {
        let mut is_cleared = self.0.is_cleared.lock().await;
        if *is_cleared {
            return Ok(());
        }
        let whole: BTreeSet<BlockId> = survey.blocks.iter().map(|block| block.meta.ulid).collect();
        self.run(move |workshop| workshop.clear(&whole)).await??;
        *is_cleared = true;
        Ok(())
    }
}

/// A new block and what it replaces.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The block; `None` where nothing was left of its sources.
    pub block: Option<BlockMeta>,
    /// Blocks that are marked for deletion.
    pub sources: Vec<BlockId>,
}
