//! Which blocks of a local database belong together.

use crate::block::{BlockMeta, meta};
use crate::model::{BlockId, TimestampMs};

/// Each level is this many times as long as the one below.
const LEVEL_FACTOR: i64 = 3;

/// No level is longer: 31 days.
const LEVEL_MS_MAX: i64 = 31 * 24 * 3_600_000;

/// A block with more tombstones than this share of its series is rewritten.
const TOMBSTONES_PER_SERIES: f64 = 0.05;

/// How long compacted blocks get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelSettings {
    /// Lengths of blocks, shortest first: that of a cut block, and its multiples.
    pub ranges_ms: Vec<i64>,
}

/// Why blocks are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Their times overlap.
    Overlap,
    /// They fill the next longer range.
    Level,
    /// Much of it was deleted.
    Tombstones,
}

/// Blocks to be made one, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionPlan {
    /// Which.
    pub blocks: Vec<BlockId>,
    /// Why.
    pub reason: Reason,
}

/// The levels of a database: three times as long each, up to 31 days or a tenth of what is kept.
pub fn levels(block_range_ms: i64, retention_ms: Option<i64>) -> LevelSettings {
    let tenth = retention_ms.filter(|kept| 0 < *kept).map(|kept| kept / 10);
    let longest = tenth.unwrap_or(LEVEL_MS_MAX).min(LEVEL_MS_MAX);
    let mut ranges_ms = vec![block_range_ms.max(1)];
    while let Some(next) = ranges_ms
        .last()
        .and_then(|last| last.checked_mul(LEVEL_FACTOR))
        && next <= longest
    {
        ranges_ms.push(next);
    }
    LevelSettings { ranges_ms }
}

/// What is to be compacted next, if anything; Prometheus' choice for the same blocks.
///
/// Blocks of a part of the head's series are only ever compacted among themselves, so that nobody takes the result for
/// all there is of its time. Blocks that failed are left alone.
pub fn plan(metas: &[&BlockMeta], levels: &LevelSettings) -> Option<CompactionPlan> {
    let class = |meta: &BlockMeta| {
        if meta.has_hint(meta::HINT_STALE_SERIES) {
            1
        } else if meta.has_hint(meta::HINT_SELECTED_SERIES) {
            2
        } else {
            0
        }
    };
    (0..3).find_map(|wanted| {
        let mut same: Vec<&BlockMeta> = metas.to_vec();
        same.retain(|meta| class(meta) == wanted);
        same.sort_by_key(|meta| (meta.min_time, meta.ulid));
        plan_class(&same, levels)
    })
}

fn plan_class(metas: &[&BlockMeta], levels: &LevelSettings) -> Option<CompactionPlan> {
    let planned = |blocks: &[&BlockMeta], reason| CompactionPlan {
        blocks: blocks.iter().map(|meta| meta.ulid).collect(),
        reason,
    };
    let overlapping = first_overlap(metas);
    if !overlapping.is_empty() {
        return Some(planned(&overlapping, Reason::Overlap));
    }
    // The newest stays as it was cut for the length of a block, so that backups can follow.
    let (_, older) = metas.split_last()?;
    if let Some(group) = first_full_window(older, levels) {
        return Some(planned(group, Reason::Level));
    }
    most_deleted(older, levels).map(|meta| planned(&[meta], Reason::Tombstones))
}

/// The first run of blocks in which each begins before one before it ends.
fn first_overlap<'a>(metas: &[&'a BlockMeta]) -> Vec<&'a BlockMeta> {
    let mut healthy = metas.iter().filter(|meta| !meta.compaction.failed);
    let Some(first) = healthy.next() else {
        return Vec::new();
    };
    let (mut before, mut end) = (*first, first.max_time);
    let mut group = Vec::new();
    for meta in healthy {
        if meta.min_time < end {
            if group.is_empty() {
                group.push(before);
            }
            group.push(*meta);
        } else if !group.is_empty() {
            break;
        }
        end = end.max(meta.max_time);
        before = meta;
    }
    group
}

/// The first window of a longer range that is full, or that no new block can come into.
fn first_full_window<'m, 'a>(
    metas: &'m [&'a BlockMeta],
    levels: &LevelSettings,
) -> Option<&'m [&'a BlockMeta]> {
    let newest_start = metas.last()?.min_time;
    levels.ranges_ms.iter().skip(1).find_map(|range| {
        windows(metas, *range).into_iter().find(|group| {
            let (Some(first), Some(last)) = (group.first(), group.last()) else {
                return false;
            };
            let is_full = last.max_time.saturating_sub(first.min_time) == *range;
            let is_past = last.max_time <= newest_start;
            1 < group.len()
                && (is_full || is_past)
                && !group.iter().any(|meta| meta.compaction.failed)
        })
    })
}

/// Blocks that lie whole in the same window of `range_ms`, counted from time zero.
fn windows<'m, 'a>(metas: &'m [&'a BlockMeta], range_ms: i64) -> Vec<&'m [&'a BlockMeta]> {
    let window_end = |t: TimestampMs| {
        t.div_euclid(range_ms)
            .saturating_add(1)
            .saturating_mul(range_ms)
    };
    let mut groups = Vec::new();
    let mut rest = metas;
    while let Some((first, after)) = rest.split_first() {
        let end = window_end(first.min_time);
        if end < first.max_time {
            rest = after;
            continue;
        }
        let n = rest.iter().take_while(|meta| meta.max_time <= end).count();
        let (group, after) = rest.split_at_checked(n).unwrap_or((rest, &[]));
        groups.push(group);
        rest = after;
    }
    groups
}

/// The newest long block of which much was deleted, or a newer short one of which everything may be.
fn most_deleted<'a>(metas: &[&'a BlockMeta], levels: &LevelSettings) -> Option<&'a BlockMeta> {
    let middle = levels.ranges_ms.get(levels.ranges_ms.len() / 2)?;
    for meta in metas.iter().rev().filter(|meta| !meta.compaction.failed) {
        let stats = meta.stats;
        if meta.max_time.saturating_sub(meta.min_time) < *middle {
            let may_be_empty = 0 < stats.num_tombstones && stats.num_series <= stats.num_tombstones;
            return may_be_empty.then_some(*meta);
        }
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let share = stats.num_tombstones as f64 / (stats.num_series + 1) as f64;
        if TOMBSTONES_PER_SERIES < share {
            return Some(*meta);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockCompaction, BlockStats};

    /// Hours from and to.
    fn block(n: u64, from: i64, to: i64) -> BlockMeta {
        BlockMeta {
            ulid: BlockId::from_parts(n, 0),
            min_time: from,
            max_time: to,
            stats: BlockStats {
                num_series: 99,
                ..BlockStats::default()
            },
            compaction: BlockCompaction::default(),
            version: 1,
            thanos: None,
            other: serde_json::Map::new(),
        }
    }

    fn blocks(ranges: &[(i64, i64)]) -> Vec<BlockMeta> {
        (0u64..)
            .zip(ranges)
            .map(|(n, &(from, to))| block(n, from, to))
            .collect()
    }

    fn planned(metas: &[BlockMeta]) -> Option<(Vec<u64>, Reason)> {
        let levels = LevelSettings {
            ranges_ms: vec![20, 60, 180],
        };
        let refs: Vec<&BlockMeta> = metas.iter().collect();
        let plan = plan(&refs, &levels)?;
        let ids = plan.blocks.iter().map(|id| id.created_ms()).collect();
        Some((ids, plan.reason))
    }

    #[test]
    fn levels_are_threefold_up_to_a_tenth_of_what_is_kept() {
        let hours = |levels: LevelSettings| -> Vec<i64> {
            levels.ranges_ms.iter().map(|ms| ms / 3_600_000).collect()
        };
        let hour = 3_600_000;
        assert_eq!(hours(levels(2 * hour, None)), [2, 6, 18, 54, 162, 486]);
        assert_eq!(hours(levels(2 * hour, Some(15 * 24 * hour))), [2, 6, 18]);
        assert_eq!(hours(levels(2 * hour, Some(hour))), [2]);
    }

    #[test]
    fn a_full_window_is_compacted_and_the_newest_block_never() {
        let at = |ranges: &[(i64, i64)]| planned(&blocks(ranges));
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[(0, 20), (20, 40), (40, 60)]), None);
        let four = [(0, 20), (20, 40), (40, 60), (60, 80)];
        assert_eq!(at(&four), Some((vec![0, 1, 2], Reason::Level)));
        // A gap at the end of the window: nothing comes into it any more once a newer block is there.
        let gap = [(0, 20), (20, 40), (60, 80), (80, 100)];
        assert_eq!(at(&gap), Some((vec![0, 1], Reason::Level)));
        assert_eq!(at(&[(0, 20), (20, 40), (60, 80)]), None);
        // Past is what ends where the newest of the others begins.
        let late = [(20, 40), (40, 60), (60, 80), (80, 100)];
        assert_eq!(at(&late), Some((vec![0, 1], Reason::Level)));
        // Blocks that cross the edge of a window stay out of it.
        let crossing = [
            (0, 20),
            (20, 40),
            (50, 70),
            (80, 100),
            (120, 140),
            (140, 160),
        ];
        assert_eq!(at(&crossing), Some((vec![0, 1], Reason::Level)));
        assert_eq!(at(&[(0, 70), (80, 100), (120, 140), (180, 200)]), None);
        let large = [(0, 60), (60, 120), (120, 180), (180, 200)];
        assert_eq!(at(&large), Some((vec![0, 1, 2], Reason::Level)));
        let negative = [(-60, -40), (-40, -20), (-20, 0), (0, 20)];
        assert_eq!(at(&negative), Some((vec![0, 1, 2], Reason::Level)));
    }

    #[test]
    fn overlaps_come_first_with_the_block_before_and_up_to_the_gap() {
        let metas = [(0, 20), (20, 40), (30, 50), (35, 60), (60, 80), (70, 90)];
        assert_eq!(
            planned(&blocks(&metas)),
            Some((vec![1, 2, 3], Reason::Overlap))
        );
        // The newest may overlap too. Its long forerunner, not the block just before it, is what it overlaps.
        let metas = [(0, 100), (20, 40), (99, 120)];
        assert_eq!(
            planned(&blocks(&metas)),
            Some((vec![0, 1, 2], Reason::Overlap))
        );
    }

    #[test]
    fn failed_blocks_are_left_alone() {
        let mut metas = blocks(&[(0, 20), (20, 40), (40, 60), (60, 80), (70, 90), (180, 200)]);
        for meta in &mut metas[1..=3] {
            meta.compaction.failed = true;
            meta.stats.num_tombstones = 99;
        }
        assert_eq!(planned(&metas), None);
        metas[1].compaction.failed = false;
        metas[2].compaction.failed = false;
        assert_eq!(planned(&metas), Some((vec![0, 1, 2], Reason::Level)));
    }

    #[test]
    fn blocks_of_a_part_of_the_series_stay_among_themselves() {
        let mut metas = blocks(&[(0, 20), (0, 20), (20, 40), (40, 60), (20, 40), (60, 80)]);
        for n in [0, 4] {
            metas[n].compaction.hints = vec![meta::HINT_STALE_SERIES.to_owned()];
        }
        metas[2].compaction.hints = vec![meta::HINT_OUT_OF_ORDER.to_owned()];
        assert_eq!(planned(&metas), Some((vec![1, 2, 3], Reason::Level)));
        metas.drain(1..4);
        assert_eq!(planned(&metas), None);
        metas[1].min_time = 10;
        assert_eq!(planned(&metas), Some((vec![0, 4], Reason::Overlap)));
    }

    #[test]
    fn much_deleted_blocks_are_rewritten() {
        // 5 of 99 + 1 series is not more than a twentieth; 6 are.
        let with = |ranges: &[(i64, i64)], tombstones: &[u64]| {
            let mut metas = blocks(ranges);
            for (meta, n) in metas.iter_mut().zip(tombstones) {
                meta.stats.num_tombstones = *n;
            }
            planned(&metas)
        };
        let ranges = [(0, 60), (60, 120), (180, 200)];
        assert_eq!(with(&ranges, &[5, 5, 99]), None);
        assert_eq!(with(&ranges, &[6, 5]), Some((vec![0], Reason::Tombstones)));
        assert_eq!(with(&ranges, &[6, 6]), Some((vec![1], Reason::Tombstones)));
        // A short block ends the search, unless all of it may be gone.
        let ranges = [(0, 60), (60, 80), (180, 200)];
        assert_eq!(with(&ranges, &[6, 98]), None);
        assert_eq!(with(&ranges, &[6, 99]), Some((vec![1], Reason::Tombstones)));
    }
}
