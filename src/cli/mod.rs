//! One file a subcommand.
//!
//! Owns: arguments and what is printed on the terminal.
//! Never: does the work itself.
//! Tested by: `tests/appliance`, `tests/bucket`.
mod bucket;
mod check;
mod config_options;
mod exit;
mod http;
mod logging;
mod progress;
mod query;
mod serve;
mod tsdb;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::cli::exit::{Failure, print};

/// One process for scraping, storage, queries and object-store shipping of Prometheus metrics.
#[derive(Debug, Parser)]
#[command(name = "gauntlet", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the appliance. No file is needed: the defaults are compiled in.
    Serve(serve::Serve),
    /// Check files without running anything.
    #[command(subcommand)]
    Check(check::Check),
    /// Ask a running server.
    Query(query::Query),
    /// Look at a data directory.
    #[command(subcommand)]
    Tsdb(tsdb::TsdbCommand),
    /// Look at a bucket, and work on the blocks in it.
    #[command(subcommand)]
    Bucket(bucket::BucketCommand),
    /// Put the log of a lost host back into an empty data directory.
    Restore(bucket::Restore),
    /// Print the version.
    Version {
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For scripts.
    Json,
}

/// Runs the command the arguments name. Errors go to standard error; 1 means that it failed, 2 that what it was given is
/// wrong.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and go to standard output.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
        Command::Query(query) => query.run(),
        Command::Tsdb(tsdb) => tsdb.run(),
        Command::Bucket(bucket) => bucket.run(),
        Command::Restore(restore) => restore.run(),
        Command::Version { output } => version(output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn version(output: Output) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        Output::Text => print(&format!("gauntlet {version}")),
        Output::Json => {
            print(&serde_json::json!({ "name": "gauntlet", "version": version }).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_has_options_that_go_together() {
        Arguments::command().debug_assert();
    }
}
