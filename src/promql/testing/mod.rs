//! The script language PromQL is tested with: load series, ask, compare.
//!
//! Owns: the language, its series notation, the strict runner, a store in memory.
//! Never: guesses: a line that is not understood, or a value more or less than expected, is an error.
//! Tested by: the tests beside each part, and every script that `tests/promql_conformance` runs.
//!
//! A test that is no script goes the same way, step by step:
//!
//! ```
//! use gauntlet::promql::Engine;
//! use gauntlet::promql::testing::{
//!     Evaluator, LoadedData, Tolerance, compare_vector, open_memory_store, parse_series,
//!     script_settings,
//! };
//! use gauntlet::promql::value::QueryValue;
//!
//! let mut data = LoadedData::default();
//! let (labels, values) = parse_series(r#"http_requests_total{job="api"} 0+60x10"#)?;
//! data.add_values(&labels, (0, 60_000), &values)?;
//! let store = open_memory_store(&data)?;
//!
//! let engine = Engine::new(script_settings(), None);
//! let answer = Evaluator::instant(&engine, &store, "rate(http_requests_total[5m])", 600_000)?;
//!
//! let (labels, values) = parse_series(r#"{job="api"} 1"#)?;
//! let QueryValue::Vector(vector) = answer.value else {
//!     return Err("no vector".to_owned());
//! };
//! compare_vector(&vector, &[(&labels, &values[0])], false, Tolerance::Neighbour)?;
//! # Ok::<(), String>(())
//! ```
mod classic;
mod compare;
mod histogram;
mod pieces;
mod run;
mod script;
mod series;
mod start_time;
mod store;
mod variants;

pub use compare::{Tolerance, compare_vector};
pub use pieces::QUERY_PIECES;
pub use run::{Answer, CaseResult, Evaluator, run_script, script_settings};
pub use script::{
    Annotations, Command, EvalCase, EvalTime, Expected, Load, LoadSeries, ScriptError, Times,
    Wanted, parse_script,
};
pub use series::{HistogramValue, SequenceValue, parse_metric, parse_series};
pub use store::{
    LoadedData, LoadedSample, LoadedSeries, MemoryStore, OpenStore, open_memory_store,
};
