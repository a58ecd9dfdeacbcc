//! Is a block of the bucket what it says? Its index comes here, its chunks are read in ranges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::block::meta::META_FILE;
use crate::block::{BlockError, BlockMeta, BlockReport, CHUNKS_DIR, verify_with};
use crate::bucket::{Bucket, keys};
use crate::chunk::{ChunkRef, SEGMENT_HEADER_BYTES, StoredChunk, header_flaw};
use crate::compactor::{RemoteChunks, Waiting};
use crate::foundation::Verdict;
use crate::maintenance::objects::{Part, download_parts, path_in_block};
use crate::maintenance::{Finding, Issue, MaintenanceError};
use crate::model::BlockId;

/// Of chunks so much is read at once.
pub(crate) const PART_BYTES: u64 = 4 << 20;
/// Between two words about how far reading is.
const TICK: Duration = Duration::from_millis(200);

/// Reads all of a block: meta, tombstones and index from `dir`, where they are brought, and chunks in ranges. `progress` hears
/// of the bytes that were read since it last heard.
///
/// What cannot be read now, but perhaps later, is an error and nothing that is wrong with the block.
pub async fn check_block(
    bucket: &Arc<dyn Bucket>,
    block: BlockId,
    dir: &Path,
    mut progress: impl FnMut(u64),
) -> Result<Option<Finding>, MaintenanceError> {
    let files = files_of(&**bucket, block).await?;
    download_parts(&**bucket, block, dir, (Part::is_small, &mut progress)).await?;
    let reading = Reading {
        from: Waiting::new(Arc::clone(bucket), Handle::current()),
        block,
        dir: dir.to_owned(),
        files: files.clone(),
        n_bytes: Arc::default(),
    };
    let n_bytes = Arc::clone(&reading.n_bytes);
    let mut read = tokio::task::spawn_blocking(move || reading.read());
    let mut ticks = tokio::time::interval(TICK);
    let read = loop {
        tokio::select! {
            read = &mut read => break read,
            _ = ticks.tick() => progress(n_bytes.swap(0, Ordering::Relaxed)),
        }
    };
    progress(n_bytes.swap(0, Ordering::Relaxed));
    let mut problems = read.map_err(|error| {
        MaintenanceError::refused(block, format!("reading it did not end: {error}"))
    })??;
    problems.extend(missing_files(dir, &files));
    Ok((!problems.is_empty()).then_some(Finding {
        issue: Issue::Index,
        block,
        problems,
    }))
}

/// The objects of a block by their names in it, with their sizes.
pub(crate) async fn files_of(
    bucket: &dyn Bucket,
    block: BlockId,
) -> Result<BTreeMap<String, u64>, MaintenanceError> {
    let listed = bucket.list(&block.to_string()).await?;
    let named = listed
        .iter()
        .filter_map(|info| Some((path_in_block(info, block)?.to_owned(), info.size)));
    Ok(named.collect())
}

/// A block that a thread of its own reads.
struct Reading {
    from: Waiting,
    block: BlockId,
    dir: PathBuf,
    files: BTreeMap<String, u64>,
    n_bytes: Arc<AtomicU64>,
}

impl Reading {
    fn read(&self) -> Result<Vec<String>, MaintenanceError> {
        let chunks = RemoteChunks::new(&self.from, self.block, &self.files, PART_BYTES);
        let mut failed = None;
        let BlockReport { mut problems, .. } =
            verify_with(&self.dir, |at| self.chunk(&chunks, at, &mut failed));
        match failed {
            Some(error) => Err(error.into()),
            None => {
                problems.extend(self.header_flaws()?);
                Ok(problems)
            }
        }
    }

    /// A chunk, its checksum verified. After the first that the bucket did not give nothing more is asked for.
    fn chunk(
        &self,
        chunks: &RemoteChunks,
        at: ChunkRef,
        failed: &mut Option<BlockError>,
    ) -> Result<StoredChunk, BlockError> {
        let not_asked = |error: &BlockError| BlockError::Damaged {
            path: self.dir.join(CHUNKS_DIR),
            offset: at.0,
            problem: error.to_string(),
        };
        if let Some(error) = failed {
            return Err(not_asked(error));
        }
        match chunks.chunk(at) {
            Ok(chunk) => {
                let n_bytes = chunk.n_bytes as u64;
                self.n_bytes.fetch_add(n_bytes, Ordering::Relaxed);
                Ok(chunk)
            }
            Err(error) if error.verdict() == Verdict::Quarantine => Err(error),
            Err(error) => {
                let told = not_asked(&error);
                *failed = Some(error);
                Err(told)
            }
        }
    }

    /// Segments that do not begin as they must, which Prometheus and Thanos do not read.
    fn header_flaws(&self) -> Result<Vec<String>, MaintenanceError> {
        let mut flaws = Vec::new();
        for (path, n_bytes) in &self.files {
            if Part::of(path) != Some(Part::Chunks) {
                continue;
            }
            let range = 0..(SEGMENT_HEADER_BYTES as u64).min(*n_bytes);
            let start = self.from.range(&keys::in_block(self.block, path), range)?;
            flaws.extend(header_flaw(&start).map(|flaw| format!("{path}: {flaw}")));
        }
        Ok(flaws)
    }
}

/// Files that `meta.json` names with a length and that are not there with it.
fn missing_files(dir: &Path, there: &BTreeMap<String, u64>) -> Vec<String> {
    let Ok(meta) = BlockMeta::read(dir) else {
        return Vec::new();
    };
    let files = meta.thanos.map(|thanos| thanos.files).unwrap_or_default();
    let wrong = files.iter().filter(|file| file.rel_path != META_FILE);
    let wrong = wrong.filter_map(|file| {
        let expect = file.size_bytes?;
        match there.get(&file.rel_path) {
            Some(n_bytes) if *n_bytes == expect => None,
            Some(n_bytes) => Some(format!(
                "{} has {n_bytes} bytes, meta.json says {expect}",
                file.rel_path
            )),
            None => Some(format!("{} is not there", file.rel_path)),
        }
    });
    wrong.collect()
}
