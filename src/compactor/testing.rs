//! Metas for table tests, in hours.

use std::collections::BTreeMap;

use crate::block::{BlockCompaction, BlockMeta, BlockStats, ThanosDownsample, ThanosMeta};
use crate::model::BlockId;

pub(crate) const HOUR_MS: i64 = 3_600_000;

pub(crate) fn id(n: u64) -> BlockId {
    BlockId::from_parts(n, 0)
}

/// Block number `n` of group `{cluster="a"}` from one hour to another, its own only source.
pub(crate) fn block(n: u64, from_h: i64, to_h: i64) -> BlockMeta {
    BlockMeta {
        ulid: id(n),
        min_time: from_h * HOUR_MS,
        max_time: to_h * HOUR_MS,
        stats: BlockStats {
            num_series: 99,
            num_samples: 1000,
            ..BlockStats::default()
        },
        compaction: BlockCompaction {
            level: 1,
            sources: vec![id(n)],
            ..BlockCompaction::default()
        },
        version: 1,
        thanos: Some(ThanosMeta {
            version: 1,
            labels: BTreeMap::from([("cluster".to_owned(), "a".to_owned())]),
            ..ThanosMeta::default()
        }),
        other: serde_json::Map::new(),
    }
}

/// The same at another resolution.
pub(crate) fn coarse(n: u64, from_h: i64, to_h: i64, resolution: i64) -> BlockMeta {
    let mut meta = block(n, from_h, to_h);
    if let Some(thanos) = &mut meta.thanos {
        thanos.downsample = ThanosDownsample { resolution };
    }
    meta
}

/// The same with other sources.
pub(crate) fn made_of(mut meta: BlockMeta, sources: &[u64]) -> BlockMeta {
    meta.compaction.sources = sources.iter().map(|n| id(*n)).collect();
    meta
}
