//! Where targets come from.
//!
//! Owns: files and HTTP services that name targets, and the last good answer of each.
//! Never: relabels or scrapes a target.
//! Tested by: files that change and services that fail, beside the code.
mod glob;

pub use glob::{expand_glob, is_target_file_pattern};
