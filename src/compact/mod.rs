//! Several blocks become one.
//!
//! Owns: which local blocks belong together, the merge of their symbols, series and chunks, and what the result's meta.json says.
//! Never: opens or deletes a source, waits, or decodes a chunk that overlaps no other.
//! Tested by: models with overlaps and tombstones beside the code, `tests/blocks` with promtool.
mod error;
mod merge;
mod plan;
mod run;
mod symbols;
#[cfg(test)]
mod tests;

pub use error::CompactError;
pub use plan::{CompactionPlan, LevelSettings, Reason, levels, plan};
pub use run::{JoinChunks, Merge, compact, compact_into, merged_block};
