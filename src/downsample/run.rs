//! One block from its source to the finished directory.

use std::path::Path;

use bytes::Bytes;
use serde_json::json;

use crate::block::{
    Block, BlockError, BlockMeta, BlockSource, NewBlock, SortedBlockWriter, ThanosDownsample,
    ThanosMeta, join_chunks, verify,
};
use crate::chunk::{CHUNK_OVERHEAD_BYTES_MAX, without_intervals};
use crate::downsample::coarser::{AggregateSeries, Step};
use crate::downsample::error::{DownsampleError, SeriesFlaw};
use crate::downsample::plan::coarser;
use crate::downsample::raw::RawSeries;
use crate::downsample::symbols::SymbolTable;
use crate::foundation::Cancel;
use crate::foundation::durable::remove_dir_all;
use crate::index::{ChunkMeta, SeriesEntry};
use crate::model::{BlockId, Interval, Resolution};
use crate::storage::ChunkSlice;

/// Between two looks at the cancel flag, and two reports.
const SERIES_PER_LOOK: usize = 64;

/// Who makes a block coarser, as Thanos' `meta.json` says it.
const SOURCE: &str = "compactor";

/// Keys of the `thanos` section.
const INDEX_STATS: &str = "index_stats";
const UPLOAD_TIME: &str = "upload_time";

/// Places of series are counted in steps of so many bytes.
const SERIES_ALIGNMENT: u64 = 16;

/// How far one block has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownsampleProgress {
    /// Series that are done.
    pub n_series: usize,
    /// All of them.
    pub n_series_total: usize,
}

/// Writes the next coarser resolution of `source` as block `id` below `parent_dir`, and reads it back. `None`, and no
/// directory, when nothing but stale markers and NaN is in it.
///
/// Memory: the distinct label texts, four bytes for every series, and one series.
pub fn run(
    parent_dir: &Path,
    id: BlockId,
    source: &dyn BlockSource,
    cancel: &Cancel,
    progress: &mut dyn FnMut(DownsampleProgress),
) -> Result<Option<BlockMeta>, DownsampleError> {
    let meta = source.meta();
    let failed = |error| DownsampleError::Source {
        block: meta.ulid,
        source: error,
    };
    let Some((from, to)) = meta
        .resolution()
        .and_then(|from| Some((from, coarser(from)?)))
    else {
        let thanos = meta.thanos.as_ref();
        return Err(DownsampleError::Resolution {
            block: meta.ulid,
            resolution_ms: thanos.map_or(0, |thanos| thanos.downsample.resolution),
        });
    };
    let (texts, symbols) = SymbolTable::read(source).map_err(failed)?;
    let ids = source.series_ids().map_err(failed)?;
    let new = new_block(id, meta, to);
    let mut writer =
        SortedBlockWriter::create(parent_dir, new, texts).map_err(DownsampleError::Result)?;
    let mut reader = Reader::new(source, symbols);
    let mut maker = Maker::new(from, to);
    let mut chunk_bytes_max = 0;
    for (n_series, &series) in ids.iter().enumerate() {
        if n_series.is_multiple_of(SERIES_PER_LOOK) {
            if cancel.reason().is_some() {
                return Err(DownsampleError::Canceled);
            }
            progress(DownsampleProgress {
                n_series,
                n_series_total: ids.len(),
            });
        }
        let chunks = reader.read(series).map_err(failed)?;
        let made = maker
            .make(&chunks)
            .map_err(|flaw| DownsampleError::Series {
                block: meta.ulid,
                series,
                flaw,
            })?;
        if made.is_empty() {
            continue;
        }
        let longest = made.iter().map(|chunk| chunk.data.len()).max();
        chunk_bytes_max = chunk_bytes_max.max(longest.unwrap_or(0));
        writer
            .add(reader.labels(), made)
            .map_err(DownsampleError::Result)?;
    }
    progress(DownsampleProgress {
        n_series: ids.len(),
        n_series_total: ids.len(),
    });
    let Some(written) = writer.finish().map_err(DownsampleError::Result)? else {
        return Ok(None);
    };
    finish(parent_dir, meta, written, chunk_bytes_max).map(Some)
}

/// As its source, but coarser. What only an upload can say is left to it.
fn new_block(id: BlockId, meta: &BlockMeta, to: Resolution) -> NewBlock {
    let mut thanos = meta.thanos.clone().unwrap_or_else(|| ThanosMeta {
        version: 1,
        ..ThanosMeta::default()
    });
    thanos.downsample = ThanosDownsample {
        resolution: to.as_ms(),
    };
    thanos.source = SOURCE.to_owned();
    thanos.segment_files.clear();
    thanos.files.clear();
    thanos.other.remove(UPLOAD_TIME);
    let mut new = NewBlock::new(id, meta.range());
    new.thanos = Some(thanos);
    new
}

/// What could not be known before: descent as the source tells it, segments, sizes. Then everything is read back.
fn finish(
    parent_dir: &Path,
    source: &BlockMeta,
    mut meta: BlockMeta,
    chunk_bytes_max: usize,
) -> Result<BlockMeta, DownsampleError> {
    let dir = parent_dir.join(meta.ulid.to_string());
    let complete = || -> Result<BlockMeta, BlockError> {
        let block = Block::open(&dir)?;
        meta.compaction = source.compaction.clone();
        if meta.compaction.sources.is_empty() {
            // What it was made of is how others see that it is there.
            meta.compaction.sources.push(source.ulid);
        }
        meta.other = source.other.clone();
        let ids = block.index().all_series()?;
        let steps = ids.iter().zip(ids.iter().skip(1));
        let longest = steps.map(|(id, next)| u64::from(next - id)).max();
        if let Some(thanos) = &mut meta.thanos {
            let paths = block.segments().paths();
            let names = paths.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
            thanos.segment_files = names.collect();
            let stats = json!({
                "series_max_size": longest.unwrap_or(0) * SERIES_ALIGNMENT,
                "chunk_max_size": chunk_bytes_max + CHUNK_OVERHEAD_BYTES_MAX,
            });
            thanos.other.insert(INDEX_STATS.to_owned(), stats);
        }
        meta.write(&dir)?;
        Ok(meta)
    };
    let meta = complete().map_err(DownsampleError::Result)?;
    let report = verify(&dir);
    if report.is_healthy() {
        return Ok(meta);
    }
    // What stays is removed with the rest of the directory that its owner works in.
    remove_dir_all(&dir).ok();
    Err(DownsampleError::Unhealthy {
        block: meta.ulid,
        problem: report.problems.into_iter().next().unwrap_or_default(),
    })
}

/// The series of the source, one after the other.
struct Reader<'a> {
    source: &'a dyn BlockSource,
    symbols: SymbolTable,
    wanted: Interval,
    entry: SeriesEntry,
    before: Vec<(u32, u32)>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a dyn BlockSource, symbols: SymbolTable) -> Self {
        let range = source.meta().range();
        Self {
            source,
            symbols,
            wanted: Interval {
                min: range.min,
                max: range.max.saturating_sub(1),
            },
            entry: SeriesEntry::default(),
            before: Vec::new(),
        }
    }

    /// Its labels, as places among the strings.
    fn labels(&self) -> &[(u32, u32)] {
        &self.entry.symbols
    }

    /// The chunks of the next series: inside the block, sorted and apart, without what was deleted.
    fn read(&mut self, id: u32) -> Result<Vec<ChunkSlice>, BlockError> {
        std::mem::swap(&mut self.before, &mut self.entry.symbols);
        self.source.series(id, &mut self.entry)?;
        let damaged = |problem: &str| self.source.damaged(id, problem.to_owned());
        for (name, value) in &mut self.entry.symbols {
            let places = (self.symbols.place(*name), self.symbols.place(*value));
            let (Some(to_name), Some(to_value)) = places else {
                return Err(damaged("a label is not among the symbols"));
            };
            (*name, *value) = (to_name, to_value);
        }
        let labels = &self.entry.symbols;
        if labels.is_empty() || !labels.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(damaged("labels are out of order, twice there or none"));
        }
        if *labels <= self.before {
            return Err(damaged("series are out of order"));
        }
        let mut chunks = Vec::with_capacity(self.entry.chunks.len());
        for meta in &self.entry.chunks {
            chunks.extend(self.chunk(id, meta)?);
        }
        if !chunks.is_sorted_by_key(|chunk: &ChunkSlice| chunk.min_t) {
            chunks.sort_by_key(|chunk| chunk.min_t);
        }
        Ok(join_chunks(chunks, self.wanted)?)
    }

    fn chunk(&self, id: u32, meta: &ChunkMeta) -> Result<Option<ChunkSlice>, BlockError> {
        let deleted = self.source.tombstones().of(u64::from(id));
        let is_whole = |gone: &Interval| gone.min <= meta.min_t && meta.max_t <= gone.max;
        if deleted.iter().any(is_whole) {
            return Ok(None);
        }
        let stored = self.source.chunk(meta.at)?;
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
}

/// Makes chunks coarser; its memory serves series after series.
struct Maker {
    step: Step,
    is_raw: bool,
    raw: RawSeries,
    aggregates: AggregateSeries,
    out: Vec<ChunkSlice>,
}

impl Maker {
    fn new(from: Resolution, to: Resolution) -> Self {
        Self {
            step: Step {
                from_ms: from.as_ms(),
                to_ms: to.as_ms(),
            },
            is_raw: from == Resolution::Raw,
            raw: RawSeries::default(),
            aggregates: AggregateSeries::default(),
            out: Vec::new(),
        }
    }

    fn make(&mut self, chunks: &[ChunkSlice]) -> Result<&[ChunkSlice], SeriesFlaw> {
        self.out.clear();
        if self.is_raw {
            self.raw
                .downsample(chunks, self.step.to_ms, &mut self.out)?;
        } else {
            self.aggregates
                .downsample(chunks, self.step, &mut self.out)?;
        }
        Ok(&self.out)
    }
}
