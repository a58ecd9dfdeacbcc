//! From where on the next start has to read the log.

use std::sync::atomic::Ordering;

use crate::tsdb::TsdbError;
use crate::tsdb::db::Tsdb;

/// The log gets so much more before it is looked again how far chunk files have it: reading that takes a start a few
/// hundredths of a second.
const AFTER_BYTES: u64 = 4 << 20;
/// Looking at a million series takes two tenths of a second, so it is done once in so long at most.
const EVERY_MS: i64 = 60_000;

impl Tsdb {
    /// Notes how far chunk files have what the log says, so that a start after an end that was not clean reads less of it.
    /// Whether that is farther than before.
    ///
    /// To be called now and then; most calls find that the log has grown too little to look.
    pub fn note_redo_point(&self) -> Result<bool, TsdbError> {
        let inner = self.inner();
        let _one_at_a_time = inner.cutting.lock();
        if self.is_replaying() {
            return Ok(false);
        }
        let now_ms = inner.clock.now_ms();
        let last_ms = inner.last_redo_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last_ms) < EVERY_MS {
            return Ok(false);
        }
        inner.last_redo_ms.store(now_ms, Ordering::Relaxed);
        Ok(inner.head().note_redo_point(AFTER_BYTES)?)
    }
}
