//! An immutable directory of series.
//!
//! Owns: meta.json, tombstones, the block reader and writer, merging and verifying (see `FORMAT.md`).
//! Never: changes a block after its meta.json is written, but for what was deleted from it.
//! Tested by: round trips, damage at every byte, fixtures beside the code.
#![doc = include_str!("FORMAT.md")]
mod analyze;
mod error;
mod join;
pub mod meta;
mod read;
mod series_set;
mod sorted;
mod source;
#[cfg(test)]
mod tests;
mod tombstones;
mod verify;
mod write;

pub use analyze::{BlockAnalysis, ChunkAnalysis, Counted};
pub use error::BlockError;
pub use join::{
    AnySample, AnyValue, decode_samples, encode_samples, join_chunks, join_groups, join_preferred,
};
pub use meta::{
    BlockCompaction, BlockMeta, BlockParent, BlockStats, ThanosDownsample, ThanosFile, ThanosHash,
    ThanosMeta,
};
pub use read::{Block, CHUNKS_DIR, INDEX_FILE};
pub use sorted::{ChunkTrail, SegmentSink, SortedBlockWriter};
pub use source::{BlockSource, SeriesIds, TakeRaw, chunk_that_counts, slice_that_counts};
pub use tombstones::{TOMBSTONES_FILE, Tombstones};
pub use verify::{BlockReport, verify, verify_with};
pub use write::{NewBlock, TMP_FOR_CREATION, TMP_FOR_DELETION, merge_blocks, write_block};
