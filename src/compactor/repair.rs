//! A block whose order or range is wrong, read as it should have been written.

use std::path::Path;

use crate::block::{BlockError, BlockMeta, BlockSource, SeriesIds, TakeRaw, Tombstones};
use crate::chunk::{ChunkRef, StoredChunk};
use crate::compact::CompactError;
use crate::compactor::CompactorError;
use crate::compactor::sorted::{Place, SortedSeries, Sorter};
use crate::index::{ChunkMeta, SeriesEntry, Symbols};
use crate::model::TimeRange;
use crate::storage::StorageError;

/// Series in label order, each once, labels sorted; a range that covers the chunks around the one that was told.
pub(crate) struct Repaired<'a> {
    inner: &'a dyn BlockSource,
    meta: BlockMeta,
    series: SortedSeries,
    tombstones: Tombstones,
    n_dropped: u64,
}

impl<'a> Repaired<'a> {
    /// Reads the whole index, and sorts its series in files in `scratch`.
    pub(crate) fn new(inner: &'a dyn BlockSource, scratch: &Path) -> Result<Self, CompactorError> {
        let block = inner.meta().ulid;
        let failed = |source| CompactorError::Compact(CompactError::Source { block, source });
        let told = inner.meta().range();
        let span = told.max.saturating_sub(told.min).max(1);
        // What lies further away was never answered for this block, and would keep it for ever or delete it at once.
        let around = TimeRange {
            min: told.min.saturating_sub(span),
            max: told.max.saturating_add(span),
        };
        let mut range = told;
        let mut n_dropped = 0;
        let mut sorter = Sorter::new(scratch);
        let mut entry = SeriesEntry::default();
        for id in inner.series_ids().map_err(failed)? {
            let id = id.map_err(failed)?;
            inner.series(id, &mut entry).map_err(failed)?;
            entry.symbols.sort_unstable();
            let labels = &entry.symbols;
            let is_named = labels.is_sorted_by(|left, right| left.0 < right.0);
            if !is_named || labels.is_empty() {
                let problem = "a label is there twice, or none is".to_owned();
                return Err(failed(inner.damaged(id, problem)));
            }
            for chunk in &entry.chunks {
                if chunk.max_t < chunk.min_t {
                    let problem = "a chunk ends before it begins".to_owned();
                    return Err(failed(inner.damaged(id, problem)));
                }
                if is_within(chunk, around) {
                    range.min = range.min.min(chunk.min_t);
                    range.max = range.max.max(chunk.max_t.saturating_add(1));
                } else {
                    n_dropped += 1;
                }
            }
            sorter.add(id, &entry)?;
        }
        let mut tombstones = Tombstones::new();
        let mut twin: Option<Place> = None;
        let series = sorter.finish(&mut |place, entry| {
            entry.chunks.retain(|chunk| is_within(chunk, range));
            for gone in inner.tombstones().of(u64::from(place.from)) {
                tombstones.add(u64::from(place.to), *gone);
            }
            if place.is_twin && twin.is_none() {
                twin = Some(place);
            }
        })?;
        if let (Some(twin), false) = (twin, inner.tombstones().is_empty()) {
            let problem = "a series is there twice, and some of the block was deleted".to_owned();
            return Err(failed(inner.damaged(twin.from, problem)));
        }
        let mut meta = inner.meta().clone();
        (meta.min_time, meta.max_time) = (range.min, range.max);
        Ok(Self {
            inner,
            meta,
            series,
            tombstones,
            n_dropped,
        })
    }

    /// Chunks that are left out, because they lie far from the rest.
    pub(crate) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }
}

/// A file of this machine says nothing about the block.
fn unavailable(error: &CompactorError) -> BlockError {
    BlockError::Source(StorageError::Unavailable(error.to_string()))
}

fn is_within(chunk: &ChunkMeta, range: TimeRange) -> bool {
    range.min <= chunk.min_t && chunk.max_t < range.max
}

impl BlockSource for Repaired<'_> {
    fn meta(&self) -> &BlockMeta {
        &self.meta
    }

    fn symbols(&self) -> &Symbols {
        self.inner.symbols()
    }

    fn series_ids(&self) -> Result<SeriesIds<'_>, BlockError> {
        Ok(Box::new(
            self.series
                .ids()
                .map(|id| id.map_err(|error| unavailable(&error))),
        ))
    }

    fn n_series(&self) -> u64 {
        self.series.n_series
    }

    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError> {
        let read = self.series.series(id, entry);
        read.map_err(|error| unavailable(&error))?;
        Ok(())
    }

    fn tombstones(&self) -> &Tombstones {
        &self.tombstones
    }

    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        self.inner.chunk(at)
    }

    fn touch(&self, chunks: &[ChunkMeta]) -> u8 {
        self.inner.touch(chunks)
    }

    fn raw_chunks(&self, chunks: &[ChunkMeta], take: &mut TakeRaw<'_>) -> Result<(), BlockError> {
        self.inner.raw_chunks(chunks, take)
    }

    fn damaged(&self, id: u32, problem: String) -> BlockError {
        let from = self.series.series(id, &mut SeriesEntry::default());
        self.inner.damaged(from.unwrap_or(id), problem)
    }
}
