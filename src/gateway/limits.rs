//! How much of the bucket one selector may take.

use std::sync::Arc;

use crate::gateway::stats::Count;
use crate::storage::{ChunkSeries, SeriesSet, StorageError, Tally};

/// Samples of a full chunk: what a limit on samples counts for each, as Thanos does.
const SAMPLES_PER_CHUNK: u64 = 120;

/// What one selector may take of all the bucket's blocks together; `None` sets no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryLimits {
    /// Series, each counted in every block that has it.
    pub series_max: Option<u64>,
    /// Samples, 120 for every chunk.
    pub samples_max: Option<u64>,
    /// Bytes fetched from the bucket; what is cached costs nothing.
    pub bytes_max: Option<u64>,
}

/// Which limit refused, under the names metrics use.
const REASONS: [&str; 3] = ["series", "chunks", "bytes"];

/// Holds queries to their limits, and counts those that went beyond.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    limits: QueryLimits,
    refused: [Count; 3],
}

impl Limiter {
    pub(crate) fn new(limits: QueryLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Selects refused, by reason.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 3] {
        let [series, chunks, bytes] = &self.refused;
        let [of_series, of_chunks, of_bytes] = REASONS;
        [
            (of_series, series.get()),
            (of_chunks, chunks.get()),
            (of_bytes, bytes.get()),
        ]
    }

    fn series(&self, tally: &Tally, n: u64) -> Result<(), StorageError> {
        let [refused, ..] = &self.refused;
        let amount = tally.add_series(n);
        check(
            refused,
            (n, amount),
            self.limits.series_max,
            "series",
            "series",
        )
    }

    fn chunks(&self, tally: &Tally, n: u64) -> Result<(), StorageError> {
        let [_, refused, _] = &self.refused;
        let amount = tally.add_chunks(n).saturating_mul(SAMPLES_PER_CHUNK);
        let more = n.saturating_mul(SAMPLES_PER_CHUNK);
        let what = "samples (120 for every chunk)";
        let limit = self.limits.samples_max;
        check(refused, (more, amount), limit, what, "samples")
    }

    /// Called before they are fetched.
    pub(crate) fn bytes(&self, tally: &Tally, n: u64) -> Result<(), StorageError> {
        let [.., refused] = &self.refused;
        let amount = tally.add_bytes(n);
        let what = "bytes fetched";
        check(refused, (n, amount), self.limits.bytes_max, what, "bytes")
    }
}

fn check(
    refused: &Count,
    (more, amount): (u64, u64),
    limit: Option<u64>,
    what: &str,
    setting: &str,
) -> Result<(), StorageError> {
    let Some(limit) = limit.filter(|limit| *limit < amount) else {
        return Ok(());
    };
    // Several sources of one answer may find it beyond; one of them brought it there.
    if amount.saturating_sub(more) <= limit {
        refused.add(1);
    }
    Err(StorageError::Limit(format!(
        "the selector takes {amount} {what} from the bucket, at most {limit} are allowed: narrow its matchers or its times, or \
         raise gateway.{setting}_max"
    )))
}

/// Series within their limits; after a refusal nothing more comes.
pub(crate) struct LimitedSet {
    pub(crate) inner: Box<dyn SeriesSet>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) tally: Tally,
    pub(crate) is_over: bool,
}

impl SeriesSet for LimitedSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if self.is_over {
            return None;
        }
        let item = self.inner.next()?;
        let Ok(series) = &item else {
            return Some(item);
        };
        let n_chunks = series.chunks.len() as u64;
        let counted = self.limiter.series(&self.tally, 1);
        if let Err(error) = counted.and_then(|()| self.limiter.chunks(&self.tally, n_chunks)) {
            self.is_over = true;
            return Some(Err(error));
        }
        Some(item)
    }

    fn sort(&mut self) {
        self.inner.sort();
    }

    fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    fn warnings(&mut self) -> Vec<String> {
        self.inner.warnings()
    }
}
