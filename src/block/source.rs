//! A block that is read from its first series to its last, wherever it lies.

use bytes::Bytes;

use crate::block::{Block, BlockError, BlockMeta, Tombstones};
use crate::chunk::{ChunkError, ChunkRef, RawChunk, StoredChunk, without_intervals};
use crate::index::{ChunkMeta, SeriesEntry, Symbols};
use crate::model::Interval;
use crate::storage::ChunkSlice;

/// Numbers of series, one after the other.
pub type SeriesIds<'a> = Box<dyn Iterator<Item = Result<u32, BlockError>> + 'a>;

/// Takes a chunk; false is enough.
pub type TakeRaw<'a> = dyn FnMut(&ChunkMeta, &RawChunk<'_>) -> bool + 'a;

/// A block as compaction and downsampling read it: its series in label order, and chunk after chunk in the order of the
/// index. What is asked for in another order comes too, but a source that lies elsewhere fetches it again.
pub trait BlockSource: Send + Sync {
    /// What it is.
    fn meta(&self) -> &BlockMeta;

    /// The strings of its index.
    fn symbols(&self) -> &Symbols;

    /// Numbers of all its series, ascending, which is label order. What ends in an error was no list.
    fn series_ids(&self) -> Result<SeriesIds<'_>, BlockError>;

    /// How many series there are, as far as that can be told beforehand.
    fn n_series(&self) -> u64 {
        self.meta().stats.num_series
    }

    /// Reads series `id` into `entry`, its checksum verified.
    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError>;

    /// What was deleted from it.
    fn tombstones(&self) -> &Tombstones;

    /// One chunk, its checksum verified.
    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError>;

    /// Looks at the first byte of each of these chunks that is at hand, so that memory brings those of several sources at
    /// once. What comes of it means nothing.
    fn touch(&self, chunks: &[ChunkMeta]) -> u8;

    /// Shows `take` these chunks one after the other as they lie in their segments, each verified, until it says false.
    fn raw_chunks(&self, chunks: &[ChunkMeta], take: &mut TakeRaw<'_>) -> Result<(), BlockError>;

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

    fn series_ids(&self) -> Result<SeriesIds<'_>, BlockError> {
        let index = self.index();
        let Some(range) = index.table().all_series()? else {
            return Ok(Box::new(std::iter::empty()));
        };
        Ok(Box::new(index.postings(range)?.iter().map(Ok)))
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

    fn touch(&self, chunks: &[ChunkMeta]) -> u8 {
        let first = chunks.iter().map(|meta| self.segments().touch(meta.at));
        first.fold(0, |sum, byte| sum ^ byte)
    }

    fn raw_chunks(&self, chunks: &[ChunkMeta], take: &mut TakeRaw<'_>) -> Result<(), BlockError> {
        for meta in chunks {
            if !take(meta, &self.segments().raw_chunk(meta.at)?) {
                break;
            }
        }
        Ok(())
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

/// A chunk of series `id` without what was deleted; `None` when nothing is left of it.
pub fn chunk_that_counts(
    source: &dyn BlockSource,
    id: u32,
    meta: &ChunkMeta,
) -> Result<Option<ChunkSlice>, BlockError> {
    let deleted = source.tombstones().of(u64::from(id));
    let is_whole = |gone: &Interval| gone.min <= meta.min_t && meta.max_t <= gone.max;
    if deleted.iter().any(is_whole) {
        return Ok(None);
    }
    Ok(slice_that_counts(meta, source.chunk(meta.at)?, deleted)?)
}

/// The samples of a chunk without those that were deleted; `None` when nothing is left of it.
pub fn slice_that_counts(
    meta: &ChunkMeta,
    stored: StoredChunk,
    deleted: &[Interval],
) -> Result<Option<ChunkSlice>, ChunkError> {
    if deleted.iter().any(|gone| gone.overlaps(&meta.interval())) {
        let rest = without_intervals(stored.encoding, &stored.data, deleted)?;
        return Ok(rest.map(|rest| ChunkSlice {
            min_t: rest.min_t,
            max_t: rest.max_t,
            encoding: rest.encoding,
            data: Bytes::from(rest.data),
        }));
    }
    Ok(Some(ChunkSlice {
        min_t: meta.min_t,
        max_t: meta.max_t,
        encoding: stored.encoding,
        data: stored.data,
    }))
}
