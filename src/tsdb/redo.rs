//! From where on the next start has to read the log.

use std::sync::atomic::Ordering;

use crate::tsdb::TsdbError;
use crate::tsdb::db::Tsdb;

/// The log gets so much more before it is noted again, at least: reading that takes a start a few hundredths of a second.
const AFTER_BYTES: u64 = 4 << 20;
/// And so much time passes.
const EVERY_MS: i64 = 60_000;

impl Tsdb {
    /// Writes what no chunk file has, and how far the log is, so that a start after an end that was not clean reads less of
    /// the log. Whether that was done.
    ///
    /// To be called now and then; most calls find that the log has grown too little. A stop does not wait for it.
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
        let noted = inner
            .head()
            .note_redo_point_with(AFTER_BYTES, &inner.stopping);
        Ok(noted?)
    }
}
