//! Where the logs end, for whoever copies them while they are written.

use crate::model::TimestampMs;
use crate::tsdb::Tsdb;
use crate::tsdb::floor::read_floor;
use crate::wal::LogEnd;

/// The ends of a head's log and of its log of late samples; the latter `None` while there is none.
pub type HeadLogEnds = (LogEnd, Option<LogEnd>);

/// Where what was acknowledged ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEnds {
    /// Of the logs in the data directory.
    Replayed(HeadLogEnds),
    /// Of the logs in `head-young/`; those in the data directory are being replayed.
    Young(HeadLogEnds),
}

impl Tsdb {
    /// Where the logs end now.
    pub fn log_ends(&self) -> LogEnds {
        match self.inner().heads.still_young() {
            Some((young, _)) => LogEnds::Young(young.log_ends()),
            None => LogEnds::Replayed(self.head().log_ends()),
        }
    }

    /// Before when every sample in order is in a block, or was in one.
    pub fn blocks_end(&self) -> Option<TimestampMs> {
        let blocks = self.blocks();
        let in_order = blocks.iter().filter(|block| !block.meta().is_partial());
        let end = in_order.map(|block| block.meta().max_time).max();
        let floor = Some(read_floor(self.dir())).filter(|floor| *floor != TimestampMs::MIN);
        end.max(floor)
    }
}
