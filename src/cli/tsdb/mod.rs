//! `gauntlet tsdb`

mod analyze;
pub(super) mod columns;
mod create;
mod dump;
mod list;
mod rules;

use clap::Subcommand;

use crate::cli::exit::Failure;

/// Looks at a data directory, running or not, and makes blocks; what is there is not changed.
#[derive(Debug, Subcommand)]
pub(super) enum TsdbCommand {
    /// Churn, label pair cardinality and compaction efficiency of a block.
    Analyze(analyze::Analyze),
    /// List the blocks.
    List(list::List),
    /// Print samples: labels, value, time.
    Dump(dump::Dump),
    /// Print samples as OpenMetrics; native histograms, which it cannot hold, are left out.
    DumpOpenmetrics(dump::DumpOpenMetrics),
    /// Make blocks of samples from elsewhere.
    CreateBlocksFrom(create::CreateBlocksFrom),
}

impl TsdbCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Analyze(analyze) => analyze.run(),
            Self::List(list) => list.run(),
            Self::Dump(dump) => dump.run(),
            Self::DumpOpenmetrics(dump) => dump.run(),
            Self::CreateBlocksFrom(create) => create.run(),
        }
    }
}
