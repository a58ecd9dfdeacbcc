//! What sources took so far for one answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts that the sources of one answer share, so that a limit holds for all of them together. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    series: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
    sources: AtomicU64,
}

impl Tally {
    /// More sources that are read side by side.
    pub fn add_sources(&self, n: u64) {
        add(&self.0.sources, n);
    }

    /// Sources that are read side by side, as far as they are known: one at least, which asks.
    pub fn n_sources(&self) -> u64 {
        self.0.sources.load(Ordering::Relaxed).max(1)
    }

    /// More series; all so far.
    pub fn add_series(&self, n: u64) -> u64 {
        add(&self.0.series, n)
    }

    /// More chunks; all so far.
    pub fn add_chunks(&self, n: u64) -> u64 {
        add(&self.0.chunks, n)
    }

    /// More bytes that were fetched from elsewhere; all so far.
    pub fn add_bytes(&self, n: u64) -> u64 {
        add(&self.0.bytes, n)
    }
}

fn add(count: &AtomicU64, n: u64) -> u64 {
    count.fetch_add(n, Ordering::Relaxed).saturating_add(n)
}
