//! What is in the bucket: metas and marks of all blocks.
//!
//! Owns: the walk over the bucket's objects, what makes a block partial, the texts of all marks.
//! Never: opens a block or decides what becomes of one.
//! Tested by: walks whose requests are counted, and golden texts, beside the code.
//!
//! One listing tells of every object its length and when it was written. What is remembered of `meta.json` and marks,
//! and has not changed, is not read again: in the catalog, so that a start needs no bucket to know what was there.
mod bucket_inventory;
mod fetch;
mod known;
mod marks;
#[cfg(test)]
mod tests;

pub use bucket_inventory::BucketInventory;
pub use fetch::fetch;
pub use known::{Inventory, KnownBlock, KnownFile, Partial, PartialReason};
pub use marks::{DeletionMark, MARK_BYTES_MAX, NoCompactMark, NoDownsampleMark};
