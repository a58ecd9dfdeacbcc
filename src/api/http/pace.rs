//! Long answers are written in portions: the worker looks after its other connections in between, which is also when it
//! learns that the client is gone, and the memory of what is written is booked as it grows.

use crate::promql::{Held, QueryError};

/// Bytes written, or squeezed, in one go.
pub(super) const PORTION_BYTES: usize = 64 << 10;

/// How far the writing of one answer is.
pub(super) struct Pace<'a> {
    held: &'a Held,
    booked: usize,
}

impl<'a> Pace<'a> {
    /// Nothing written yet; what is written is booked with `held`.
    pub(super) fn new(held: &'a Held) -> Self {
        Self { held, booked: 0 }
    }

    /// Asked after every little piece; waits for its turn after every portion.
    pub(super) async fn written(&mut self, len: usize) -> Result<(), QueryError> {
        if len < self.booked.saturating_add(PORTION_BYTES) {
            return Ok(());
        }
        self.held.add(len - self.booked)?;
        self.booked = len;
        tokio::task::yield_now().await;
        Ok(())
    }
}
