//! The local database and the timeline.
//!
//! Owns: head and local blocks under one directory lock; the one view a query reads; who takes samples while the log is replayed; which of cut, compaction, deletion, snapshot and retention goes on.
//! Never: speaks a protocol.
//! Tested by: the seams (a sample is seen once while its block moves), and a model of everything that changes blocks.
mod backfill;
#[cfg(test)]
mod bucket_tests;
mod compact;
#[cfg(test)]
mod crash_late_tests;
#[cfg(test)]
mod crash_tests;
mod cut;
mod cut_late;
mod db;
mod delete;
mod error;
mod floor;
mod heads;
mod load;
mod lock;
mod log_ends;
#[cfg(test)]
mod log_only_tests;
#[cfg(test)]
mod model_tests;
mod opening;
mod read_only;
mod redo;
#[cfg(test)]
mod redo_tests;
mod retention;
mod snapshot;
mod stale;
mod stats;
#[cfg(test)]
mod stop_tests;
mod synced;
#[cfg(test)]
mod tests;
mod timeline;
#[cfg(test)]
mod upkeep_tests;
#[cfg(test)]
mod young_crash_tests;
#[cfg(test)]
mod young_tests;

pub use backfill::{BackfillBatch, BackfillError, OpenMetricsImport, backfill_range_ms};
pub use compact::Compacted;
pub use cut::plan_cut;
pub use db::{Tsdb, TsdbSettings};
pub use error::TsdbError;
pub use floor::raise_floor;
pub use load::Quarantined;
pub use log_ends::{HeadLogEnds, LogEnds};
pub use opening::Opening;
pub use read_only::ReadOnlyTsdb;
pub use retention::{BlockSize, RetentionReason, RetentionSettings, plan_retention};
pub use snapshot::SNAPSHOTS_DIR;
pub use stats::TsdbStats;
pub use synced::SyncedTsdb;
pub use timeline::Timeline;

pub use crate::head::{
    Head, HeadSettings, HeadStats, HeadStatus, NamedCount, ReplayProgress, ReplayReport,
    ReplaySegments, TakenOver,
};
