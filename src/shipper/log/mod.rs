//! The log to the bucket while it is written, and back after the host is lost; see `FORMAT.md` of the room.

mod counters;
mod disk;
mod keep;
mod known;
mod names;
mod plan;
mod restore;
mod send;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod together_tests;
mod upkeep;

pub use counters::{LogCounters, LogCounts};
pub use disk::LogView;
pub use keep::Upkeep;
pub use plan::{RestorePlan, ShippedLog, list_logs, plan_restore};
pub use restore::{RestoreReport, RestoredLog, check_target, restore};
pub use send::{LogReport, LogShipper, LogShipperSettings};
pub use state::INSTANCE_FILE;
