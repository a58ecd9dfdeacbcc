//! Compaction: one look at the bucket after the other, until no group has anything left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::block::ThanosMeta;
use crate::compactor::CompactorError;
use crate::compactor::backlog::backlog;
use crate::compactor::duty::Duty;
use crate::compactor::engine::{Aside, Compactor, Made, count};
use crate::compactor::garbage::duplicates;
use crate::compactor::group::GroupKey;
use crate::compactor::marks::{mark_deleted, mark_no_compact};
use crate::compactor::plan::{Candidate, Exclusion, Reason, plan};
use crate::compactor::run::Job;
use crate::compactor::survey::{Survey, Surveyed, settled};
use crate::compactor::watched::Progress;
use crate::foundation::{Cancel, Verdict};
use crate::inventory::PartialReason;
use crate::model::BlockId;

/// What the no-compact mark of a damaged block says.
pub const DAMAGED: &str = "damaged";

/// What one pass did.
#[derive(Debug, Default)]
pub struct CompactionReport {
    /// Blocks that were made, oldest first.
    pub made: Vec<Made>,
    /// Blocks that were set aside, and why.
    pub set_aside: Vec<(BlockId, String)>,
    /// Damaged blocks and the blocks that were written anew from them.
    pub repaired: Vec<(BlockId, BlockId)>,
    /// Groups that are tried again, and why.
    pub failed: Vec<(String, String)>,
}

/// The groups as they are planned, and what is left out.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) groups: BTreeMap<GroupKey, Vec<Candidate>>,
    pub(crate) n_bytes: BTreeMap<BlockId, u64>,
    pub(crate) aside: BTreeMap<BlockId, Aside>,
    /// Damage that the listing shows; not marked yet.
    pub(crate) damaged: Vec<(BlockId, String)>,
}

impl Compactor {
    /// Compacts until nothing is left to do. A damaged block is repaired or set aside, and the rest goes on; an error is
    /// one of the bucket or of this machine.
    pub async fn compact(&self, cancel: &Cancel) -> Result<CompactionReport, CompactorError> {
        let mut report = CompactionReport::default();
        let mut skipped: BTreeSet<GroupKey> = BTreeSet::new();
        let _running = self.0.ledger.begin(Duty::Compact);
        count(&self.0.counters.n_passes, 1);
        loop {
            if cancel.reason().is_some() {
                return Err(CompactorError::Canceled);
            }
            let survey = self.survey().await?;
            self.clear_once(&survey).await?;
            let sorted = self.sort(&survey);
            for (block, problem) in &sorted.damaged {
                self.quarantine(*block, problem).await?;
                report.set_aside.push((*block, problem.clone()));
            }
            self.note(&survey, &sorted);
            if !sorted.damaged.is_empty() {
                self.look_again().await;
                continue;
            }
            let mut jobs = Vec::new();
            let mut has_excluded = false;
            for (key, candidates) in &sorted.groups {
                if skipped.contains(key) {
                    continue;
                }
                let planned = plan(candidates, self.0.settings.index_bytes_max);
                for (block, why) in planned.exclude {
                    self.exclude(block, why).await?;
                    has_excluded = true;
                }
                if let Some((blocks, reason)) = planned.compact {
                    jobs.push((self.job(key, &blocks, &survey), reason));
                }
            }
            if jobs.is_empty() && !has_excluded {
                return Ok(report);
            }
            self.look_again().await;
            let done: Vec<_> = stream::iter(jobs)
                .map(|(job, reason)| async move {
                    let done = self.compact_one(&job, cancel).await;
                    (job, reason, done)
                })
                .buffer_unordered(self.0.settings.concurrency.max(1))
                .collect()
                .await;
            self.look_again().await;
            for (job, reason, done) in done {
                if let Some(key) = self
                    .settle(job, reason, done, (&mut report, cancel))
                    .await?
                {
                    skipped.insert(key);
                }
            }
        }
    }

    fn job(&self, key: &GroupKey, blocks: &[BlockId], survey: &Survey) -> Job {
        let find = |id: &BlockId| survey.blocks.iter().find(|block| block.meta.ulid == *id);
        Job {
            key: key.clone(),
            blocks: blocks.iter().filter_map(find).cloned().collect(),
            id: self.new_id(),
            now_ms: self.0.clock.now_ms(),
        }
    }

    async fn compact_one(&self, job: &Job, cancel: &Cancel) -> Result<Made, CompactorError> {
        let working = self.0.ledger.work(Duty::Compact, job.to_string());
        let progress = Arc::clone(&working.progress);
        let (work, stop, seen) = (job.clone(), cancel.clone(), Arc::clone(&progress));
        let made = self
            .run(move |workshop| workshop.compact(&work, &stop, &seen))
            .await;
        let read = progress
            .n_bytes_done
            .load(std::sync::atomic::Ordering::Relaxed);
        count(&self.0.counters.n_bytes_read, read);
        drop(working);
        let block = made??;
        let n_bytes = job.blocks.iter().map(Surveyed::n_bytes).sum();
        let n_blocks = job.blocks.len() as u64;
        self.0.ledger.done(Duty::Compact, n_blocks, n_bytes);
        let sources: Vec<BlockId> = job.blocks.iter().map(|block| block.meta.ulid).collect();
        let details = if block.is_some() {
            "source of compacted block"
        } else {
            "block has no samples"
        };
        for source in &sources {
            self.delete_later(*source, details).await?;
        }
        Ok(Made { block, sources })
    }

    pub(crate) async fn delete_later(
        &self,
        block: BlockId,
        details: &str,
    ) -> Result<(), CompactorError> {
        let bucket = &*self.0.workshop.waiting.bucket;
        let now_ms = self.0.clock.now_ms();
        self.look_again().await;
        if mark_deleted(bucket, block, now_ms, details).await? {
            count(&self.0.counters.n_marked_deleted, 1);
        }
        Ok(())
    }

    /// What becomes of a group after a compaction: `Some` leaves it alone for the rest of the pass.
    async fn settle(
        &self,
        job: Job,
        reason: Reason,
        done: Result<Made, CompactorError>,
        (report, cancel): (&mut CompactionReport, &Cancel),
    ) -> Result<Option<GroupKey>, CompactorError> {
        let error = match done {
            Ok(made) => {
                count(&self.0.counters.n_compactions, 1);
                let is_vertical = reason == Reason::Overlap;
                count(&self.0.counters.n_vertical, u64::from(is_vertical));
                report.made.push(made);
                return Ok(None);
            }
            Err(CompactorError::Canceled) => return Err(CompactorError::Canceled),
            Err(error) => error,
        };
        count(&self.0.counters.n_failures, 1);
        if let Some((block, problem)) = error.culprit() {
            let culprit = job.blocks.iter().find(|one| one.meta.ulid == block);
            if let Some(culprit) = culprit {
                self.mend(culprit, problem, (report, cancel)).await?;
                return Ok(None);
            }
        }
        if let CompactorError::Bucket(_) = error {
            count(&self.0.counters.n_retries, 1);
            return Err(error);
        }
        report.failed.push((job.key.to_string(), error.to_string()));
        Ok(Some(job.key))
    }

    /// Writes a damaged block anew where all of it can be read, else sets it aside.
    async fn mend(
        &self,
        block: &Surveyed,
        problem: String,
        (report, cancel): (&mut CompactionReport, &Cancel),
    ) -> Result<(), CompactorError> {
        let id = block.meta.ulid;
        let job = Job {
            key: GroupKey::of(&block.meta, &BTreeSet::new()),
            blocks: vec![block.clone()],
            id: self.new_id(),
            now_ms: self.0.clock.now_ms(),
        };
        let stop = cancel.clone();
        let repaired = self
            .run(move |workshop| workshop.repair(&job, &stop, &Progress::default()))
            .await?;
        match repaired {
            Ok(Some(meta)) => {
                tracing::warn!(block = %id, repaired = %meta.ulid, problem, "a damaged block was written anew");
                let details = format!("repaired as {}: {problem}", meta.ulid);
                self.delete_later(id, &details).await?;
                count(&self.0.counters.n_repaired, 1);
                report.repaired.push((id, meta.ulid));
                Ok(())
            }
            Ok(None) => self.delete_later(id, "block has no samples").await,
            Err(error) if error.verdict() == Verdict::Quarantine => {
                let problem = error.culprit().map_or(problem, |(_, problem)| problem);
                self.quarantine(id, &problem).await?;
                report.set_aside.push((id, problem));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Compaction goes around the block from now on. Its bytes stay, and whatever of it can be read is served.
    async fn quarantine(&self, block: BlockId, problem: &str) -> Result<(), CompactorError> {
        tracing::error!(%block, problem, "a damaged block is left out of compaction");
        let bucket = &*self.0.workshop.waiting.bucket;
        let now_ms = self.0.clock.now_ms();
        if mark_no_compact(bucket, block, now_ms, (DAMAGED, problem)).await? {
            count(&self.0.counters.n_marked_no_compact, 1);
        }
        Ok(())
    }

    async fn exclude(&self, block: BlockId, why: Exclusion) -> Result<(), CompactorError> {
        let bucket = &*self.0.workshop.waiting.bucket;
        let now_ms = self.0.clock.now_ms();
        tracing::info!(%block, reason = why.reason(), "a block is left out of compaction");
        if mark_no_compact(bucket, block, now_ms, (why.reason(), why.details())).await? {
            count(&self.0.counters.n_marked_no_compact, 1);
        }
        Ok(())
    }

    /// Who may be compacted with whom, and who with nobody.
    pub(crate) fn sort(&self, survey: &Survey) -> Sorted {
        let settings = &self.0.settings;
        let now_ms = self.0.clock.now_ms();
        let mut sorted = Sorted::default();
        for leftover in &survey.leftovers {
            if let PartialReason::CorruptedMeta(flaw) = &leftover.reason {
                let aside = Aside {
                    reason: format!("meta.json cannot be read: {flaw}"),
                    what_to_do: "put back the meta.json that was uploaded, or delete the block"
                        .to_owned(),
                };
                sorted.aside.insert(leftover.block, aside);
            }
        }
        let blocks: Vec<&Surveyed> =
            settled(survey, settings.consistency_delay_ms, now_ms).collect();
        let copies = duplicates(
            blocks.iter().map(|block| &block.meta),
            &settings.replica_labels,
        );
        for block in blocks {
            let id = block.meta.ulid;
            if copies.contains_key(&id) {
                continue;
            }
            if let Some((reason, details)) = &block.no_compact
                && reason == DAMAGED
            {
                let aside = Aside {
                    reason: details.clone(),
                    what_to_do: format!(
                        "put back the damaged file and delete {id}/no-compact-mark.json, or delete the block"
                    ),
                };
                sorted.aside.insert(id, aside);
            }
            if let Some(aside) = nobodys(block) {
                sorted.aside.insert(id, aside);
                continue;
            }
            if block.no_compact.is_none()
                && let Some(flaw) = size_flaw(block)
            {
                sorted.damaged.push((id, flaw));
            }
            let key = GroupKey::of(&block.meta, &settings.replica_labels);
            sorted.n_bytes.insert(id, block.n_bytes());
            sorted.groups.entry(key).or_default().push(Candidate {
                meta: block.meta.clone(),
                is_excluded: block.no_compact.is_some(),
                index_bytes: block.index_bytes(),
            });
        }
        sorted
    }

    fn note(&self, survey: &Survey, sorted: &Sorted) {
        let left = backlog(
            &sorted.groups,
            &sorted.n_bytes,
            self.0.settings.index_bytes_max,
        );
        self.0
            .ledger
            .leave(Duty::Compact, left.n_blocks, left.n_bytes);
        self.note_retention(&self.retention_of(survey));
        let mut status = self.0.status.lock();
        status.backlog = left;
        status.aside = sorted.aside.clone();
        status.at_ms = self.0.clock.now_ms();
        let marked = survey
            .blocks
            .iter()
            .filter(|block| block.deletion_ms.is_some());
        status.n_to_delete = (marked.count() + survey.leftovers.len()) as u64;
    }
}

/// Blocks that cannot be told from those of others are not merged: nobody could take them apart again.
fn nobodys(block: &Surveyed) -> Option<Aside> {
    let labels = block
        .meta
        .thanos
        .as_ref()
        .map(|thanos: &ThanosMeta| &thanos.labels);
    if labels.is_none_or(BTreeMap::is_empty) {
        return Some(Aside {
            reason: "it has no external labels, so nobody can tell whose samples these are"
                .to_owned(),
            what_to_do: "add the labels of its producer to its meta.json, or delete the block"
                .to_owned(),
        });
    }
    if block.meta.resolution().is_none() {
        return Some(Aside {
            reason: "its resolution is none of 0, 300000 and 3600000".to_owned(),
            what_to_do:
                "correct thanos.downsample.resolution in its meta.json, or delete the block"
                    .to_owned(),
        });
    }
    None
}

/// Where the listing shows other sizes than `meta.json`; older writers promise none, but an index there must be.
fn size_flaw(block: &Surveyed) -> Option<String> {
    let promised = block.meta.thanos.iter().flat_map(|thanos| &thanos.files);
    for file in promised {
        let Some(size) = file.size_bytes else {
            continue;
        };
        match block.files.get(&file.rel_path) {
            Some(found) if *found == size => (),
            Some(found) => {
                let name = &file.rel_path;
                return Some(format!("{name} has {found} bytes, meta.json says {size}"));
            }
            None => return Some(format!("{} is missing", file.rel_path)),
        }
    }
    (block.index_bytes() == 0).then(|| "index is missing".to_owned())
}
