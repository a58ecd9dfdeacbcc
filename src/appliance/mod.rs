//! THE ATTIC: everything is built, bound, spawned and drained here.
//!
//! Owns: the order of start and stop, the supervision table, the runtimes, what fills the ports of the rim.
//! Never: decides anything about data.
//! Tested by: `tests/appliance`, against the real process.
mod blocks;
mod build;
mod drain;
mod error;
mod exports;
mod exports_bucket;
mod exports_compactor;
mod exports_gateway;
mod exports_late;
mod exports_shipped;
mod features;
#[cfg(debug_assertions)]
mod panics;
mod ports;
mod reload;
mod replay;
mod run;
mod settings;
mod spawn;
mod status;

pub use error::StartError;
pub use run::run;
pub use settings::{Reread, Settings, local_bucket};
