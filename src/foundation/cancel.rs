//! A flag that long work looks at between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why work was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The one who asked is gone or the appliance stops.
    Canceled,
    /// The deadline passed.
    TimedOut,
}

/// Shared by the one who asked and everything that works for it; clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

impl Cancel {
    /// A flag nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag; the first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        let value = match reason {
            CancelReason::Canceled => 1,
            CancelReason::TimedOut => 2,
        };
        self.0
            .compare_exchange(0, value, Ordering::SeqCst, Ordering::SeqCst)
            .ok();
    }

    /// The reason, once the flag is up. Cheap enough for every thousand samples.
    pub fn reason(&self) -> Option<CancelReason> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(CancelReason::Canceled),
            _ => Some(CancelReason::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let cancel = Cancel::new();
        assert_eq!(cancel.reason(), None);
        cancel.clone().cancel(CancelReason::TimedOut);
        cancel.cancel(CancelReason::Canceled);
        assert_eq!(cancel.reason(), Some(CancelReason::TimedOut));
    }
}
