//! What was typed to what is meant.
//!
//! Owns: appliance.toml and prometheus.yml, and the complaints about them.
//! Never: acts on a setting.
//! Tested by: every shipped key, every refusal, beside the code.
pub mod appliance;
pub mod bucket;
pub mod deletions;
pub mod prometheus;
pub mod relabel;
pub mod rules;
mod tuning;
mod yaml;

pub use tuning::HeadTuning;
