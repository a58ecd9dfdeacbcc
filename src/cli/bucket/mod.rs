//! `gauntlet bucket`

mod chosen;
mod cleanup;
mod downsample;
mod inspect;
mod ls;
mod mark;
mod open;
mod replicate;
mod restore;
mod retention;
mod rewrite;
mod table;
mod template;
mod text;
mod upload_blocks;
mod verify;

use clap::Subcommand;

pub(super) use restore::Restore;

use crate::cli::exit::Failure;

/// Looks at a bucket and works on the blocks in it, whether an appliance runs on it or not.
#[derive(Debug, Subcommand)]
pub(super) enum BucketCommand {
    /// Make blocks of five minutes and of an hour where they are missing.
    Downsample(downsample::Downsample),
    /// List the blocks.
    Ls(ls::Ls),
    /// Print what is known of every block as a table.
    Inspect(inspect::Inspect),
    /// Check every block, and repair what can be.
    Verify(verify::Verify),
    /// Copy blocks into another bucket.
    Replicate(replicate::Replicate),
    /// Delete blocks that were marked long enough ago, and leftovers of uploads.
    Cleanup(cleanup::Cleanup),
    /// Put a mark beside blocks, or take it away.
    Mark(mark::Mark),
    /// Mark blocks for deletion whose samples were kept long enough.
    Retention(retention::Retention),
    /// Make blocks anew without some of their samples, or with other labels.
    Rewrite(rewrite::Rewrite),
    /// Upload the blocks of a directory.
    UploadBlocks(upload_blocks::UploadBlocks),
}

impl BucketCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Downsample(downsample) => downsample.run(),
            Self::Ls(ls) => ls.run(),
            Self::Inspect(inspect) => inspect.run(),
            Self::Verify(verify) => verify.run(),
            Self::Replicate(replicate) => replicate.run(),
            Self::Cleanup(cleanup) => cleanup.run(),
            Self::Mark(mark) => mark.run(),
            Self::Retention(retention) => retention.run(),
            Self::Rewrite(rewrite) => rewrite.run(),
            Self::UploadBlocks(upload) => upload.run(),
        }
    }
}
