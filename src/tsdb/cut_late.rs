//! Blocks of what came out of order.

use crate::block::{BlockMeta, NewBlock, meta, write_block};
use crate::model::{Interval, TimeRange};
use crate::tsdb::TsdbError;
use crate::tsdb::db::{Inner, Tsdb};

impl Tsdb {
    /// Writes what came out of order to blocks, one for each aligned range that holds some; the head lets go of it.
    ///
    /// Appends and queries go on meanwhile, and every query sees every sample, as in [`Tsdb::cut`].
    pub fn cut_out_of_order(&self) -> Result<Vec<BlockMeta>, TsdbError> {
        let _one_at_a_time = self.inner().cutting.lock();
        if self.is_replaying() {
            return Ok(Vec::new());
        }
        self.inner().cut_out_of_order()
    }
}

impl Inner {
    /// The same, for whoever keeps others from cutting.
    pub(crate) fn cut_out_of_order(&self) -> Result<Vec<BlockMeta>, TsdbError> {
        let Some(frozen) = self.head().freeze_out_of_order()? else {
            return Ok(Vec::new());
        };
        let mut written = Vec::new();
        for range in aligned_ranges(frozen.span, self.head().settings().chunk_range_ms) {
            let wanted = Interval {
                min: range.min,
                max: range.max.saturating_sub(1),
            };
            if !frozen.touches(wanted) {
                continue;
            }
            let mut new = NewBlock::new(self.new_id(), range);
            new.hints.push(meta::HINT_OUT_OF_ORDER.to_owned());
            let mut series = self.for_block(frozen.series_in(wanted));
            let Some(meta) = write_block(&self.dir, new, &mut series)? else {
                continue;
            };
            let block = self.open_new(&meta)?;
            self.show_cut(block);
            written.push(meta);
        }
        self.head().drop_frozen(frozen)?;
        Ok(written)
    }
}

/// The multiples of `width` that touch `span`.
fn aligned_ranges(span: Interval, width: i64) -> impl Iterator<Item = TimeRange> {
    let width = width.max(1);
    let first = span.min.div_euclid(width).saturating_mul(width);
    let starts = std::iter::successors(Some(first), move |start| start.checked_add(width));
    starts
        .take_while(move |start| *start <= span.max)
        .map(move |start| TimeRange {
            min: start,
            max: start.saturating_add(width),
        })
}
