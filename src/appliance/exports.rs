//! Which numbers of which room are exposed under which names.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actors::duty::DutyState;
use crate::actors::steward::DutyBoard;
use crate::appliance::exports_bucket::read_bucket;
use crate::appliance::exports_compactor::read_compactor;
use crate::appliance::exports_gateway::read_gateway;
use crate::appliance::exports_late::read_late;
use crate::appliance::exports_shipped::{read_log_shipped, read_shipped};
use crate::appliance::ports::{Opened, Ports};
use crate::appliance::spawn::Actors;
use crate::bucket::{MeteredBucket, Prices};
use crate::compactor::Compactor;
use crate::foundation::keeper::Record;
use crate::foundation::metrics::{Metrics, Readings};
use crate::foundation::permit::Gate;
use crate::foundation::pool::Pool;
use crate::foundation::process::register_process_metrics;
use crate::model::TimestampMs;
use crate::promql::MemoryPool;
use crate::scrape::ScrapeManager;
use crate::shipper::{LogCounters, ShipCounters};
use crate::tsdb::{HeadStats, Tsdb, TsdbStats};

/// What the rooms' numbers are read from.
pub(crate) struct Exported {
    pub(crate) query: Pool,
    pub(crate) bulk: Pool,
    pub(crate) gate: Gate,
    pub(crate) memory: MemoryPool,
    pub(crate) writes: Gate,
    pub(crate) bucket: Arc<MeteredBucket>,
    pub(crate) prices: Prices,
    pub(crate) compactor: Compactor,
    pub(crate) shipped: Arc<ShipCounters>,
    pub(crate) log_shipped: Arc<LogCounters>,
}

/// Lets `metrics` read every room's numbers whenever somebody asks.
pub(crate) fn export(metrics: &Metrics, opened: &Opened, actors: &Actors, more: Exported) {
    let tsdb = opened.tsdb.clone();
    metrics.read(move |readings| read_tsdb(readings, &tsdb));
    let records = actors.records.clone();
    metrics.read(move |readings| read_actors(readings, &records));
    let duties = Arc::clone(&actors.duties);
    metrics.read(move |readings| read_duties(readings, &duties));
    let gateway = Arc::clone(&opened.gateway);
    metrics.read(move |readings| read_gateway(readings, &gateway));
    let scrape = Arc::clone(&opened.scrape);
    metrics.read(move |readings| read_scrape(readings, &scrape));
    metrics.read(move |readings| {
        read_bounds(readings, &more);
        read_memory(readings, &more.memory);
        read_compactor(readings, &more.compactor);
        read_shipped(readings, &more.shipped.counts());
        read_log_shipped(readings, &more.log_shipped.counts());
    });
}

/// Lets the ports' metrics tell what is known before the database is open.
pub(crate) fn export_process(ports: &Arc<Ports>) {
    register_process_metrics(&ports.metrics);
    // Weak, because the ports own the metrics that own this closure.
    let ports = (Arc::downgrade(ports), ports.metrics.clone());
    ports.1.read(move |readings| {
        if let Some(ports) = ports.0.upgrade() {
            read_process(readings, &ports);
        }
    });
}

fn read_process(r: &mut Readings<'_, '_>, ports: &Ports) {
    r.facts(
        "gauntlet_build_info",
        "The version that runs.",
        &[("version", env!("CARGO_PKG_VERSION"))],
    );
    r.gauge_of(
        "prometheus_ready",
        "Are requests served?",
        u8::from(ports.opened().is_some()),
    );
    r.gauge_of(
        "prometheus_config_last_reload_successful",
        "Did the last reload of the configuration succeed?",
        u8::from(ports.reload_succeeded.load(Ordering::SeqCst)),
    );
    r.gauge(
        "prometheus_config_last_reload_success_timestamp_seconds",
        "When the configuration was read last.",
        seconds(Some(ports.last_config_ms.load(Ordering::SeqCst))),
    );
    let (done, total) = ports.replay.get();
    r.gauge_of(
        "gauntlet_replay_done_segments",
        "Segments of the log that are replayed.",
        done,
    );
    r.gauge_of(
        "gauntlet_replay_found_segments",
        "Segments of the log that were found at the start.",
        total,
    );
}

fn read_duties(r: &mut Readings<'_, '_>, board: &DutyBoard) {
    let duties = board.load();
    let states: Vec<_> = duties
        .iter()
        .map(|duty| match &duty.state {
            DutyState::Ok => (duty.name, 0.0),
            DutyState::Behind { .. } => (duty.name, 1.0),
            DutyState::Blocked { .. } => (duty.name, 2.0),
        })
        .collect();
    r.gauges(
        "gauntlet_duty_state",
        "How a background job stands: 0 in time, 1 behind, 2 blocked.",
        "duty",
        &states,
    );
    let since: Vec<_> = duties
        .iter()
        .map(|duty| (duty.name, seconds(Some(duty.since_ms))))
        .collect();
    r.gauges(
        "gauntlet_duty_since_seconds",
        "Since when a background job stands so.",
        "duty",
        &since,
    );
}

fn seconds(t: Option<TimestampMs>) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since the epoch stay below 2^53"
    )]
    t.map_or(0.0, |t| t as f64 / 1000.0)
}

fn read_tsdb(r: &mut Readings<'_, '_>, tsdb: &Tsdb) {
    let stats = tsdb.stats();
    read_head(r, &stats.head);
    read_late(r, &stats.head);
    read_log(r, &stats.head);
    for (name, help, value) in [
        (
            "prometheus_tsdb_wal_storage_size_bytes",
            "Bytes of the log.",
            stats.wal_bytes,
        ),
        (
            "prometheus_tsdb_head_chunks_storage_size_bytes",
            "Bytes of mapped head chunks.",
            stats.chunk_file_bytes,
        ),
        (
            "gauntlet_tsdb_redo_point_bytes",
            "Bytes of the redo point: chunks that no file has, which the next start takes in place of the log.",
            stats.redo_point_bytes,
        ),
        (
            "prometheus_tsdb_storage_blocks_bytes",
            "Bytes of local blocks.",
            stats.block_bytes,
        ),
        (
            "prometheus_tsdb_blocks_loaded",
            "Local blocks.",
            stats.n_blocks,
        ),
        (
            "gauntlet_tsdb_quarantined_blocks",
            "Blocks set aside because they do not open.",
            stats.n_quarantined,
        ),
        (
            "gauntlet_tsdb_damaged_blocks",
            "Local blocks with damaged bytes, as far as queries met them.",
            stats.n_damaged,
        ),
    ] {
        r.gauge_of(name, help, value);
    }
    r.gauge(
        "prometheus_tsdb_lowest_timestamp_seconds",
        "Oldest sample held here.",
        seconds(stats.lowest_t),
    );
    read_upkeep(r, &stats);
}

fn read_upkeep(r: &mut Readings<'_, '_>, stats: &TsdbStats) {
    for (name, help, value) in [
        (
            "prometheus_tsdb_compactions_total",
            "Blocks cut from the head, and compactions of blocks.",
            stats.cuts_total + stats.compactions_total,
        ),
        (
            "prometheus_tsdb_compactions_failed_total",
            "Cuts and compactions that failed.",
            stats.cuts_failed_total + stats.compactions_failed_total,
        ),
        (
            "prometheus_tsdb_stale_series_compactions_triggered_total",
            "Times that ended series left the head early.",
            stats.stale_evictions_total,
        ),
        (
            "prometheus_tsdb_time_retentions_total",
            "Blocks deleted for their age.",
            stats.time_retentions_total,
        ),
        (
            "prometheus_tsdb_size_retentions_total",
            "Blocks deleted for their size.",
            stats.size_retentions_total,
        ),
        (
            "gauntlet_tsdb_retentions_held_back_total",
            "Blocks beyond the retention that are not in the bucket yet.",
            stats.retentions_held_back_total,
        ),
        (
            "gauntlet_tsdb_damages_met_total",
            "Times that an answer lacked something because of damage in a local block.",
            stats.damages_met_total,
        ),
    ] {
        r.counter(name, help, value);
    }
}

#[expect(clippy::too_many_lines, reason = "one table, and a line a metric")]
fn read_head(r: &mut Readings<'_, '_>, head: &HeadStats) {
    r.gauge_of(
        "gauntlet_disk_full",
        "Was the disk full when it was last asked, so that samples are refused?",
        u64::from(head.is_full),
    );
    r.gauge_of(
        "prometheus_tsdb_head_series",
        "Series in the head.",
        head.n_series,
    );
    r.gauge_of(
        "prometheus_tsdb_head_chunks",
        "Chunks of the head's series.",
        head.n_chunks,
    );
    r.gauge(
        "prometheus_tsdb_head_min_time_seconds",
        "Oldest sample of the head.",
        seconds(head.min_t),
    );
    r.gauge(
        "prometheus_tsdb_head_max_time_seconds",
        "Newest sample of the head.",
        seconds(head.max_t),
    );
    let appended = [
        ("float", head.samples_appended_total),
        ("histogram", head.histograms_appended_total),
    ];
    r.counters(
        "prometheus_tsdb_head_samples_appended_total",
        "Samples committed.",
        "type",
        &appended,
    );
    r.gauge(
        "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
        "The time of the exemplar that goes next.",
        seconds(head.exemplars.oldest_t),
    );
    for (name, help, value) in [
        (
            "prometheus_tsdb_exemplar_exemplars_in_storage",
            "Exemplars kept.",
            head.exemplars.n_exemplars,
        ),
        (
            "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
            "Series of which exemplars are kept.",
            head.exemplars.n_series,
        ),
        (
            "prometheus_tsdb_exemplar_max_exemplars",
            "So many exemplars are kept at most.",
            head.exemplars.n_max,
        ),
    ] {
        r.gauge_of(name, help, value as u64);
    }
    for (name, help, value) in [
        (
            "prometheus_tsdb_head_series_created_total",
            "Series made.",
            head.series_created_total,
        ),
        (
            "prometheus_tsdb_head_series_removed_total",
            "Series dropped.",
            head.series_removed_total,
        ),
        (
            "prometheus_tsdb_head_chunks_created_total",
            "Chunks begun.",
            head.chunks_created_total,
        ),
        (
            "prometheus_tsdb_head_chunks_removed_total",
            "Chunks dropped.",
            head.chunks_removed_total,
        ),
        (
            "prometheus_tsdb_mmap_chunks_total",
            "Chunks written to mapped files.",
            head.chunks_mapped_total,
        ),
        (
            "prometheus_tsdb_mmap_chunk_corruptions_total",
            "Chunk files set aside.",
            head.chunk_file_corruptions_total,
        ),
        (
            "prometheus_tsdb_out_of_bound_samples_total",
            "Samples refused as out of bounds.",
            head.out_of_bounds_total,
        ),
        (
            "prometheus_tsdb_exemplar_exemplars_appended_total",
            "Exemplars committed.",
            head.exemplars_appended_total,
        ),
        (
            "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
            "Exemplars refused as out of order.",
            head.exemplars_out_of_order_total,
        ),
        (
            "gauntlet_head_duplicate_samples_total",
            "Samples refused as duplicates.",
            head.duplicate_total,
        ),
        (
            "gauntlet_head_lost_races_total",
            "Samples overtaken before their commit.",
            head.lost_races_total,
        ),
        (
            "gauntlet_head_commits_total",
            "Transactions committed.",
            head.commits_total,
        ),
        (
            "gauntlet_head_rollbacks_total",
            "Transactions given up.",
            head.rollbacks_total,
        ),
        (
            "prometheus_tsdb_head_truncations_total",
            "Truncations of the head.",
            head.truncations_total,
        ),
        (
            "gauntlet_head_redo_points_total",
            "Redo points noted.",
            head.redo_points_total,
        ),
        (
            "prometheus_tsdb_head_truncations_failed_total",
            "Truncations that failed.",
            head.truncations_failed_total,
        ),
    ] {
        r.counter(name, help, value);
    }
}

fn read_log(r: &mut Readings<'_, '_>, head: &HeadStats) {
    for (name, help, value) in [
        (
            "prometheus_tsdb_checkpoint_creations_total",
            "Checkpoints of the log.",
            head.checkpoints_total,
        ),
        (
            "prometheus_tsdb_checkpoint_creations_failed_total",
            "Checkpoints that failed.",
            head.checkpoints_failed_total,
        ),
        (
            "prometheus_tsdb_wal_corruptions_total",
            "Damaged places found in the log.",
            head.wal_corruptions_total,
        ),
        (
            "prometheus_tsdb_wal_replay_unknown_refs_total",
            "Log entries without a series.",
            head.wal_unknown_refs_total,
        ),
        (
            "gauntlet_wal_skipped_records_total",
            "Log records of kinds that are not kept.",
            head.wal_skipped_records_total,
        ),
        (
            "gauntlet_wal_syncs_total",
            "Group syncs of the log.",
            head.wal_syncs_total,
        ),
        (
            "gauntlet_wal_failures_total",
            "Failed writes and syncs of the log.",
            head.wal_failures_total,
        ),
        (
            "gauntlet_disk_full_refusals_total",
            "Commits and deletions refused because the disk was full.",
            head.refused_full_total,
        ),
        (
            "gauntlet_wal_written_bytes_total",
            "Bytes written to the log.",
            head.wal_bytes_total,
        ),
    ] {
        r.counter(name, help, value);
    }
}

fn read_actors(r: &mut Readings<'_, '_>, records: &[Arc<Record>]) {
    let panics: Vec<_> = records
        .iter()
        .map(|record| (record.name(), record.n_panics()))
        .collect();
    r.counters(
        "gauntlet_actor_panics_total",
        "Lives of an actor that ended by panic.",
        "actor",
        &panics,
    );
    let restarts: Vec<_> = records
        .iter()
        .map(|record| (record.name(), record.n_restarts()))
        .collect();
    r.counters(
        "gauntlet_actor_restarts_total",
        "Restarts of an actor after a panic.",
        "actor",
        &restarts,
    );
    let up: Vec<_> = records
        .iter()
        .map(|record| (record.name(), f64::from(u8::from(record.is_up()))))
        .collect();
    r.gauges(
        "gauntlet_actor_up",
        "Is the actor handling messages?",
        "actor",
        &up,
    );
}

fn read_scrape(r: &mut Readings<'_, '_>, scrape: &ScrapeManager) {
    for (name, help, value) in scrape.counters().all() {
        r.counter(name, help, value);
    }
}

fn read_memory(r: &mut Readings<'_, '_>, memory: &MemoryPool) {
    r.gauge_of(
        "gauntlet_query_memory_bytes",
        "Memory that queries have booked.",
        memory.used(),
    );
    r.gauge_of(
        "gauntlet_query_memory_peak_bytes",
        "The most memory that queries had booked at one time.",
        memory.peak(),
    );
    r.gauge_of(
        "gauntlet_query_memory_max_bytes",
        "Memory that queries may book together.",
        memory.max(),
    );
    r.counter(
        "gauntlet_query_memory_refused_total",
        "Times a query was refused memory, which ended it.",
        memory.n_refused(),
    );
}

fn read_bounds(r: &mut Readings<'_, '_>, more: &Exported) {
    let as_f64 = |n: usize| u32::try_from(n).map_or(f64::MAX, f64::from);
    let running = [
        ("query", as_f64(more.query.n_running())),
        ("bulk", as_f64(more.bulk.n_running())),
    ];
    r.gauges(
        "gauntlet_pool_running_jobs",
        "Jobs being worked on.",
        "pool",
        &running,
    );
    let panics = [
        ("query", more.query.n_panics()),
        ("bulk", more.bulk.n_panics()),
    ];
    r.counters(
        "gauntlet_pool_panics_total",
        "Jobs that panicked.",
        "pool",
        &panics,
    );
    r.gauge_of(
        "prometheus_engine_queries",
        "Queries being evaluated or waiting.",
        more.gate.n_used() + more.gate.n_waiting(),
    );
    r.gauge_of(
        "prometheus_engine_queries_concurrent_max",
        "Queries evaluated at once at most.",
        more.gate.capacity(),
    );
    let gates = [("query", &more.gate), ("remote_write", &more.writes)];
    let used = gates.map(|(name, gate)| (name, as_f64(gate.n_used())));
    r.gauges("gauntlet_gate_used", "Permits that are out.", "gate", &used);
    let waiting = gates.map(|(name, gate)| (name, as_f64(gate.n_waiting())));
    r.gauges(
        "gauntlet_gate_waiting",
        "Askers in the queue.",
        "gate",
        &waiting,
    );
    let refused = gates.map(|(name, gate)| (name, gate.n_refused()));
    r.counters(
        "gauntlet_gate_refused_total",
        "Askers refused.",
        "gate",
        &refused,
    );
    read_bucket(r, &more.bucket, &more.prices);
}
