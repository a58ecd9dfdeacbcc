//! Query text in, columns out.
//!
//! Owns: the PromQL grammar, its printer and error texts, the plan, the engine and its limits.
//! Never: knows where series live (it sees `storage::Queryable`), opens a socket, or asks for the time but for its deadline.
//! Tested by: the scripts under `tests/promql` and the shared conformance scripts, run by `testing`.
mod annotations;
pub mod columns;
mod engine;
mod exec;
pub mod explain;
mod functions;
mod limits;
mod memory;
pub mod parse;
mod plan;
mod stages;
pub mod testing;
pub mod value;

pub use columns::{ColumnSeries, Columns};
pub use engine::{Engine, EngineSettings, QueryOptions};
pub use limits::{ErrorKind, QueryError};
pub use memory::{Held, MemoryPool};
pub use stages::{PlannedQuery, SelectedQuery};
pub use value::{
    HistogramPoint, MatrixSeries, PointValue, QueryOutput, QueryStats, QueryValue, VectorSample,
};
