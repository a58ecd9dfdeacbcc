//! `gauntlet bucket verify`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::bucket::Bucket;
use crate::cli::Output;
use crate::cli::bucket::chosen::{duration, inventory_within};
use crate::cli::bucket::open::{
    BucketOptions, DryRun, OpenBucket, named_settings, new_id, open_bucket,
};
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::foundation::{Clock, SystemClock};
use crate::inventory::Inventory;
use crate::maintenance::{
    Finding, Issue, RepairSettings, Repaired, check_block, check_metas, repair_block,
};
use crate::model::BlockId;

/// Longest time that reading all metas may take.
const TIMEOUT: Duration = Duration::from_mins(5);

/// Check every block that is not marked for deletion, and repair what can be. Blocks with issues that stay are a failure.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    #[command(flatten)]
    bucket: BucketOptions,
    #[command(flatten)]
    dry_run: DryRun,
    /// Repair what can be; needs a backup bucket, and --yes to be done and not only told.
    #[arg(short, long, requires = "backup")]
    repair: bool,
    /// What to look for; may be repeated.
    #[arg(short, long, value_enum, default_values = ["index_known_issues", "overlapped_blocks"])]
    issues: Vec<IssueName>,
    /// Only these blocks; may be repeated, and only for what one block alone shows.
    #[arg(long = "id", value_name = "ULID")]
    blocks: Vec<BlockId>,
    /// After a repair the damaged block is marked, for whoever cleans up after so long; 0s deletes it at once.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    delete_delay: Duration,
    /// Where a block is copied before it goes.
    #[arg(
        long = "objstore-backup.config-file",
        value_name = "FILE",
        conflicts_with = "backup_text",
        group = "backup"
    )]
    backup_file: Option<PathBuf>,
    /// The same, as text.
    #[arg(
        long = "objstore-backup.config",
        value_name = "YAML",
        id = "backup_text",
        group = "backup"
    )]
    backup_text: Option<String>,
    /// Where indexes and repaired blocks lie meanwhile; a directory of the system's without.
    #[arg(long, value_name = "DIR")]
    scratch_dir: Option<PathBuf>,
    /// How to print findings.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Issues by Thanos' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IssueName {
    #[value(name = "index_known_issues")]
    Index,
    #[value(name = "overlapped_blocks")]
    Overlap,
    #[value(name = "duplicated_compaction")]
    Duplicate,
}

/// A directory that goes with its content.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Verify {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let issues = self.issues();
        if !self.blocks.is_empty() && issues != [Issue::Index] {
            return Err(Failure::wrong(
                "--id goes with --issues index_known_issues only: overlaps and duplicates are between blocks",
            ));
        }
        let backup = self.backup()?;
        let open = self.bucket.open()?;
        let inventory = inventory_within(&open, TIMEOUT)?;
        let scratch = self.scratch_dir.clone().unwrap_or_else(std::env::temp_dir);
        let name = format!("gauntlet-verify-{}", std::process::id());
        let scratch = Scratch(scratch.join(name));
        let mut n_left = 0_usize;
        for finding in self.between_blocks(&inventory, &issues) {
            n_left += usize::from(!self.settle(&open, &finding, backup.as_ref(), &scratch.0)?);
        }
        if issues.contains(&Issue::Index) {
            let blocks = self.chosen(&inventory);
            let n_bytes: u64 = blocks.iter().map(|(_, n_bytes)| n_bytes).sum();
            let mut progress = Progress::new("bytes", n_bytes);
            let mut done = 0;
            note(&format!("{} blocks to read, {n_bytes} bytes", blocks.len()));
            for (block, _) in blocks {
                let dir = scratch.0.join(block.to_string());
                let checked = open.wait(check_block(&open.bucket, block, &dir, |n_bytes| {
                    done += n_bytes;
                    progress.set(done);
                }));
                if let Some(finding) = checked.map_err(|error| Failure::of(&error))? {
                    progress.clear();
                    let settled = self.settle(&open, &finding, backup.as_ref(), &scratch.0)?;
                    n_left += usize::from(!settled);
                }
                std::fs::remove_dir_all(&dir).ok();
            }
        }
        match n_left {
            0 => {
                note("no issue is left");
                Ok(())
            }
            n => Err(Failure::failed(format!("{n} issues are left"))),
        }
    }

    fn issues(&self) -> Vec<Issue> {
        let named = self.issues.iter().map(|issue| match issue {
            IssueName::Index => Issue::Index,
            IssueName::Overlap => Issue::Overlap,
            IssueName::Duplicate => Issue::Duplicate,
        });
        // Whoever wants repairs does not want to hear what cannot be repaired.
        let mut issues: Vec<_> = named
            .filter(|issue| !self.repair || issue.is_repairable())
            .collect();
        issues.sort_unstable();
        issues.dedup();
        issues
    }

    fn backup(&self) -> Result<Option<Arc<dyn Bucket>>, Failure> {
        let settings = named_settings(
            self.backup_file.as_ref(),
            self.backup_text.as_deref(),
            "--objstore-backup.config",
        )?;
        settings.map(|settings| open_bucket(&settings)).transpose()
    }

    /// Overlaps and duplicates of blocks that are meant to stay.
    fn between_blocks(&self, inventory: &Inventory, issues: &[Issue]) -> Vec<Finding> {
        let staying = inventory
            .blocks
            .iter()
            .filter(|known| known.marked_ms.is_none())
            .map(|known| &known.meta);
        let mut findings = check_metas(staying);
        findings.retain(|finding| issues.contains(&finding.issue));
        findings
    }

    /// Blocks to read, with their bytes.
    fn chosen(&self, inventory: &Inventory) -> Vec<(BlockId, u64)> {
        let named: BTreeSet<_> = self.blocks.iter().collect();
        inventory
            .blocks
            .iter()
            .filter(|known| known.marked_ms.is_none())
            .map(|known| (known.meta.ulid, known.n_bytes()))
            .filter(|(block, _)| named.is_empty() || named.contains(block))
            .collect()
    }

    /// Says what is wrong and mends it, if that is wanted; is nothing left of it?
    fn settle(
        &self,
        open: &OpenBucket,
        finding: &Finding,
        backup: Option<&Arc<dyn Bucket>>,
        scratch: &Path,
    ) -> Result<bool, Failure> {
        self.say(finding)?;
        let Some(backup) = backup.filter(|_| self.repair) else {
            return Ok(false);
        };
        let block = finding.block;
        if !self.dry_run.is_real() {
            note(&format!("{block} would be repaired; --yes repairs it"));
            return Ok(false);
        }
        let settings = RepairSettings {
            backup: &**backup,
            delete_delay_ms: i64::try_from(self.delete_delay.as_millis()).unwrap_or(i64::MAX),
            now_ms: SystemClock.now_ms(),
        };
        let repaired = repair_block(&open.bucket, finding, scratch, new_id(), settings);
        match open.wait(repaired) {
            Ok(Repaired::Replaced(new)) => {
                print(&format!("{block}: repaired, {new} takes its place"))?;
            }
            Ok(Repaired::Removed) => {
                print(&format!("{block}: removed, the backup has it"))?;
            }
            Err(error) => {
                note(&format!("{block}: not repaired: {}", Failure::of(&error)));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn say(&self, finding: &Finding) -> Result<(), Failure> {
        let (block, issue) = (finding.block, finding.issue.as_str());
        match self.output {
            Output::Text => {
                for problem in &finding.problems {
                    print(&format!("{block}: {issue}: {problem}"))?;
                }
                Ok(())
            }
            Output::Json => print(
                &serde_json::json!({
                    "block": block.to_string(),
                    "issue": issue,
                    "problems": finding.problems,
                })
                .to_string(),
            ),
        }
    }
}
