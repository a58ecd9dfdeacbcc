//! A block that is read from its first series to its last, wherever it lies.

use crate::block::{Block, BlockError, BlockMeta, Tombstones};
use crate::chunk::{ChunkRef, StoredChunk};
use crate::index::{SeriesEntry, Symbols};

/// A block as compaction and downsampling read it: its series in label order, and chunk after chunk in the order of the
/// index. What is asked for in another order comes too, but a source that lies elsewhere fetches it again.
pub trait BlockSource: Send + Sync {
    /// What it is.
    fn meta(&self) -> &BlockMeta;

    /// The strings of its index.
    fn symbols(&self) -> &Symbols;

    /// Numbers of all its series, ascending, which is label order.
    fn series_ids(&self) -> Result<Vec<u32>, BlockError>;

    /// Reads series `id` into `entry`, its checksum verified.
    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError>;

    /// What was deleted from it.
    fn tombstones(&self) -> &Tombstones;

    /// One chunk, its checksum verified.
    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError>;

    /// That series `id` of its index is not what it must be.
    fn damaged(&self, id: u32, problem: String) -> BlockError;
}

impl BlockSource for Block {
    fn meta(&self) -> &BlockMeta {
        self.meta()
    }

    fn symbols(&self) -> &Symbols {
        self.index().symbols()
    }

    fn series_ids(&self) -> Result<Vec<u32>, BlockError> {
        Ok(self.index().all_series()?)
    }

    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError> {
        Ok(self.index().series(id, entry)?)
    }

    fn tombstones(&self) -> &Tombstones {
        self.tombstones()
    }

    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        Ok(self.segments().chunk(at)?)
    }

    fn damaged(&self, id: u32, problem: String) -> BlockError {
        let index = self.index();
        BlockError::Damaged {
            path: index.source().file().as_ref().into(),
            offset: index.version().series_offset(id),
            problem,
        }
    }
}
