//! Which local blocks are too old or too many.

use crate::model::{BlockId, TimeRange};

/// How much is kept locally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionSettings {
    /// Blocks that end this much before the newest one go; `None` keeps them all.
    pub time_ms: Option<i64>,
    /// The oldest blocks go while log, head chunks and blocks take more; `None` for no limit.
    pub bytes: Option<u64>,
    /// The same limit as a share of the file system's capacity, which takes the place of the other.
    pub percent: Option<u8>,
}

impl RetentionSettings {
    /// With the share made bytes of a file system of this capacity.
    pub fn on_capacity(mut self, capacity_bytes: u64) -> Self {
        if let Some(percent) = self.percent {
            self.bytes = Some(capacity_bytes / 100 * u64::from(percent));
        }
        self
    }
}

/// A block as far as retention cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize {
    /// Its name.
    pub id: BlockId,
    /// The times it covers.
    pub range: TimeRange,
    /// Bytes on disk.
    pub n_bytes: u64,
}

/// Why a block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionReason {
    /// It is older than the time limit.
    Time,
    /// It does not fit the size limit.
    Size,
}

/// The blocks to delete, oldest last. `other_bytes` are log and head chunks, which count against the size.
pub fn plan_retention(
    blocks: &[BlockSize],
    settings: RetentionSettings,
    other_bytes: u64,
) -> Vec<(BlockId, RetentionReason)> {
    let mut newest_first = blocks.to_vec();
    newest_first.sort_by_key(|block| std::cmp::Reverse((block.range.max, block.id)));
    let Some(newest_end) = newest_first.first().map(|block| block.range.max) else {
        return Vec::new();
    };
    let mut n_bytes = other_bytes;
    let mut is_over = None;
    let mut planned = Vec::new();
    for block in newest_first {
        n_bytes = n_bytes.saturating_add(block.n_bytes);
        let age = newest_end.saturating_sub(block.range.max);
        // Once one goes, all older ones go with it.
        is_over = is_over.or_else(|| {
            if settings.time_ms.is_some_and(|limit| age >= limit) {
                Some(RetentionReason::Time)
            } else if settings.bytes.is_some_and(|limit| n_bytes > limit) {
                Some(RetentionReason::Size)
            } else {
                None
            }
        });
        if let Some(reason) = is_over {
            planned.push((block.id, reason));
        }
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> Vec<BlockSize> {
        (0..5)
            .map(|n| BlockSize {
                id: BlockId::from_parts(n, 0),
                range: TimeRange {
                    min: n.cast_signed() * 100,
                    max: n.cast_signed() * 100 + 100,
                },
                n_bytes: 10,
            })
            .collect()
    }

    fn planned(time_ms: Option<i64>, bytes: Option<u64>) -> Vec<(u64, RetentionReason)> {
        plan_retention(
            &blocks(),
            RetentionSettings {
                time_ms,
                bytes,
                percent: None,
            },
            5,
        )
        .into_iter()
        .map(|(id, reason)| (id.created_ms(), reason))
        .collect()
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(planned(None, None), []);
        assert_eq!(plan_retention(&[], RetentionSettings::default(), 0), []);
    }

    #[test]
    fn blocks_that_end_a_retention_before_the_newest_go() {
        use RetentionReason::Time;
        assert_eq!(planned(Some(300), None), [(1, Time), (0, Time)]);
        assert_eq!(planned(Some(401), None), []);
    }

    #[test]
    fn blocks_beyond_the_size_go_oldest_ones_first() {
        use RetentionReason::Size;
        assert_eq!(planned(None, Some(35)), [(1, Size), (0, Size)]);
        assert_eq!(planned(None, Some(55)), []);
        assert_eq!(planned(None, Some(0)).len(), 5);
    }

    #[test]
    fn a_share_of_the_file_system_takes_the_place_of_the_size() {
        let settings = RetentionSettings {
            time_ms: None,
            bytes: Some(0),
            percent: Some(35),
        };
        let planned = plan_retention(&blocks(), settings.on_capacity(100), 5);
        assert_eq!(planned.len(), 2);
        let size_only = RetentionSettings {
            percent: None,
            ..settings
        };
        assert_eq!(
            plan_retention(&blocks(), size_only.on_capacity(100), 5).len(),
            5
        );
    }
}
