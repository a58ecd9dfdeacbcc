//! Series that ended leave the head early: into blocks of their own, one for every block range.

use std::sync::atomic::Ordering;

use crate::block::{BlockMeta, NewBlock, meta, write_block};
use crate::head::StaleSeries;
use crate::model::{Interval, TimeRange, TimestampMs};
use crate::tsdb::TsdbError;
use crate::tsdb::db::{Inner, Tsdb};

impl Tsdb {
    /// Lets ended series go when they are as many as the settings say; the blocks they went into.
    ///
    /// Looked at four times in a block range, and not when the next cut is near, which takes them along. A series that
    /// ended in the last quarter of a range may come back, and stays.
    pub fn evict_stale(&self) -> Result<Vec<BlockMeta>, TsdbError> {
        let inner = self.inner();
        let _one_at_a_time = inner.cutting.lock();
        if self.is_replaying() {
            return Ok(Vec::new());
        }
        let range_ms = self.settings().head.chunk_range_ms;
        let (Some(percent), Some(span)) =
            (self.settings().stale_percent, inner.head().view().span())
        else {
            return Ok(Vec::new());
        };
        let now_ms = inner.clock.now_ms();
        let last_ms = inner.last_stale_ms.load(Ordering::Relaxed);
        let is_too_soon = now_ms.saturating_sub(last_ms) < range_ms / 4;
        let is_cut_near = range_ms + range_ms / 4 < span.max.saturating_sub(span.min);
        if is_too_soon || is_cut_near {
            return Ok(Vec::new());
        }
        inner.last_stale_ms.store(now_ms, Ordering::Relaxed);
        let stale = inner
            .head()
            .stale_series(span.max.saturating_sub(range_ms / 4));
        let n_series = u128::from(inner.head().stats().n_series);
        if stale.is_empty() || (stale.len() as u128) * 100 < n_series * u128::from(percent) {
            return Ok(Vec::new());
        }
        let written = inner.write_stale(&stale, span, range_ms)?;
        let n_gone = inner.head().evict(&stale)?;
        inner
            .counters
            .stale_evictions
            .fetch_add(1, Ordering::Relaxed);
        tracing::info!(n_series = n_gone, "series that ended left the head");
        Ok(written)
    }
}

impl Inner {
    fn write_stale(
        &self,
        stale: &StaleSeries,
        span: Interval,
        range_ms: i64,
    ) -> Result<Vec<BlockMeta>, TsdbError> {
        let view = self.head().view();
        let mut written = Vec::new();
        let mut start: TimestampMs = span.min.div_euclid(range_ms).saturating_mul(range_ms);
        while start <= span.max {
            let end = start.saturating_add(range_ms);
            let wanted = Interval {
                min: start,
                max: end - 1,
            };
            let mut new = NewBlock::new(
                self.new_id(),
                TimeRange {
                    min: start,
                    max: end,
                },
            );
            new.hints.push(meta::HINT_STALE_SERIES.to_owned());
            let mut series = self.for_block(view.stale_in(stale, wanted));
            if let Some(meta) = write_block(&self.dir, new, &mut series)? {
                let block = self.open_new(&meta)?;
                // Timelines that are held now read it too, once the head let go.
                self.show_cut(block);
                written.push(meta);
            }
            start = end;
        }
        Ok(written)
    }
}
