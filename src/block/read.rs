//! A block, mapped, as a source of series.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::error::BlockError;
use crate::block::meta::BlockMeta;
use crate::block::series_set::BlockSeriesSet;
use crate::block::source::slice_that_counts;
use crate::block::tombstones::Tombstones;
use crate::chunk::{ChunkError, SegmentReader};
use crate::foundation::Cancel;
use crate::index::{ChunkMeta, IndexError, IndexReader, SeriesEntry};
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{
    ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError, Windows,
};

/// Directory of the segments within a block.
pub const CHUNKS_DIR: &str = "chunks";

/// The index within a block.
pub const INDEX_FILE: &str = "index";

/// An immutable directory of series. Cloning is cheap; what was opened stays readable when the directory is deleted.
#[derive(Debug, Clone)]
pub struct Block(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) dir: PathBuf,
    meta: BlockMeta,
    index: IndexReader,
    segments: SegmentReader,
    tombstones: Tombstones,
}

impl Block {
    /// Maps the block in `dir`. Damage to meta, index or tombstones is an error here; damage to a chunk is one of the
    /// selects that need it.
    pub fn open(dir: &Path) -> Result<Self, BlockError> {
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            meta: BlockMeta::read(dir)?,
            index: IndexReader::open(&dir.join(INDEX_FILE))?,
            segments: SegmentReader::open(&dir.join(CHUNKS_DIR))?,
            tombstones: Tombstones::read(dir)?,
        })))
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// What it is.
    pub fn meta(&self) -> &BlockMeta {
        &self.0.meta
    }

    /// Its index.
    pub fn index(&self) -> &IndexReader {
        &self.0.index
    }

    /// Its chunks.
    pub fn segments(&self) -> &SegmentReader {
        &self.0.segments
    }

    /// What was deleted from it.
    pub fn tombstones(&self) -> &Tombstones {
        &self.0.tombstones
    }

    /// Bytes of index and chunks.
    pub fn n_bytes(&self) -> u64 {
        self.0.index.source().end() + self.0.segments.n_bytes()
    }

    /// Declares `interval` of the series that match deleted, on disk; the block as opened does not change, so open it
    /// again. Returns how many intervals the block's tombstones hold afterwards.
    pub fn delete(&self, matchers: &[Matcher], interval: Interval) -> Result<usize, BlockError> {
        let mut tombstones = self.0.tombstones.clone();
        let mut entry = SeriesEntry::default();
        for id in self.0.index.select(matchers)? {
            self.0.index.series(id, &mut entry)?;
            let (Some(first), Some(last)) = (entry.chunks.first(), entry.chunks.last()) else {
                continue;
            };
            // Only times that the series has: the interval may be all of time.
            let clamped = Interval {
                min: interval.min.max(first.min_t),
                max: interval.max.min(last.max_t),
            };
            tombstones.add(u64::from(id), clamped);
        }
        let n_intervals = tombstones.n_intervals();
        if tombstones == self.0.tombstones {
            return Ok(n_intervals);
        }
        tombstones.write(&self.0.dir)?;
        let mut meta = self.0.meta.clone();
        meta.stats.num_tombstones = n_intervals as u64;
        meta.write(&self.0.dir)?;
        Ok(n_intervals)
    }
}

impl Inner {
    /// The labels of series `id` and those of its chunks that `times` touch and that were not deleted whole.
    pub(super) fn series(
        &self,
        id: u32,
        times: Windows,
        entry: &mut SeriesEntry,
    ) -> Result<Option<Labels>, IndexError> {
        self.index.series(id, entry)?;
        let deleted = self.tombstones.of(u64::from(id));
        entry.chunks.retain(|chunk| {
            times.touch(chunk.min_t, chunk.max_t)
                && !deleted
                    .iter()
                    .any(|gone| gone.min <= chunk.min_t && chunk.max_t <= gone.max)
        });
        if entry.chunks.is_empty() {
            return Ok(None);
        }
        self.index.labels(id, entry).map(Some)
    }

    /// The chunk without its deleted samples; `None` when none is left.
    pub(super) fn chunk(
        &self,
        id: u32,
        meta: &ChunkMeta,
    ) -> Result<Option<ChunkSlice>, ChunkError> {
        let stored = self.segments.chunk(meta.at)?;
        slice_that_counts(meta, stored, self.tombstones.of(u64::from(id)))
    }
}

impl Queryable for Block {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        check_cancel(&hints.cancel)?;
        let ids = if self.0.meta.range().intersects(hints.interval) {
            self.0.index.select(matchers).map_err(index_failed)?
        } else {
            Vec::new()
        };
        Ok(Box::new(BlockSeriesSet::new(
            Arc::clone(&self.0),
            ids,
            hints,
        )))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.answer(hints, || self.0.index.label_names(matchers))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.answer(hints, || self.0.index.label_values(name, matchers))
    }
}

impl Block {
    fn answer(
        &self,
        hints: &LabelHints,
        ask: impl FnOnce() -> Result<Vec<String>, IndexError>,
    ) -> Result<LabelAnswer, StorageError> {
        check_cancel(&hints.cancel)?;
        if !self.0.meta.range().intersects(hints.interval) {
            return Ok(LabelAnswer::default());
        }
        let mut values = ask().map_err(index_failed)?;
        if 0 < hints.limit {
            values.truncate(hints.limit);
        }
        Ok(LabelAnswer {
            values,
            warnings: Vec::new(),
        })
    }
}

pub(super) fn check_cancel(cancel: &Cancel) -> Result<(), StorageError> {
    match cancel.reason() {
        Some(_) => Err(StorageError::Canceled),
        None => Ok(()),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
pub(super) fn index_failed(error: IndexError) -> StorageError {
    match error {
        IndexError::File { .. } => StorageError::Unavailable(error.to_string()),
        IndexError::Damaged { .. } | IndexError::Unwritable(_) => {
            StorageError::Corrupt(error.to_string())
        }
    }
}

pub(super) fn chunk_failed(dir: &Path, error: &ChunkError) -> StorageError {
    let text = error.to_string();
    if matches!(error, ChunkError::File { .. }) {
        StorageError::Unavailable(text)
    } else if matches!(error, ChunkError::Damaged { .. }) {
        // Names its file already.
        StorageError::Corrupt(text)
    } else {
        StorageError::Corrupt(format!("{}: {text}", dir.display()))
    }
}
