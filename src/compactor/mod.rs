//! What becomes of the bucket's blocks: fewer, coarser, finally none.
//!
//! Owns: which blocks belong together, what is made of them and when they go; marks, leftovers, what is set aside.
//! Never: changes or deletes what it has not replaced and read back, or stops because one block is damaged.
//! Tested by: tables beside the rules, crashes and damage over filesystem and S3 buckets.
mod dedup;
mod garbage;
mod group;
mod plan;
mod retention;
#[cfg(test)]
mod testing;

pub use dedup::Deduplication;
pub use garbage::{PARTIAL_AGE_MS, duplicates, is_deletable, is_given_up};
pub use group::GroupKey;
pub use plan::{Candidate, Exclusion, INDEX_BYTES_MAX, Plan, RANGES_MS, Reason, plan};
pub use retention::{RetentionPlan, RetentionSettings, plan_retention};
