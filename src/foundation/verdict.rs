//! What to do about an error: every room's error enum answers with one of these.

use std::time::Duration;

/// What the one who got an error does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong with the question; ask again, not before this long.
    RetryAfter(Duration),
    /// The question or the configuration is wrong: say so and do not repeat it.
    Refuse,
    /// What was asked for is not there.
    Missing,
    /// Set this one thing aside with its reason and go on with the rest.
    Quarantine,
}
