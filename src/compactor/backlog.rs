//! How much is left to do, by doing it on paper. Pure.

use std::collections::BTreeMap;

use crate::compact::merged_block;
use crate::compactor::group::GroupKey;
use crate::compactor::plan::{Candidate, plan};
use crate::model::BlockId;

/// More rounds than this are not looked ahead, in each group.
const ROUNDS_MAX: u64 = 10_000;

/// What compaction has left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Compactions, those included that the results of others will need.
    pub n_compactions: u64,
    /// Blocks that go into them.
    pub n_blocks: u64,
    /// Bytes of those blocks.
    pub n_bytes: u64,
}

/// Plans all groups to the end.
pub fn backlog(
    groups: &BTreeMap<GroupKey, Vec<Candidate>>,
    n_bytes: &BTreeMap<BlockId, u64>,
    index_bytes_max: u64,
) -> Backlog {
    let mut backlog = Backlog::default();
    for (number, candidates) in (0u64..).zip(groups.values()) {
        let mut candidates = candidates.clone();
        let mut n_bytes = n_bytes.clone();
        for round in 0..ROUNDS_MAX {
            let planned = plan(&candidates, index_bytes_max);
            for (block, _) in &planned.exclude {
                let excluded = candidates.iter_mut().find(|one| one.meta.ulid == *block);
                if let Some(one) = excluded {
                    one.is_excluded = true;
                }
            }
            let Some((blocks, _)) = planned.compact else {
                break;
            };
            let (merged, rest): (Vec<Candidate>, Vec<Candidate>) = candidates
                .into_iter()
                .partition(|one| blocks.contains(&one.meta.ulid));
            backlog.n_compactions += 1;
            backlog.n_blocks += merged.len() as u64;
            let sizes = merged.iter().filter_map(|one| n_bytes.get(&one.meta.ulid));
            let total: u64 = sizes.sum();
            backlog.n_bytes = backlog.n_bytes.saturating_add(total);
            candidates = rest;
            // A name nobody has: the time of names begins with the first block.
            let id = BlockId::from_parts(number, u128::from(round));
            if let Some(result) = on_paper(id, &merged) {
                n_bytes.insert(id, total);
                candidates.push(result);
            }
        }
    }
    backlog
}

fn on_paper(id: BlockId, merged: &[Candidate]) -> Option<Candidate> {
    let metas: Vec<_> = merged.iter().map(|one| &one.meta).collect();
    let new = merged_block(id, &metas);
    let mut meta = (*metas.first()?).clone();
    meta.ulid = id;
    (meta.min_time, meta.max_time) = (new.range.min, new.range.max);
    meta.stats.num_tombstones = 0;
    meta.compaction.level = new.level;
    meta.compaction.sources = metas.iter().flat_map(|meta| meta.sources()).collect();
    Some(Candidate {
        meta,
        is_excluded: false,
        index_bytes: merged.iter().map(|one| one.index_bytes).max()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compactor::plan::INDEX_BYTES_MAX;
    use crate::compactor::testing::{block, id};
    use std::collections::BTreeSet;

    #[test]
    fn results_are_compacted_on_paper_too() {
        // Two days of two hours, and one block behind them.
        let candidates: Vec<_> = (0..25u64)
            .map(|n| Candidate {
                meta: block(n + 1, n.cast_signed() * 2, n.cast_signed() * 2 + 2),
                is_excluded: false,
                index_bytes: 1,
            })
            .collect();
        let key = GroupKey::of(&block(1, 0, 2), &BTreeSet::new());
        let n_bytes = (1..=25).map(|n| (id(n), 10)).collect();
        let groups = BTreeMap::from([(key, candidates)]);
        let expect = Backlog {
            n_compactions: 7,
            n_blocks: 24 + 6,
            n_bytes: 480,
        };
        assert_eq!(backlog(&groups, &n_bytes, INDEX_BYTES_MAX), expect);
    }
}
