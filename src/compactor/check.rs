//! What was uploaded is read back before anybody sees it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::block::{BlockError, BlockMeta, INDEX_FILE};
use crate::bucket::keys;
use crate::chunk::n_samples;
use crate::compactor::CompactorError;
use crate::compactor::ahead::{ReadAhead, Waiting};
use crate::compactor::source::RemoteChunks;
use crate::foundation::mmap::map_file;
use crate::foundation::{Cancel, Verdict};
use crate::index::{IndexReader, SeriesEntry};
use crate::model::{BlockId, Labels};

/// Compared at once.
const PART_BYTES: u64 = 4 << 20;
/// Between two looks at the cancel flag.
const SERIES_PER_CANCEL_CHECK: u64 = 256;

/// Reads the block whose index lies in `dir` and whose objects have these sizes: the index must be the same there and
/// sound, every chunk must be there with its checksum, inside of the block, and everything as often as `meta` counts it.
///
/// Says the largest entry and chunk, as `index_stats` in `meta.json` does.
pub(crate) fn read_back(
    from: &Waiting,
    meta: &BlockMeta,
    files: &BTreeMap<String, u64>,
    dir: &Path,
    cancel: &Cancel,
) -> Result<Value, CompactorError> {
    let block = meta.ulid;
    let wrong = |problem: String| CompactorError::ReadBack { block, problem };
    let path = dir.join(INDEX_FILE);
    compare(from, block, &path)?;
    let index = IndexReader::open(&path).map_err(|error| wrong(error.to_string()))?;
    let chunks = RemoteChunks::new(from, block, files, PART_BYTES);
    let mut found = Found::default();
    let mut flaw: Option<CompactorError> = None;
    let walked = index.verify(&mut |_, labels: &Labels, entry: &SeriesEntry| {
        if flaw.is_none() {
            flaw = found.add(meta, &chunks, (labels, entry), cancel).err();
        }
    });
    walked.map_err(|error| wrong(error.to_string()))?;
    if let Some(flaw) = flaw {
        return Err(flaw);
    }
    let stats = meta.stats;
    for (what, told, found) in [
        ("series", stats.num_series, found.n_series),
        ("chunks", stats.num_chunks, found.n_chunks),
        ("samples", stats.num_samples, found.n_samples),
    ] {
        if told != found {
            return Err(wrong(format!(
                "{told} {what} were written, {found} are there"
            )));
        }
    }
    Ok(json!({ "series_max_size": found.series_max, "chunk_max_size": found.chunk_max }))
}

#[derive(Default)]
struct Found {
    n_series: u64,
    n_chunks: u64,
    n_samples: u64,
    series_max: usize,
    chunk_max: usize,
    body: Vec<u8>,
}

impl Found {
    fn add(
        &mut self,
        meta: &BlockMeta,
        chunks: &RemoteChunks,
        (labels, entry): (&Labels, &SeriesEntry),
        cancel: &Cancel,
    ) -> Result<(), CompactorError> {
        let block = meta.ulid;
        let wrong = |problem: String| CompactorError::ReadBack { block, problem };
        if self.n_series.is_multiple_of(SERIES_PER_CANCEL_CHECK) && cancel.reason().is_some() {
            return Err(CompactorError::Canceled);
        }
        self.n_series += 1;
        self.body.clear();
        entry.encode(&mut self.body);
        self.series_max = self.series_max.max(self.body.len());
        if entry.chunks.is_empty() {
            return Err(wrong(format!("{labels} has no chunks")));
        }
        let range = meta.range();
        for at in &entry.chunks {
            if at.min_t < range.min || range.max <= at.max_t {
                return Err(wrong(format!(
                    "a chunk of {labels} lies outside of the block"
                )));
            }
            let chunk = chunks.chunk(at.at).map_err(|error| match error.verdict() {
                Verdict::Quarantine => wrong(error.to_string()),
                Verdict::RetryAfter(_) | Verdict::Refuse | Verdict::Missing => {
                    CompactorError::Result(error)
                }
            })?;
            let n = n_samples(chunk.encoding, &chunk.data);
            self.n_samples += n.map_err(|error| wrong(error.to_string()))? as u64;
            self.n_chunks += 1;
            self.chunk_max = self.chunk_max.max(chunk.n_bytes);
        }
        Ok(())
    }
}

/// The uploaded index must be the one that was written, byte for byte.
fn compare(from: &Waiting, block: BlockId, path: &Path) -> Result<(), CompactorError> {
    let local = map_file(path).map_err(|source| CompactorError::local("read", path, source))?;
    let n_bytes = local.len() as u64;
    let key = keys::in_block(block, INDEX_FILE);
    let there = from.wait(from.bucket.head(&key))?;
    let is_same_size = there.size == n_bytes;
    let mut remote = ReadAhead::new(from.clone(), &key, n_bytes, PART_BYTES);
    let mut at = 0u64;
    for part in local.chunks(usize::try_from(PART_BYTES).unwrap_or(usize::MAX)) {
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
