//! What is in the bucket: metas and marks of all blocks.
//!
//! Owns: the walk over the bucket's directories, what makes a block partial, the texts of all marks.
//! Never: opens a block or decides what becomes of one.
//! Tested by: golden texts beside the code, and the rooms above over filesystem and S3 buckets.
mod fetch;
mod known;
mod marks;

pub use fetch::{Inventory, Partial, PartialReason, fetch};
pub use known::KnownBlock;
pub use marks::{DeletionMark, MARK_BYTES_MAX, NoCompactMark, NoDownsampleMark};
