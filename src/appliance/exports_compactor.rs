//! What is exposed of the compactor: the names that dashboards of Thanos know, and our own for what it has no names for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::compactor::{Compactor, CompactorStatus, Counters, Duty, DutyProgress};
use crate::foundation::metrics::Readings;

pub(crate) fn read_compactor(r: &mut Readings<'_, '_>, compactor: &Compactor) {
    read_counters(r, compactor.counters());
    read_backlog(r, &compactor.status());
    // Nothing halts it; the name is what alerts look at.
    r.gauge_of(
        "thanos_compact_halted",
        "Always zero: a damaged block is left out and the rest goes on.",
        0u8,
    );
    let delay_ms = u64::try_from(compactor.settings().delete_delay_ms).unwrap_or(0);
    r.gauge_of(
        "thanos_delete_delay_seconds",
        "How long blocks stay after they were marked for deletion.",
        delay_ms / 1_000,
    );
    read_progress(r, compactor);
}

fn read_progress(r: &mut Readings<'_, '_>, compactor: &Compactor) {
    let all = Duty::ALL.map(|duty| compactor.progress(duty));
    let mut gauges = |name, help, value: &dyn Fn(&DutyProgress) -> u64| {
        let values: Vec<(&str, f64)> = all
            .iter()
            .map(|at| (at.duty.name(), as_float(value(at))))
            .collect();
        r.gauges(name, help, "duty", &values);
    };
    gauges(
        "gauntlet_compactor_run_done_bytes",
        "Bytes of blocks that the run that goes on is done with.",
        &|at| at.n_bytes_done,
    );
    gauges(
        "gauntlet_compactor_left_bytes",
        "Bytes of blocks that are left to do.",
        &|at| at.n_bytes_left,
    );
    gauges(
        "gauntlet_compactor_left_blocks",
        "Blocks that are left to do.",
        &|at| at.n_blocks_left,
    );
    gauges(
        "gauntlet_compactor_eta_seconds",
        "How long what is left will take at the pace of this run; zero when nothing runs or nobody can tell.",
        &|at| at.eta_ms.unwrap_or(0) / 1_000,
    );
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn as_float(n: u64) -> f64 {
    n as f64
}

fn read_counters(r: &mut Readings<'_, '_>, counters: &Counters) {
    for (name, help, counter) in compactions(counters).into_iter().chain(upkeep(counters)) {
        r.counter(name, help, value(counter));
    }
    let marked = [
        ("deletion-mark.json", value(&counters.n_marked_deleted)),
        ("no-compact-mark.json", value(&counters.n_marked_no_compact)),
    ];
    r.counters(
        "thanos_compact_blocks_marked_total",
        "Blocks that were marked.",
        "marker",
        &marked,
    );
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Name, help and what is counted.
type Exported<'a> = (&'static str, &'static str, &'a AtomicU64);

fn compactions(counters: &Counters) -> Vec<Exported<'_>> {
    vec![
        (
            "thanos_compact_iterations_total",
            "Looks at the bucket for something to compact.",
            &counters.n_passes,
        ),
        (
            "thanos_compact_group_compactions_total",
            "Compactions that made a block.",
            &counters.n_compactions,
        ),
        (
            "thanos_compact_group_vertical_compactions_total",
            "Those of blocks that overlap.",
            &counters.n_vertical,
        ),
        (
            "thanos_compact_group_compactions_failures_total",
            "Compactions that failed.",
            &counters.n_failures,
        ),
        (
            "thanos_compact_retries_total",
            "Runs that the bucket stopped and that are tried again.",
            &counters.n_retries,
        ),
    ]
}

fn upkeep(counters: &Counters) -> Vec<Exported<'_>> {
    vec![
        (
            "thanos_compact_downsample_total",
            "Blocks that were downsampled.",
            &counters.n_downsampled,
        ),
        (
            "thanos_compact_downsample_failures_total",
            "Blocks that could not be downsampled.",
            &counters.n_downsample_failures,
        ),
        (
            "thanos_compact_garbage_collected_blocks_total",
            "Copies of other blocks that were marked for deletion.",
            &counters.n_garbage,
        ),
        (
            "thanos_compact_block_cleanup_loops_total",
            "Looks at the bucket for something to delete.",
            &counters.n_cleanups,
        ),
        (
            "thanos_compact_blocks_cleaned_total",
            "Blocks that were deleted.",
            &counters.n_cleaned,
        ),
        (
            "thanos_compact_block_cleanup_failures_total",
            "Blocks that could not be deleted yet.",
            &counters.n_cleanup_failures,
        ),
        (
            "thanos_compact_aborted_partial_uploads_deletion_attempts_total",
            "Uploads that were given up and deleted.",
            &counters.n_partial_deleted,
        ),
        (
            "gauntlet_compactor_repaired_blocks_total",
            "Damaged blocks that were written anew.",
            &counters.n_repaired,
        ),
        (
            "gauntlet_compactor_read_bytes_total",
            "Bytes of chunks that were read.",
            &counters.n_bytes_read,
        ),
    ]
}

fn read_backlog(r: &mut Readings<'_, '_>, status: &CompactorStatus) {
    for (name, help, value) in [
        (
            "thanos_compact_todo_compactions",
            "Compactions that are left.",
            status.backlog.n_compactions,
        ),
        (
            "thanos_compact_todo_compaction_blocks",
            "Blocks that go into them.",
            status.backlog.n_blocks,
        ),
        (
            "thanos_compact_todo_downsample_blocks",
            "Blocks that wait to be downsampled.",
            status.n_to_downsample,
        ),
        (
            "thanos_compact_todo_deletion_blocks",
            "Marked blocks and leftovers whose time has not come.",
            status.n_to_delete,
        ),
        (
            "gauntlet_compactor_backlog_bytes",
            "Bytes of the blocks that are to be compacted.",
            status.backlog.n_bytes,
        ),
        (
            "gauntlet_compactor_todo_retire_blocks",
            "Blocks whose time is over and that are not marked yet.",
            status.n_to_retire,
        ),
        (
            "gauntlet_compactor_held_blocks",
            "Blocks kept beyond their time, because nothing coarser is there yet.",
            status.n_held,
        ),
        (
            "gauntlet_compactor_blocks_aside",
            "Damaged blocks that are left out.",
            (status.aside.len() + status.aside_coarser.len()) as u64,
        ),
    ] {
        r.gauge_of(name, help, value);
    }
}
