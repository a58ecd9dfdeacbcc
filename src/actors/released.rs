//! Which local blocks may go: those the store gateway serves from the bucket.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::BlockId;

/// Blocks the bucket answers for; written by the store gateway, read by the head keeper. Clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct ReleasedBlocks(Arc<ArcSwap<BTreeSet<BlockId>>>);

impl ReleasedBlocks {
    /// Replaces the set.
    pub fn set(&self, served: BTreeSet<BlockId>) {
        self.0.store(Arc::new(served));
    }

    /// May the local copy of `block` go?
    pub fn contains(&self, block: BlockId) -> bool {
        self.0.load().contains(&block)
    }
}
