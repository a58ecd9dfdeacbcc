//! A block that is read from its first series to its last, wherever it lies.

use crate::block::{Block, BlockError, BlockMeta, Tombstones};
use crate::chunk::{ChunkRef, StoredChunk};
use crate::index::IndexReader;

/// A block as compaction and downsampling read it: its index, and chunk after chunk in the order of the index.
pub trait BlockSource: Send + Sync {
    /// What it is.
    fn meta(&self) -> &BlockMeta;

    /// Its index.
    fn index(&self) -> &IndexReader;

    /// What was deleted from it.
    fn tombstones(&self) -> &Tombstones;

    /// One chunk, its checksum verified.
    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError>;
}

impl BlockSource for Block {
    fn meta(&self) -> &BlockMeta {
        self.meta()
    }

    fn index(&self) -> &IndexReader {
        self.index()
    }

    fn tombstones(&self) -> &Tombstones {
        self.tombstones()
    }

    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        Ok(self.segments().chunk(at)?)
    }
}
