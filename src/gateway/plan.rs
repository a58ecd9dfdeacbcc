//! Which of the bucket's blocks are served. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::BlockMeta;
use crate::inventory::KnownBlock;
use crate::model::{BlockId, Resolution, TimestampMs};

/// What to serve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadPlan {
    /// To be served, sorted.
    pub load: BTreeSet<BlockId>,
    /// Not to be served, and why.
    pub excluded: BTreeMap<BlockId, ExcludeReason>,
}

/// Why a whole block is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExcludeReason {
    /// Marked for deletion longer ago than the delay: what replaces it has been served since.
    MarkedForDeletion,
    /// All that it was made of is in this other block too, at the same resolution.
    Duplicate(BlockId),
    /// Its samples are as far apart as in no block that anybody makes.
    UnknownResolution,
    /// None of its samples is of the times that are served here.
    OutsideOfTime,
    /// The selector leaves it to another gateway.
    OtherShard,
    /// Younger than the consistency delay.
    TooFresh,
}

/// Blocks that may replace each other: of one resolution and one producer.
type GroupKey<'a> = (Resolution, Option<&'a BTreeMap<String, String>>);

/// Decides; a mark hides its block once `mark_delay_ms` has passed.
pub fn plan_loading(
    candidates: &[KnownBlock],
    now_ms: TimestampMs,
    mark_delay_ms: i64,
) -> LoadPlan {
    let mut plan = LoadPlan::default();
    let mut groups: BTreeMap<GroupKey<'_>, Vec<&BlockMeta>> = BTreeMap::new();
    for candidate in candidates {
        let meta = &candidate.meta;
        let is_hidden = candidate
            .marked_ms
            .is_some_and(|since| since.saturating_add(mark_delay_ms) <= now_ms);
        if is_hidden {
            let reason = ExcludeReason::MarkedForDeletion;
            plan.excluded.insert(meta.ulid, reason);
        } else if let Some(resolution) = meta.resolution() {
            let labels = meta.thanos.as_ref().map(|thanos| &thanos.labels);
            groups.entry((resolution, labels)).or_default().push(meta);
        } else {
            let reason = ExcludeReason::UnknownResolution;
            plan.excluded.insert(meta.ulid, reason);
        }
    }
    for blocks in groups.into_values() {
        keep_the_fullest(blocks, &mut plan);
    }
    plan
}

/// Of blocks of the same producer and resolution those are left out whose sources are all in another one.
fn keep_the_fullest(mut blocks: Vec<&BlockMeta>, plan: &mut LoadPlan) {
    let sources = |meta: &BlockMeta| -> BTreeSet<BlockId> {
        if meta.compaction.sources.is_empty() {
            return BTreeSet::from([meta.ulid]);
        }
        meta.compaction.sources.iter().copied().collect()
    };
    blocks.sort_by_key(|meta| (std::cmp::Reverse(sources(meta).len()), meta.ulid));
    // Who keeps a source: the first block that has it has the most sources of all that do.
    let mut keepers: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
    let mut kept: Vec<(BlockId, BTreeSet<BlockId>)> = Vec::new();
    for meta in blocks {
        let own = sources(meta);
        let holders = own.first().and_then(|source| keepers.get(source));
        let twin = holders.into_iter().flatten().find_map(|&number| {
            let (id, all) = kept.get(number)?;
            own.is_subset(all).then_some(*id)
        });
        if let Some(twin) = twin {
            plan.excluded
                .insert(meta.ulid, ExcludeReason::Duplicate(twin));
            continue;
        }
        for source in &own {
            keepers.entry(*source).or_default().push(kept.len());
        }
        kept.push((meta.ulid, own));
        plan.load.insert(meta.ulid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const DAY_MS: i64 = 86_400_000;

    fn id(n: u128) -> BlockId {
        BlockId::from_parts(1, n)
    }

    fn candidate(n: u128, cluster: &str, sources: &[u128], resolution: i64) -> KnownBlock {
        let sources: Vec<_> = sources.iter().map(|n| id(*n)).collect();
        let json = serde_json::json!({
            "version": 1, "ulid": id(n), "minTime": 0, "maxTime": 10,
            "compaction": {"level": 1, "sources": sources},
            "thanos": {"labels": {"cluster": cluster}, "downsample": {"resolution": resolution}},
        });
        KnownBlock::new(BlockMeta::decode(json.to_string().as_bytes()).unwrap())
    }

    #[track_caller]
    fn check(candidates: &[KnownBlock], load: &[u128], excluded: &[(u128, ExcludeReason)]) {
        let plan = plan_loading(candidates, NOW_MS, DAY_MS);
        assert_eq!(plan.load, load.iter().map(|n| id(*n)).collect());
        let excluded = excluded.iter().map(|(n, reason)| (id(*n), *reason));
        assert_eq!(plan.excluded, excluded.collect());
    }

    #[test]
    fn a_compacted_block_replaces_its_sources() {
        let blocks = [
            candidate(1, "a", &[1], 0),
            candidate(2, "a", &[2], 0),
            candidate(3, "a", &[1, 2], 0),
            candidate(4, "a", &[4], 0),
        ];
        let twin = ExcludeReason::Duplicate(id(3));
        check(&blocks, &[3, 4], &[(1, twin), (2, twin)]);
    }

    #[test]
    fn of_equal_blocks_the_older_id_is_served() {
        let blocks = [candidate(5, "a", &[1, 2], 0), candidate(3, "a", &[2, 1], 0)];
        check(&blocks, &[3], &[(5, ExcludeReason::Duplicate(id(3)))]);
    }

    #[test]
    fn partly_shared_sources_and_other_producers_are_no_duplicates() {
        let blocks = [
            candidate(1, "a", &[1, 2, 3], 0),
            candidate(2, "a", &[3, 4], 0),
            candidate(3, "b", &[1], 0),
        ];
        check(&blocks, &[1, 2, 3], &[]);
    }

    #[test]
    fn a_mark_hides_a_block_after_the_delay_and_not_before() {
        let mut blocks = [candidate(1, "a", &[], 0), candidate(2, "a", &[], 0)];
        blocks[0].marked_ms = Some(NOW_MS - DAY_MS);
        blocks[1].marked_ms = Some(NOW_MS - DAY_MS + 1);
        check(&blocks, &[2], &[(1, ExcludeReason::MarkedForDeletion)]);
    }

    #[test]
    fn a_block_and_what_was_downsampled_from_it_do_not_replace_each_other() {
        let blocks = [
            candidate(1, "a", &[1], 0),
            candidate(2, "a", &[1], 300_000),
            candidate(3, "a", &[1, 2], 300_000),
            candidate(4, "a", &[1, 2], 3_600_000),
        ];
        let twin = ExcludeReason::Duplicate(id(3));
        check(&blocks, &[1, 3, 4], &[(2, twin)]);
    }

    #[test]
    fn a_resolution_that_nobody_makes_is_not_served() {
        let blocks = [candidate(1, "a", &[1], 0), candidate(2, "a", &[1], 60_000)];
        check(&blocks, &[1], &[(2, ExcludeReason::UnknownResolution)]);
    }
}
