//! Rules that change, keep or drop label sets.
//!
//! Owns: the relabel actions of Prometheus 3.14, their defaults and the texts of their refusals.
//! Never: knows where labels come from, or reads a configuration file.
//! Tested by: a table of rules and label sets beside the code.
mod rule;
mod settings;
mod template;

#[cfg(test)]
mod tests;

pub use rule::{RelabelRule, apply};
pub use settings::{RelabelAction, RelabelError, RelabelSettings};
