//! `gauntlet bucket mark`

use clap::{Args, ValueEnum};

use crate::cli::bucket::open::BucketOptions;
use crate::cli::exit::{Failure, note, print};
use crate::foundation::{Clock, SystemClock};
use crate::maintenance::{self, Marked, Marker};
use crate::model::BlockId;

/// Put a mark beside blocks, or take it away.
#[derive(Debug, Args)]
pub(in crate::cli) struct Mark {
    #[command(flatten)]
    bucket: BucketOptions,
    /// Which block; may be repeated.
    #[arg(long = "id", value_name = "ULID", required = true)]
    blocks: Vec<BlockId>,
    /// Which mark.
    #[arg(long, value_enum)]
    marker: MarkName,
    /// Why, for those who find it.
    #[arg(long, default_value = "", required_unless_present = "remove")]
    details: String,
    /// Take the mark away.
    #[arg(long)]
    remove: bool,
}

/// Marks by the names of their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MarkName {
    #[value(name = "deletion-mark.json")]
    Deletion,
    #[value(name = "no-compact-mark.json")]
    NoCompact,
    #[value(name = "no-downsample-mark.json")]
    NoDownsample,
}

impl Mark {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if !self.remove && self.details.is_empty() {
            return Err(Failure::wrong("--details must say why"));
        }
        let marker = match self.marker {
            MarkName::Deletion => Marker::Deletion,
            MarkName::NoCompact => Marker::NoCompact,
            MarkName::NoDownsample => Marker::NoDownsample,
        };
        let open = self.bucket.open()?;
        let now_ms = SystemClock.now_ms();
        for block in &self.blocks {
            let file = marker.file();
            let done = open.wait(async {
                if self.remove {
                    maintenance::unmark(&*open.bucket, *block, marker).await
                } else {
                    let details = &self.details;
                    maintenance::mark(&*open.bucket, *block, marker, details, now_ms).await
                }
            });
            match (done.map_err(|error| Failure::of(&error))?, self.remove) {
                (Marked::Done, false) => print(&format!("{block}: {file} written"))?,
                (Marked::Done, true) => print(&format!("{block}: {file} removed"))?,
                (Marked::Already, false) => {
                    note(&format!("warning: {block} has {file} already, it stays"));
                }
                (Marked::Already, true) => note(&format!("warning: {block} has no {file}")),
            }
        }
        Ok(())
    }
}
