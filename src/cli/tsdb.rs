//! `gauntlet tsdb`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::block::BlockMeta;
use crate::cli::Output;
use crate::cli::exit::{Failure, note, print};
use crate::model::BlockId;
use crate::model::duration::format_duration;

/// Looks at a data directory, running or not; nothing is changed.
#[derive(Debug, Subcommand)]
pub(super) enum TsdbCommand {
    /// List the blocks.
    List(List),
}

/// List the blocks.
#[derive(Debug, Args)]
pub(super) struct List {
    /// The data directory.
    #[arg(default_value = "gauntlet-data")]
    directory: PathBuf,
    /// How to print them; json prints one meta.json a line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl TsdbCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(),
        }
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let mut metas = read_metas(&self.directory)?;
        metas.sort_by_key(|meta| (meta.min_time, meta.ulid));
        if self.output == Output::Text {
            print(&format!(
                "{:<26}  {:>15}  {:>15}  {:>8}  {:>10}  {:>9}  {:>9}",
                "BLOCK", "MIN TIME", "MAX TIME", "DURATION", "SAMPLES", "CHUNKS", "SERIES"
            ))?;
        }
        for meta in metas {
            print(&match self.output {
                Output::Json => one_line(&meta),
                Output::Text => format!(
                    "{}  {:>15}  {:>15}  {:>8}  {:>10}  {:>9}  {:>9}",
                    meta.ulid,
                    meta.min_time,
                    meta.max_time,
                    format_duration(meta.max_time.saturating_sub(meta.min_time)),
                    meta.stats.num_samples,
                    meta.stats.num_chunks,
                    meta.stats.num_series,
                ),
            })?;
        }
        Ok(())
    }
}

/// Metas of everything that is named like a block; what cannot be read is said and skipped.
fn read_metas(directory: &Path) -> Result<Vec<BlockMeta>, Failure> {
    let list = |error| Failure::failed(format!("list {}: {error}", directory.display()));
    let mut metas = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(list)? {
        let entry = entry.map_err(list)?;
        let name = entry.file_name();
        if name.to_string_lossy().parse::<BlockId>().is_err() {
            continue;
        }
        match BlockMeta::read(&entry.path()) {
            Ok(meta) => metas.push(meta),
            Err(error) => note(&format!("warning: {error}")),
        }
    }
    Ok(metas)
}

fn one_line(meta: &BlockMeta) -> String {
    let json: Result<serde_json::Value, _> = serde_json::from_slice(&meta.encode());
    json.map(|json| json.to_string()).unwrap_or_default()
}
