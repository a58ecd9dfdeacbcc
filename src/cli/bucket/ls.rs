//! `gauntlet bucket ls`

use clap::Args;

use crate::block::BlockMeta;
use crate::cli::bucket::chosen::ChosenBlocks;
use crate::cli::bucket::open::BucketOptions;
use crate::cli::bucket::template::Template;
use crate::cli::bucket::text::{go_time, seconds_between};
use crate::cli::exit::{Failure, note, print};

/// List the blocks.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ls {
    #[command(flatten)]
    bucket: BucketOptions,
    #[command(flatten)]
    chosen: ChosenBlocks,
    /// wide, json, or a template of fields such as '{{.ULID}} {{.Stats.NumSeries}}'; names only without.
    #[arg(short, long, default_value = "")]
    output: String,
    /// Leave out blocks that are marked for deletion.
    #[arg(long)]
    exclude_delete: bool,
}

/// How a block is printed.
enum Shape {
    Name,
    Wide,
    Json,
    Fields(Template),
}

impl Ls {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let shape = match self.output.as_str() {
            "" => Shape::Name,
            "wide" => Shape::Wide,
            "json" => Shape::Json,
            text => Shape::Fields(Template::parse(text).map_err(Failure::wrong)?),
        };
        let chosen = self.chosen.choose()?;
        let open = self.bucket.open()?;
        let inventory = chosen.inventory(&open)?;
        let mut n_blocks = 0_usize;
        for block in &inventory.blocks {
            if chosen.has(&block.meta) && !(self.exclude_delete && block.marked_ms.is_some()) {
                print(&shape.line(&block.meta))?;
                n_blocks += 1;
            }
        }
        note(&format!("{n_blocks} blocks"));
        Ok(())
    }
}

impl Shape {
    fn line(&self, meta: &BlockMeta) -> String {
        match self {
            Self::Name => meta.ulid.to_string(),
            Self::Wide => wide(meta),
            Self::Json => {
                let text = String::from_utf8_lossy(&meta.encode()).into_owned();
                text.trim_end().to_owned()
            }
            Self::Fields(template) => template.line(meta),
        }
    }
}

fn wide(meta: &BlockMeta) -> String {
    let thanos = meta.thanos.clone().unwrap_or_default();
    format!(
        "{} -- {} - {} Diff: {}, Compaction: {}, Downsample: {}, Source: {}",
        meta.ulid,
        go_time(meta.min_time),
        go_time(meta.max_time),
        seconds_between(meta.min_time, meta.max_time),
        meta.compaction.level,
        thanos.downsample.resolution,
        thanos.source,
    )
}
