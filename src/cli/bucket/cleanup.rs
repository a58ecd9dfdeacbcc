//! `gauntlet bucket cleanup`

use std::time::Duration;

use clap::Args;

use crate::cli::bucket::chosen::{ChosenLabels, duration, is_kept};
use crate::cli::bucket::open::{BucketOptions, DryRun, bucket_failed};
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::foundation::{Clock, SystemClock};
use crate::maintenance::{Cleanup as Leftover, CleanupSettings, Clearing, clear, plan_cleanup};

/// Delete blocks that were marked long enough ago, and leftovers of uploads.
#[derive(Debug, Args)]
pub(in crate::cli) struct Cleanup {
    #[command(flatten)]
    bucket: BucketOptions,
    #[command(flatten)]
    labels: ChosenLabels,
    #[command(flatten)]
    dry_run: DryRun,
    /// How long after its mark a block is deleted.
    #[arg(long, value_name = "DURATION", default_value = "48h", value_parser = duration)]
    delete_delay: Duration,
    /// Leftovers of uploads younger than this stay; none younger than 48h ever goes.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    consistency_delay: Duration,
    /// Metas that are read at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    block_sync_concurrency: usize,
}

impl Cleanup {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let rules = self.labels.rules()?;
        let open = self.bucket.open()?;
        let inventory = open.wait(open.fetch(self.block_sync_concurrency));
        let inventory = inventory.map_err(|error| bucket_failed(&error))?;
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let settings = CleanupSettings {
            delete_delay_ms: ms(self.delete_delay),
            consistency_delay_ms: ms(self.consistency_delay),
        };
        let mut planned = plan_cleanup(&inventory, settings, SystemClock.now_ms());
        planned.retain(|leftover| {
            let known = inventory.block(leftover.block);
            known.is_none_or(|known| is_kept(&rules, &known.meta))
        });
        let n_files: u64 = planned.iter().map(|leftover| leftover.n_files).sum();
        let mut progress = Progress::new("objects", n_files);
        let mut n_gone = 0;
        for leftover in &planned {
            if self.dry_run.is_real() {
                let gone = open.wait(clear(&*open.bucket, leftover));
                n_gone += gone.map_err(|error| Failure::of(&error))?;
                progress.clear();
            }
            print(&line(leftover, self.dry_run.is_real()))?;
            progress.set(n_gone);
        }
        progress.clear();
        if self.dry_run.is_real() {
            note(&format!(
                "{} blocks deleted, {n_gone} objects",
                planned.len()
            ));
        } else {
            let n = planned.len();
            note(&format!("{n} blocks would be deleted; --yes deletes them"));
        }
        Ok(())
    }
}

fn line(leftover: &Leftover, is_real: bool) -> String {
    let what = if is_real { "deleted" } else { "would delete" };
    let why = match leftover.why {
        Clearing::Marked(_) => "marked for deletion",
        Clearing::Partial => "partial upload",
    };
    let (block, n_files, n_bytes) = (leftover.block, leftover.n_files, leftover.n_bytes);
    format!("{what} {block}: {why}, {n_files} objects, {n_bytes} bytes")
}
