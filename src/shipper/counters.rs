//! What shipping amounts to, under the names of Thanos' shipper.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub struct ShipCounters {
    syncs: AtomicU64,
    sync_failures: AtomicU64,
    uploads: AtomicU64,
    upload_failures: AtomicU64,
    corrupted_blocks: AtomicU64,
    is_compacted_done: AtomicBool,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShipCounts {
    /// Passes over local blocks.
    pub n_syncs: u64,
    /// Those that ended early.
    pub n_sync_failures: u64,
    /// Blocks uploaded.
    pub n_uploads: u64,
    /// Uploads that failed.
    pub n_upload_failures: u64,
    /// Blocks found damaged, once a pass each.
    pub n_corrupted_blocks: u64,
    /// The last pass had compacted blocks to upload too, and all blocks are there.
    pub is_compacted_done: bool,
}

impl ShipCounters {
    /// The counts now.
    pub fn counts(&self) -> ShipCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShipCounts {
            n_syncs: read(&self.syncs),
            n_sync_failures: read(&self.sync_failures),
            n_uploads: read(&self.uploads),
            n_upload_failures: read(&self.upload_failures),
            n_corrupted_blocks: read(&self.corrupted_blocks),
            is_compacted_done: self.is_compacted_done.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn note_sync(&self, succeeded: bool, n_damaged: u64, with_compacted: bool) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.corrupted_blocks
            .fetch_add(n_damaged, Ordering::Relaxed);
        if !succeeded {
            self.sync_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.is_compacted_done
            .store(succeeded && with_compacted, Ordering::Relaxed);
    }

    pub(crate) fn note_upload(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_failure(&self) {
        self.upload_failures.fetch_add(1, Ordering::Relaxed);
    }
}
