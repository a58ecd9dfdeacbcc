//! What becomes of the bucket's blocks: fewer, coarser, finally none.
//!
//! Owns: which blocks belong together, what is made of them and when they go; marks, leftovers, what is set aside.
//! Never: changes or deletes what it has not replaced and read back, or stops because one block is damaged.
//! Tested by: tables beside the rules, crashes and damage over filesystem and S3 buckets.
mod ahead;
mod backlog;
mod check;
mod coarser;
mod dedup;
mod duty;
mod engine;
mod error;
mod garbage;
mod group;
mod marks;
mod pass;
mod plan;
mod repair;
mod retention;
mod run;
mod sorted;
mod source;
mod survey;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod upkeep;
mod upload;
mod watched;

pub use ahead::{PartBytes, Waiting};
pub use backlog::{Backlog, backlog};
pub use coarser::DownsampleReport;
pub use dedup::Deduplication;
pub use duty::{Duty, DutyProgress, Work};
pub use engine::{Aside, Compactor, CompactorSettings, CompactorStatus, Counters, Made};
pub use error::CompactorError;
pub use garbage::{PARTIAL_AGE_MS, duplicates, is_deletable, is_given_up};
pub use group::GroupKey;
pub use marks::{delete_block, mark_deleted, mark_no_compact, mark_no_downsample};
pub use pass::{CompactionReport, DAMAGED};
pub use plan::{Candidate, Exclusion, INDEX_BYTES_MAX, Plan, RANGES_MS, Reason, plan};
pub use retention::{RetentionPlan, RetentionSettings, plan_retention};
pub use source::{RemoteChunks, open_source};
pub use survey::{Leftover, Survey, Surveyed};
pub use upkeep::CleanupReport;
pub use watched::Progress;
