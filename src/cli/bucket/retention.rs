//! `gauntlet bucket retention`

use std::time::Duration;

use clap::Args;

use crate::cli::bucket::chosen::{ChosenLabels, duration, is_kept};
use crate::cli::bucket::open::{BucketOptions, DryRun, bucket_failed};
use crate::cli::exit::{Failure, note, print};
use crate::compactor::{RetentionSettings, mark_deleted, plan_retention};
use crate::foundation::{Clock, SystemClock};

/// Mark blocks for deletion whose samples were kept long enough.
#[derive(Debug, Args)]
pub(in crate::cli) struct Retention {
    #[command(flatten)]
    bucket: BucketOptions,
    #[command(flatten)]
    labels: ChosenLabels,
    #[command(flatten)]
    dry_run: DryRun,
    /// How long samples are kept as scraped; 0s keeps them for ever.
    #[arg(long = "retention.resolution-raw", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    raw: Duration,
    /// How long aggregates of five minutes are kept; 0s keeps them for ever.
    #[arg(long = "retention.resolution-5m", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    five_minutes: Duration,
    /// How long aggregates of an hour are kept; 0s keeps them for ever.
    #[arg(long = "retention.resolution-1h", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    one_hour: Duration,
    /// Nothing coarser will be made of these blocks, so none is waited for.
    #[arg(long = "downsampling.disable")]
    no_downsampling: bool,
    /// Metas that are read at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    block_sync_concurrency: usize,
}

impl Retention {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let kept = |kept: Duration| {
            let ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
            (0 < ms).then_some(ms)
        };
        let settings = RetentionSettings {
            raw_ms: kept(self.raw),
            five_minutes_ms: kept(self.five_minutes),
            one_hour_ms: kept(self.one_hour),
        };
        let downsamples = !self.no_downsampling;
        if let Some((resolution, flaw)) = settings.flaws(downsamples).into_iter().next() {
            return Err(Failure::wrong(format!("{resolution}: {flaw}")));
        }
        let rules = self.labels.rules()?;
        let open = self.bucket.open()?;
        let inventory = open.wait(open.fetch(self.block_sync_concurrency));
        let inventory = inventory.map_err(|error| bucket_failed(&error))?;
        let alive = inventory
            .blocks
            .iter()
            .filter(|block| block.marked_ms.is_none() && is_kept(&rules, &block.meta));
        let now_ms = SystemClock.now_ms();
        let blocks = alive.map(|block| (&block.meta, block.no_downsample.is_some()));
        let plan = plan_retention(blocks, &settings, downsamples, now_ms);
        for (block, details) in &plan.retire {
            if self.dry_run.is_real() {
                let marked = open.wait(mark_deleted(&*open.bucket, *block, now_ms, details));
                marked.map_err(|error| bucket_failed(&error))?;
                print(&format!("marked {block}: {details}"))?;
            } else {
                print(&format!("would mark {block}: {details}"))?;
            }
        }
        for block in &plan.held {
            print(&format!("held {block}: nothing coarser is there yet"))?;
        }
        let n = plan.retire.len();
        if self.dry_run.is_real() {
            note(&format!("{n} blocks marked for deletion"));
        } else {
            note(&format!("{n} blocks would be marked; --yes marks them"));
        }
        Ok(())
    }
}
