//! From where on the next start has to read the log.

use crate::tsdb::TsdbError;
use crate::tsdb::db::Tsdb;

/// The log gets so much more before it is looked again how far chunk files have it: reading that takes a start a few
/// hundredths of a second.
const AFTER_BYTES: u64 = 4 << 20;
/// And so much for every series, of which each is looked at: about eight samples.
const AFTER_BYTES_PER_SERIES: u64 = 64;

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
        let head = inner.head();
        let of_series = head.stats().n_series.saturating_mul(AFTER_BYTES_PER_SERIES);
        Ok(head.note_redo_point(of_series.saturating_add(AFTER_BYTES))?)
    }
}
