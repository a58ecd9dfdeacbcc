//! Bucket blocks to series.
//!
//! Owns: sync, loading, range reads, the cache of pages on disk, and what is set aside.
//! Never: writes to the bucket.
//! Tested by: the storage contract over filesystem and S3 buckets, and damage at many positions.
//!
//! Blocks of a bucket that is a directory of this machine are mapped where they are. Of any other bucket the index
//! header is kept here, and postings, series and chunks are read in ranges through a bounded cache of pages on disk: a
//! query that needs pages which are not cached waits for the bucket in its own thread.
//!
//! Blocks that carry this appliance's own external labels are served without them, as local data is; blocks of others
//! under their external labels. Of a producer's raw and downsampled blocks each time is read from one resolution, which
//! the question bounds: gaps are filled with finer blocks and, where they may, with coarser ones.
mod error;
mod pages;
mod plan;
mod producer;
mod remote;
mod remote_set;
mod resolution;
mod snapshot;
mod sync;
#[cfg(test)]
mod tests;
mod within;

pub use error::GatewayError;
pub use plan::{ExcludeReason, LoadPlan, plan_loading};
pub use producer::Producer;
pub use resolution::{Extent, choose, parts_of};
pub use snapshot::{BlockInfo, Snapshot};
pub use sync::{Gateway, GatewaySettings, GatewayStatus, SyncReport};
pub use within::select_within;
