//! Local blocks become fewer and longer, and those of which much was deleted are written anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::block::{Block, BlockMeta, BlockSource, NewBlock};
use crate::compact::{CompactError, CompactionPlan, compact, levels, merged_block, plan};
use crate::foundation::cancel::CancelReason;
use crate::foundation::verdict::Verdict;
use crate::model::BlockId;
use crate::tsdb::TsdbError;
use crate::tsdb::db::{Inner, Tsdb};
use crate::tsdb::floor::raise_floor;
use crate::tsdb::load::{delete_block_dir, set_aside, sort};
use crate::tsdb::timeline::Sources;

/// What a compaction did.
#[derive(Debug, Clone, PartialEq)]
pub struct Compacted {
    /// The new block; `None` when everything had been deleted.
    pub block: Option<BlockMeta>,
    /// The blocks it replaced.
    pub replaced: Vec<BlockId>,
}

impl Tsdb {
    /// The blocks that are due to be made one.
    pub fn compaction_due(&self) -> Option<CompactionPlan> {
        let settings = self.settings();
        let levels = levels(settings.head.chunk_range_ms, settings.retention.time_ms);
        let blocks = self.blocks();
        let metas: Vec<&BlockMeta> = blocks.iter().map(Block::meta).collect();
        plan(&metas, &levels)
    }

    /// Makes the blocks one that are due; `None` when none are.
    ///
    /// Appends and queries go on, cuts wait. A query sees the sources or the result. When the process ends in between,
    /// the next start finds the sources named as parents and deletes them. Blocks that cannot be read are marked as
    /// failed and not planned again.
    pub fn compact(&self) -> Result<Option<Compacted>, TsdbError> {
        let inner = self.inner();
        let _one_at_a_time = inner.cutting.lock();
        let Some(plan) = self.compaction_due() else {
            return Ok(None);
        };
        let sources = inner.named(&plan.blocks);
        let metas: Vec<&BlockMeta> = sources.iter().map(Block::meta).collect();
        let new = merged_block(inner.new_id(), &metas);
        tracing::info!(blocks = ?plan.blocks, reason = ?plan.reason, into = %new.id, "compact local blocks");
        inner.rewrite(new, &sources).map(Some)
    }

    /// Writes every block anew that has tombstones, without what was deleted; how many.
    pub fn clean_tombstones(&self) -> Result<usize, TsdbError> {
        let inner = self.inner();
        let _one_at_a_time = inner.cutting.lock();
        inner.must_be_replayed("clean tombstones")?;
        let mut n_cleaned = 0;
        for block in self.blocks() {
            if block.tombstones().is_empty() {
                continue;
            }
            let meta = block.meta();
            let mut new = merged_block(inner.new_id(), &[meta]);
            // As Prometheus does: a block of its own that replaces the other.
            (new.level, new.sources) = (1, Vec::new());
            new.thanos.clone_from(&meta.thanos);
            inner.rewrite(new, &[block])?;
            n_cleaned += 1;
        }
        Ok(n_cleaned)
    }

    /// The process is about to end: gives up the cut, compaction or snapshot that runs, and lets no other begin. Of what
    /// was given up nothing is left, or what the next start removes, and what it was made of is where it was.
    pub fn stop_making_blocks(&self) {
        self.inner().stopping.cancel(CancelReason::Canceled);
    }
}

impl Inner {
    /// A name for a block made now.
    pub(crate) fn new_id(&self) -> BlockId {
        let now_ms = u64::try_from(self.clock.now_ms()).unwrap_or(0);
        BlockId::from_parts(now_ms, rand::random())
    }

    /// The local blocks of these names, in their order.
    fn named(&self, ids: &[BlockId]) -> Vec<Block> {
        let now = self.sources.load();
        let find = |id: &BlockId| now.blocks.iter().find(|block| block.meta().ulid == *id);
        ids.iter().filter_map(find).cloned().collect()
    }

    /// Replaces `sources` by one block of what they hold.
    fn rewrite(&self, new: NewBlock, sources: &[Block]) -> Result<Compacted, TsdbError> {
        let refs: Vec<&dyn BlockSource> = sources
            .iter()
            .map(|block| block as &dyn BlockSource)
            .collect();
        let written = compact(&self.dir, new, &refs, &self.stopping);
        let counter = match &written {
            Ok(_) => &self.counters.compactions,
            Err(_) => &self.counters.compactions_failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let block = match written {
            Ok(meta) => meta,
            Err(error) => return Err(self.mark_failed(error, sources)),
        };
        let opened = block.as_ref().map(|meta| self.open_new(meta)).transpose()?;
        if opened.is_none() {
            let in_order = sources.iter().filter(|block| !block.meta().is_partial());
            if let Some(end) = in_order.map(|block| block.meta().max_time).max() {
                raise_floor(&self.dir, end)?;
            }
            // Whoever finds them at the next start knows that they may go.
            for source in sources {
                let mut meta = source.meta().clone();
                meta.compaction.deletable = true;
                meta.write(source.dir())?;
            }
        }
        let replaced: Vec<BlockId> = sources.iter().map(|block| block.meta().ulid).collect();
        self.replace_blocks(&replaced, opened.as_slice());
        for source in sources {
            let dir = source.dir();
            // Somebody who needed room may have been faster.
            if dir.try_exists().map_err(TsdbError::io("inspect", dir))? {
                delete_block_dir(dir)?;
            }
        }
        Ok(Compacted { block, replaced })
    }

    /// Opens what was just written; what does not open is set aside, and its sources stay.
    pub(crate) fn open_new(&self, meta: &BlockMeta) -> Result<Block, TsdbError> {
        let name = meta.ulid.to_string();
        match Block::open(&self.dir.join(&name)) {
            Ok(block) => Ok(block),
            Err(error) => {
                set_aside(&self.dir, &name, &error.to_string())?;
                Err(error.into())
            }
        }
    }

    /// From now on timelines read `block`, which was cut from the head; those that are held now do too, once the head let
    /// go of what it holds.
    pub(crate) fn show_cut(&self, block: Block) {
        self.replace(|now| {
            let mut blocks = now.blocks.clone();
            blocks.push(block.clone());
            sort(&mut blocks);
            Sources {
                blocks,
                bucket: Arc::clone(&now.bucket),
                cut: Some(block),
                ..Sources::default()
            }
        });
    }

    /// From now on timelines read `come` instead of `gone`.
    pub(crate) fn replace_blocks(&self, gone: &[BlockId], come: &[Block]) {
        self.replace(|now| {
            let mut blocks = now.blocks.clone();
            blocks.retain(|block| !gone.contains(&block.meta().ulid));
            blocks.extend_from_slice(come);
            sort(&mut blocks);
            Sources {
                blocks,
                bucket: Arc::clone(&now.bucket),
                ..Sources::default()
            }
        });
    }

    /// What cannot be read will not be read next time either: it is left out of later plans.
    fn mark_failed(&self, error: CompactError, sources: &[Block]) -> TsdbError {
        if error.verdict() != Verdict::Quarantine {
            return error.into();
        }
        let culprit = error.culprit();
        for source in sources {
            if culprit.is_some_and(|culprit| culprit != source.meta().ulid) {
                continue;
            }
            let mut meta = source.meta().clone();
            meta.compaction.failed = true;
            let marked = meta
                .write(source.dir())
                .and_then(|()| Block::open(source.dir()));
            match marked {
                Ok(block) => self.replace_blocks(&[meta.ulid], &[block]),
                Err(unmarked) => {
                    tracing::warn!(block = %meta.ulid, error = %unmarked, "mark a block that cannot be compacted");
                }
            }
        }
        error.into()
    }
}
