//! One compaction from its sources to the finished directory.

use std::path::Path;

use crate::block::{
    BlockError, BlockMeta, BlockParent, BlockSource, NewBlock, SortedBlockWriter, join_chunks, meta,
};
use crate::chunk::ChunkError;
use crate::compact::CompactError;
use crate::compact::merge::SeriesCursor;
use crate::compact::symbols::merge_symbols;
use crate::foundation::Cancel;
use crate::model::{BlockId, Interval, TimeRange};
use crate::storage::ChunkSlice;

/// Between two looks at the cancel flag.
const SERIES_PER_CANCEL_CHECK: usize = 256;

/// What blocks become when they are made one: it covers all of them, and descends from all of them.
pub fn merged_block(id: BlockId, metas: &[&BlockMeta]) -> NewBlock {
    let min = metas.iter().map(|meta| meta.min_time).min();
    let max = metas.iter().map(|meta| meta.max_time).max();
    let range = TimeRange {
        min: min.unwrap_or(0),
        max: max.unwrap_or(0),
    };
    let mut new = NewBlock::new(id, range);
    for meta in metas {
        new.level = new.level.max(meta.compaction.level.saturating_add(1));
        if meta.compaction.sources.is_empty() {
            new.sources.push(meta.ulid);
        }
        new.sources.extend(&meta.compaction.sources);
        new.parents.push(BlockParent {
            ulid: meta.ulid,
            min_time: meta.min_time,
            max_time: meta.max_time,
        });
    }
    new.sources.sort_unstable();
    new.sources.dedup();
    // One in-order sample makes the whole a block in order; a part of a head's series stays a part.
    if !metas.is_empty() && metas.iter().all(|meta| meta.is_from_out_of_order()) {
        new.hints.push(meta::HINT_OUT_OF_ORDER.to_owned());
    }
    for hint in [meta::HINT_SELECTED_SERIES, meta::HINT_STALE_SERIES] {
        if metas.iter().any(|meta| meta.has_hint(hint)) {
            new.hints.push(hint.to_owned());
        }
    }
    new
}

/// Writes `new` below `parent_dir` with every sample of `sources` in its range that was not deleted; where two hold the
/// same time, the earlier source's is kept. `None`, and no directory, when nothing is left.
///
/// A chunk that overlaps no other goes through as it is. Memory: four bytes for every symbol of each source, what
/// [`crate::index::IndexWriter`] takes of the result, and one series.
pub fn compact(
    parent_dir: &Path,
    new: NewBlock,
    sources: &[&dyn BlockSource],
    cancel: &Cancel,
) -> Result<Option<BlockMeta>, CompactError> {
    let how = Merge {
        wanted: Interval {
            min: new.range.min,
            max: new.range.max.saturating_sub(1),
        },
        cancel,
        join: &join_chunks,
    };
    compact_into(sources, &how, || SortedBlockWriter::create(parent_dir, new))
}

/// Makes chunks of one series, sorted by their start, fit for an index.
pub type JoinChunks<'a> =
    dyn Fn(Vec<ChunkSlice>, Interval) -> Result<Vec<ChunkSlice>, ChunkError> + 'a;

/// How sources are merged.
#[expect(missing_debug_implementations, reason = "a function cannot be shown")]
#[derive(Clone, Copy)]
pub struct Merge<'a> {
    /// Samples outside are left out.
    pub wanted: Interval,
    /// Raised when nobody wants the result any more.
    pub cancel: &'a Cancel,
    /// What becomes of chunks that overlap.
    pub join: &'a JoinChunks<'a>,
}

/// As [`compact`], into the writer that `create` makes.
pub fn compact_into(
    sources: &[&dyn BlockSource],
    how: &Merge<'_>,
    create: impl FnOnce() -> Result<SortedBlockWriter, BlockError>,
) -> Result<Option<BlockMeta>, CompactError> {
    let mut writer = create().map_err(CompactError::Result)?;
    let maps = merge_symbols(sources, &mut |text| {
        writer.add_symbol(text).map_err(CompactError::Result)
    })?;
    let mut cursors = Vec::with_capacity(sources.len());
    for (source, map) in sources.iter().zip(maps) {
        cursors.push(SeriesCursor::new(*source, map)?);
    }
    let mut labels: Vec<(u32, u32)> = Vec::new();
    let mut n_until_check = 0usize;
    while let Some(least) = cursors.iter().filter_map(SeriesCursor::labels).min() {
        if n_until_check == 0 {
            if how.cancel.reason().is_some() {
                return Err(CompactError::Canceled);
            }
            n_until_check = SERIES_PER_CANCEL_CHECK;
        }
        n_until_check -= 1;
        labels.clear();
        labels.extend_from_slice(least);
        let chunks = gather(&mut cursors, &labels, how)?;
        if !chunks.is_empty() {
            writer.add(&labels, &chunks).map_err(CompactError::Result)?;
        }
    }
    // Postings take memory too.
    drop(cursors);
    writer.finish().map_err(CompactError::Result)
}

/// The chunks of one series from all sources, fit for an index; every cursor that stood at it goes on.
fn gather(
    cursors: &mut [SeriesCursor<'_>],
    labels: &[(u32, u32)],
    how: &Merge<'_>,
) -> Result<Vec<ChunkSlice>, CompactError> {
    let mut chunks = Vec::new();
    for cursor in cursors {
        if cursor.labels() == Some(labels) {
            cursor.take_chunks(&mut chunks)?;
            cursor.advance()?;
        }
    }
    // Stable: of two chunks that start together the earlier source's stays first.
    if !chunks.is_sorted_by_key(|chunk| chunk.min_t) {
        chunks.sort_by_key(|chunk| chunk.min_t);
    }
    (how.join)(chunks, how.wanted).map_err(CompactError::Overlap)
}
