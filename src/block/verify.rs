//! Reads everything a block holds and reports what is wrong.

use std::path::Path;

use crate::block::error::BlockError;
use crate::block::meta::{BlockMeta, BlockStats};
use crate::block::read::{Block, CHUNKS_DIR, INDEX_FILE};
use crate::block::tombstones::Tombstones;
use crate::chunk::{
    AggregateChunk, ChunkError, ChunkRef, SegmentReader, StoredChunk, decode_times, n_samples,
};
use crate::index::{ChunkMeta, IndexReader, VisitedSeries};
use crate::model::{Encoding, Resolution, TimeRange};

/// So many problems are spelt out; the rest are counted.
const PROBLEMS_MAX: usize = 100;

/// What a block holds and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlockReport {
    /// What the block says it is, where that can be read.
    pub meta: Option<BlockMeta>,
    /// What was found in it.
    pub stats: BlockStats,
    /// What is wrong, the first hundred.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub n_problems: usize,
}

impl BlockReport {
    /// Nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.n_problems == 0
    }

    fn problem(&mut self, text: String) {
        self.n_problems += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }

    fn take<T>(&mut self, result: Result<T, BlockError>) -> Option<T> {
        result.map_err(|error| self.problem(error.to_string())).ok()
    }
}

/// Reads meta, tombstones, the whole index and every chunk of the block in `dir`.
pub fn verify(dir: &Path) -> BlockReport {
    let segments = SegmentReader::open(&dir.join(CHUNKS_DIR)).map_err(BlockError::from);
    verify_opened(
        dir,
        segments.map(|segments| move |at| Ok(segments.chunk(at)?)),
    )
}

/// [`verify`] of a block of which meta, tombstones and index lie in `dir` and chunks elsewhere: `chunk` reads them, one
/// after the other in the order of the index.
pub fn verify_with(
    dir: &Path,
    chunk: impl FnMut(ChunkRef) -> Result<StoredChunk, BlockError>,
) -> BlockReport {
    verify_opened(dir, Ok(chunk))
}

fn verify_opened(
    dir: &Path,
    chunk: Result<impl FnMut(ChunkRef) -> Result<StoredChunk, BlockError>, BlockError>,
) -> BlockReport {
    let mut report = BlockReport::default();
    report.meta = report.take(BlockMeta::read(dir));
    let tombstones = report.take(Tombstones::read(dir));
    report.stats.num_tombstones =
        tombstones.map_or(0, |tombstones| tombstones.n_intervals() as u64);
    let index = report.take(IndexReader::open(&dir.join(INDEX_FILE)).map_err(Into::into));
    let chunk = report.take(chunk);
    if let (Some(index), Some(chunk)) = (index, chunk) {
        verify_series(&index, chunk, &mut report);
    }
    verify_stats(dir, &mut report);
    report
}

impl Block {
    /// [`verify`] for a block that is open.
    pub fn verify(&self) -> BlockReport {
        verify(self.dir())
    }
}

fn verify_series(
    index: &IndexReader,
    mut chunk: impl FnMut(ChunkRef) -> Result<StoredChunk, BlockError>,
    report: &mut BlockReport,
) {
    let range = report.meta.as_ref().map(BlockMeta::range);
    let walked = index.verify(&mut |series: &VisitedSeries<'_>| {
        report.stats.num_series += 1;
        for meta in &series.entry.chunks {
            report.stats.num_chunks += 1;
            let stored = chunk(meta.at).map_err(|error| error.to_string());
            let sound =
                stored.and_then(|stored| verify_chunk(&stored, meta, range, &mut report.stats));
            if let Err(problem) = sound {
                report.problem(format!("{series}: {problem}"));
            }
        }
    });
    report.take(walked.map_err(Into::into));
}

fn verify_chunk(
    chunk: &StoredChunk,
    meta: &ChunkMeta,
    range: Option<TimeRange>,
    stats: &mut BlockStats,
) -> Result<(), String> {
    let text = |error: ChunkError| error.to_string();
    let n = n_samples(chunk.encoding, &chunk.data).map_err(text)? as u64;
    stats.num_samples += n;
    let place = format!("chunk {:#x} of {} to {}", meta.at.0, meta.min_t, meta.max_t);
    if range.is_some_and(|range| meta.min_t < range.min || range.max <= meta.max_t) {
        return Err(format!("{place} lies outside of the block"));
    }
    if chunk.encoding == Encoding::Aggregate {
        verify_parts(&chunk.data, meta).map_err(|error| format!("{place}: {error}"))?;
    } else if chunk.encoding.has_histograms() {
        stats.num_histogram_samples += n;
    } else {
        stats.num_float_samples += n;
    }
    let mut times = Vec::new();
    decode_times(chunk.encoding, &chunk.data, &mut times)
        .map_err(|error| format!("{place}: {error}"))?;
    if (times.first(), times.last()) != (Some(&meta.min_t), Some(&meta.max_t)) {
        return Err(format!("{place} holds other times"));
    }
    if !times.is_sorted_by(|left, right| left < right) {
        return Err(format!("{place}: its times do not rise"));
    }
    Ok(())
}

/// Every aggregate can be read, and none reaches beyond the windows but the counter, which begins with the first sample.
fn verify_parts(data: &[u8], meta: &ChunkMeta) -> Result<(), String> {
    for (aggregate, (encoding, data)) in AggregateChunk::decode(data)
        .map_err(|e| e.to_string())?
        .parts()
    {
        let mut times = Vec::new();
        decode_times(encoding, data, &mut times)
            .map_err(|error| format!("aggregate {}: {error}", aggregate.name()))?;
        let is_after = times.last().is_some_and(|last| meta.max_t < *last);
        if is_after || !times.is_sorted() {
            return Err(format!(
                "aggregate {} has times of its own",
                aggregate.name()
            ));
        }
    }
    Ok(())
}

/// What `meta.json` counts must be there; counts it leaves out are not compared.
fn verify_stats(dir: &Path, report: &mut BlockReport) {
    let Some(meta) = &report.meta else { return };
    let (mut told, found) = (meta.stats, report.stats);
    if meta.resolution() != Some(Resolution::Raw) {
        // Thanos leaves there what it counted before it downsampled.
        told.num_float_samples = 0;
        told.num_histogram_samples = 0;
    }
    let differing: Vec<String> = [
        ("samples", told.num_samples, found.num_samples),
        (
            "float samples",
            told.num_float_samples,
            found.num_float_samples,
        ),
        (
            "histogram samples",
            told.num_histogram_samples,
            found.num_histogram_samples,
        ),
        ("series", told.num_series, found.num_series),
        ("chunks", told.num_chunks, found.num_chunks),
    ]
    .into_iter()
    .filter(|&(_, told, found)| told != 0 && told != found)
    .map(|(what, told, found)| {
        format!(
            "{}: meta.json counts {told} {what}, found {found}",
            dir.display()
        )
    })
    .collect();
    for text in differing {
        report.problem(text);
    }
}
