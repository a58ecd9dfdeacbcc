//! Which blocks become coarser ones.

use std::collections::HashSet;

use crate::block::BlockMeta;
use crate::model::{BlockId, Resolution};

/// A raw block that spans less is left to compaction: it would become less than about two chunks.
pub const RAW_SPAN_MS_MIN: i64 = 40 * 60 * 60 * 1_000;

/// The same for a block of five minutes.
pub const FIVE_MINUTES_SPAN_MS_MIN: i64 = 10 * 24 * 60 * 60 * 1_000;

/// A block of the bucket.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What it is.
    pub meta: &'a BlockMeta,
    /// Somebody marked it as not to be downsampled.
    pub is_marked: bool,
}

/// One block that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownsampleTask {
    /// The finer block.
    pub block: BlockId,
    /// What is to be made of it.
    pub to: Resolution,
    /// How many samples, or windows, it holds, as its meta.json counts them.
    pub n_samples: u64,
}

/// What there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownsamplePlan {
    /// In order of block names, which is the order in which they were made.
    pub tasks: Vec<DownsampleTask>,
    /// Blocks that would be due but for their mark.
    pub marked: Vec<BlockId>,
    /// Blocks of a resolution that does not exist.
    pub odd: Vec<BlockId>,
}

impl DownsamplePlan {
    /// How many blocks wait to become `to`.
    pub fn n_blocks(&self, to: Resolution) -> usize {
        self.tasks.iter().filter(|task| task.to == to).count()
    }

    /// How many samples all of them hold.
    pub fn n_samples(&self) -> u64 {
        self.tasks.iter().map(|task| task.n_samples).sum()
    }
}

/// What a block of this resolution becomes, if there is anything coarser.
pub fn coarser(resolution: Resolution) -> Option<Resolution> {
    match resolution {
        Resolution::Raw => Some(Resolution::FiveMinutes),
        Resolution::FiveMinutes => Some(Resolution::OneHour),
        Resolution::OneHour => None,
    }
}

/// Which blocks cut from a head are there in which coarser resolution.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    five_minutes: HashSet<BlockId>,
    one_hour: HashSet<BlockId>,
}

impl Coverage {
    /// What these blocks cover. Blocks that are about to be deleted must not be among them.
    pub fn of<'a>(metas: impl IntoIterator<Item = &'a BlockMeta>) -> Self {
        let mut coverage = Self::default();
        for meta in metas {
            let covered = match meta.resolution() {
                Some(Resolution::FiveMinutes) => &mut coverage.five_minutes,
                Some(Resolution::OneHour) => &mut coverage.one_hour,
                Some(Resolution::Raw) | None => continue,
            };
            covered.extend(meta.sources());
        }
        coverage
    }

    /// Is everything of this block there in the next coarser resolution? True where there is none. What is not may not be
    /// retired while downsampling is on.
    pub fn covers(&self, meta: &BlockMeta) -> bool {
        let Some(resolution) = meta.resolution() else {
            return false;
        };
        let covered = match resolution {
            Resolution::Raw => &self.five_minutes,
            Resolution::FiveMinutes => &self.one_hour,
            Resolution::OneHour => return true,
        };
        meta.sources().all(|source| covered.contains(&source))
    }
}

/// What is due among all blocks of the bucket; those that are about to be deleted must not be among them.
///
/// A mark keeps a block from being downsampled. Unlike in Thanos it does not make the block's parent due again.
pub fn plan(blocks: &[Candidate<'_>]) -> DownsamplePlan {
    let coverage = Coverage::of(blocks.iter().map(|candidate| candidate.meta));
    let mut plan = DownsamplePlan::default();
    for Candidate { meta, is_marked } in blocks {
        let Some(resolution) = meta.resolution() else {
            plan.odd.push(meta.ulid);
            continue;
        };
        let Some(to) = coarser(resolution) else {
            continue;
        };
        let span_ms_min = if to == Resolution::FiveMinutes {
            RAW_SPAN_MS_MIN
        } else {
            FIVE_MINUTES_SPAN_MS_MIN
        };
        let span_ms = meta.max_time.saturating_sub(meta.min_time);
        if span_ms < span_ms_min || coverage.covers(meta) {
            continue;
        }
        if *is_marked {
            plan.marked.push(meta.ulid);
            continue;
        }
        plan.tasks.push(DownsampleTask {
            block: meta.ulid,
            to,
            n_samples: meta.stats.num_samples,
        });
    }
    plan.tasks.sort_unstable_by_key(|task| task.block);
    plan.marked.sort_unstable();
    plan.odd.sort_unstable();
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockCompaction, BlockStats, ThanosDownsample, ThanosMeta};

    const HOUR_MS: i64 = 3_600_000;

    fn id(n: u8) -> BlockId {
        BlockId::from_parts(u64::from(n), 0)
    }

    fn block(n: u8, resolution: i64, hours: i64, sources: &[u8]) -> BlockMeta {
        BlockMeta {
            ulid: id(n),
            min_time: HOUR_MS,
            max_time: HOUR_MS + hours * HOUR_MS,
            stats: BlockStats {
                num_samples: 10,
                ..BlockStats::default()
            },
            compaction: BlockCompaction {
                sources: sources.iter().map(|n| id(*n)).collect(),
                ..BlockCompaction::default()
            },
            version: 1,
            thanos: Some(ThanosMeta {
                downsample: ThanosDownsample { resolution },
                ..ThanosMeta::default()
            }),
            other: serde_json::Map::new(),
        }
    }

    fn due(blocks: &[BlockMeta], marked: &[u8]) -> DownsamplePlan {
        let candidates: Vec<Candidate<'_>> = blocks
            .iter()
            .map(|meta| Candidate {
                meta,
                is_marked: marked.iter().any(|n| id(*n) == meta.ulid),
            })
            .collect();
        plan(&candidates)
    }

    fn names(plan: &DownsamplePlan) -> Vec<(BlockId, Resolution)> {
        plan.tasks
            .iter()
            .map(|task| (task.block, task.to))
            .collect()
    }

    #[test]
    fn a_block_is_due_from_the_span_that_its_resolution_needs() {
        use Resolution::{FiveMinutes, OneHour};
        let blocks = [
            block(9, 0, 40, &[1]),
            block(2, 0, 39, &[2]),
            block(3, 300_000, 240, &[3]),
            block(4, 300_000, 239, &[4]),
            block(5, 3_600_000, 9_999, &[5]),
        ];
        let plan = due(&blocks, &[]);
        assert_eq!(names(&plan), [(id(3), OneHour), (id(9), FiveMinutes)]);
        assert_eq!((plan.n_blocks(FiveMinutes), plan.n_blocks(OneHour)), (1, 1));
        assert_eq!(plan.n_samples(), 20);
    }

    #[test]
    fn a_block_is_due_until_every_source_is_there_in_the_next_resolution() {
        let raw = block(9, 0, 48, &[1, 2, 3]);
        let one = block(10, 300_000, 24, &[1, 2]);
        let other = block(11, 300_000, 24, &[3, 4]);
        let hour = block(12, 3_600_000, 48, &[1, 2, 3]);
        let all = [raw.clone(), one.clone(), other, hour];
        assert_eq!(due(&all, &[]).tasks, []);
        assert!(Coverage::of(&all).covers(&raw));
        let some = [raw.clone(), one, all[3].clone()];
        assert_eq!(names(&due(&some, &[])), [(id(9), Resolution::FiveMinutes)]);
        assert!(!Coverage::of(&some).covers(&raw));
        // A block that does not say of what it was made stands for itself.
        let plain = block(20, 0, 48, &[]);
        assert_eq!(due(std::slice::from_ref(&plain), &[]).tasks.len(), 1);
        let made = block(21, 300_000, 48, &[20]);
        assert_eq!(due(&[plain, made], &[]).tasks, []);
    }

    #[test]
    fn a_mark_keeps_a_block_as_it_is_and_its_parent_done() {
        let blocks = [block(1, 0, 400, &[1]), block(2, 300_000, 400, &[1])];
        let plan = due(&blocks, &[2]);
        assert_eq!((plan.tasks, plan.marked), (vec![], vec![id(2)]));
        let plan = due(&blocks[..1], &[1]);
        assert_eq!((plan.tasks, plan.marked), (vec![], vec![id(1)]));
    }

    #[test]
    fn a_resolution_that_does_not_exist_is_named_and_stops_nobody() {
        let blocks = [block(1, 7, 400, &[1]), block(2, 0, 400, &[2])];
        let plan = due(&blocks, &[]);
        assert_eq!((plan.tasks.len(), plan.odd), (1, vec![id(1)]));
        assert!(!Coverage::default().covers(&blocks[0]));
    }
}
