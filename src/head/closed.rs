//! Closed chunks of a series that are on their way to a file: hardly ever is there one.

use bytes::Bytes;

use crate::model::{Encoding, TimestampMs};

/// A closed chunk on its way to a file.
#[derive(Debug, Clone)]
pub(crate) struct ClosedChunk {
    pub(crate) min_t: TimestampMs,
    pub(crate) max_t: TimestampMs,
    pub(crate) encoding: Encoding,
    pub(crate) data: Bytes,
}

/// Those of one series, oldest first. One word as long as there is none: a million series have this.
#[derive(Debug, Default)]
pub(crate) struct ClosedChunks(
    #[expect(clippy::box_collection, reason = "an empty list takes three words")]
    Option<Box<Vec<ClosedChunk>>>,
);

impl ClosedChunks {
    pub(crate) fn as_slice(&self) -> &[ClosedChunk] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn push(&mut self, chunk: ClosedChunk) {
        let chunks = self.0.get_or_insert_default();
        if chunks.is_empty() {
            chunks.reserve_exact(1);
        }
        chunks.push(chunk);
    }

    /// Drops those that `stays` is false for.
    pub(crate) fn retain(&mut self, stays: impl FnMut(&ClosedChunk) -> bool) {
        if let Some(chunks) = &mut self.0 {
            chunks.retain(stays);
        }
        self.forget_empty();
    }

    /// Drops the oldest `n`.
    pub(crate) fn remove_first(&mut self, n: usize) {
        if let Some(chunks) = &mut self.0 {
            chunks.drain(..n.min(chunks.len()));
        }
        self.forget_empty();
    }

    fn forget_empty(&mut self) {
        if self.as_slice().is_empty() {
            self.0 = None;
        }
    }
}
