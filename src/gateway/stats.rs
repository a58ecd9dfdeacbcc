//! What the gateway counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What pages and bytes are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lists of series.
    Postings,
    /// Labels and chunk references of series.
    Series,
    /// Samples.
    Chunks,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Postings, Self::Series, Self::Chunks];

    /// The name metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postings => "postings",
            Self::Series => "series",
            Self::Chunks => "chunks",
        }
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of one kind, as they are kept.
#[derive(Debug, Default)]
pub(crate) struct KindCounts {
    pub(crate) memory_hits: Count,
    pub(crate) disk_hits: Count,
    pub(crate) misses: Count,
    pub(crate) memory_evictions: Count,
    pub(crate) disk_evictions: Count,
    pub(crate) fetches: Count,
    pub(crate) fetched_bytes: Count,
    pub(crate) touched: Count,
    pub(crate) touched_bytes: Count,
}

/// Counts of everything, as they are kept.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    kinds: [KindCounts; 3],
    pub(crate) block_loads: Count,
    pub(crate) block_drops: Count,
    pub(crate) header_loads: Count,
    pub(crate) header_load_failures: Count,
    pub(crate) header_unloads: Count,
    pub(crate) headers_built: Count,
    pub(crate) header_evictions: Count,
    pub(crate) syncs: Count,
    pub(crate) sync_failures: Count,
}

impl Stats {
    pub(crate) fn of(&self, kind: Kind) -> &KindCounts {
        let [postings, series, chunks] = &self.kinds;
        match kind {
            Kind::Postings => postings,
            Kind::Series => series,
            Kind::Chunks => chunks,
        }
    }

    pub(crate) fn read(&self) -> GatewayStats {
        let kind = |kind| {
            let counts = self.of(kind);
            KindStats {
                memory_hits: counts.memory_hits.get(),
                disk_hits: counts.disk_hits.get(),
                misses: counts.misses.get(),
                memory_evictions: counts.memory_evictions.get(),
                disk_evictions: counts.disk_evictions.get(),
                fetches: counts.fetches.get(),
                fetched_bytes: counts.fetched_bytes.get(),
                touched: counts.touched.get(),
                touched_bytes: counts.touched_bytes.get(),
            }
        };
        GatewayStats {
            kinds: Kind::ALL.map(|each| (each, kind(each))),
            block_loads: self.block_loads.get(),
            block_drops: self.block_drops.get(),
            header_loads: self.header_loads.get(),
            header_load_failures: self.header_load_failures.get(),
            header_unloads: self.header_unloads.get(),
            headers_built: self.headers_built.get(),
            header_evictions: self.header_evictions.get(),
            syncs: self.syncs.get(),
            sync_failures: self.sync_failures.get(),
        }
    }
}

/// Counts of one kind since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KindStats {
    /// Pages that were in memory.
    pub memory_hits: u64,
    /// Pages that were on the disk.
    pub disk_hits: u64,
    /// Pages that the bucket was asked for.
    pub misses: u64,
    /// Pages that left the memory for others.
    pub memory_evictions: u64,
    /// Pages that left the disk for others.
    pub disk_evictions: u64,
    /// Range reads.
    pub fetches: u64,
    /// Bytes of range reads.
    pub fetched_bytes: u64,
    /// Lists, series or chunks that queries needed.
    pub touched: u64,
    /// Their bytes.
    pub touched_bytes: u64,
}

/// Counts of everything since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayStats {
    /// By what the bytes were wanted for.
    pub kinds: [(Kind, KindStats); 3],
    /// Blocks that came to be served.
    pub block_loads: u64,
    /// Blocks that are not served any more.
    pub block_drops: u64,
    /// Index headers and local blocks opened.
    pub header_loads: u64,
    /// Those that did not open.
    pub header_load_failures: u64,
    /// Those closed because nobody asked for them.
    pub header_unloads: u64,
    /// Index headers made from the bucket.
    pub headers_built: u64,
    /// Index headers that left the disk for others.
    pub header_evictions: u64,
    /// Looks at the bucket.
    pub syncs: u64,
    /// Those that failed.
    pub sync_failures: u64,
}
