//! The script language PromQL is tested with: load series, ask, compare.
//!
//! Owns: the language, its series notation, the strict runner, a store in memory.
//! Never: guesses: a line that is not understood, or a value more or less than expected, is an error.
//! Tested by: the tests beside each part, and every script that `tests/promql_conformance` runs.
mod compare;
mod histogram;
mod run;
mod script;
mod series;
mod start_time;
mod store;
mod variants;

pub use histogram::{HistogramLiteral, ResetHint};
pub use run::{Answer, CaseResult, Evaluator, run_script};
pub use script::{
    Annotations, Command, EvalCase, EvalTime, Expected, Load, LoadSeries, ScriptError, Times,
    Wanted, parse_script,
};
pub use series::{HistogramValue, SequenceValue, parse_metric, parse_series};
pub use store::{LoadedData, LoadedSeries, MemoryStore, OpenStore, open_memory_store};
