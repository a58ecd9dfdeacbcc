//! Real peers: data directories are exchanged, writers deliver, targets are scraped, and the process is killed.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests of real processes wait in real time, write plain files and print their figures"
)]

#[path = "../peers/mod.rs"]
mod peers;

mod compare;
mod directories;
mod histograms;
mod kills;
mod late;
mod messages;
mod ports;
mod protobuf;
mod seams;
mod target;
mod values;
mod writers;
