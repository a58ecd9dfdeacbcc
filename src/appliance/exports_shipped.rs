//! What went to the bucket: blocks under the names of Thanos' shipper, and the log.

use crate::foundation::metrics::Readings;
use crate::shipper::{LogCounts, ShipCounts};

pub(crate) fn read_shipped(r: &mut Readings<'_, '_>, counts: &ShipCounts) {
    let ShipCounts {
        n_syncs,
        n_sync_failures,
        n_uploads,
        n_upload_failures,
        n_corrupted_blocks,
        is_compacted_done,
    } = *counts;
    for (name, help, value) in [
        (
            "thanos_shipper_dir_syncs_total",
            "Passes over local blocks.",
            n_syncs,
        ),
        (
            "thanos_shipper_dir_sync_failures_total",
            "Passes over local blocks that ended early.",
            n_sync_failures,
        ),
        (
            "thanos_shipper_uploads_total",
            "Blocks uploaded.",
            n_uploads,
        ),
        (
            "thanos_shipper_upload_failures_total",
            "Uploads of blocks that failed.",
            n_upload_failures,
        ),
        (
            "thanos_shipper_corrupted_blocks_total",
            "Damaged local blocks, counted in each pass that met them.",
            n_corrupted_blocks,
        ),
    ] {
        r.counter(name, help, value);
    }
    r.gauge_of(
        "thanos_shipper_upload_compacted_done",
        "Are all blocks in the bucket, those compacted here too?",
        u8::from(is_compacted_done),
    );
}

pub(crate) fn read_log_shipped(r: &mut Readings<'_, '_>, counts: &LogCounts) {
    let LogCounts {
        n_parts,
        n_bytes,
        n_failures,
        n_retired,
        n_stored,
        backlog_bytes,
        complete_ms,
    } = *counts;
    for (name, help, value) in [
        (
            "gauntlet_shipper_log_parts_total",
            "Parts of the log uploaded; each is a request.",
            n_parts,
        ),
        (
            "gauntlet_shipper_log_bytes_total",
            "Bytes of the log uploaded.",
            n_bytes,
        ),
        (
            "gauntlet_shipper_log_failures_total",
            "Passes over the log that ended early.",
            n_failures,
        ),
        (
            "gauntlet_shipper_log_retired_files_total",
            "Files of the log removed from the bucket, because blocks there hold what they held.",
            n_retired,
        ),
    ] {
        r.counter(name, help, value);
    }
    r.gauge_of(
        "gauntlet_shipper_log_stored_parts",
        "Parts of the log that are in the bucket.",
        n_stored,
    );
    r.gauge_of(
        "gauntlet_shipper_log_backlog_bytes",
        "Acknowledged bytes of the log that the last pass left on this host only.",
        backlog_bytes,
    );
    if let Some(complete_ms) = complete_ms {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since the epoch stay below 2^53"
        )]
        r.gauge(
            "gauntlet_shipper_log_complete_timestamp_seconds",
            "When the bucket last had all of the log that was acknowledged.",
            complete_ms as f64 / 1000.0,
        );
    }
}
