//! What shipping the log amounts to.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::model::TimestampMs;
use crate::shipper::log::send::LogReport;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct LogCounters {
    parts: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    retired: AtomicU64,
    stored: AtomicU64,
    backlog_bytes: AtomicU64,
    complete_ms: AtomicI64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogCounts {
    /// Parts uploaded.
    pub n_parts: u64,
    /// Their bytes.
    pub n_bytes: u64,
    /// Passes that ended early.
    pub n_failures: u64,
    /// Files of the log that were removed from the bucket because blocks hold what they held.
    pub n_retired: u64,
    /// Parts that are in the bucket now.
    pub n_stored: u64,
    /// Bytes that were not in the bucket at the end of the last pass.
    pub backlog_bytes: u64,
    /// When the bucket last had everything that was acknowledged.
    pub complete_ms: Option<TimestampMs>,
}

impl LogCounters {
    /// The counts now.
    pub fn counts(&self) -> LogCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let complete_ms = self.complete_ms.load(Ordering::Relaxed);
        LogCounts {
            n_parts: read(&self.parts),
            n_bytes: read(&self.bytes),
            n_failures: read(&self.failures),
            n_retired: read(&self.retired),
            n_stored: read(&self.stored),
            backlog_bytes: read(&self.backlog_bytes),
            complete_ms: (complete_ms != 0).then_some(complete_ms),
        }
    }

    /// A pass has ended that sent what there was at `at_ms`.
    pub(crate) fn note(&self, report: &LogReport, n_stored: u64, at_ms: TimestampMs) {
        self.parts.fetch_add(report.n_parts, Ordering::Relaxed);
        self.bytes.fetch_add(report.n_bytes, Ordering::Relaxed);
        self.stored.store(n_stored, Ordering::Relaxed);
        self.backlog_bytes
            .store(report.backlog_bytes, Ordering::Relaxed);
        if report.failed.is_some() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        } else {
            self.complete_ms.fetch_max(at_ms, Ordering::Relaxed);
        }
    }

    /// A part of a checkpoint is there.
    pub(crate) fn note_part(&self, n_bytes: u64) {
        self.parts.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(n_bytes, Ordering::Relaxed);
    }

    pub(crate) fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }
}
