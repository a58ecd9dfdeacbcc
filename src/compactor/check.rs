//! What was uploaded is read back before anybody sees it.

use std::path::Path;

use serde_json::{Value, json};

use crate::block::{BlockError, BlockMeta, ChunkTrail, INDEX_FILE};
use crate::bucket::keys;
use crate::chunk::{SEGMENT_PART_BYTES, WrittenSegment};
use crate::compactor::CompactorError;
use crate::compactor::ahead::{ReadAhead, Waiting};
use crate::compactor::upload::Uploaded;
use crate::foundation::Cancel;
use crate::foundation::checksum::crc32c;
use crate::foundation::mmap::map_file;
use crate::index::{IndexReader, SeriesEntry, VisitedSeries};
use crate::model::BlockId;

/// Compared at once: what a request pays for, and what the memory of the sources is good for.
const PART_BYTES: u64 = 4 << 20;
const NEAR_PART_BYTES: u64 = 2 << 20;
/// Between two looks at the cancel flag.
const SERIES_PER_CANCEL_CHECK: u64 = 256;

/// Reads the block whose index lies in `dir`: the index must be the same there and sound, its series must have the chunks
/// that were written, inside of the block and as often as `meta` counts them, and every segment must be there byte for
/// byte. Each chunk's checksum was verified when it was read from its source, or made when the chunk was.
///
/// Says the largest entry and chunk, as `index_stats` in `meta.json` does.
pub(crate) fn read_back(
    from: &Waiting,
    meta: &BlockMeta,
    written: &Uploaded,
    dir: &Path,
    cancel: &Cancel,
) -> Result<Value, CompactorError> {
    let block = meta.ulid;
    let wrong = |problem: String| CompactorError::ReadBack { block, problem };
    let path = dir.join(INDEX_FILE);
    compare(from, block, &path)?;
    let index = IndexReader::open(&path).map_err(|error| wrong(error.to_string()))?;
    let mut found = Found::default();
    let mut flaw: Option<CompactorError> = None;
    let walked = index.verify(&mut |series: &VisitedSeries<'_>| {
        if flaw.is_none() {
            flaw = found.add(meta, series, cancel).err();
        }
    });
    walked.map_err(|error| wrong(error.to_string()))?;
    if let Some(flaw) = flaw {
        return Err(flaw);
    }
    let (stats, trail) = (meta.stats, found.trail);
    for (what, told, found) in [
        ("series", stats.num_series, found.n_series),
        ("chunks", stats.num_chunks, trail.n_chunks),
    ] {
        if told != found {
            return Err(wrong(format!(
                "{told} {what} were written, {found} are there"
            )));
        }
    }
    if trail != written.trail {
        return Err(wrong(
            "the index names other chunks than were written".to_owned(),
        ));
    }
    for (name, segment) in &written.segments {
        compare_segment(from, (block, name), segment, cancel)?;
    }
    let chunk_max = written
        .segments
        .values()
        .map(|segment| segment.chunk_bytes_max)
        .max();
    Ok(
        json!({ "series_max_size": written.series_bytes_max, "chunk_max_size": chunk_max.unwrap_or(0) }),
    )
}

#[derive(Default)]
struct Found {
    n_series: u64,
    trail: ChunkTrail,
}

impl Found {
    fn add(
        &mut self,
        meta: &BlockMeta,
        series: &VisitedSeries<'_>,
        cancel: &Cancel,
    ) -> Result<(), CompactorError> {
        let block = meta.ulid;
        let wrong = |problem: String| CompactorError::ReadBack { block, problem };
        if self.n_series.is_multiple_of(SERIES_PER_CANCEL_CHECK) && cancel.reason().is_some() {
            return Err(CompactorError::Canceled);
        }
        self.n_series += 1;
        if series.entry.chunks.is_empty() {
            return Err(wrong(format!("{series} has no chunks")));
        }
        let range = meta.range();
        for chunk in &series.entry.chunks {
            if chunk.min_t < range.min || range.max <= chunk.max_t {
                return Err(wrong(format!(
                    "a chunk of {series} lies outside of the block"
                )));
            }
            self.trail.add(chunk);
        }
        Ok(())
    }
}

fn part_bytes(from: &Waiting, key: &str) -> u64 {
    match from.bucket.local_path(key) {
        Some(_) => NEAR_PART_BYTES,
        None => PART_BYTES,
    }
}

/// The uploaded segment must be the one that was written, part by part.
fn compare_segment(
    from: &Waiting,
    (block, name): (BlockId, &str),
    written: &WrittenSegment,
    cancel: &Cancel,
) -> Result<(), CompactorError> {
    let key = keys::in_block(block, name);
    let wrong = |at: u64| {
        let problem = format!("{name} differs from what was written, at {at} or behind it");
        CompactorError::ReadBack { block, problem }
    };
    if from.wait(from.bucket.head(&key))?.size != written.n_bytes {
        return Err(wrong(0));
    }
    let mut remote = ReadAhead::new(from.clone(), &key, written.n_bytes, part_bytes(from, &key));
    let mut at = 0u64;
    for sum in &written.sums {
        if cancel.reason().is_some() {
            return Err(CompactorError::Canceled);
        }
        let end = at.saturating_add(SEGMENT_PART_BYTES as u64);
        let end = end.min(written.n_bytes);
        if crc32c(&remote.bytes(at..end)?) != *sum {
            return Err(wrong(at));
        }
        at = end;
    }
    if at < written.n_bytes {
        return Err(wrong(at));
    }
    Ok(())
}

/// The uploaded index must be the one that was written, byte for byte.
fn compare(from: &Waiting, block: BlockId, path: &Path) -> Result<(), CompactorError> {
    let local = map_file(path).map_err(|source| CompactorError::local("read", path, source))?;
    let n_bytes = local.len() as u64;
    let key = keys::in_block(block, INDEX_FILE);
    let there = from.wait(from.bucket.head(&key))?;
    let is_same_size = there.size == n_bytes;
    let part_bytes = part_bytes(from, &key);
    let mut remote = ReadAhead::new(from.clone(), &key, n_bytes, part_bytes);
    let mut at = 0u64;
    for part in local.chunks(usize::try_from(part_bytes).unwrap_or(usize::MAX)) {
        let end = at + part.len() as u64;
        if !is_same_size || remote.bytes(at..end)? != part {
            let problem = format!("the index differs from what was written, at {at} or behind it");
            return Err(CompactorError::ReadBack { block, problem });
        }
        at = end;
    }
    Ok(())
}

/// A source that cannot be joined is looked through for what does not decode: `None` when everything does.
pub(crate) fn undecodable(
    source: &dyn crate::block::BlockSource,
    cancel: &Cancel,
) -> Result<Option<String>, BlockError> {
    let mut entry = SeriesEntry::default();
    let mut times = Vec::new();
    for (id, n) in source.series_ids()?.zip(0u64..) {
        let id = id?;
        if n.is_multiple_of(SERIES_PER_CANCEL_CHECK) && cancel.reason().is_some() {
            return Ok(None);
        }
        source.series(id, &mut entry)?;
        for at in &entry.chunks {
            let chunk = source.chunk(at.at)?;
            times.clear();
            if let Err(flaw) = crate::chunk::decode_times(chunk.encoding, &chunk.data, &mut times) {
                let (min, max) = (at.min_t, at.max_t);
                return Ok(Some(format!(
                    "a chunk of {min} to {max} does not decode: {flaw}"
                )));
            }
        }
    }
    Ok(None)
}
