//! `gauntlet bucket rewrite`

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::block::Block;
use crate::cli::bucket::chosen::{relabel_rules, wrong};
use crate::cli::bucket::open::{BucketOptions, DryRun, OpenBucket, content, new_id};
use crate::cli::exit::{Failure, note, print};
use crate::cli::progress::Progress;
use crate::config::deletions::parse_deletions;
use crate::foundation::durable::replace_file;
use crate::foundation::{Clock, SystemClock};
use crate::maintenance::{
    FileHashes, Marker, Rewrite as Changes, download_block, mark, rewrite, upload_block,
};
use crate::model::BlockId;

/// What the mark of a rewritten block says.
const DETAILS: &str = "block rewritten";
/// Beside the new block in the working directory: what was changed.
const CHANGE_LOG: &str = "change.log";

/// Make blocks anew without some of their samples, or with other labels. Only tells what would change, without --yes.
///
/// The old block stays, and overlaps the new one, until it is marked: --delete-blocks does that.
#[derive(Debug, Args)]
pub(in crate::cli) struct Rewrite {
    #[command(flatten)]
    bucket: BucketOptions,
    #[command(flatten)]
    dry_run: DryRun,
    /// Which block; may be repeated.
    #[arg(long = "id", value_name = "ULID", required = true)]
    blocks: Vec<BlockId>,
    /// Where blocks are worked on; what was in it goes, and change logs stay.
    #[arg(long = "tmp.dir", value_name = "DIR")]
    tmp_dir: Option<PathBuf>,
    /// Blocks without external labels are taken too.
    #[arg(long)]
    prom_blocks: bool,
    /// Mark the old blocks for deletion afterwards.
    #[arg(long)]
    delete_blocks: bool,
    /// Samples that go: a list of matchers and intervals in YAML.
    #[arg(
        long = "rewrite.to-delete-config-file",
        value_name = "FILE",
        conflicts_with = "to_delete"
    )]
    to_delete_file: Option<PathBuf>,
    /// The same, as text.
    #[arg(
        long = "rewrite.to-delete-config",
        value_name = "YAML",
        allow_hyphen_values = true
    )]
    to_delete: Option<String>,
    /// Relabelling rules for the series that stay.
    #[arg(
        long = "rewrite.to-relabel-config-file",
        value_name = "FILE",
        conflicts_with = "to_relabel"
    )]
    to_relabel_file: Option<PathBuf>,
    /// The same, as text.
    #[arg(
        long = "rewrite.to-relabel-config",
        value_name = "YAML",
        allow_hyphen_values = true
    )]
    to_relabel: Option<String>,
    /// Write what was changed beside the new block in the working directory.
    #[arg(long = "rewrite.add-change-log", default_value_t = true, action = clap::ArgAction::Set)]
    add_change_log: bool,
    /// What the files of new blocks are hashed with, so that meta.json says it: SHA256, or nothing.
    #[arg(long, value_name = "FUNCTION", default_value = "", value_parser = file_hashes)]
    hash_func: FileHashes,
}

fn file_hashes(text: &str) -> Result<FileHashes, String> {
    match text {
        "" => Ok(FileHashes::None),
        "SHA256" => Ok(FileHashes::Sha256),
        _ => Err("expected SHA256, or nothing for no hashes".to_owned()),
    }
}

impl Rewrite {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let changes = self.changes()?;
        let open = self.bucket.open()?;
        let tmp = self.tmp_dir.clone();
        let tmp = tmp.unwrap_or_else(|| std::env::temp_dir().join("gauntlet-rewrite"));
        let file = |action: &str, error: std::io::Error| {
            Failure::failed(format!("{action} {}: {error}", tmp.display()))
        };
        match std::fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("empty", error));
            }
            Ok(()) | Err(_) => (),
        }
        std::fs::create_dir_all(&tmp).map_err(|error| file("create", error))?;
        for block in &self.blocks {
            self.rewrite_one(&open, *block, &tmp, &changes)?;
        }
        if !self.dry_run.is_real() {
            note("nothing was changed; --yes rewrites the blocks");
        }
        Ok(())
    }

    fn changes(&self) -> Result<Changes, Failure> {
        let mut changes = Changes::default();
        let (file, text) = (self.to_delete_file.as_deref(), self.to_delete.as_deref());
        if let Some((name, text)) = content(file, text, "--rewrite.to-delete-config")? {
            changes.deletions = parse_deletions(&name, &text).map_err(|c| wrong(&c))?;
        }
        let (file, text) = (self.to_relabel_file.as_deref(), self.to_relabel.as_deref());
        if let Some((_, rules)) = relabel_rules(file, text, "--rewrite.to-relabel-config")? {
            changes.rules = rules;
        }
        if changes.deletions.is_empty() && changes.rules.is_empty() {
            return Err(Failure::wrong(
                "--rewrite.to-delete-config-file or --rewrite.to-relabel-config-file must say what to change",
            ));
        }
        Ok(changes)
    }

    fn rewrite_one(
        &self,
        open: &OpenBucket,
        block: BlockId,
        tmp: &Path,
        changes: &Changes,
    ) -> Result<(), Failure> {
        let from = tmp.join(block.to_string());
        let infos = open.wait(open.bucket.list(&block.to_string()));
        let infos = infos.map_err(|error| Failure::failed(error.chain()))?;
        if infos.is_empty() {
            let name = open.bucket.name();
            return Err(Failure::wrong(format!("{name} has no block {block}")));
        }
        let mut progress = Progress::new("bytes", infos.iter().map(|info| info.size).sum());
        let mut done = 0;
        let downloaded = open.wait(download_block(&*open.bucket, block, &from, |n_bytes| {
            done += n_bytes;
            progress.set(done);
        }));
        progress.clear();
        downloaded.map_err(|error| Failure::of(&error))?;
        let opened = Block::open(&from).map_err(|error| Failure::of(&error))?;
        let labels = opened.meta().thanos.as_ref().map(|thanos| &thanos.labels);
        if !self.prom_blocks && labels.is_none_or(BTreeMap::is_empty) {
            return Err(Failure::wrong(format!(
                "block {block} has no external labels; --prom-blocks takes it nevertheless"
            )));
        }
        let (new, is_real) = (new_id(), self.dry_run.is_real());
        let result = rewrite(&opened, changes, new, is_real.then_some(tmp));
        let result = result.map_err(|error| Failure::of(&error))?;
        let mut log = String::new();
        for change in &result.changes {
            if is_real {
                writeln!(log, "{change}").ok();
            } else {
                print(&format!("{block}: {change}"))?;
            }
        }
        if is_real {
            self.publish(
                open,
                block,
                tmp,
                (result.meta.is_some().then_some(new), &log),
            )?;
        }
        Ok(())
    }

    /// The new block goes up, the old one is marked if that is wanted.
    fn publish(
        &self,
        open: &OpenBucket,
        block: BlockId,
        tmp: &Path,
        (new, log): (Option<BlockId>, &str),
    ) -> Result<(), Failure> {
        let now_ms = SystemClock.now_ms();
        if let Some(new) = new {
            let dir = tmp.join(new.to_string());
            if self.add_change_log {
                let path = dir.join(CHANGE_LOG);
                replace_file(&path, log.as_bytes()).map_err(|error| {
                    Failure::failed(format!("write {}: {error}", path.display()))
                })?;
            }
            let uploaded = open.wait(upload_block(&*open.bucket, &dir, now_ms, self.hash_func));
            uploaded.map_err(|error| Failure::of(&error))?;
            print(&format!("{block}: rewritten as {new}"))?;
        } else {
            print(&format!(
                "{block}: nothing is left of it, no block was made"
            ))?;
        }
        if self.delete_blocks {
            let marked = mark(&*open.bucket, block, Marker::Deletion, DETAILS, now_ms);
            open.wait(marked).map_err(|error| Failure::of(&error))?;
            print(&format!("{block}: marked for deletion"))?;
        }
        Ok(())
    }
}
