//! Retention and cleaning up: marks for what was kept long enough, deletion of what was marked long enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::compactor::duty::Duty;
use crate::compactor::engine::{Compactor, count};
use crate::compactor::garbage::{duplicates, is_deletable, is_given_up};
use crate::compactor::marks::delete_block;
use crate::compactor::retention::plan_retention;
use crate::compactor::survey::{Survey, Surveyed, settled};
use crate::compactor::{CompactorError, RetentionPlan};
use crate::foundation::Cancel;
use crate::inventory::PartialReason;
use crate::model::{BlockId, TimestampMs};

/// What one cleaning did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CleanupReport {
    /// Copies that were marked, and what covers them.
    pub outdated: Vec<(BlockId, BlockId)>,
    /// Blocks that were deleted.
    pub deleted: Vec<BlockId>,
    /// Uploads that were given up, deleted.
    pub given_up: Vec<BlockId>,
    /// What could not be done, and why; it is tried again.
    pub failed: Vec<(BlockId, String)>,
}

impl Compactor {
    /// What retention would do now.
    pub async fn plan_retention(&self) -> Result<RetentionPlan, CompactorError> {
        Ok(self.retention_of(&self.survey().await?))
    }

    pub(crate) fn retention_of(&self, survey: &Survey) -> RetentionPlan {
        let settings = &self.0.settings;
        let alive = survey
            .blocks
            .iter()
            .filter(|block| block.deletion_ms.is_none());
        plan_retention(
            alive.map(|block| (&block.meta, block.has_no_downsample)),
            &settings.retention,
            settings.downsamples,
            self.0.clock.now_ms(),
        )
    }

    pub(crate) fn note_retention(&self, plan: &RetentionPlan) {
        let mut status = self.0.status.lock();
        status.n_to_retire = plan.retire.len() as u64;
        status.n_held = plan.held.len() as u64;
    }

    /// Marks blocks whose time is over.
    pub async fn retire(&self) -> Result<RetentionPlan, CompactorError> {
        let _running = self.0.ledger.begin(Duty::Retire);
        let survey = self.survey().await?;
        let plan = self.retention_of(&survey);
        let sizes: BTreeMap<BlockId, u64> = survey
            .blocks
            .iter()
            .map(|block| (block.meta.ulid, block.n_bytes()))
            .collect();
        let size = |block: &BlockId| sizes.get(block).copied().unwrap_or(0);
        let n_blocks = plan.retire.len() as u64;
        let n_bytes = plan.retire.iter().map(|(block, _)| size(block)).sum();
        self.0.ledger.leave(Duty::Retire, n_blocks, n_bytes);
        self.note_retention(&plan);
        for (block, details) in &plan.retire {
            tracing::info!(%block, details, "a block is marked for deletion");
            self.delete_later(*block, details).await?;
            self.0.ledger.done(Duty::Retire, 1, size(block));
            let mut status = self.0.status.lock();
            status.n_to_retire = status.n_to_retire.saturating_sub(1);
        }
        Ok(plan)
    }

    /// Marks copies, deletes what was marked long enough and uploads that were given up.
    pub async fn clean(&self, cancel: &Cancel) -> Result<CleanupReport, CompactorError> {
        let _running = self.0.ledger.begin(Duty::Clean);
        let survey = self.survey().await?;
        self.clear_once(&survey).await?;
        count(&self.0.counters.n_cleanups, 1);
        let mut report = CleanupReport::default();
        self.mark_copies(&survey, &mut report, cancel).await?;
        let now_ms = self.0.clock.now_ms();
        let marked = self.marked_long_ago(&survey, now_ms);
        let given_up: Vec<BlockId> = survey
            .leftovers
            .iter()
            .filter(|one| {
                // A meta.json that cannot be read may be put right; nobody else has the bytes beside it.
                let is_partial = one.reason == PartialReason::NoMeta && one.deletion_ms.is_none();
                is_partial && is_given_up(one.block, one.newest_ms, now_ms)
            })
            .map(|one| one.block)
            .collect();
        let n_blocks = (marked.len() + given_up.len()) as u64;
        let n_bytes = marked.iter().map(|(_, n_bytes)| n_bytes).sum();
        self.0.ledger.leave(Duty::Clean, n_blocks, n_bytes);
        for (block, n_bytes) in marked {
            if self.delete(block, &mut report).await {
                tracing::info!(%block, "a block was deleted");
                report.deleted.push(block);
                count(&self.0.counters.n_cleaned, 1);
                self.0.ledger.done(Duty::Clean, 1, n_bytes);
            }
        }
        for block in given_up {
            if self.delete(block, &mut report).await {
                tracing::info!(%block, "an upload that was given up was deleted");
                report.given_up.push(block);
                count(&self.0.counters.n_partial_deleted, 1);
                self.0.ledger.done(Duty::Clean, 1, 0);
            }
        }
        let marked = survey
            .blocks
            .iter()
            .filter(|block| block.deletion_ms.is_some());
        let n_known = marked.count() + survey.leftovers.len() + report.outdated.len();
        let n_gone = report.deleted.len() + report.given_up.len();
        self.0.status.lock().n_to_delete = n_known.saturating_sub(n_gone) as u64;
        Ok(report)
    }

    /// What is to be deleted now, and its length where that is known.
    fn marked_long_ago(&self, survey: &Survey, now_ms: TimestampMs) -> Vec<(BlockId, u64)> {
        let whole = survey
            .blocks
            .iter()
            .map(|block| (block.meta.ulid, block.deletion_ms, block.n_bytes()));
        let others = survey
            .leftovers
            .iter()
            .map(|one| (one.block, one.deletion_ms, 0));
        let delay_ms = self.0.settings.delete_delay_ms;
        let due = whole
            .chain(others)
            .filter_map(|(block, marked_ms, n_bytes)| {
                is_deletable(marked_ms?, delay_ms, now_ms).then_some((block, n_bytes))
            });
        due.collect()
    }

    async fn delete(&self, block: BlockId, report: &mut CleanupReport) -> bool {
        match delete_block(&*self.0.workshop.waiting.bucket, block).await {
            Ok(_n_objects) => true,
            Err(error) => {
                count(&self.0.counters.n_cleanup_failures, 1);
                report.failed.push((block, error.chain()));
                false
            }
        }
    }

    /// A copy goes only when what covers it can be read from its first chunk to its last.
    async fn mark_copies(
        &self,
        survey: &Survey,
        report: &mut CleanupReport,
        cancel: &Cancel,
    ) -> Result<(), CompactorError> {
        let settings = &self.0.settings;
        let now_ms = self.0.clock.now_ms();
        let blocks: Vec<&Surveyed> =
            settled(survey, settings.consistency_delay_ms, now_ms).collect();
        let copies = duplicates(
            blocks.iter().map(|block| &block.meta),
            &settings.replica_labels,
        );
        let mut refused: BTreeSet<BlockId> = BTreeSet::new();
        for (copy, cover) in copies {
            let is_known = self.0.read_through.lock().contains(&cover);
            if refused.contains(&cover) {
                continue;
            }
            if !is_known {
                let Some(block) = blocks.iter().find(|block| block.meta.ulid == cover) else {
                    continue;
                };
                let (block, id, stop) = ((*block).clone(), self.new_id(), cancel.clone());
                let read = self
                    .run(move |shop| shop.read_through(&block, id, &stop))
                    .await?;
                if let Err(error) = read {
                    refused.insert(cover);
                    let text = format!(
                        "it is kept, because the block that covers it cannot be read: {error}"
                    );
                    report.failed.push((copy, text));
                    continue;
                }
                self.0.read_through.lock().insert(cover);
            }
            self.delete_later(copy, "outdated block").await?;
            count(&self.0.counters.n_garbage, 1);
            report.outdated.push((copy, cover));
        }
        Ok(())
    }
}
