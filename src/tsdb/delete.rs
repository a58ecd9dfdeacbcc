//! Samples are declared deleted, in the head and in every local block.

use crate::block::Block;
use crate::model::{Interval, Matcher};
use crate::tsdb::TsdbError;
use crate::tsdb::db::Tsdb;

impl Tsdb {
    /// Declares the samples in `interval` of local series that match deleted. Queries that begin later do not see them;
    /// they leave the disk when their blocks are compacted or cleaned. What comes later is taken, out of order too.
    pub fn delete_series(&self, matchers: &[Matcher], interval: Interval) -> Result<(), TsdbError> {
        let inner = self.inner();
        // A cut between the blocks and the head would carry samples past both.
        let _one_at_a_time = inner.cutting.lock();
        inner.must_be_replayed("delete series")?;
        let _lent = inner.head().lend_room();
        let late = inner.head().view().late_span();
        if late.is_some_and(|late| late.overlaps(&interval)) {
            inner.cut_out_of_order()?;
        }
        for block in self.blocks() {
            if !block.meta().range().intersects(interval) {
                continue;
            }
            block.delete(matchers, interval)?;
            let block_now = Block::open(block.dir())?;
            inner.replace_blocks(&[block.meta().ulid], &[block_now]);
        }
        inner.head().delete(matchers, interval)?;
        Ok(())
    }
}
