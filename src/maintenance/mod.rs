//! What somebody does to the blocks of a bucket by hand: look whether they are sound, repair, copy, mark, rewrite, clear.
//!
//! Owns: the checks over a bucket, the order in which a block comes and goes as a whole, and what is done to one on demand.
//! Never: acts by itself, takes a block away before it is safe elsewhere, or decides when something is due.
//! Tested by: damaged, doubled and overlapping blocks in directories beside the code, `tests/bucket` with the binary.
mod check;
#[cfg(test)]
mod check_tests;
mod cleanup;
mod error;
mod mark;
mod objects;
mod replicate;
mod rewrite;
#[cfg(test)]
mod tests;
mod verify;

pub use check::check_block;
pub use cleanup::{Cleanup, CleanupSettings, Clearing, clear, plan_cleanup};
pub use error::MaintenanceError;
pub use mark::{Marked, Marker, mark, unmark};
pub use objects::{FileHashes, download_block, upload_block};
pub use replicate::{Replicated, Replication, plan_replication, replicate_block};
pub use rewrite::{Change, Deletion, Rewrite, RewriteResult, rewrite};
pub use verify::{Finding, Issue, RepairSettings, Repaired, check_metas, repair_block};
