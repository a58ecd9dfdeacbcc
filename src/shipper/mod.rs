//! Local blocks to the bucket.
//!
//! Owns: what is uploaded, in which order, and the meta.json that ends an upload; the log in the bucket and its restore.
//! Never: deletes a block, locally or in the bucket, or waits in the way of a commit.
//! Tested by: a faulty bucket beside the code, which fails at every operation in turn.
//!
//! A block without external labels could not be told from those of others, so nothing is uploaded without any. An
//! appliance that was given none names itself by [`default_external_labels`].
#![doc = include_str!("FORMAT.md")]
mod counters;
mod error;
mod local;
mod log;
mod overlap;
mod plan;
mod ship;
mod state;
mod sync;
#[cfg(test)]
mod tests;

pub use counters::{ShipCounters, ShipCounts};
pub use error::ShipError;
pub use log::{
    INSTANCE_FILE, LogCounters, LogCounts, LogReport, LogShipper, LogShipperSettings, LogView,
    RestorePlan, RestoreReport, RestoredLog, ShippedLog, Upkeep, check_target, list_logs,
    plan_restore, restore,
};
pub use plan::{ShipPlan, SkipReason, plan_shipping};
pub use state::STATE_FILE;
pub use sync::{ShipReport, Shipper, ShipperSettings, default_external_labels};
