#![doc = include_str!("ARCHITECTURE.md")]

pub mod foundation;
pub mod wire;

pub mod model;

pub mod storage;

pub mod promql;
