//! Where log lines go: standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::cli::exit::Failure;
use crate::config::appliance::{LogFormat, LogKeys};

/// From here on what is logged is written.
pub(super) fn start(log: &LogKeys) -> Result<(), Failure> {
    let filter: Targets = log
        .level
        .parse()
        .map_err(|error| Failure::wrong(format!("log.level: {error}")))?;
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    registry()
        .with(lines)
        .try_init()
        .map_err(|error| Failure::failed(format!("start logging: {error}")))
}
