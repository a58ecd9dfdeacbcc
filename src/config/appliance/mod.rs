//! `appliance.toml`, and what is laid over it, to the settings of the appliance.
//!
//! Owns: every key, its default and its check; the order of layers; complaints that name origin, key and value.
//! Never: opens a data directory or a socket.
//! Tested by: `tests`, which hold every shipped key and every refusal.
mod compactor;
mod complaint;
mod gateway;
mod keys;
mod layers;
mod settings;
#[cfg(test)]
mod tests;

pub use compactor::CompactorKeys;
pub use complaint::Complaint;
pub use gateway::GatewayKeys;
pub use layers::{Given, SHIPPED};
pub use settings::{
    BucketKeys, GrpcKeys, HttpKeys, LogFormat, LogKeys, PoolKeys, QueryKeys, Settings, WalSync,
    load,
};
