//! StoreAPI and Info over gRPC, with health and reflection.
//!
//! Owns: which message means what, status codes, framing, back-pressure, the end of streams.
//! Never: evaluates a query or decides anything about data; computing happens in the `query` pool.
//! Tested by: `tests/grpc`, a real client against a server in the same process.
mod convert;
mod info;
mod port;
mod series;
mod server;
mod status;
mod store;

pub use port::{Database, Source};
pub use server::{GrpcServer, GrpcServerError, GrpcSettings};
