//! `gauntlet tsdb list`

use std::path::{Path, PathBuf};

use clap::Args;

use crate::block::BlockMeta;
use crate::cli::Output;
use crate::cli::exit::{Failure, note, print};
use crate::cli::tsdb::columns::print_blocks;
use crate::model::BlockId;

/// List the blocks.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// The data directory.
    #[arg(default_value = "gauntlet-data")]
    directory: PathBuf,
    /// Times and sizes for people.
    #[arg(short = 'r', long)]
    human_readable: bool,
    /// How to print them; json prints one meta.json a line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl List {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut metas = read_metas(&self.directory)?;
        metas.sort_by_key(|meta| (meta.min_time, meta.ulid));
        if self.output == Output::Text {
            return print_blocks(&self.directory, &metas, true, self.human_readable);
        }
        for meta in &metas {
            print(&one_line(meta))?;
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
