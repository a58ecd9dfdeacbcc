//! Writes a block: in a directory of another name, renamed when every byte is on disk.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::block::error::BlockError;
use crate::block::join::join_chunks;
use crate::block::meta::{BlockCompaction, BlockMeta, BlockParent, BlockStats, ThanosMeta};
use crate::block::read::{CHUNKS_DIR, INDEX_FILE};
use crate::block::tombstones::Tombstones;
use crate::chunk::{SEGMENT_BYTES_MAX, SegmentWriter, n_samples};
use crate::foundation::cursor::put_uvarint_bytes;
use crate::foundation::durable::{
    DurableFile, create_dirs, remove_dir_all, remove_file, rename_durably, sync_dir,
};
use crate::foundation::mmap::map_file;
use crate::foundation::{Cursor, ShortRead};
use crate::index::{ChunkMeta, IndexWriter, SeriesEntry};
use crate::model::{BlockId, Encoding, Interval, Labels, TimeRange};
use crate::storage::{
    ChunkSeries, ChunkSlice, Queryable, SelectHints, SeriesSet, StorageError, merge_series_sets,
};

/// Ending of the name of a directory that is being written; whoever opens a database removes what is left of them.
pub const TMP_FOR_CREATION: &str = ".tmp-for-creation";

/// Ending of the name of a directory that is being deleted.
pub const TMP_FOR_DELETION: &str = ".tmp-for-deletion";

/// Where series wait until all symbols are known.
const SPOOL_FILE: &str = "series.spool";

/// What a new block is.
#[derive(Debug, Clone)]
pub struct NewBlock {
    /// Its name.
    pub id: BlockId,
    /// The times it covers; samples outside are left out.
    pub range: TimeRange,
    /// How often it was compacted; 1 for a block cut from a head.
    pub level: u32,
    /// The blocks of level 1 that it holds; empty for itself.
    pub sources: Vec<BlockId>,
    /// The blocks it is compacted from.
    pub parents: Vec<BlockParent>,
    /// Where its samples come from, as `meta.json` says it.
    pub hints: Vec<String>,
    /// What Thanos adds.
    pub thanos: Option<ThanosMeta>,
}

impl NewBlock {
    /// A block cut from a head.
    pub fn new(id: BlockId, range: TimeRange) -> Self {
        Self {
            id,
            range,
            level: 1,
            sources: Vec::new(),
            parents: Vec::new(),
            hints: Vec::new(),
            thanos: None,
        }
    }
}

/// Writes `<id>` below `parent_dir`, which survives power loss when this returns; `None`, and no directory, when there
/// are no samples in the range.
///
/// Chunks that cross the range or overlap are re-encoded. Memory is bounded by the distinct label texts and one series.
pub fn write_block(
    parent_dir: &Path,
    new: NewBlock,
    series: &mut dyn SeriesSet,
) -> Result<Option<BlockMeta>, BlockError> {
    let tmp = parent_dir.join(format!("{}{TMP_FOR_CREATION}", new.id));
    remove_if_there(&tmp)?;
    create_dirs(&tmp).map_err(|source| BlockError::file(&tmp, source))?;
    let written = write_files(&tmp, new, series);
    match written {
        Ok(Some(meta)) => {
            let dir = parent_dir.join(meta.ulid.to_string());
            rename_durably(&tmp, &dir).map_err(|source| BlockError::file(&dir, source))?;
            Ok(Some(meta))
        }
        Ok(None) => {
            remove_if_there(&tmp)?;
            Ok(None)
        }
        Err(error) => {
            // The error that stopped the writing is the one to report; what stays is removed at the next start.
            remove_if_there(&tmp).ok();
            Err(error)
        }
    }
}

/// One block of everything that `sources` hold in the range of `new`; where they hold the same time, the earlier
/// source's sample is kept.
pub fn merge_blocks(
    parent_dir: &Path,
    new: NewBlock,
    sources: &[Arc<dyn Queryable>],
) -> Result<Option<BlockMeta>, BlockError> {
    let hints = SelectHints::new(closed(new.range));
    let sets: Result<Vec<Box<dyn SeriesSet>>, StorageError> = sources
        .iter()
        .map(|source| source.select(&[], &hints))
        .collect();
    write_block(parent_dir, new, &mut *merge_series_sets(sets?, 0))
}

pub(super) fn closed(range: TimeRange) -> Interval {
    Interval {
        min: range.min,
        max: range.max.saturating_sub(1),
    }
}

pub(super) fn remove_if_there(dir: &Path) -> Result<(), BlockError> {
    match remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(BlockError::file(dir, error))
        }
        _ => Ok(()),
    }
}

fn write_files(
    tmp: &Path,
    new: NewBlock,
    series: &mut dyn SeriesSet,
) -> Result<Option<BlockMeta>, BlockError> {
    let mut parts = Parts::create(tmp)?;
    let wanted = closed(new.range);
    if new.range.min < new.range.max {
        while let Some(next) = series.next() {
            let ChunkSeries { labels, chunks } = next?;
            let chunks = join_chunks(chunks, wanted)?;
            if !chunks.is_empty() {
                parts.add(&labels, &chunks)?;
            }
        }
    }
    let Some(stats) = parts.finish()? else {
        return Ok(None);
    };
    write_meta(tmp, new, stats).map(Some)
}

/// Tombstones and `meta.json`, last of all in `tmp`, which then only wants its name.
pub(super) fn write_meta(
    tmp: &Path,
    new: NewBlock,
    stats: BlockStats,
) -> Result<BlockMeta, BlockError> {
    Tombstones::new().write(tmp)?;
    let meta = BlockMeta {
        ulid: new.id,
        min_time: new.range.min,
        max_time: new.range.max,
        stats,
        compaction: BlockCompaction {
            level: new.level,
            sources: if new.sources.is_empty() {
                vec![new.id]
            } else {
                new.sources
            },
            parents: new.parents,
            hints: new.hints,
            ..BlockCompaction::default()
        },
        version: 1,
        thanos: new.thanos,
        other: serde_json::Map::new(),
    };
    meta.write(tmp)?;
    sync_dir(tmp).map_err(|source| BlockError::file(tmp, source))?;
    Ok(meta)
}

/// Adds a series to what `meta.json` counts.
pub(super) fn count_series(
    stats: &mut BlockStats,
    chunks: &[ChunkSlice],
) -> Result<(), BlockError> {
    for chunk in chunks {
        let n = n_samples(chunk.encoding, &chunk.data)?;
        count_chunk(stats, chunk.encoding, n);
    }
    stats.num_series += 1;
    Ok(())
}

/// Adds a chunk of so many samples.
pub(super) fn count_chunk(stats: &mut BlockStats, encoding: Encoding, n_samples: usize) {
    let n = n_samples as u64;
    stats.num_chunks += 1;
    stats.num_samples += n;
    if encoding.has_histograms() {
        stats.num_histogram_samples += n;
    } else if encoding != Encoding::Aggregate {
        // Windows are counted as samples and are neither.
        stats.num_float_samples += n;
    }
}

/// Chunks go to their files at once; series wait in a spool until the symbols can be sorted.
struct Parts {
    dir: PathBuf,
    segments: SegmentWriter,
    spool: BufWriter<DurableFile>,
    spool_path: PathBuf,
    /// Texts in the order they came, and their numbers.
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    entry: SeriesEntry,
    body: Vec<u8>,
    frame: Vec<u8>,
    stats: BlockStats,
}

impl Parts {
    fn create(dir: &Path) -> Result<Self, BlockError> {
        let spool_path = dir.join(SPOOL_FILE);
        // Prometheus' symbols begin with the empty string, which names the list of all series.
        let empty: Arc<str> = Arc::from("");
        let mut numbers = HashMap::default();
        numbers.insert(Arc::clone(&empty), 0);
        let spool = DurableFile::create_new(&spool_path)
            .map_err(|source| BlockError::file(&spool_path, source))?;
        Ok(Self {
            dir: dir.to_owned(),
            segments: SegmentWriter::create(&dir.join(CHUNKS_DIR), SEGMENT_BYTES_MAX)?,
            spool: BufWriter::with_capacity(1 << 18, spool),
            spool_path,
            texts: vec![empty],
            numbers,
            entry: SeriesEntry::default(),
            body: Vec::new(),
            frame: Vec::new(),
            stats: BlockStats::default(),
        })
    }

    fn add(&mut self, labels: &Labels, chunks: &[ChunkSlice]) -> Result<(), BlockError> {
        self.entry.symbols.clear();
        self.entry.chunks.clear();
        for (name, value) in labels {
            let pair = (self.number(name)?, self.number(value)?);
            self.entry.symbols.push(pair);
        }
        for chunk in chunks {
            let at = self.segments.write(chunk.encoding, &chunk.data)?;
            self.entry.chunks.push(ChunkMeta {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                at,
            });
        }
        count_series(&mut self.stats, chunks)?;
        self.body.clear();
        self.entry.encode(&mut self.body);
        self.frame.clear();
        put_uvarint_bytes(&mut self.frame, &self.body);
        self.spool
            .write_all(&self.frame)
            .map_err(|source| BlockError::file(&self.spool_path, source))
    }

    /// The number of a text, in order of appearance.
    fn number(&mut self, text: &str) -> Result<u32, BlockError> {
        if let Some(&number) = self.numbers.get(text) {
            return Ok(number);
        }
        let number = u32::try_from(self.texts.len()).map_err(|_too_many| {
            let problem = "more than 2^32 different label texts".to_owned();
            StorageError::Limit(problem)
        })?;
        let text: Arc<str> = Arc::from(text);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Ok(number)
    }

    /// Writes the index from the spool; `None` when nothing was added.
    fn finish(mut self) -> Result<Option<BlockStats>, BlockError> {
        self.segments.finish()?;
        if self.stats.num_samples == 0 {
            return Ok(None);
        }
        let spooled = self
            .spool
            .flush()
            .and_then(|()| map_file(&self.spool_path))
            .map_err(|source| BlockError::file(&self.spool_path, source))?;
        drop(self.numbers);
        let mut order: Vec<(Arc<str>, u32)> = self.texts.into_iter().zip(0..).collect();
        order.sort_unstable();
        let mut sorted_number = vec![0u32; order.len()];
        for ((_, number), sorted) in order.iter().zip(0..) {
            if let Some(slot) = sorted_number.get_mut(*number as usize) {
                *slot = sorted;
            }
        }
        let sorted = |number: u32| sorted_number.get(number as usize).copied().unwrap_or(0);
        let symbols = order.into_iter().map(|(text, _)| text);
        let mut index = IndexWriter::create(&self.dir.join(INDEX_FILE), symbols)?;
        let mut cursor = Cursor::new(&spooled);
        while !cursor.is_empty() {
            let offset = cursor.offset() as u64;
            let read = cursor
                .uvarint_bytes("spooled series")
                .and_then(|body| self.entry.decode(body));
            read.map_err(|short: ShortRead| BlockError::Damaged {
                path: self.spool_path.clone(),
                offset,
                problem: short.to_string(),
            })?;
            for pair in &mut self.entry.symbols {
                *pair = (sorted(pair.0), sorted(pair.1));
            }
            index.write_series(&self.entry)?;
        }
        index.finish()?;
        remove_file(&self.spool_path)
            .map_err(|source| BlockError::file(&self.spool_path, source))?;
        Ok(Some(self.stats))
    }
}
