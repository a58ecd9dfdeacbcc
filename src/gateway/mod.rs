//! Bucket blocks to series.
//!
//! Owns: sync, opening and closing, range reads, what is kept (see `FORMAT.md`), limits, and what is set aside.
//! Never: writes to the bucket.
//! Tested by: the storage contract over filesystem and S3 buckets, damage at many positions, ten thousand blocks, and the
//! budgets under load.
//!
//! A start serves what the catalog remembers, then looks at the bucket. A block is opened by the first question about its
//! times and closed when nobody asks any more. Blocks of a bucket that is a directory of this machine are mapped where
//! they are. Of any other bucket the index header is kept here, mapped, and postings, series and chunks are read in
//! ranges, through pages that are kept in memory up to one bound and on the disk up to another: a query that needs pages
//! which are not here waits for the bucket in its own thread, and what several want is fetched once. The chunks that
//! the blocks of one answer have read ahead of whoever takes them stay below half of that memory, whatever their number.
//!
//! Blocks that carry this appliance's own external labels are served without them, as local data is; blocks of others
//! under their external labels. Of a producer's raw and downsampled blocks each time is read from one resolution, which
//! the question bounds: gaps are filled with finer blocks and, where they may, with coarser ones.
#![doc = include_str!("FORMAT.md")]
mod ahead;
mod error;
mod flights;
mod header;
mod lazy;
#[cfg(test)]
mod lazy_tests;
mod limits;
#[cfg(test)]
mod many_tests;
mod pages;
mod partition;
mod plan;
mod producer;
mod remote;
mod remote_set;
mod resolution;
mod settings;
#[cfg(test)]
mod share_tests;
mod snapshot;
mod stats;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod within;

pub use error::GatewayError;
pub use limits::QueryLimits;
pub use partition::{Partition, Selector, TimeBound};
pub use plan::{ExcludeReason, LoadPlan, plan_loading};
pub use producer::Producer;
pub use resolution::{Extent, choose, parts_of};
pub use settings::GatewaySettings;
pub use snapshot::{BlockInfo, Snapshot};
pub use stats::{GatewayStats, Kind, KindStats};
pub use sync::{Gateway, GatewayStatus, SyncReport};
pub use within::select_within;
