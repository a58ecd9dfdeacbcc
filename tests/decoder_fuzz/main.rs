//! What foreign bytes do to the decoders: nothing but an error.
//!
//! Good bytes are broken at random and read: pages of targets and remote writes, chunks, indexes, logs, chunk files,
//! tombstones, `meta.json`, and whole directories of them. Where a checksum covers what was broken it is made good
//! again, so that what lies behind it is reached. A run reads a few thousand of each; with `GAUNTLET_FUZZ_SECONDS` it
//! goes on for that long, and `GAUNTLET_FUZZ_SEED` and `GAUNTLET_FUZZ_FROM` (a round) repeat one. Nothing may panic, no
//! round may go on for ever, and none may hold more memory at once than its target allows for the length of the input.
//!
//! Where the compiler counts how often each branch is taken, a run is guided: what reached something new is kept and
//! changed further. Counters are of the process, so it is one target at a time:
//!
//! ```text
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
//!     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks \
//!     -Clink-arg=-Wl,--warn-unresolved-symbols" \
//! GAUNTLET_FUZZ_SECONDS=600 GAUNTLET_FUZZ_CORPUS=/var/tmp/corpus \
//!     cargo test --release --target x86_64-unknown-linux-gnu --target-dir target/guided --test decoder_fuzz \
//!     broken_text_pages -- --nocapture
//! ```
//!
//! The target is named so that build scripts are not counted, which have nobody to count them; the linker only warns of
//! that for the binary beside the test. What is kept is not the input but the numbers that the dice gave for it, so the
//! makers of inputs stay as they are. With `GAUNTLET_FUZZ_CORPUS`, a directory, it is there for the next run. The round
//! under way is always in a file, which stays when the run ends badly; `GAUNTLET_FUZZ_CHOICES` names it to any build, and
//! that one round is repeated. `GAUNTLET_FUZZ_SEED` makes a run take other ways than the one before.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the run is timed and watched, writes files that nobody keeps, and prints its figures"
)]

mod aggregates;
mod blocks;
mod choices;
mod chunks;
mod coverage;
#[path = "../promql_fuzz/dice.rs"]
#[expect(dead_code, reason = "expressions need more kinds of chance than bytes")]
mod dice;
mod directories;
mod guide;
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
mod settings;
mod sink;
