//! A block becomes a coarser one: aggregates of five minutes from what was scraped, of an hour from those.
//!
//! Owns: which blocks are due, windows and their aggregates as Thanos computes them, what the result's meta.json says, the way of
//! both from and to the bucket.
//! Never: deletes or marks a block, waits, or holds more than one series.
//! Tested by: models and golden bytes beside the code, sixty simulated days in `tests/blocks`.
mod coarser;
mod counter;
mod error;
mod histograms;
mod plan;
mod raw;
mod run;
#[cfg(test)]
mod run_tests;
mod symbols;
#[cfg(test)]
mod tests;
mod transfer;
mod windows;

pub use error::{DownsampleError, SeriesFlaw};
pub use plan::{
    Candidate, Coverage, DownsamplePlan, DownsampleTask, FIVE_MINUTES_SPAN_MS_MIN, RAW_SPAN_MS_MIN,
    coarser, plan,
};
pub use run::{DownsampleProgress, run, run_into};
pub use transfer::{fetch_block, publish_block};
