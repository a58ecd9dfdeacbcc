//! A whole block of the bucket.

use crate::block::BlockMeta;
use crate::model::TimestampMs;

/// A whole block of the bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownBlock {
    /// What it is.
    pub meta: BlockMeta,
    /// Since when it is marked for deletion.
    pub marked_ms: Option<TimestampMs>,
}
