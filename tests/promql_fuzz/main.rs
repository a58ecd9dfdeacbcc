//! Random queries: answered as Prometheus answers them, the same by every plan, and read back as printed.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    clippy::cast_precision_loss,
    reason = "the tests print what they found; real processes are waited for in real time; the arms name what is treated"
)]

mod answer;
mod case;
mod data;
#[expect(dead_code, reason = "a query is made again from its round alone")]
mod dice;
mod generate;
mod histograms;
mod known;
mod leaves;
mod parser;
#[expect(dead_code, reason = "other test binaries start what this one does not")]
#[path = "../peers/mod.rs"]
mod peers;
mod plans;
mod prometheus;
mod settings;
mod shrink;
