//! `gauntlet bucket downsample`

use std::collections::BTreeSet;
use std::path::Path;

use clap::Args;

use crate::block::BlockMeta;
use crate::cli::bucket::chosen::ChosenBlocks;
use crate::cli::bucket::open::{BucketOptions, OpenBucket};
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::downsample::{
    self, Candidate, DownsampleError, DownsamplePlan, DownsampleTask, fetch_block, publish_block,
};
use crate::foundation::durable::{create_dirs, remove_dir_all};
use crate::foundation::{Cancel, Clock, SystemClock};
use crate::inventory::KnownBlock;
use crate::model::{BlockId, Resolution};

/// Blocks are worked on below this directory, which goes in the end.
const SCRATCH_DIR: &str = "downsample";

/// Make blocks of five minutes and of an hour where they are missing.
///
/// They are worked on below the data directory, where there must be room for the largest and what becomes of it.
#[derive(Debug, Args)]
pub(in crate::cli) struct Downsample {
    #[command(flatten)]
    bucket: BucketOptions,
    #[command(flatten)]
    chosen: ChosenBlocks,
    /// Only say what is due.
    #[arg(long)]
    dry_run: bool,
}

impl Downsample {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let chosen = self.chosen.choose()?;
        let open = self.bucket.open()?;
        let inventory = chosen.inventory(&open)?;
        let (mut blocks, left_out): (Vec<KnownBlock>, Vec<KnownBlock>) = inventory
            .blocks
            .into_iter()
            .filter(|block| block.marked_ms.is_none())
            .partition(|block| chosen.has(&block.meta));
        if self.dry_run {
            return say(&due(&blocks, &left_out));
        }
        let scratch = self.bucket.data_dir()?.join(SCRATCH_DIR);
        let mut failures: Vec<String> = Vec::new();
        let mut tried: BTreeSet<BlockId> = BTreeSet::new();
        let mut n_made = 0_usize;
        // What is made may itself be due: five minutes of two weeks become hours.
        loop {
            let plan = due(&blocks, &left_out);
            let Some(task) = plan.tasks.iter().find(|task| !tried.contains(&task.block)) else {
                break;
            };
            tried.insert(task.block);
            match one(&open, *task, &scratch) {
                Ok(Some(made)) => {
                    print(&line(*task, &made))?;
                    n_made += 1;
                    blocks.push(KnownBlock::new(made));
                }
                Ok(None) => note(&format!("{} has no samples that count", task.block)),
                Err(error) => {
                    // The others do not depend on it.
                    note(&error.to_string());
                    failures.push(error.to_string());
                }
            }
        }
        note(&format!("{n_made} blocks made"));
        if failures.is_empty() {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "{} of {} blocks were not downsampled",
            failures.len(),
            tried.len()
        )))
    }
}

/// What is due of `blocks`; those that were left out count for what is there.
fn due(blocks: &[KnownBlock], left_out: &[KnownBlock]) -> DownsamplePlan {
    let chosen: BTreeSet<BlockId> = blocks.iter().map(|block| block.meta.ulid).collect();
    let all = blocks.iter().chain(left_out);
    let candidates: Vec<Candidate<'_>> = all
        .map(|block| Candidate {
            meta: &block.meta,
            is_marked: block.no_downsample.is_some(),
        })
        .collect();
    let mut plan = downsample::plan(&candidates);
    plan.tasks.retain(|task| chosen.contains(&task.block));
    plan.marked.retain(|block| chosen.contains(block));
    plan.odd.retain(|block| chosen.contains(block));
    plan
}

fn say(plan: &DownsamplePlan) -> Result<(), Failure> {
    for task in &plan.tasks {
        let DownsampleTask {
            block, n_samples, ..
        } = task;
        print(&format!(
            "{block} to {}, {n_samples} samples",
            name(task.to)
        ))?;
    }
    for block in &plan.marked {
        print(&format!("{block} stays as it is: it is marked"))?;
    }
    for block in &plan.odd {
        print(&format!(
            "{block} stays as it is: its resolution does not exist"
        ))?;
    }
    note(&format!(
        "{} blocks are due, {} samples",
        plan.tasks.len(),
        plan.n_samples()
    ));
    Ok(())
}

/// Fetches, downsamples, verifies and uploads one block.
fn one(
    open: &OpenBucket,
    task: DownsampleTask,
    scratch: &Path,
) -> Result<Option<BlockMeta>, DownsampleError> {
    let cleared = Cleared(scratch);
    cleared.create(task.block)?;
    let bucket = &*open.bucket;
    let source = open.wait(fetch_block(bucket, task.block, scratch))?;
    let mut bar = Progress::new("series", source.meta().stats.num_series);
    let mut progress = |at: downsample::DownsampleProgress| {
        bar.set(at.n_series);
    };
    let now_ms = SystemClock.now_ms();
    let id = BlockId::from_parts(u64::try_from(now_ms).unwrap_or(0), rand::random());
    let made = downsample::run(scratch, id, &source, &Cancel::new(), &mut progress)?;
    let Some(made) = made else {
        return Ok(None);
    };
    let dir = scratch.join(id.to_string());
    open.wait(publish_block(bucket, &dir, made.clone(), now_ms))?;
    Ok(Some(made))
}

/// A directory that goes when one block is done.
struct Cleared<'a>(&'a Path);

impl Cleared<'_> {
    fn create(&self, block: BlockId) -> Result<(), DownsampleError> {
        create_dirs(self.0).map_err(|source| DownsampleError::scratch(block, self.0, source))
    }
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        // What stays is in nobody's way.
        remove_dir_all(self.0).ok();
    }
}

fn line(task: DownsampleTask, made: &BlockMeta) -> String {
    format!(
        "{} to {}: {}, {} series, {} windows of {} samples",
        task.block,
        name(task.to),
        made.ulid,
        made.stats.num_series,
        made.stats.num_samples,
        task.n_samples
    )
}

fn name(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Raw => "raw",
        Resolution::FiveMinutes => "5m",
        Resolution::OneHour => "1h",
    }
}
