//! Which blocks of a group become one next: Thanos' choice for the same blocks. Pure.

use std::collections::BTreeSet;

use crate::block::BlockMeta;
use crate::model::BlockId;

const HOUR_MS: i64 = 3_600_000;

/// Base range, then what blocks are compacted to: 2 h, 8 h, 2 d, 14 d.
pub const RANGES_MS: [i64; 5] = [
    HOUR_MS,
    2 * HOUR_MS,
    8 * HOUR_MS,
    48 * HOUR_MS,
    336 * HOUR_MS,
];

/// A block with more tombstones than this share of its series is rewritten.
const TOMBSTONES_PER_SERIES: f64 = 0.05;

/// Of the largest index, what the sources' indexes may have together, in percent: a merged one can be larger.
const INDEX_PERCENT_MAX: u64 = 85;

/// Largest index that the format addresses: 64 GiB.
pub const INDEX_BYTES_MAX: u64 = 64 << 30;

/// A block of the group.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What it is.
    pub meta: BlockMeta,
    /// Has a no-compact mark or is in quarantine: it stays as it is, and nothing is merged across it.
    pub is_excluded: bool,
    /// Length of its index.
    pub index_bytes: u64,
}

/// Why blocks are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Their times overlap.
    Overlap,
    /// They fill the next longer range, or nothing new can come into it.
    Level,
    /// Much of it was deleted.
    Tombstones,
}

/// Why a block is to have a no-compact mark, as the mark says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusion {
    /// The merged index could be larger than the format allows.
    IndexSize,
    /// Aggregates that overlap cannot be merged without the samples they were made of.
    DownsampledOverlap,
}

impl Exclusion {
    /// The word in the mark.
    pub fn reason(self) -> &'static str {
        match self {
            Self::IndexSize => "index-size-exceeding",
            Self::DownsampledOverlap => "downsample-vertical-compaction",
        }
    }

    /// The sentence in the mark.
    pub fn details(self) -> &'static str {
        match self {
            Self::IndexSize => {
                "the index of a block compacted from this one and its neighbours could be larger than an index can be"
            }
            Self::DownsampledOverlap => "downsampled blocks that overlap are not compacted",
        }
    }
}

/// What to do with a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// To be marked first; planned without them.
    pub exclude: Vec<(BlockId, Exclusion)>,
    /// Blocks to be made one, oldest first, and why.
    pub compact: Option<(Vec<BlockId>, Reason)>,
}

/// Plans one compaction of a group; `index_bytes_max` as in [`INDEX_BYTES_MAX`].
pub fn plan(candidates: &[Candidate], index_bytes_max: u64) -> Plan {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    // Stable: blocks that begin together stay as they were given.
    sorted.sort_by_key(|candidate| candidate.meta.min_time);
    let mut excluded: BTreeSet<BlockId> = candidates
        .iter()
        .filter(|candidate| candidate.is_excluded)
        .map(|candidate| candidate.meta.ulid)
        .collect();
    let mut plan = Plan::default();
    loop {
        let Some((blocks, reason)) = choose(&sorted, &excluded) else {
            return plan;
        };
        let mut refused: Vec<(BlockId, Exclusion)> = Vec::new();
        if let Some(largest) = too_large(&blocks, index_bytes_max) {
            refused.push((largest, Exclusion::IndexSize));
        } else if !overlapping(&blocks).is_empty() {
            let coarse = blocks
                .iter()
                .filter(|block| block.meta.thanos.as_ref().is_some_and(is_downsampled));
            refused.extend(coarse.map(|block| (block.meta.ulid, Exclusion::DownsampledOverlap)));
        }
        if refused.is_empty() {
            let ids = blocks.iter().map(|block| block.meta.ulid).collect();
            plan.compact = Some((ids, reason));
            return plan;
        }
        excluded.extend(refused.iter().map(|(block, _)| *block));
        plan.exclude.extend(refused);
    }
}

fn is_downsampled(thanos: &crate::block::ThanosMeta) -> bool {
    thanos.downsample.resolution != 0
}

/// Prometheus' choice, with blocks in between that stay as they are.
fn choose<'a>(
    sorted: &[&'a Candidate],
    excluded: &BTreeSet<BlockId>,
) -> Option<(Vec<&'a Candidate>, Reason)> {
    let free = |candidate: &&Candidate| !excluded.contains(&candidate.meta.ulid);
    let kept: Vec<&Candidate> = sorted.iter().copied().filter(free).collect();
    let run = overlapping(&kept);
    if !run.is_empty() {
        return Some((run, Reason::Overlap));
    }
    // The newest stays as it was uploaded for the length of a block.
    let (_, older) = sorted.split_last()?;
    if let Some(run) = first_full_window(older, excluded) {
        return Some((run, Reason::Level));
    }
    let kept: Vec<&Candidate> = older.iter().copied().filter(free).collect();
    most_deleted(&kept).map(|block| (vec![block], Reason::Tombstones))
}

/// The first run of blocks in which each begins before one before it ends.
fn overlapping<'a>(sorted: &[&'a Candidate]) -> Vec<&'a Candidate> {
    let mut run: Vec<&Candidate> = Vec::new();
    let Some((&first, rest)) = sorted.split_first() else {
        return run;
    };
    let (mut before, mut end) = (first, first.meta.max_time);
    for &block in rest {
        if block.meta.min_time < end {
            if run.is_empty() {
                run.push(before);
            }
            run.push(block);
        } else if !run.is_empty() {
            break;
        }
        end = end.max(block.meta.max_time);
        before = block;
    }
    run
}

/// The first window of a longer range that is full, or that no new block can come into.
fn first_full_window<'a>(
    sorted: &[&'a Candidate],
    excluded: &BTreeSet<BlockId>,
) -> Option<Vec<&'a Candidate>> {
    let newest_start = sorted.last()?.meta.min_time;
    let (_, ranges) = RANGES_MS.split_first()?;
    for &range_ms in ranges {
        for window in windows(sorted, range_ms) {
            let (Some(first), Some(last)) = (window.first(), window.last()) else {
                continue;
            };
            let has_failed = window.iter().any(|block| block.meta.compaction.failed);
            let is_full = last.meta.max_time.saturating_sub(first.meta.min_time) == range_ms;
            let is_past = last.meta.max_time <= newest_start;
            if has_failed || window.len() < 2 || !(is_full || is_past) {
                continue;
            }
            let is_excluded = |block: &&Candidate| excluded.contains(&block.meta.ulid);
            let mut runs = window.split(is_excluded);
            if let Some(run) = runs.find(|run| 1 < run.len()) {
                return Some(run.to_vec());
            }
        }
    }
    None
}

/// Blocks that lie whole in the same window of `range_ms`, counted from time zero.
fn windows<'m, 'a>(sorted: &'m [&'a Candidate], range_ms: i64) -> Vec<&'m [&'a Candidate]> {
    let mut windows = Vec::new();
    let mut rest = sorted;
    while let Some((first, after)) = rest.split_first() {
        let start = first.meta.min_time.div_euclid(range_ms);
        let end = start.saturating_add(1).saturating_mul(range_ms);
        if end < first.meta.max_time {
            rest = after;
            continue;
        }
        let fits = |block: &&&Candidate| block.meta.max_time <= end;
        let n = rest.iter().take_while(fits).count();
        let (window, after) = rest.split_at_checked(n).unwrap_or((rest, &[]));
        windows.push(window);
        rest = after;
    }
    windows
}

/// The newest long block of which much was deleted; shorter ones are rewritten soon anyway.
fn most_deleted<'a>(sorted: &[&'a Candidate]) -> Option<&'a Candidate> {
    let middle_ms = RANGES_MS.get(RANGES_MS.len() / 2).copied()?;
    let newest_first = sorted.iter().rev().copied();
    let mut long = newest_first
        .take_while(|block| middle_ms <= block.meta.max_time.saturating_sub(block.meta.min_time));
    long.find(|block| {
        let stats = block.meta.stats;
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let share = stats.num_tombstones as f64 / (stats.num_series.saturating_add(1)) as f64;
        TOMBSTONES_PER_SERIES < share
    })
}

/// The block with the largest index of those that together come near the limit.
fn too_large(blocks: &[&Candidate], index_bytes_max: u64) -> Option<BlockId> {
    let limit = index_bytes_max / 100 * INDEX_PERCENT_MAX;
    let mut total: u64 = 0;
    let mut largest: Option<&Candidate> = None;
    for block in blocks {
        if largest.is_none_or(|largest| largest.index_bytes < block.index_bytes) {
            largest = Some(block);
        }
        total = total.saturating_add(block.index_bytes);
        if limit <= total {
            return largest.map(|largest| largest.meta.ulid);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compactor::testing::{block, coarse, id};

    fn candidates(spans: &[(i64, i64)]) -> Vec<Candidate> {
        let numbered = (1u64..).zip(spans);
        numbered
            .map(|(n, &(from, to))| Candidate {
                meta: block(n, from, to),
                is_excluded: false,
                index_bytes: 10,
            })
            .collect()
    }

    #[track_caller]
    fn expect(candidates: &[Candidate], blocks: &[u64], reason: Reason) {
        let plan = plan(candidates, INDEX_BYTES_MAX);
        let ids: Vec<_> = blocks.iter().map(|n| id(*n)).collect();
        let expect = (!ids.is_empty()).then_some((ids, reason));
        assert_eq!(plan.compact, expect);
        assert_eq!(plan.exclude, []);
    }

    #[track_caller]
    fn check(spans: &[(i64, i64)], blocks: &[u64]) {
        expect(&candidates(spans), blocks, Reason::Level);
    }

    #[track_caller]
    fn check_without(spans: &[(i64, i64)], excluded: &[u64], blocks: &[u64]) {
        let mut candidates = candidates(spans);
        for candidate in &mut candidates {
            candidate.is_excluded = excluded.iter().any(|n| id(*n) == candidate.meta.ulid);
        }
        expect(&candidates, blocks, Reason::Level);
    }

    const TWO_HOURS: [(i64, i64); 6] = [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)];

    #[test]
    fn nothing_and_one_block_wait() {
        check(&[], &[]);
        check(&[(0, 2)], &[]);
        check(&[(0, 2), (2, 4)], &[]);
    }

    #[test]
    fn a_full_window_is_compacted_without_the_newest_block() {
        check(TWO_HOURS.get(..4).unwrap(), &[]);
        check(TWO_HOURS.get(..5).unwrap(), &[1, 2, 3, 4]);
        check(&TWO_HOURS, &[1, 2, 3, 4]);
    }

    #[test]
    fn a_window_with_gaps_is_compacted_when_newer_blocks_begin_behind_it() {
        check(&[(0, 2), (4, 6), (8, 10)], &[]);
        check(&[(0, 2), (4, 6), (8, 10), (10, 12)], &[1, 2]);
        check(&[(0, 2), (6, 8), (8, 10)], &[1, 2]);
    }

    #[test]
    fn shorter_ranges_come_first_and_longer_follow() {
        let two_days: Vec<_> = (0..6).map(|n| (n * 8, n * 8 + 8)).collect();
        let with = |more: &[(i64, i64)]| [two_days.as_slice(), more].concat();
        check(&with(&[]), &[]);
        check(&with(&[(48, 56)]), &[1, 2, 3, 4, 5, 6]);
        let late = [(48, 50), (50, 52), (52, 54), (54, 56), (56, 58)];
        check(&with(&late), &[7, 8, 9, 10]);
        let fortnight: Vec<_> = (0..8).map(|n| (n * 48, n * 48 + 48)).collect();
        check(&fortnight, &[1, 2, 3, 4, 5, 6, 7]);
        // No range is longer.
        check(&[(0, 336), (336, 672), (672, 1008), (1008, 1344)], &[]);
    }

    #[test]
    fn small_blocks_within_one_window_of_two_hours_are_compacted_too() {
        check(&[(0, 1), (1, 2), (2, 4)], &[1, 2]);
    }

    #[test]
    fn a_block_that_crosses_windows_is_passed_over() {
        check(&[(0, 2), (2, 4), (6, 10), (10, 12), (12, 14)], &[1, 2]);
        let spans = [(-2, 1), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)];
        check(&spans, &[2, 3, 4]);
    }

    #[test]
    fn windows_before_time_zero_are_aligned_as_those_behind_it() {
        check(
            &[(-8, -6), (-6, -4), (-4, -2), (-2, 0), (0, 2)],
            &[1, 2, 3, 4],
        );
    }

    #[test]
    fn a_window_with_a_failed_block_is_left_alone() {
        let mut candidates = candidates(&TWO_HOURS);
        candidates.get_mut(1).unwrap().meta.compaction.failed = true;
        expect(&candidates, &[], Reason::Level);
    }

    #[test]
    fn excluded_blocks_cut_their_window() {
        check_without(&TWO_HOURS, &[1], &[2, 3, 4]);
        check_without(&TWO_HOURS, &[2], &[3, 4]);
        check_without(&TWO_HOURS, &[3], &[1, 2]);
        check_without(&TWO_HOURS, &[2, 3], &[]);
        check_without(&TWO_HOURS, &[4], &[1, 2, 3]);
        check_without(&TWO_HOURS, &[1, 2, 3, 4], &[]);
        // The newest is left out whether it is excluded or not.
        check_without(&TWO_HOURS, &[6], &[1, 2, 3, 4]);
    }

    #[test]
    fn overlaps_come_first_with_the_block_before_and_up_to_the_gap() {
        let spans = [(0, 2), (2, 4), (3, 6), (5, 8), (8, 10), (10, 12)];
        expect(&candidates(&spans), &[2, 3, 4], Reason::Overlap);
        // Even the newest.
        expect(&candidates(&[(0, 2), (0, 2)]), &[1, 2], Reason::Overlap);
        expect(
            &candidates(&[(0, 8), (2, 4), (6, 10)]),
            &[1, 2, 3],
            Reason::Overlap,
        );
    }

    #[test]
    fn an_excluded_block_overlaps_nothing() {
        let mut candidates = candidates(&[(0, 2), (0, 2), (2, 4)]);
        candidates.get_mut(0).unwrap().is_excluded = true;
        expect(&candidates, &[], Reason::Overlap);
    }

    #[test]
    fn much_deleted_long_blocks_are_rewritten_newest_first() {
        let mut candidates = candidates(&[(0, 8), (8, 16), (48, 56), (96, 104)]);
        for (n, tombstones) in [(0, 6), (1, 6), (2, 5)] {
            candidates.get_mut(n).unwrap().meta.stats.num_tombstones = tombstones;
            candidates.get_mut(n).unwrap().meta.compaction.failed = true;
        }
        expect(&candidates, &[2], Reason::Tombstones);
        candidates.get_mut(2).unwrap().meta.stats.num_tombstones = 6;
        expect(&candidates, &[3], Reason::Tombstones);
        // A short block ends the search.
        candidates.get_mut(2).unwrap().meta.max_time -= 1;
        expect(&candidates, &[], Reason::Tombstones);
    }

    #[test]
    fn downsampled_blocks_that_overlap_are_excluded() {
        let candidates: Vec<_> = [coarse(1, 0, 48, 300_000), coarse(2, 0, 48, 300_000)]
            .into_iter()
            .map(|meta| Candidate {
                meta,
                is_excluded: false,
                index_bytes: 10,
            })
            .collect();
        let why = Exclusion::DownsampledOverlap;
        let expect = Plan {
            exclude: vec![(id(1), why), (id(2), why)],
            compact: None,
        };
        assert_eq!(plan(&candidates, INDEX_BYTES_MAX), expect);
    }

    #[test]
    fn indexes_that_would_grow_too_large_are_excluded_largest_first() {
        let mut candidates = candidates(&TWO_HOURS);
        candidates.get_mut(1).unwrap().index_bytes = 60;
        let found = plan(&candidates, 100);
        let expect = Plan {
            exclude: vec![(id(2), Exclusion::IndexSize)],
            compact: Some((vec![id(3), id(4)], Reason::Level)),
        };
        assert_eq!(found, expect, "10 and 60 and 10 and 10 are not below 85");
        let found = plan(&candidates, 200);
        assert_eq!(found.exclude, []);
    }
}
