//! A flag that long work looks at between steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

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
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    reason: AtomicU8,
    raised: Notify,
}

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
            .reason
            .compare_exchange(0, value, Ordering::SeqCst, Ordering::SeqCst)
            .ok();
        self.0.raised.notify_waiters();
    }

    /// Waits until the flag is up.
    pub async fn raised(&self) {
        loop {
            let raised = self.0.raised.notified();
            if self.reason().is_some() {
                return;
            }
            raised.await;
        }
    }

    /// The reason, once the flag is up. Cheap enough for every thousand samples.
    pub fn reason(&self) -> Option<CancelReason> {
        match self.0.reason.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(CancelReason::Canceled),
            _ => Some(CancelReason::TimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_the_flag_is_woken() {
        let cancel = Cancel::new();
        let waiter = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.raised().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        cancel.cancel(CancelReason::Canceled);
        waiter.await.unwrap();
        cancel.raised().await;
    }

    #[test]
    fn the_first_reason_stays() {
        let cancel = Cancel::new();
        assert_eq!(cancel.reason(), None);
        cancel.clone().cancel(CancelReason::TimedOut);
        cancel.cancel(CancelReason::Canceled);
        assert_eq!(cancel.reason(), Some(CancelReason::TimedOut));
    }
}
