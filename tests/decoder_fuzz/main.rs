//! What foreign bytes do to the decoders: nothing but an error.
//!
//! Good bytes are broken at random and read: pages of targets and remote writes, chunks, indexes, logs, chunk files,
//! tombstones, `meta.json`, and whole directories of them. Where a checksum covers what was broken it is made good
//! again, so that what lies behind it is reached. A run reads a few thousand of each; with `GAUNTLET_FUZZ_SECONDS` it
//! goes on for that long, and `GAUNTLET_FUZZ_SEED` and `GAUNTLET_FUZZ_FROM` (a round) repeat one. Nothing may panic, no
//! round may go on for ever, and none may hold more memory at once than its target allows for the length of the input.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the run is timed and watched, writes files that nobody keeps, and prints its figures"
)]

mod aggregates;
mod blocks;
mod chunks;
#[path = "../promql_fuzz/dice.rs"]
#[expect(dead_code, reason = "expressions need more kinds of chance than bytes")]
mod dice;
mod directories;
mod harness;
mod indexes;
mod logs;
mod memory;
#[path = "../interop/messages.rs"]
mod messages;
mod mutate;
mod pages;
mod samples;
mod seeds;
mod segments;
#[path = "../promql_fuzz/settings.rs"]
#[expect(dead_code, reason = "there are no texts to be told")]
mod settings;
mod sink;
