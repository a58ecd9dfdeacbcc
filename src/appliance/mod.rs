//! THE ATTIC: everything is built, bound, spawned and drained here.
//!
//! Owns: the order of start and stop, the supervision table, the runtimes.
//! Never: decides anything about data.
//! Tested by: `tests/appliance`.
