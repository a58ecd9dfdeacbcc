//! A block, mapped, as a source of series.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::block::error::BlockError;
use crate::block::meta::BlockMeta;
use crate::block::tombstones::Tombstones;
use crate::chunk::{ChunkError, SegmentReader, StoredChunk, without_intervals};
use crate::foundation::Cancel;
use crate::index::{ChunkMeta, IndexError, IndexReader, SeriesEntry};
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{
    ChunkSeries, ChunkSlice, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet,
    StorageError, Windows, lost_samples,
};

/// Directory of the segments within a block.
pub const CHUNKS_DIR: &str = "chunks";

/// The index within a block.
pub const INDEX_FILE: &str = "index";

/// An immutable directory of series. Cloning is cheap; what was opened stays readable when the directory is deleted.
#[derive(Debug, Clone)]
pub struct Block(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
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
    fn series(
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
    fn chunk(&self, id: u32, meta: &ChunkMeta) -> Result<Option<ChunkSlice>, ChunkError> {
        let StoredChunk { encoding, data, .. } = self.segments.chunk(meta.at)?;
        let deleted = self.tombstones.of(u64::from(id));
        if deleted.iter().any(|gone| gone.overlaps(&meta.interval())) {
            let rest = without_intervals(encoding, &data, deleted)?;
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
            encoding,
            data,
        }))
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
        Ok(Box::new(BlockSeriesSet {
            block: Arc::clone(&self.0),
            ids: ids.into_iter(),
            entry: SeriesEntry::default(),
            times: hints.times(),
            skip_chunks: hints.skip_chunks,
            n_left: if hints.limit == 0 {
                usize::MAX
            } else {
                hints.limit
            },
            cancel: hints.cancel.clone(),
            last: None,
            rest: None,
        }))
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

/// Why chunks of a series are missing, and what they span.
type Lost = (StorageError, Interval);

/// Reads one series after the other.
struct BlockSeriesSet {
    block: Arc<Inner>,
    ids: std::vec::IntoIter<u32>,
    entry: SeriesEntry,
    times: Windows,
    skip_chunks: bool,
    n_left: usize,
    cancel: Cancel,
    last: Option<Labels>,
    /// What is left of a series of which a chunk is damaged: it comes behind the error.
    rest: Option<ChunkSeries>,
}

impl BlockSeriesSet {
    /// The chunks of a series as the entry lists them, and what is wrong with those that are missing.
    fn chunks(&self, id: u32) -> Result<(Vec<ChunkSlice>, Option<Lost>), StorageError> {
        let mut chunks = Vec::new();
        let mut lost: Option<Lost> = None;
        chunks.reserve_exact(self.entry.chunks.len());
        for meta in &self.entry.chunks {
            match self.block.chunk(id, meta) {
                Ok(chunk) => chunks.extend(chunk),
                Err(error) => {
                    let flaw = chunk_failed(&self.block.dir, &error);
                    if !matches!(flaw, StorageError::Corrupt(_)) {
                        return Err(flaw);
                    }
                    let (_, span) = lost.get_or_insert((flaw, meta.interval()));
                    *span = span.joined(meta.interval());
                }
            }
        }
        Ok((chunks, lost))
    }

    fn advance(&mut self) -> Result<Option<ChunkSeries>, StorageError> {
        if let Some(rest) = self.rest.take() {
            self.n_left -= 1;
            return Ok(Some(rest));
        }
        while 0 < self.n_left
            && let Some(id) = self.ids.next()
        {
            check_cancel(&self.cancel)?;
            let read = self.block.series(id, self.times, &mut self.entry);
            let Some(labels) = read.map_err(index_failed)? else {
                continue;
            };
            let (chunks, lost) = if self.skip_chunks {
                (Vec::new(), None)
            } else {
                self.chunks(id)?
            };
            if chunks.is_empty() && lost.is_none() && !self.skip_chunks {
                continue;
            }
            // Whoever merges relies on label order; an index that was not written in it would lose series.
            if self.last.as_ref().is_some_and(|last| labels <= *last) {
                let dir = self.block.dir.display();
                return Err(StorageError::Corrupt(format!(
                    "{dir}: series {labels} is out of order"
                )));
            }
            self.last = Some(labels.clone());
            if let Some((flaw, span)) = lost {
                let flaw = lost_samples(flaw, &labels, span);
                self.rest = (!chunks.is_empty()).then_some(ChunkSeries { labels, chunks });
                return Err(flaw);
            }
            self.n_left -= 1;
            return Ok(Some(ChunkSeries { labels, chunks }));
        }
        Ok(None)
    }
}

impl SeriesSet for BlockSeriesSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        let item = self.advance().transpose();
        // A damaged series is an error in its place, and a damaged chunk one before what is left of its series; those
        // after it still come, for whoever goes on.
        if matches!(item, Some(Err(StorageError::Canceled))) {
            self.n_left = 0;
        }
        item
    }
}

fn check_cancel(cancel: &Cancel) -> Result<(), StorageError> {
    match cancel.reason() {
        Some(_) => Err(StorageError::Canceled),
        None => Ok(()),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn index_failed(error: IndexError) -> StorageError {
    match error {
        IndexError::File { .. } => StorageError::Unavailable(error.to_string()),
        IndexError::Damaged { .. } | IndexError::Unwritable(_) => {
            StorageError::Corrupt(error.to_string())
        }
    }
}

fn chunk_failed(dir: &Path, error: &ChunkError) -> StorageError {
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
