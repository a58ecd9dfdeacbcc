//! What is exposed of out-of-order samples and of exemplars that have gone.

use crate::foundation::metrics::Readings;
use crate::head::{HeadStats, LATE_DELAY_MINUTES};
use crate::wal::{SYNC_SECONDS, WalCounts};

/// The names are those of Prometheus.
pub(crate) fn read_late(r: &mut Readings<'_, '_>, head: &HeadStats) {
    let refused = [("float", head.out_of_order_total)];
    r.counters(
        "prometheus_tsdb_out_of_order_samples_total",
        "Samples refused as out of order.",
        "type",
        &refused,
    );
    for (name, help, value) in [
        (
            "prometheus_tsdb_head_out_of_order_samples_appended_total",
            "Samples committed out of order.",
            head.out_of_order_appended_total,
        ),
        (
            "prometheus_tsdb_too_old_samples_total",
            "Samples refused as older than the out-of-order window.",
            head.too_old_total,
        ),
        (
            "prometheus_tsdb_wbl_replay_unknown_refs_total",
            "Entries of the out-of-order log whose series is not known.",
            head.wbl_unknown_refs_total,
        ),
        (
            "prometheus_tsdb_out_of_order_wbl_writes_failed_total",
            "Failed writes of the out-of-order log.",
            head.wbl_failures_total,
        ),
        (
            "prometheus_tsdb_out_of_order_wbl_truncations_total",
            "Times that segments of the out-of-order log were let go of.",
            head.wbl_truncations_total,
        ),
        (
            "prometheus_tsdb_out_of_order_wbl_truncations_failed_total",
            "Of those the ones that failed.",
            head.wbl_truncations_failed_total,
        ),
    ] {
        r.counter(name, help, value);
    }
    r.gauge_of(
        "prometheus_tsdb_out_of_order_wbl_segment_current",
        "The segment of the out-of-order log being written.",
        head.wbl_segment,
    );
    read_log(r, "prometheus_tsdb_out_of_order_wbl", &head.wbl);
    read_log(r, "prometheus_tsdb_wal", &head.wal);
    read_delays(r, head);
}

/// What a log counts, under names that begin with `log`.
#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of nanoseconds loses its last digits after months of syncing"
)]
fn read_log(r: &mut Readings<'_, '_>, log: &str, counts: &WalCounts) {
    r.counter(
        &format!("{log}_page_flushes_total"),
        "Pages handed to the operating system, once for each time something was added to them.",
        counts.page_flushes,
    );
    r.counter(
        &format!("{log}_completed_pages_total"),
        "Pages to which nothing will be added.",
        counts.completed_pages,
    );
    let bounds = SYNC_SECONDS.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.sync_counts).collect();
    r.histogram(
        &format!("{log}_fsync_duration_seconds"),
        "What syncs of the log took.",
        counts.sync_ns as f64 / 1e9,
        &buckets,
    );
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of milliseconds loses its last digits after thousands of years"
)]
fn read_delays(r: &mut Readings<'_, '_>, head: &HeadStats) {
    let bounds = LATE_DELAY_MINUTES.map(|minutes| f64::from(minutes) * 60.0);
    let bounds = bounds.into_iter().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(head.late_delays.counts).collect();
    r.histogram(
        "prometheus_tsdb_sample_ooo_delta",
        "Seconds by which samples were older than the newest of all, taken or not.",
        head.late_delays.sum_ms as f64 / 1000.0,
        &buckets,
    );
}
