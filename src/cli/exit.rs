//! What a command says at its end.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was tried and failed: exit code 1.
    Failed(Vec<String>),
    /// What it was given is wrong: exit code 2.
    Wrong(Vec<String>),
}

impl Failure {
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(vec![text.into()])
    }

    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self::Wrong(vec![text.into()])
    }

    /// The failure of `error`, with everything that caused it.
    pub(super) fn of(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors repeat their cause in their own text.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::failed(text)
    }

    fn lines(&self) -> &[String] {
        match self {
            Self::Failed(lines) | Self::Wrong(lines) => lines,
        }
    }

    /// Prints the lines on standard error.
    pub(super) fn report(&self) -> ExitCode {
        let code = match self {
            Self::Failed(_) => 1,
            Self::Wrong(_) => 2,
        };
        let mut out = io::stderr().lock();
        for line in self.lines() {
            // Nobody can be told that standard error is gone.
            writeln!(out, "gauntlet: {line}").ok();
        }
        ExitCode::from(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// Writes lines to standard output. A reader that has seen enough, such as `head`, is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(format!(
            "write to standard output: {error}"
        ))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes lines to standard error.
pub(super) fn note(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}
