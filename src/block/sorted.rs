//! Writes a block whose symbols come before its first series.

use std::path::{Path, PathBuf};

use crate::block::error::BlockError;
use crate::block::meta::{BlockMeta, BlockStats};
use crate::block::read::{CHUNKS_DIR, INDEX_FILE};
use crate::block::write::{NewBlock, TMP_FOR_CREATION, count_series, remove_if_there, write_meta};
use crate::chunk::{SEGMENT_BYTES_MAX, SegmentWriter};
use crate::foundation::durable::{create_dirs, rename_durably};
use crate::index::{ChunkMeta, IndexWriter, SeriesEntry};
use crate::storage::ChunkSlice;

/// Who takes the chunk segments of a block while it is written.
pub trait SegmentSink: Send {
    /// This segment is whole; the file may be taken away.
    fn take(&mut self, path: &Path) -> Result<(), BlockError>;

    /// There are no more segments; files that were taken are needed here no longer than this call.
    fn finish(&mut self) -> Result<(), BlockError>;
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
            sink,
        })
    }

    /// Adds a label text, above the one before; the empty one is the first. All of them come before the first series.
    pub fn add_symbol(&mut self, text: &str) -> Result<(), BlockError> {
        Ok(self.index.write_symbol(text)?)
    }

    /// Adds a series: its labels as positions in the symbols, in label order, and chunks that are sorted and apart.
    pub fn add(&mut self, symbols: &[(u32, u32)], chunks: &[ChunkSlice]) -> Result<(), BlockError> {
        self.entry.symbols.clear();
        self.entry.symbols.extend_from_slice(symbols);
        self.entry.chunks.clear();
        for chunk in chunks {
            let at = self.segments.write(chunk.encoding, &chunk.data)?;
            self.entry.chunks.push(ChunkMeta {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                at,
            });
        }
        count_series(&mut self.stats, chunks)?;
        self.index.write_series(&self.entry)?;
        if let Some(sink) = &mut self.sink {
            for path in self.segments.take_closed() {
                sink.take(&path)?;
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
            sink,
            ..
        } = self;
        let closed = segments.finish()?;
        if let Some(mut sink) = sink {
            for path in closed {
                sink.take(&path)?;
            }
            sink.finish()?;
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
