//! One block from its source to the finished directory.

use std::path::Path;

use serde_json::json;

use crate::block::{
    Block, BlockError, BlockMeta, BlockSource, NewBlock, SortedBlockWriter, ThanosDownsample,
    ThanosMeta, chunk_that_counts, join_chunks, verify,
};
use crate::chunk::CHUNK_OVERHEAD_BYTES_MAX;
use crate::downsample::coarser::{AggregateSeries, Step};
use crate::downsample::error::{DownsampleError, SeriesFlaw};
use crate::downsample::plan::coarser;
use crate::downsample::raw::RawSeries;
use crate::downsample::symbols::SymbolTable;
use crate::foundation::Cancel;
use crate::foundation::durable::remove_dir_all;
use crate::index::SeriesEntry;
use crate::model::{BlockId, Interval, Resolution};
use crate::storage::ChunkSlice;

/// Between two looks at the cancel flag.
const SERIES_PER_LOOK: u64 = 64;

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
    pub n_series: u64,
    /// All of them, as the source's meta.json counts them.
    pub n_series_total: u64,
}

/// Writes the next coarser resolution of `source` as block `id` below `parent_dir`, and reads it back. `None`, and no
/// directory, when nothing but stale markers and NaN is in it.
///
/// Memory: what [`crate::index::IndexWriter`] takes of the result, and one series.
pub fn run(
    parent_dir: &Path,
    id: BlockId,
    source: &dyn BlockSource,
    cancel: &Cancel,
    progress: &mut dyn FnMut(DownsampleProgress),
) -> Result<Option<BlockMeta>, DownsampleError> {
    let mut longest = 0;
    let create = |new| SortedBlockWriter::create(parent_dir, new);
    let Some(meta) = write(source, id, cancel, create, &mut |done, made| {
        let here = made.iter().map(|chunk| chunk.data.len()).max();
        longest = longest.max(here.unwrap_or(0));
        progress(done);
    })?
    else {
        return Ok(None);
    };
    finish(parent_dir, meta, longest).map(Some)
}

/// As [`run`], into the writer that `create` makes; whoever made it reads the result back, and adds to its meta.json what
/// only then is known.
pub fn run_into(
    source: &dyn BlockSource,
    id: BlockId,
    cancel: &Cancel,
    create: impl FnOnce(NewBlock) -> Result<SortedBlockWriter, BlockError>,
) -> Result<Option<BlockMeta>, DownsampleError> {
    write(source, id, cancel, create, &mut |_, _| ())
}

/// `seen` is told how far it is now and then, and what chunks each series became.
fn write(
    source: &dyn BlockSource,
    id: BlockId,
    cancel: &Cancel,
    create: impl FnOnce(NewBlock) -> Result<SortedBlockWriter, BlockError>,
    seen: &mut dyn FnMut(DownsampleProgress, &[ChunkSlice]),
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
    let mut writer = create(new_block(id, meta, to)).map_err(DownsampleError::Result)?;
    let symbols = SymbolTable::copy(source, &mut |text| {
        writer.add_symbol(text).map_err(DownsampleError::Result)
    })?;
    let mut reader = Reader::new(source, symbols);
    let mut maker = Maker::new(from, to);
    let mut done = DownsampleProgress {
        n_series: 0,
        n_series_total: source.n_series(),
    };
    for series in source.series_ids().map_err(failed)? {
        let series = series.map_err(failed)?;
        if done.n_series.is_multiple_of(SERIES_PER_LOOK) && cancel.reason().is_some() {
            return Err(DownsampleError::Canceled);
        }
        let chunks = reader.read(series).map_err(failed)?;
        let made = maker
            .make(&chunks)
            .map_err(|flaw| DownsampleError::Series {
                block: meta.ulid,
                series,
                flaw,
            })?;
        done.n_series += 1;
        seen(done, made);
        if !made.is_empty() {
            writer
                .add(reader.labels(), made)
                .map_err(DownsampleError::Result)?;
        }
    }
    let written = writer.finish().map_err(DownsampleError::Result)?;
    Ok(written.map(|mut made| {
        // Descent as the source tells it.
        made.compaction = meta.compaction.clone();
        if made.compaction.sources.is_empty() {
            // What it was made of is how others see that it is there.
            made.compaction.sources.push(meta.ulid);
        }
        made.other = meta.other.clone();
        made
    }))
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

/// What could not be known before: segments, sizes. Then everything is read back.
fn finish(
    parent_dir: &Path,
    mut meta: BlockMeta,
    chunk_bytes_max: usize,
) -> Result<BlockMeta, DownsampleError> {
    let dir = parent_dir.join(meta.ulid.to_string());
    let complete = || -> Result<BlockMeta, BlockError> {
        let block = Block::open(&dir)?;
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
            chunks.extend(chunk_that_counts(self.source, id, meta)?);
        }
        if !chunks.is_sorted_by_key(|chunk: &ChunkSlice| chunk.min_t) {
            chunks.sort_by_key(|chunk| chunk.min_t);
        }
        Ok(join_chunks(chunks, self.wanted)?)
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
