//! The script language PromQL is tested with: load series, ask, compare.
//!
//! A test that is no script goes the same way: [`parse_series`] reads a line of series notation,
//! [`LoadedData::add_values`] collects lines, [`open_memory_store`] makes them a [`crate::storage::Queryable`], and
//! [`compare_vector`] compares what an engine answers with what is expected, as closely as a [`Tolerance`] says.
//!
//! Owns: the language, its series notation, the strict runner, a store in memory.
//! Never: guesses: a line that is not understood, or a value more or less than expected, is an error.
//! Tested by: the tests beside each part, and every script that `tests/promql_conformance` runs.
mod classic;
mod compare;
mod histogram;
mod run;
mod script;
mod series;
mod start_time;
mod store;
mod variants;

pub use compare::{Tolerance, compare_vector};
pub use run::{Answer, CaseResult, Evaluator, run_script};
pub use script::{
    Annotations, Command, EvalCase, EvalTime, Expected, Load, LoadSeries, ScriptError, Times,
    Wanted, parse_script,
};
pub use series::{HistogramValue, SequenceValue, parse_metric, parse_series};
pub use store::{
    LoadedData, LoadedSample, LoadedSeries, MemoryStore, OpenStore, open_memory_store,
};
