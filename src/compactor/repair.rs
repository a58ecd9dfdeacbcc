//! A block whose order or range is wrong, read as it should have been written.

use std::collections::BTreeMap;

use crate::block::{BlockError, BlockMeta, BlockSource, Tombstones};
use crate::chunk::{ChunkRef, StoredChunk};
use crate::index::{ChunkMeta, SeriesEntry, Symbols};
use crate::model::TimeRange;

/// Series in label order, each once, labels sorted; a range that covers the chunks around the one that was told.
pub(crate) struct Repaired<'a> {
    inner: &'a dyn BlockSource,
    meta: BlockMeta,
    ids: Vec<u32>,
    /// Series that are in the index twice, by the first of them.
    twins: BTreeMap<u32, Vec<u32>>,
    n_dropped: u64,
}

impl<'a> Repaired<'a> {
    /// Reads the whole index.
    pub(crate) fn new(inner: &'a dyn BlockSource) -> Result<Self, BlockError> {
        let told = inner.meta().range();
        let span = told.max.saturating_sub(told.min).max(1);
        // What lies further away was never answered for this block, and would keep it for ever or delete it at once.
        let around = TimeRange {
            min: told.min.saturating_sub(span),
            max: told.max.saturating_add(span),
        };
        let mut range = told;
        let mut n_dropped = 0;
        let mut all: Vec<(Vec<(u32, u32)>, u32)> = Vec::new();
        let mut entry = SeriesEntry::default();
        for id in inner.series_ids()? {
            inner.series(id, &mut entry)?;
            let mut labels = std::mem::take(&mut entry.symbols);
            labels.sort_unstable();
            let is_named = labels.is_sorted_by(|left, right| left.0 < right.0);
            if !is_named || labels.is_empty() {
                return Err(inner.damaged(id, "a label is there twice, or none is".to_owned()));
            }
            for chunk in &entry.chunks {
                if chunk.max_t < chunk.min_t {
                    return Err(inner.damaged(id, "a chunk ends before it begins".to_owned()));
                }
                if is_within(chunk, around) {
                    range.min = range.min.min(chunk.min_t);
                    range.max = range.max.max(chunk.max_t.saturating_add(1));
                } else {
                    n_dropped += 1;
                }
            }
            all.push((labels, id));
        }
        all.sort_unstable();
        let mut meta = inner.meta().clone();
        (meta.min_time, meta.max_time) = (range.min, range.max);
        let mut repaired = Self {
            inner,
            meta,
            ids: Vec::with_capacity(all.len()),
            twins: BTreeMap::new(),
            n_dropped,
        };
        let mut before: Option<&[(u32, u32)]> = None;
        for (labels, id) in &all {
            match repaired.ids.last() {
                Some(first) if before == Some(labels) => {
                    repaired.twins.entry(*first).or_default().push(*id);
                }
                _ => repaired.ids.push(*id),
            }
            before = Some(labels);
        }
        if let (Some((first, _)), false) = (
            repaired.twins.first_key_value(),
            inner.tombstones().is_empty(),
        ) {
            let problem = "a series is there twice, and some of the block was deleted".to_owned();
            return Err(inner.damaged(*first, problem));
        }
        Ok(repaired)
    }

    /// Chunks that are left out, because they lie far from the rest.
    pub(crate) fn n_dropped(&self) -> u64 {
        self.n_dropped
    }

    fn keep(&self, chunks: &mut Vec<ChunkMeta>) {
        let range = self.meta.range();
        chunks.retain(|chunk| range.min <= chunk.min_t && chunk.max_t < range.max);
    }
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

    fn series_ids(&self) -> Result<Vec<u32>, BlockError> {
        Ok(self.ids.clone())
    }

    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError> {
        self.inner.series(id, entry)?;
        let mut chunks = std::mem::take(&mut entry.chunks);
        for twin in self.twins.get(&id).into_iter().flatten() {
            self.inner.series(*twin, entry)?;
            chunks.append(&mut entry.chunks);
        }
        self.keep(&mut chunks);
        entry.chunks = chunks;
        entry.symbols.sort_unstable();
        Ok(())
    }

    fn tombstones(&self) -> &Tombstones {
        self.inner.tombstones()
    }

    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        self.inner.chunk(at)
    }

    fn damaged(&self, id: u32, problem: String) -> BlockError {
        self.inner.damaged(id, problem)
    }
}
