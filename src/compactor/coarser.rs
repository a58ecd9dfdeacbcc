//! Downsampling: what is due becomes coarser, one block after the other.

use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::block::BlockMeta;
use crate::compactor::duty::Duty;
use crate::compactor::engine::{Aside, Compactor, count};
use crate::compactor::marks::mark_no_downsample;
use crate::compactor::run::{Job, Workshop};
use crate::compactor::survey::{Survey, Surveyed, settled};
use crate::compactor::upload::Uploads;
use crate::compactor::watched::{Progress, Watched};
use crate::compactor::{CompactorError, GroupKey};
use crate::downsample::{self, DownsampleError};
use crate::foundation::{Cancel, Verdict};
use crate::model::{BlockId, Resolution};

/// What one pass did.
#[derive(Debug, Default)]
pub struct DownsampleReport {
    /// Finer blocks and what was made of them; `None` where they hold nothing.
    pub made: Vec<(BlockId, Option<BlockId>)>,
    /// Blocks that cannot be read: left out from now on, and why.
    pub set_aside: Vec<(BlockId, String)>,
    /// Blocks that are tried again, and why.
    pub failed: Vec<(BlockId, String)>,
}

impl Compactor {
    /// Makes what is due: five minutes first, then hours of them.
    pub async fn downsample(&self, cancel: &Cancel) -> Result<DownsampleReport, CompactorError> {
        let mut report = DownsampleReport::default();
        if !self.0.settings.downsamples {
            return Ok(report);
        }
        let _running = self.0.ledger.begin(Duty::Downsample);
        for _resolution in [Resolution::FiveMinutes, Resolution::OneHour] {
            let survey = self.survey().await?;
            self.clear_once(&survey).await?;
            let due = self.due(&survey);
            self.note_due(&due);
            let done: Vec<_> = stream::iter(due)
                .map(|block| async move {
                    let made = self.downsample_one(&block, cancel).await;
                    (block, made)
                })
                .buffer_unordered(self.0.settings.concurrency.max(1))
                .collect()
                .await;
            self.look_again().await;
            for (block, made) in done {
                let id = block.meta.ulid;
                match made {
                    Ok(made) => {
                        count(&self.0.counters.n_downsampled, 1);
                        if made.is_none() {
                            self.leave(id).await?;
                        }
                        report.made.push((id, made.map(|meta| meta.ulid)));
                    }
                    Err(CompactorError::Canceled) => return Err(CompactorError::Canceled),
                    Err(error) => self.not_downsampled(id, &error, &mut report)?,
                }
            }
        }
        let survey = self.survey().await?;
        self.note_due(&self.due(&survey));
        Ok(report)
    }

    fn note_due(&self, due: &[Surveyed]) {
        let n_bytes = due.iter().map(Surveyed::n_bytes).sum();
        let n_blocks = due.len() as u64;
        self.0.status.lock().n_to_downsample = n_blocks;
        self.0.ledger.leave(Duty::Downsample, n_blocks, n_bytes);
    }

    /// Blocks that become coarser now: those that span enough, and those whose time is over before they ever will.
    fn due(&self, survey: &Survey) -> Vec<Surveyed> {
        let now_ms = self.0.clock.now_ms();
        let delay_ms = self.0.settings.consistency_delay_ms;
        let blocks: Vec<&Surveyed> = settled(survey, delay_ms, now_ms).collect();
        let candidates: Vec<_> = blocks
            .iter()
            .map(|block| downsample::Candidate {
                meta: &block.meta,
                is_marked: block.has_no_downsample,
            })
            .collect();
        let tasks = downsample::plan(&candidates).tasks;
        let mut due: Vec<BlockId> = tasks.iter().map(|task| task.block).collect();
        due.extend(self.retention_of(survey).held);
        let status = self.0.status.lock();
        let is_due = |block: &&&Surveyed| {
            let id = block.meta.ulid;
            due.contains(&id) && !status.aside_coarser.contains_key(&id)
        };
        blocks
            .iter()
            .filter(is_due)
            .map(|block| (*block).clone())
            .collect()
    }

    async fn downsample_one(
        &self,
        block: &Surveyed,
        cancel: &Cancel,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        let job = Job {
            key: GroupKey::of(&block.meta, &std::collections::BTreeSet::new()),
            blocks: vec![block.clone()],
            id: self.new_id(),
            now_ms: self.0.clock.now_ms(),
        };
        let stop = cancel.clone();
        let working = self.0.ledger.work(Duty::Downsample, job.to_string());
        let progress = Arc::clone(&working.progress);
        let made = self
            .run(move |shop| shop.downsample(&job, &stop, &progress))
            .await?;
        drop(working);
        let n_bytes = block.n_bytes();
        self.0.ledger.done(Duty::Downsample, 1, n_bytes);
        made
    }

    /// Nothing but stale markers is in it: there is nothing to wait for when its time is over.
    async fn leave(&self, block: BlockId) -> Result<(), CompactorError> {
        let bucket = &*self.0.workshop.waiting.bucket;
        let why = (
            "nothing-to-downsample",
            "no sample in the block has a value",
        );
        mark_no_downsample(bucket, block, self.0.clock.now_ms(), why).await?;
        Ok(())
    }

    /// A damaged block has no mark against downsampling, so that it is held until somebody looked at it.
    fn not_downsampled(
        &self,
        block: BlockId,
        error: &CompactorError,
        report: &mut DownsampleReport,
    ) -> Result<(), CompactorError> {
        count(&self.0.counters.n_downsample_failures, 1);
        let text = error.to_string();
        if let Some((_, reason)) = error.culprit() {
            tracing::error!(%block, reason, "a damaged block is left out of downsampling");
            let what_to_do = format!(
                "put back the damaged file and start again, or let it go with a {block}/no-downsample-mark.json"
            );
            let aside = Aside {
                reason: reason.clone(),
                what_to_do,
            };
            self.0.status.lock().aside_coarser.insert(block, aside);
            report.set_aside.push((block, reason));
            return Ok(());
        }
        report.failed.push((block, text.clone()));
        match error.verdict() {
            // The others would meet the same.
            Verdict::RetryAfter(_) | Verdict::Refuse
                if matches!(error, CompactorError::Bucket(_)) =>
            {
                count(&self.0.counters.n_retries, 1);
                Err(CompactorError::Threads(text))
            }
            Verdict::RetryAfter(_) | Verdict::Refuse | Verdict::Missing | Verdict::Quarantine => {
                Ok(())
            }
        }
    }
}

impl Workshop {
    /// Makes the next coarser block and uploads it; visible only when it was read back.
    fn downsample(
        &self,
        job: &Job,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        self.in_scratch(job, |here, scratch| {
            here.downsample_in(scratch, job, cancel, progress)
        })
    }

    fn downsample_in(
        &self,
        scratch: &std::path::Path,
        job: &Job,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Option<BlockMeta>, CompactorError> {
        let sources = self.open(scratch, &job.blocks, progress)?;
        let Some(source) = sources.first() else {
            return Ok(None);
        };
        let watched = Watched::new(&**source, progress);
        let uploads = Uploads::new(&self.waiting, job.id);
        let made = downsample::run_into(&watched, job.id, cancel, |new| {
            self.writer(scratch, new, &uploads)
        });
        let meta = made.map_err(blamed)?;
        let Some(meta) = meta else {
            return Ok(None);
        };
        let thanos = meta.thanos.clone().unwrap_or_default();
        self.publish(scratch, (meta, thanos, job.now_ms), &uploads, cancel)
            .map(Some)
    }
}

fn blamed(error: DownsampleError) -> CompactorError {
    let is_damage = error.verdict() == Verdict::Quarantine;
    match error {
        DownsampleError::Source { block, source } => {
            crate::compact::CompactError::Source { block, source }.into()
        }
        DownsampleError::Series { block, .. } if is_damage => CompactorError::Damaged {
            block,
            problem: error.to_string(),
        },
        DownsampleError::Canceled => CompactorError::Canceled,
        DownsampleError::Series { .. }
        | DownsampleError::Resolution { .. }
        | DownsampleError::Result(_)
        | DownsampleError::Unhealthy { .. }
        | DownsampleError::Bucket { .. } => CompactorError::Threads(error.to_string()),
    }
}
