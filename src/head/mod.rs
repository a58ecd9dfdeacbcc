//! The newest samples.
//!
//! Owns: the series map, append and its refusals, out-of-order samples, isolation, chunk cutting, deletion, truncation,
//! replay, the snapshot of a clean stop (see `FORMAT.md`), full disks.
//! Never: deletes a block or talks to a bucket.
//! Tested by: model and crash tests beside the code.
#![doc = include_str!("FORMAT.md")]

mod append;
mod chunk_files;
mod closed;
mod commit;
mod core;
mod delete;
mod error;
mod exemplars;
mod frames;
#[cfg(test)]
mod kept_tests;
mod late;
#[cfg(test)]
mod late_log_tests;
#[cfg(test)]
mod late_tests;
mod logged;
mod map;
mod open_chunk;
mod out_of_order;
#[cfg(test)]
mod pictures;
mod postings;
mod postings_build;
mod postings_page;
mod presence;
#[cfg(test)]
mod presence_tests;
mod progress;
mod read;
mod records;
mod redo;
#[cfg(test)]
mod redo_tests;
mod replay;
mod replay_apply;
mod replay_lanes;
mod replay_numbers;
mod replay_read;
mod replay_rows;
mod replay_slots;
mod replay_turns;
mod restore;
mod room;
mod save;
mod saved;
mod saved_series;
mod series;
mod series_floats;
mod spellings;
mod stale;
mod stats;
mod sync;
mod take_over;
#[cfg(test)]
mod take_over_tests;
#[cfg(test)]
mod tests;
mod truncate;
mod uneven;
#[cfg(test)]
mod values_tests;
mod wbl;
#[cfg(test)]
mod whole_tests;

pub use append::HeadAppender;
pub use core::{Head, HeadSettings};
pub use error::HeadError;
pub use exemplars::ExemplarStats;
pub use late::{FrozenSamples, LATE_DELAY_MINUTES, LateDelays};
pub use progress::{ReplayProgress, ReplaySegments};
pub use read::HeadView;
pub use replay::ReplayReport;
pub use save::SavedStats;
pub use stale::StaleSeries;
pub use stats::{HeadStats, HeadStatus, NamedCount};
pub use take_over::{ClosedSegments, TakeOver, TakenOver};
pub use truncate::TruncateStats;
