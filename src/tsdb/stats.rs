//! What the database says about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::head::HeadStats;
use crate::model::TimestampMs;
use crate::tsdb::db::Tsdb;

/// Counted as things happen.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) cuts: AtomicU64,
    pub(crate) cuts_failed: AtomicU64,
    pub(crate) stale_evictions: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compactions_failed: AtomicU64,
    pub(crate) time_retentions: AtomicU64,
    pub(crate) size_retentions: AtomicU64,
    pub(crate) retentions_held_back: AtomicU64,
}

/// The numbers at one moment. Totals count from the start of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TsdbStats {
    /// The head's.
    pub head: HeadStats,
    /// Local blocks.
    pub n_blocks: u64,
    /// Their bytes.
    pub block_bytes: u64,
    /// Bytes of the log.
    pub wal_bytes: u64,
    /// Bytes of the head's mapped chunks.
    pub chunk_file_bytes: u64,
    /// Bytes of the redo point, with which the next start reads less of the log.
    pub redo_point_bytes: u64,
    /// Blocks that were set aside because they do not open.
    pub n_quarantined: u64,
    /// Blocks in which queries found damage.
    pub n_damaged: u64,
    /// Times that an answer met damage in a block.
    pub damages_met_total: u64,
    /// Blocks cut from the head.
    pub cuts_total: u64,
    /// Cuts that failed.
    pub cuts_failed_total: u64,
    /// Times that ended series left the head early.
    pub stale_evictions_total: u64,
    /// Compactions of local blocks.
    pub compactions_total: u64,
    /// Compactions that failed.
    pub compactions_failed_total: u64,
    /// Blocks deleted for their age.
    pub time_retentions_total: u64,
    /// Blocks deleted for the size of all.
    pub size_retentions_total: u64,
    /// Blocks that should have gone and were not released.
    pub retentions_held_back_total: u64,
    /// The oldest time in head and local blocks.
    pub lowest_t: Option<TimestampMs>,
}

impl Tsdb {
    /// The numbers now; looks at the sizes of files.
    pub fn stats(&self) -> TsdbStats {
        let inner = self.inner();
        let counters = &inner.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let head = inner.head().stats();
        let blocks = self.blocks();
        let oldest_block = blocks.iter().map(|block| block.meta().min_time).min();
        TsdbStats {
            n_blocks: blocks.len() as u64,
            block_bytes: blocks.iter().map(crate::block::Block::n_bytes).sum(),
            wal_bytes: inner.head().wal_bytes(),
            chunk_file_bytes: inner.head().chunk_file_bytes(),
            redo_point_bytes: inner.head().redo_point_bytes(),
            n_quarantined: self.quarantined().len() as u64,
            n_damaged: inner.flaws.n_blocks(),
            damages_met_total: inner.flaws.n_met(),
            cuts_total: get(&counters.cuts),
            cuts_failed_total: get(&counters.cuts_failed),
            stale_evictions_total: get(&counters.stale_evictions),
            compactions_total: get(&counters.compactions),
            compactions_failed_total: get(&counters.compactions_failed),
            time_retentions_total: get(&counters.time_retentions),
            size_retentions_total: get(&counters.size_retentions),
            retentions_held_back_total: get(&counters.retentions_held_back),
            lowest_t: oldest_block.into_iter().chain(head.min_t).min(),
            head,
        }
    }
}
