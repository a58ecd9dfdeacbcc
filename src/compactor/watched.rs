//! A source whose reader is watched: what came out of it, and whether it is what it says it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::block::{BlockError, BlockMeta, BlockSource, SeriesIds, TakeRaw, Tombstones};
use crate::chunk::{ChunkRef, StoredChunk, n_samples};
use crate::index::{ChunkMeta, SeriesEntry, Symbols};

/// How far a piece of work is, for whoever looks on.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of chunks that will be read.
    pub n_bytes: AtomicU64,
    /// Bytes of chunks read so far.
    pub n_bytes_done: AtomicU64,
}

/// Counts what is read. A chunk outside of the block's range is an error: merged as it is it would be lost.
pub(crate) struct Watched<'a> {
    inner: &'a dyn BlockSource,
    progress: &'a Progress,
    n_series: AtomicU64,
    n_samples: AtomicU64,
    is_unsorted: AtomicBool,
}

impl<'a> Watched<'a> {
    pub(crate) fn new(inner: &'a dyn BlockSource, progress: &'a Progress) -> Self {
        Self {
            inner,
            progress,
            n_series: AtomicU64::new(0),
            n_samples: AtomicU64::new(0),
            is_unsorted: AtomicBool::new(false),
        }
    }

    pub(crate) fn n_series(&self) -> u64 {
        self.n_series.load(Ordering::Relaxed)
    }

    pub(crate) fn n_samples(&self) -> u64 {
        self.n_samples.load(Ordering::Relaxed)
    }

    /// Did chunks of one series overlap, or were they out of order?
    pub(crate) fn is_unsorted(&self) -> bool {
        self.is_unsorted.load(Ordering::Relaxed)
    }
}

impl BlockSource for Watched<'_> {
    fn meta(&self) -> &BlockMeta {
        self.inner.meta()
    }

    fn symbols(&self) -> &Symbols {
        self.inner.symbols()
    }

    fn series_ids(&self) -> Result<SeriesIds<'_>, BlockError> {
        self.inner.series_ids()
    }

    fn series(&self, id: u32, entry: &mut SeriesEntry) -> Result<(), BlockError> {
        self.inner.series(id, entry)?;
        let n = u64::from(!entry.chunks.is_empty());
        self.n_series.fetch_add(n, Ordering::Relaxed);
        let range = self.inner.meta().range();
        let is_outside = |chunk: &&ChunkMeta| {
            chunk.max_t < chunk.min_t || chunk.min_t < range.min || range.max <= chunk.max_t
        };
        if let Some(chunk) = entry.chunks.iter().find(is_outside) {
            let problem = format!(
                "a chunk of {} to {} lies outside of the block, which is of {} to {}",
                chunk.min_t, chunk.max_t, range.min, range.max
            );
            return Err(self.inner.damaged(id, problem));
        }
        let is_sorted = entry
            .chunks
            .is_sorted_by(|left, right| left.max_t < right.min_t);
        if !is_sorted {
            self.is_unsorted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn tombstones(&self) -> &Tombstones {
        self.inner.tombstones()
    }

    fn chunk(&self, at: ChunkRef) -> Result<StoredChunk, BlockError> {
        let chunk = self.inner.chunk(at)?;
        let n = n_samples(chunk.encoding, &chunk.data)?;
        self.n_samples.fetch_add(n as u64, Ordering::Relaxed);
        let n_bytes = chunk.n_bytes as u64;
        self.progress
            .n_bytes_done
            .fetch_add(n_bytes, Ordering::Relaxed);
        Ok(chunk)
    }

    fn touch(&self, chunks: &[ChunkMeta]) -> u8 {
        self.inner.touch(chunks)
    }

    fn raw_chunks(&self, chunks: &[ChunkMeta], take: &mut TakeRaw<'_>) -> Result<(), BlockError> {
        let (mut n_samples, mut n_bytes) = (0, 0);
        let taken = self.inner.raw_chunks(chunks, &mut |meta, chunk| {
            n_samples += chunk.n_samples as u64;
            n_bytes += chunk.entry.len() as u64;
            take(meta, chunk)
        });
        self.n_samples.fetch_add(n_samples, Ordering::Relaxed);
        self.progress
            .n_bytes_done
            .fetch_add(n_bytes, Ordering::Relaxed);
        taken
    }

    fn damaged(&self, id: u32, problem: String) -> BlockError {
        self.inner.damaged(id, problem)
    }
}
