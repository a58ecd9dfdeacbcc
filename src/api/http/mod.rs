//! The Prometheus HTTP API.
//!
//! Owns: paths, parameters, status codes, and answers to the byte.
//! Never: evaluates a query, waits for a disk, or knows who implements a port.
//! Tested by: every endpoint against ports made for the test, and refusals against a real Prometheus in `tests/http`.
mod admin;
mod blocks;
mod call;
mod columns;
mod cost;
mod duties;
mod error;
mod exemplars;
mod json;
mod labels;
mod manage;
mod observe;
mod pace;
mod params;
mod plain;
mod portions;
mod query;
mod routes;
mod state;
mod status;
mod targets;
mod write;

#[cfg(test)]
mod tests;

pub use error::{ApiError, ErrorType};
pub use observe::{HttpMetrics, observe};
pub use routes::{not_found, routes, serve};
pub use state::{
    ActiveTarget, AdminPort, Answer, BlockMark, BlocksView, BuildInfo, DroppedTarget, ExplainQuery,
    HttpSettings, HttpState, InstantQuery, LabelRequest, MarkAction, NamedCount, QueryParams,
    QueryPort, RangeQuery, Readiness, ReplayState, RuntimeInfo, SeriesAnswer, StatsDetail,
    StatusPort, TargetHealth, TargetMetadata, TargetsPort, TargetsView, TsdbStatus, WalReplay,
    WriteFailure, WritePort, WriteRequest,
};
