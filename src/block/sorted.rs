//! Writes a block whose symbols come before its first series.

use std::path::{Path, PathBuf};

use crate::block::error::BlockError;
use crate::block::meta::{BlockMeta, BlockStats};
use crate::block::read::{CHUNKS_DIR, INDEX_FILE};
use crate::block::write::{NewBlock, TMP_FOR_CREATION, count_chunk, remove_if_there, write_meta};
use crate::chunk::{
    ChunkRef, RawChunk, SEGMENT_BYTES_MAX, SegmentWriter, WrittenSegment, n_samples,
};
use crate::foundation::durable::{create_dirs, rename_durably};
use crate::index::{ChunkMeta, IndexWriter, SeriesEntry};
use crate::model::{Encoding, TimestampMs};
use crate::storage::ChunkSlice;

/// Who takes the chunk segments of a block while it is written.
pub trait SegmentSink: Send {
    /// This segment is whole; the file may be taken away.
    fn take(&mut self, segment: WrittenSegment) -> Result<(), BlockError>;

    /// There are no more segments; files that were taken are needed here no longer than this call. The series of the index
    /// have these chunks, and the largest takes so many bytes in it.
    fn finish(&mut self, trail: &ChunkTrail, series_bytes_max: usize) -> Result<(), BlockError>;
}

/// What is left of the chunks of a block when they are written, to be compared with those that its index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunkTrail {
    /// Of where each is and what it spans, in order.
    fingerprint: u64,
    /// How many there are.
    pub n_chunks: u64,
}

impl ChunkTrail {
    /// Adds the next chunk.
    pub fn add(&mut self, chunk: &ChunkMeta) {
        let (min, max) = (chunk.min_t.cast_unsigned(), chunk.max_t.cast_unsigned());
        let word = chunk.at.0 ^ min.rotate_left(21) ^ max.rotate_left(43);
        // Multiplied after each, so that the order counts.
        let mixed = (self.fingerprint.rotate_left(25) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.fingerprint = mixed;
        self.n_chunks += 1;
    }
}

/// Takes symbols, then series, which go straight into the index, so that nothing is spooled and no label is looked at.
/// Dropped before it is finished, it leaves nothing behind.
pub struct SortedBlockWriter {
    parent_dir: PathBuf,
    tmp: Unfinished,
    new: NewBlock,
    segments: SegmentWriter,
    index: IndexWriter,
    entry: SeriesEntry,
    stats: BlockStats,
    trail: ChunkTrail,
    sink: Option<Box<dyn SegmentSink>>,
}

impl std::fmt::Debug for SortedBlockWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortedBlockWriter")
            .field("new", &self.new)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// A directory that goes when it is not renamed.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        remove_if_there(&self.0).ok();
    }
}

impl SortedBlockWriter {
    /// Begins `<id>` below `parent_dir`.
    pub fn create(parent_dir: &Path, new: NewBlock) -> Result<Self, BlockError> {
        Self::create_with(parent_dir, new, SEGMENT_BYTES_MAX, None)
    }

    /// As [`Self::create`], with segments of at most `segment_bytes_max`, each handed to `sink` when it is whole: for
    /// blocks that shall not lie here in one piece.
    pub fn create_with(
        parent_dir: &Path,
        new: NewBlock,
        segment_bytes_max: u64,
        sink: Option<Box<dyn SegmentSink>>,
    ) -> Result<Self, BlockError> {
        let dir = parent_dir.join(format!("{}{TMP_FOR_CREATION}", new.id));
        remove_if_there(&dir)?;
        create_dirs(&dir).map_err(|source| BlockError::file(&dir, source))?;
        let tmp = Unfinished(dir);
        Ok(Self {
            parent_dir: parent_dir.to_owned(),
            segments: SegmentWriter::create(&tmp.0.join(CHUNKS_DIR), segment_bytes_max)?,
            index: IndexWriter::begin(&tmp.0.join(INDEX_FILE))?,
            tmp,
            new,
            entry: SeriesEntry::default(),
            stats: BlockStats::default(),
            trail: ChunkTrail::default(),
            sink,
        })
    }

    /// Leaves the page cache to others, where the file system can: for a block that nobody reads soon.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.segments = self.segments.uncached();
        self
    }

    /// Adds a label text, above the one before; the empty one is the first. All of them come before the first series.
    pub fn add_symbol(&mut self, text: &str) -> Result<(), BlockError> {
        Ok(self.index.write_symbol(text)?)
    }

    /// Adds a series: its labels as positions in the symbols, in label order, and chunks that are sorted and apart.
    pub fn add(&mut self, symbols: &[(u32, u32)], chunks: &[ChunkSlice]) -> Result<(), BlockError> {
        self.begin_series(symbols);
        for chunk in chunks {
            let n = n_samples(chunk.encoding, &chunk.data)?;
            let at = self.segments.write(chunk.encoding, &chunk.data)?;
            let (min_t, max_t) = (chunk.min_t, chunk.max_t);
            self.note((min_t, max_t, at), chunk.encoding, n);
        }
        self.end_series()
    }

    /// As [`Self::add`], chunk by chunk: those come with [`Self::add_raw`], and the series is there with
    /// [`Self::end_series`].
    pub fn begin_series(&mut self, symbols: &[(u32, u32)]) {
        self.entry.symbols.clear();
        self.entry.symbols.extend_from_slice(symbols);
        self.entry.chunks.clear();
    }

    /// Adds a chunk as it is, with the times that `meta` says.
    pub fn add_raw(&mut self, meta: &ChunkMeta, chunk: &RawChunk<'_>) -> Result<(), BlockError> {
        let at = self.segments.write_raw(chunk)?;
        let (min_t, max_t) = (meta.min_t, meta.max_t);
        self.note((min_t, max_t, at), chunk.encoding, chunk.n_samples);
        Ok(())
    }

    #[inline]
    fn note(
        &mut self,
        (min_t, max_t, at): (TimestampMs, TimestampMs, ChunkRef),
        encoding: Encoding,
        n_samples: usize,
    ) {
        let meta = ChunkMeta { min_t, max_t, at };
        count_chunk(&mut self.stats, encoding, n_samples);
        self.trail.add(&meta);
        self.entry.chunks.push(meta);
    }

    /// Puts the series into the index.
    pub fn end_series(&mut self) -> Result<(), BlockError> {
        self.stats.num_series += 1;
        self.index.write_series(&self.entry)?;
        if let Some(sink) = &mut self.sink {
            for segment in self.segments.take_closed() {
                sink.take(segment)?;
            }
        }
        Ok(())
    }

    /// The block, which survives power loss when this returns; `None`, and no directory, when nothing was added.
    pub fn finish(self) -> Result<Option<BlockMeta>, BlockError> {
        let Self {
            parent_dir,
            tmp,
            new,
            segments,
            index,
            stats,
            trail,
            sink,
            ..
        } = self;
        let closed = segments.finish()?;
        if let Some(mut sink) = sink {
            for segment in closed {
                sink.take(segment)?;
            }
            sink.finish(&trail, index.series_bytes_max())?;
        }
        if stats.num_samples == 0 {
            return Ok(None);
        }
        index.finish()?;
        let meta = write_meta(&tmp.0, new, stats)?;
        let dir = parent_dir.join(meta.ulid.to_string());
        rename_durably(&tmp.0, &dir).map_err(|source| BlockError::file(&dir, source))?;
        Ok(Some(meta))
    }
}
