//! `gauntlet bucket`

mod chosen;
mod ls;
mod open;
mod template;
mod text;

use clap::Subcommand;

use crate::cli::exit::Failure;

/// Looks at a bucket and works on the blocks in it, whether an appliance runs on it or not.
#[derive(Debug, Subcommand)]
pub(super) enum BucketCommand {
    /// List the blocks.
    Ls(ls::Ls),
}

impl BucketCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Ls(ls) => ls.run(),
        }
    }
}
