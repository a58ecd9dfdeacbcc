//! How far long work is: one line on a terminal that is written again and again, and nothing anywhere else.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use crate::foundation::{Clock, SystemClock};

/// The line is not written more often.
const EVERY: Duration = Duration::from_millis(100);

/// Cells between the brackets.
const WIDTH: u64 = 30;

/// A bar on standard error.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: u64,
    is_shown: bool,
    last_ms: i64,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            is_shown: stderr().is_terminal(),
            last_ms: i64::MIN,
        }
    }

    /// So much is done.
    pub(super) fn set(&mut self, done: u64) {
        if !self.is_shown {
            return;
        }
        let now_ms = SystemClock.now_ms();
        let every_ms = i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX);
        if done < self.total && now_ms.saturating_sub(self.last_ms) < every_ms {
            return;
        }
        self.last_ms = now_ms;
        write!(stderr(), "\r{}", bar(self.what, done, self.total)).ok();
    }

    /// So much is done, of so much as is known by now.
    pub(super) fn set_of(&mut self, done: u64, total: u64) {
        self.total = total;
        self.set(done);
    }

    /// Takes the line away, so that others can be printed.
    pub(super) fn clear(&mut self) {
        if self.is_shown {
            write!(stderr(), "\r\x1b[K").ok();
            self.last_ms = i64::MIN;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(what: &str, done: u64, total: u64) -> String {
    let done = done.min(total);
    let share = |of: u64| {
        let part = u128::from(done) * u128::from(of) / u128::from(total.max(1));
        usize::try_from(part).unwrap_or(0)
    };
    let width = usize::try_from(WIDTH).unwrap_or(0);
    let full = share(WIDTH);
    let (filled, rest) = ("#".repeat(full), " ".repeat(width.saturating_sub(full)));
    format!("{what} [{filled}{rest}] {:>3} % of {total}", share(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_filled_by_what_is_done() {
        assert_eq!(
            bar("samples", 1, 2),
            "samples [###############               ]  50 % of 2"
        );
        let full = "#".repeat(30);
        assert_eq!(bar("x", 9, 3), format!("x [{full}] 100 % of 3"));
        assert!(bar("x", 0, 0).ends_with("]   0 % of 0"));
    }
}
