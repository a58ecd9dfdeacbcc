//! Numbers of the store gateway, under the names that dashboards of Thanos know where they mean the same.

use crate::foundation::metrics::Readings;
use crate::gateway::{ExcludeReason, Gateway, GatewayStats, GatewayStatus, Kind, KindStats};
use crate::inventory::{Partial, PartialReason};

pub(crate) fn read_gateway(r: &mut Readings<'_, '_>, gateway: &Gateway) {
    let status = gateway.status();
    let stats = gateway.stats();
    read_blocks(r, &status, &stats);
    r.gauges(
        "thanos_blocks_meta_synced",
        "Blocks of the bucket by what became of them when it was looked at last.",
        "state",
        &synced(&status),
    );
    read_headers(r, &status, &stats);
    read_cache(r, &status, &stats);
    let refused: Vec<_> = status.refused.clone();
    r.counters(
        "thanos_bucket_store_queries_dropped_total",
        "Selects that went beyond a limit.",
        "reason",
        &refused,
    );
}

/// Thanos' names of what may become of a block.
fn synced(status: &GatewayStatus) -> Vec<(&'static str, f64)> {
    let state_of = |reason: &ExcludeReason| match reason {
        ExcludeReason::MarkedForDeletion => "marked-for-deletion",
        ExcludeReason::Duplicate(_) => "duplicate",
        ExcludeReason::UnknownResolution => "failed",
        ExcludeReason::OutsideOfTime => "time-excluded",
        ExcludeReason::OtherShard => "label-excluded",
        ExcludeReason::TooFresh => "too-fresh",
    };
    let of_partial = |partial: &Partial| match partial.reason {
        PartialReason::NoMeta => "no-meta-json",
        PartialReason::CorruptedMeta(_) => "corrupted-meta-json",
    };
    let mut states: Vec<&str> = status.served.iter().map(|_| "loaded").collect();
    states.extend(status.excluded.values().map(state_of));
    states.extend(status.partial.iter().map(of_partial));
    let counted = |state: &&'static str| {
        let n = states.iter().filter(|one| *one == state).count();
        (*state, f64::from(u32::try_from(n).unwrap_or(u32::MAX)))
    };
    [
        "loaded",
        "no-meta-json",
        "corrupted-meta-json",
        "time-excluded",
        "label-excluded",
        "too-fresh",
        "duplicate",
        "marked-for-deletion",
        "failed",
    ]
    .iter()
    .map(counted)
    .collect()
}

fn read_blocks(r: &mut Readings<'_, '_>, status: &GatewayStatus, stats: &GatewayStats) {
    for (name, help, n) in [
        (
            "thanos_bucket_store_blocks_loaded",
            "Bucket blocks that are served.",
            status.served.len(),
        ),
        (
            "gauntlet_gateway_served_blocks",
            "Bucket blocks that are served.",
            status.served.len(),
        ),
        (
            "gauntlet_gateway_open_blocks",
            "Served blocks whose index headers are in memory.",
            status.n_open,
        ),
        (
            "gauntlet_gateway_excluded_blocks",
            "Whole bucket blocks that are not served.",
            status.excluded.len(),
        ),
        (
            "gauntlet_gateway_partial_blocks",
            "Bucket blocks that are not whole.",
            status.partial.len(),
        ),
        (
            "gauntlet_gateway_aside_blocks",
            "Bucket blocks that do not open.",
            status.aside.len(),
        ),
        (
            "gauntlet_gateway_damaged_blocks",
            "Served blocks with damaged bytes.",
            status.damaged.len(),
        ),
    ] {
        r.gauge_of(name, help, n);
    }
    for (name, help, n) in [
        (
            "thanos_bucket_store_block_loads_total",
            "Bucket blocks that came to be served.",
            stats.block_loads,
        ),
        (
            "thanos_bucket_store_block_load_failures_total",
            "Bucket blocks that did not open when they were needed.",
            stats.header_load_failures,
        ),
        (
            "thanos_bucket_store_block_drops_total",
            "Bucket blocks that are not served any more.",
            stats.block_drops,
        ),
        (
            "thanos_blocks_meta_syncs_total",
            "Looks at the bucket.",
            stats.syncs,
        ),
        (
            "thanos_blocks_meta_sync_failures_total",
            "Looks at the bucket that failed.",
            stats.sync_failures,
        ),
    ] {
        r.counter(name, help, n);
    }
}

fn read_headers(r: &mut Readings<'_, '_>, status: &GatewayStatus, stats: &GatewayStats) {
    for (name, help, n) in [
        (
            "thanos_bucket_store_indexheader_lazy_load_total",
            "Index headers opened because somebody asked.",
            stats.header_loads,
        ),
        (
            "thanos_bucket_store_indexheader_lazy_load_failed_total",
            "Index headers that did not open.",
            stats.header_load_failures,
        ),
        (
            "thanos_bucket_store_indexheader_lazy_unload_total",
            "Index headers closed because nobody asked.",
            stats.header_unloads,
        ),
        (
            "gauntlet_gateway_headers_built_total",
            "Index headers made from the bucket.",
            stats.headers_built,
        ),
        (
            "gauntlet_gateway_header_evictions_total",
            "Index headers that left the disk for others.",
            stats.header_evictions,
        ),
    ] {
        r.counter(name, help, n);
    }
    let (memory_max, disk_max) = status.bytes_max;
    for (name, help, n) in [
        (
            "gauntlet_gateway_cached_bytes",
            "Bytes of pages and index headers on the disk.",
            status.cached_bytes,
        ),
        (
            "gauntlet_gateway_cached_limit_bytes",
            "How many that may be.",
            disk_max,
        ),
        (
            "gauntlet_gateway_memory_bytes",
            "Bytes of pages in memory.",
            status.memory_bytes,
        ),
        (
            "gauntlet_gateway_memory_limit_bytes",
            "How many that may be.",
            memory_max,
        ),
    ] {
        r.gauge_of(name, help, n);
    }
}

/// A number of one kind of bytes.
type Read = fn(&KindStats) -> u64;

/// Name, help, label, number.
const BY_KIND: [(&str, &str, &str, Read); 10] = [
    (
        "thanos_store_index_cache_requests_total",
        "Pages that queries needed.",
        "item_type",
        |kind| kind.memory_hits + kind.disk_hits + kind.misses,
    ),
    (
        "thanos_store_index_cache_hits_total",
        "Pages that were in memory or on the disk.",
        "item_type",
        |kind| kind.memory_hits + kind.disk_hits,
    ),
    (
        "thanos_store_index_cache_items_evicted_total",
        "Pages that left the memory for others.",
        "item_type",
        |kind| kind.memory_evictions,
    ),
    (
        "gauntlet_gateway_memory_hits_total",
        "Pages that were in memory.",
        "kind",
        |kind| kind.memory_hits,
    ),
    (
        "gauntlet_gateway_disk_hits_total",
        "Pages that were on the disk.",
        "kind",
        |kind| kind.disk_hits,
    ),
    (
        "gauntlet_gateway_disk_evictions_total",
        "Pages that left the disk for others.",
        "kind",
        |kind| kind.disk_evictions,
    ),
    (
        "gauntlet_gateway_fetches_total",
        "Range reads.",
        "kind",
        |kind| kind.fetches,
    ),
    (
        "gauntlet_gateway_fetched_bytes_total",
        "Bytes of range reads.",
        "kind",
        |kind| kind.fetched_bytes,
    ),
    (
        "gauntlet_gateway_touched_total",
        "Lists, series and chunks that queries needed.",
        "kind",
        |kind| kind.touched,
    ),
    (
        "gauntlet_gateway_touched_bytes_total",
        "Bytes of lists, series and chunks that queries needed.",
        "kind",
        |kind| kind.touched_bytes,
    ),
];

fn read_cache(r: &mut Readings<'_, '_>, status: &GatewayStatus, stats: &GatewayStats) {
    for (name, help, label, read) in BY_KIND {
        let of = |(kind, counts): &(Kind, KindStats)| (kind.as_str(), read(counts));
        let values: Vec<_> = stats.kinds.iter().map(of).collect();
        r.counters(name, help, label, &values);
    }
    r.gauge_of(
        "thanos_store_index_cache_total_size_bytes",
        "Bytes of pages in memory.",
        status.memory_bytes,
    );
}
