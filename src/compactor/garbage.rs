//! What nobody needs any more: copies, leftovers of uploads, blocks whose deletion was delayed long enough. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::BlockMeta;
use crate::compactor::group::GroupKey;
use crate::model::{BlockId, TimestampMs};

/// An upload that nothing was added to for so long was given up, as in Thanos.
pub const PARTIAL_AGE_MS: i64 = 48 * 3_600_000;

/// Blocks of which every source is in another block of the group, and which one that is.
///
/// Of blocks with the same sources the older name stays, as for whoever serves them.
pub fn duplicates<'a>(
    blocks: impl IntoIterator<Item = &'a BlockMeta>,
    replica_labels: &BTreeSet<String>,
) -> BTreeMap<BlockId, BlockId> {
    let mut groups: BTreeMap<GroupKey, Vec<(BlockId, BTreeSet<BlockId>)>> = BTreeMap::new();
    for meta in blocks {
        let group = groups
            .entry(GroupKey::of(meta, replica_labels))
            .or_default();
        group.push((meta.ulid, meta.sources().collect()));
    }
    let mut found = BTreeMap::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|(id, sources)| (std::cmp::Reverse(sources.len()), *id));
        // Who has a source, of those that stay.
        let mut holders: BTreeMap<BlockId, Vec<usize>> = BTreeMap::new();
        for (position, (id, sources)) in group.iter().enumerate() {
            let of_first = sources.first().and_then(|source| holders.get(source));
            let cover = of_first.into_iter().flatten().find_map(|&holder| {
                let (cover, all) = group.get(holder)?;
                sources.is_subset(all).then_some(*cover)
            });
            if let Some(cover) = cover {
                found.insert(*id, cover);
                continue;
            }
            for source in sources {
                holders.entry(*source).or_default().push(position);
            }
        }
    }
    found
}

/// Was the upload given up? `newest_ms` is when the last of its objects came, if there is one.
pub fn is_given_up(block: BlockId, newest_ms: Option<TimestampMs>, now_ms: TimestampMs) -> bool {
    let named_ms = i64::try_from(block.created_ms()).unwrap_or(i64::MAX);
    let last_ms = newest_ms.unwrap_or(named_ms);
    last_ms.saturating_add(PARTIAL_AGE_MS) < now_ms
}

/// Has a block been marked for as long as others may need to notice?
pub fn is_deletable(marked_ms: TimestampMs, delete_delay_ms: i64, now_ms: TimestampMs) -> bool {
    marked_ms.saturating_add(delete_delay_ms) <= now_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compactor::testing::{HOUR_MS, block, coarse, id, made_of};

    #[track_caller]
    fn check(blocks: &[BlockMeta], expect: &[(u64, u64)]) {
        let expect = expect.iter().map(|(gone, cover)| (id(*gone), id(*cover)));
        let replica_labels = BTreeSet::from(["replica".to_owned()]);
        assert_eq!(duplicates(blocks, &replica_labels), expect.collect());
    }

    #[test]
    fn a_compacted_block_covers_its_sources() {
        let merged = made_of(block(3, 0, 4), &[1, 2]);
        let larger = made_of(block(4, 0, 6), &[1, 2, 5]);
        let blocks = [block(1, 0, 2), block(2, 2, 4), merged, block(5, 4, 6)];
        check(&blocks, &[(1, 3), (2, 3)]);
        let all = [blocks.as_slice(), &[larger]].concat();
        check(&all, &[(1, 4), (2, 4), (3, 4), (5, 4)]);
    }

    #[test]
    fn parts_other_producers_and_other_resolutions_cover_nothing() {
        let mut foreign = made_of(block(7, 0, 4), &[1, 2]);
        foreign.thanos.as_mut().unwrap().labels.clear();
        let blocks = [
            made_of(block(1, 0, 4), &[1, 2]),
            made_of(block(2, 2, 6), &[2, 3]),
            foreign,
            made_of(coarse(8, 0, 4, 300_000), &[1, 2]),
        ];
        check(&blocks, &[]);
    }

    #[test]
    fn a_block_without_replica_labels_covers_the_replicas() {
        let mut replica = block(1, 0, 2);
        let labels = &mut replica.thanos.as_mut().unwrap().labels;
        labels.insert("replica".to_owned(), "a".to_owned());
        check(&[replica, made_of(block(3, 0, 2), &[1, 2])], &[(1, 3)]);
    }

    #[test]
    fn of_equal_blocks_the_older_name_stays() {
        let twins = [made_of(block(5, 0, 2), &[1]), made_of(block(4, 0, 2), &[1])];
        check(&twins, &[(5, 4)]);
    }

    #[test]
    fn an_upload_is_given_up_when_nothing_came_for_two_days() {
        let now = 100 * HOUR_MS;
        for (newest_h, expect) in [
            (None, true),
            (Some(51), true),
            (Some(52), false),
            (Some(99), false),
        ] {
            let newest_ms = newest_h.map(|h: i64| h * HOUR_MS);
            assert_eq!(is_given_up(id(1), newest_ms, now), expect, "{newest_h:?}");
        }
        let young = BlockId::from_parts(u64::try_from(now).unwrap() - 1, 0);
        assert!(!is_given_up(young, None, now));
    }

    #[test]
    fn a_mark_counts_after_the_delay() {
        assert!(is_deletable(10, 5, 15));
        assert!(!is_deletable(10, 5, 14));
        assert!(is_deletable(10, 0, 10));
    }
}
