//! One compaction from its sources to the finished directory.

use std::cmp::Ordering;
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
    /// What becomes of the chunks of a series of which some overlap, reach beyond what is wanted or lost samples. Others go
    /// through as they are.
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
    let mut standing: Vec<usize> = Vec::with_capacity(cursors.len());
    let mut n_until_check = 0usize;
    while find_least(&cursors, &mut standing, &mut labels) {
        if n_until_check == 0 {
            if how.cancel.reason().is_some() {
                return Err(CompactError::Canceled);
            }
            n_until_check = SERIES_PER_CANCEL_CHECK;
        }
        n_until_check -= 1;
        if !pass_on(&cursors, (&standing, &labels), how, &mut writer)? {
            let chunks = gather(&cursors, &standing, how)?;
            if !chunks.is_empty() {
                writer.add(&labels, &chunks).map_err(CompactError::Result)?;
            }
        }
        for &position in &standing {
            if let Some(cursor) = cursors.get_mut(position) {
                cursor.advance()?;
            }
        }
    }
    // Postings take memory too.
    drop(cursors);
    writer.finish().map_err(CompactError::Result)
}

/// The labels that come next, and which cursors stand at them; false at the end.
fn find_least(
    cursors: &[SeriesCursor<'_>],
    standing: &mut Vec<usize>,
    labels: &mut Vec<(u32, u32)>,
) -> bool {
    standing.clear();
    let mut least: Option<&[(u32, u32)]> = None;
    for (position, cursor) in cursors.iter().enumerate() {
        let Some(other) = cursor.labels() else {
            continue;
        };
        match least.map_or(Ordering::Less, |least| other.cmp(least)) {
            Ordering::Less => {
                least = Some(other);
                standing.clear();
                standing.push(position);
            }
            Ordering::Equal => standing.push(position),
            Ordering::Greater => (),
        }
    }
    let Some(least) = least else { return false };
    labels.clear();
    labels.extend_from_slice(least);
    true
}

/// Puts the chunks of one series into the block as they are, where all of them can be. Otherwise nothing happened.
fn pass_on(
    cursors: &[SeriesCursor<'_>],
    (standing, labels): (&[usize], &[(u32, u32)]),
    how: &Merge<'_>,
    writer: &mut SortedBlockWriter,
) -> Result<bool, CompactError> {
    let at = || {
        standing
            .iter()
            .filter_map(|position| cursors.get(*position))
    };
    let mut end = None;
    for cursor in at() {
        match cursor.passes(how.wanted, end) {
            Some(later) => end = later,
            None => return Ok(false),
        }
    }
    if end.is_none() {
        // No chunks at all.
        return Ok(true);
    }
    // Each is waited for otherwise, one behind the other.
    std::hint::black_box(at().fold(0, |sum, cursor| sum ^ cursor.touch()));
    writer.begin_series(labels);
    let mut flaw = None;
    for cursor in at() {
        cursor.raw_chunks(&mut |meta, chunk| {
            flaw = writer.add_raw(meta, chunk).err();
            flaw.is_none()
        })?;
        if let Some(flaw) = flaw {
            return Err(CompactError::Result(flaw));
        }
    }
    writer.end_series().map_err(CompactError::Result)?;
    Ok(true)
}

/// The chunks of one series from all sources, fit for an index.
fn gather(
    cursors: &[SeriesCursor<'_>],
    standing: &[usize],
    how: &Merge<'_>,
) -> Result<Vec<ChunkSlice>, CompactError> {
    let mut chunks = Vec::new();
    for cursor in standing
        .iter()
        .filter_map(|position| cursors.get(*position))
    {
        cursor.take_chunks(&mut chunks)?;
    }
    // Stable: of two chunks that start together the earlier source's stays first.
    if !chunks.is_sorted_by_key(|chunk| chunk.min_t) {
        chunks.sort_by_key(|chunk| chunk.min_t);
    }
    (how.join)(chunks, how.wanted).map_err(CompactError::Overlap)
}
