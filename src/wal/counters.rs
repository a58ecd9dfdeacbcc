//! What a log counts while it is written, for whoever reads it without holding the log.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wal::page::{PAGE_BYTES, PageCursor};

/// Upper bounds of [`WalCounts::sync_counts`] in seconds.
pub const SYNC_SECONDS: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// Numbers of buckets of syncs: one more, for those that took longer.
const N_BUCKETS: usize = SYNC_SECONDS.len() + 1;

/// What a log counts.
#[derive(Debug, Default)]
pub struct WalCounters {
    page_flushes: AtomicU64,
    completed_pages: AtomicU64,
    syncs: [AtomicU64; N_BUCKETS],
    sync_ns: AtomicU64,
}

/// What it has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalCounts {
    /// Pages handed to the operating system, once for each time something was added to them.
    pub page_flushes: u64,
    /// Pages to which nothing will be added.
    pub completed_pages: u64,
    /// Syncs that took up to each of [`SYNC_SECONDS`] and longer than the one before, and those that took longer.
    pub sync_counts: [u64; N_BUCKETS],
    /// What all of them took.
    pub sync_ns: u64,
}

impl WalCounters {
    /// What lies from `start` to `end` was written; nothing will be added to the last page if the segment `is_left`.
    pub(super) fn add_written(&self, start: PageCursor, end: PageCursor, is_left: bool) {
        let page = PAGE_BYTES as u64;
        let (start, end) = (start.n_bytes(), end.n_bytes());
        let n_flushes = match end.saturating_sub(start) {
            0 => 0,
            _ => end.div_ceil(page) - start / page,
        };
        let n_full = match is_left {
            true => end.div_ceil(page),
            false => end / page,
        };
        self.page_flushes.fetch_add(n_flushes, Ordering::Relaxed);
        let n_completed = n_full.saturating_sub(start / page);
        self.completed_pages
            .fetch_add(n_completed, Ordering::Relaxed);
    }

    /// A file was synced, which took `ns`.
    pub fn add_sync(&self, ns: u64) {
        let seconds = std::time::Duration::from_nanos(ns).as_secs_f64();
        let place = SYNC_SECONDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = self.syncs.get(place.unwrap_or(SYNC_SECONDS.len())) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sync_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> WalCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalCounts {
            page_flushes: load(&self.page_flushes),
            completed_pages: load(&self.completed_pages),
            sync_counts: std::array::from_fn(|n| self.syncs.get(n).map_or(0, load)),
            sync_ns: load(&self.sync_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Compression, Wal, WalSettings};

    #[test]
    fn a_sync_falls_into_the_first_bucket_that_has_room_for_it() {
        let counters = WalCounters::default();
        for ns in [0, 1_000_000, 1_000_001, 3_000_000_000, 3_000_000_001] {
            counters.add_sync(ns);
        }
        let counts = counters.get();
        assert_eq!(counts.sync_counts, [2, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(counts.sync_ns, 6_002_000_002);
    }

    #[test]
    fn pages_are_counted_when_they_are_written_and_when_they_are_full_or_left() {
        let dir = tempfile::tempdir().unwrap();
        let settings = WalSettings {
            segment_bytes_max: 4 << 15,
            compression: Compression::None,
        };
        let mut wal = Wal::open(dir.path(), settings).unwrap();
        let pages = |wal: &Wal| {
            let counts = wal.counters().get();
            (counts.page_flushes, counts.completed_pages)
        };
        assert_eq!(pages(&wal), (0, 0));
        wal.append(&[&[1; 100]]).unwrap();
        assert_eq!(pages(&wal), (1, 0));
        wal.append(&[&[1; 100], &[2; 200]]).unwrap();
        assert_eq!(pages(&wal), (2, 0));
        // The rest of the first page, the second, and a part of the third.
        wal.append(&[&[3; 70_000]]).unwrap();
        assert_eq!(pages(&wal), (5, 2));
        wal.next_segment().unwrap();
        assert_eq!(pages(&wal), (5, 3));
        // It does not fit behind the first, so the fourth segment begins.
        wal.append(&[&[4; 100_000], &[5; 60_000]]).unwrap();
        assert_eq!(pages(&wal), (5 + 4 + 2, 3 + 4 + 1));
    }
}
