//! THE RIM: protocols to messages and back.
//!
//! Owns: HTTP and gRPC: wire types and status codes.
//! Never: decides anything about data.
//! Tested by: `tests/appliance`, against the real process.
pub mod grpc;
pub mod http;
