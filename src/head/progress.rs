//! How far a replay is.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How far a replay is; whoever opens a head hands it in and looks at it meanwhile.
#[derive(Debug, Default)]
pub struct ReplayProgress {
    n_done: AtomicU32,
    n_total: AtomicU32,
    min: AtomicU32,
    max: AtomicU32,
    current: AtomicU32,
    n_samples: AtomicU64,
    n_bytes: AtomicU64,
    n_bytes_total: AtomicU64,
}

/// The segments of the log that are replayed, as Prometheus' `/api/v1/status/walreplay` counts them: by their numbers,
/// without the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySegments {
    /// The first one that is read.
    pub min: u32,
    /// The last one that is read.
    pub max: u32,
    /// The one that was read last.
    pub current: u32,
}

impl ReplayProgress {
    /// Segments read so far, and segments to read; those of the checkpoint and of the out-of-order log included.
    pub fn get(&self) -> (u32, u32) {
        let n_total = self.n_total.load(Ordering::Relaxed);
        (self.n_done.load(Ordering::Relaxed).min(n_total), n_total)
    }

    /// Bytes of segments read so far, and bytes to read.
    pub fn bytes(&self) -> (u64, u64) {
        let n_total = self.n_bytes_total.load(Ordering::Relaxed);
        (self.n_bytes.load(Ordering::Relaxed).min(n_total), n_total)
    }

    /// Which segments of the log are read, and how far that is.
    pub fn segments(&self) -> ReplaySegments {
        ReplaySegments {
            min: self.min.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
            current: self.current.load(Ordering::Relaxed),
        }
    }

    /// Samples taken so far.
    pub fn n_samples(&self) -> u64 {
        self.n_samples.load(Ordering::Relaxed)
    }

    /// So many segments of so many bytes are to be read, the numbered ones of the log from `min` to `max`.
    pub(crate) fn begin(&self, n_segments: usize, n_bytes: u64, numbers: Option<(u32, u32)>) {
        let (min, max) = numbers.unwrap_or_default();
        let n_segments = u32::try_from(n_segments).unwrap_or(u32::MAX);
        self.n_bytes_total.store(n_bytes, Ordering::Relaxed);
        self.min.store(min, Ordering::Relaxed);
        self.max.store(max, Ordering::Relaxed);
        self.current.store(min, Ordering::Relaxed);
        self.n_total.store(n_segments, Ordering::Relaxed);
    }

    /// A segment was read; `number` is that of a segment of the log itself.
    pub(crate) fn segment_done(&self, number: Option<u32>, n_bytes: u64) {
        if let Some(number) = number {
            self.current.fetch_max(number, Ordering::Relaxed);
        }
        self.n_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        self.n_done.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more samples were taken.
    pub(crate) fn add_samples(&self, n_samples: u64) {
        self.n_samples.fetch_add(n_samples, Ordering::Relaxed);
    }
}
