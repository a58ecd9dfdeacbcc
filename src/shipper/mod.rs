//! Local blocks to the bucket.
//!
//! Owns: what is uploaded, in which order, and the meta.json that ends an upload.
//! Never: deletes a block, locally or in the bucket.
//! Tested by: a faulty bucket beside the code, which fails at every operation in turn.
//!
//! A block without external labels could not be told from those of others, so nothing is uploaded without any. An
//! appliance that was given none names itself by [`default_external_labels`].
mod error;
mod plan;
mod ship;
mod state;
mod sync;
#[cfg(test)]
mod tests;

pub use error::ShipError;
pub use plan::{ShipPlan, SkipReason, plan_shipping};
pub use state::STATE_FILE;
pub use sync::{ShipReport, Shipper, ShipperSettings, default_external_labels};
