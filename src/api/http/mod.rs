//! The Prometheus HTTP API.
//!
//! Owns: paths, parameters, status codes, and answers to the byte.
//! Never: evaluates a query, waits for a disk, or knows who implements a port.
//! Tested by: every endpoint against ports made for the test, and refusals against a real Prometheus in `tests/http`.
mod error;
mod state;

pub use error::{ApiError, ErrorType};
pub use state::{
    ActiveTarget, Answer, BuildInfo, DroppedTarget, HttpSettings, HttpState, InstantQuery,
    LabelRequest, NamedCount, QueryParams, QueryPort, RangeQuery, Readiness, RuntimeInfo,
    SeriesAnswer, StatsDetail, StatusPort, TargetHealth, TargetMetadata, TargetsPort, TargetsView,
    TsdbStatus, WalReplay, WriteFailure, WritePort, WriteRequest,
};
