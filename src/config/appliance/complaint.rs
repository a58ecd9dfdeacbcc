//! What is wrong with the configuration.

use std::fmt;

/// One thing that is wrong: where it stands, which key, what stands there, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// File and line, environment variable, or command line.
    pub origin: String,
    /// Dotted key; empty when the whole origin is meant.
    pub key: String,
    /// What stands there.
    pub value: Option<String>,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

impl Complaint {
    pub(super) fn about(origin: &str, problem: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            key: String::new(),
            value: None,
            problem: problem.to_owned(),
        }
    }
}

/// `/etc/gauntlet/appliance.toml:7: query.queue = "many": expected a whole number`
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}", self.problem)
    }
}
