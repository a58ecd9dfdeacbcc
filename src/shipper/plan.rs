//! Which blocks go up, and in which order. Pure.

use std::collections::BTreeSet;

use crate::block::BlockMeta;
use crate::model::BlockId;

/// What to do with the local blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShipPlan {
    /// To be uploaded, oldest data first: nobody may see newer data in the bucket while older data is on its way.
    pub ship: Vec<BlockId>,
    /// Known to be in the bucket.
    pub shipped: BTreeSet<BlockId>,
    /// Left alone, and why.
    pub skipped: Vec<(BlockId, SkipReason)>,
}

/// Why a block is not uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It holds no sample.
    Empty,
    /// It was made of blocks that were uploaded themselves.
    Compacted,
    /// It was compacted here, and the bucket has a block of the same labels and of some of its times.
    Overlaps(BlockId),
}

/// Sorts the local blocks into what is to be done with them.
pub fn plan_shipping<'a>(
    local: impl IntoIterator<Item = &'a BlockMeta>,
    uploaded: &BTreeSet<BlockId>,
    upload_compacted: bool,
) -> ShipPlan {
    let mut plan = ShipPlan::default();
    let mut ship = Vec::new();
    for meta in local {
        if uploaded.contains(&meta.ulid) {
            plan.shipped.insert(meta.ulid);
        } else if meta.stats.num_samples == 0 {
            plan.skipped.push((meta.ulid, SkipReason::Empty));
        } else if 1 < meta.compaction.level && !upload_compacted {
            plan.skipped.push((meta.ulid, SkipReason::Compacted));
        } else {
            ship.push((meta.min_time, meta.ulid));
        }
    }
    ship.sort_unstable();
    plan.ship = ship.into_iter().map(|(_, id)| id).collect();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(n: u128, min_time: i64, level: u32, num_samples: u64) -> BlockMeta {
        let text = format!(
            r#"{{"version": 1, "ulid": "{}", "minTime": {min_time}, "maxTime": {},
            "stats": {{"numSamples": {num_samples}}}, "compaction": {{"level": {level}}}}}"#,
            id(n),
            min_time + 10
        );
        BlockMeta::decode(text.as_bytes()).unwrap()
    }

    fn id(n: u128) -> BlockId {
        BlockId::from_parts(1, n)
    }

    #[test]
    fn the_oldest_data_goes_first_whatever_the_ids_say() {
        let local = [meta(1, 30, 1, 5), meta(2, 10, 1, 5), meta(3, 20, 1, 5)];
        let plan = plan_shipping(&local, &BTreeSet::new(), false);
        assert_eq!(plan.ship, [id(2), id(3), id(1)]);
    }

    #[test]
    fn what_is_uploaded_empty_or_compacted_stays() {
        let local = [meta(1, 10, 1, 5), meta(2, 20, 1, 0), meta(3, 30, 2, 5)];
        let plan = plan_shipping(&local, &BTreeSet::from([id(1), id(9)]), false);
        assert_eq!(plan.ship, []);
        assert_eq!(plan.shipped, BTreeSet::from([id(1)]));
        let expect = [(id(2), SkipReason::Empty), (id(3), SkipReason::Compacted)];
        assert_eq!(plan.skipped, expect);
    }

    #[test]
    fn compacted_blocks_go_up_when_asked_for() {
        let plan = plan_shipping(&[meta(3, 30, 2, 5)], &BTreeSet::new(), true);
        assert_eq!(plan.ship, [id(3)]);
    }
}
