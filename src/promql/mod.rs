//! Query text in, columns out.
//!
//! Owns: the PromQL grammar, its printer and error texts, the plan, the engine and its limits.
//! Never: knows where series live (it sees `storage::Queryable`), opens a socket, or reads a clock.
//! Tested by: the scripts under `tests/promql` and the shared conformance scripts, run by `testing`.
pub mod parse;
