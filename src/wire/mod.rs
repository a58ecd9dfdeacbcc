//! The types generated from `proto/`, nothing else.
//!
//! Owns: the protobuf messages and gRPC services of every protocol spoken on the wire.
//! Never: holds logic; rooms convert from and to these types at their own door.
//! Tested by: the rooms that speak them (`remote`, `api::grpc`).
