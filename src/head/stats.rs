//! What the head says about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::head::core::Head;
use crate::head::exemplars::ExemplarStats;
use crate::head::late::LateDelays;
use crate::model::{METRIC_NAME, TimestampMs};
use crate::wal::WalCounts;

/// Counted as things happen.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) series_created: AtomicU64,
    pub(crate) series_removed: AtomicU64,
    pub(crate) chunks_created: AtomicU64,
    pub(crate) chunks_removed: AtomicU64,
    pub(crate) chunks_mapped: AtomicU64,
    pub(crate) chunk_file_failures: AtomicU64,
    pub(crate) chunk_file_corruptions: AtomicU64,
    pub(crate) samples_appended: AtomicU64,
    pub(crate) histograms_appended: AtomicU64,
    pub(crate) exemplars_appended: AtomicU64,
    pub(crate) exemplars_out_of_order: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) rollbacks: AtomicU64,
    pub(crate) out_of_order: AtomicU64,
    pub(crate) out_of_bounds: AtomicU64,
    pub(crate) too_old: AtomicU64,
    pub(crate) late_appended: AtomicU64,
    pub(crate) wbl_unknown_refs: AtomicU64,
    pub(crate) wbl_truncations: AtomicU64,
    pub(crate) wbl_truncations_failed: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    pub(crate) lost_races: AtomicU64,
    pub(crate) truncations: AtomicU64,
    pub(crate) truncations_failed: AtomicU64,
    pub(crate) redo_points: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoints_failed: AtomicU64,
    pub(crate) wal_syncs: AtomicU64,
    pub(crate) wal_bytes: AtomicU64,
    pub(crate) wal_failures: AtomicU64,
    pub(crate) refused_full: AtomicU64,
    pub(crate) wal_corruptions: AtomicU64,
    pub(crate) wal_unknown_refs: AtomicU64,
    pub(crate) wal_skipped_records: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// The head's numbers at one moment. Totals count from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadStats {
    /// Series in memory.
    pub n_series: u64,
    /// Chunks of those series.
    pub n_chunks: u64,
    /// Oldest sample, if there is any.
    pub min_t: Option<TimestampMs>,
    /// Newest sample, if there is any.
    pub max_t: Option<TimestampMs>,
    /// Samples older than this are refused.
    pub floor: TimestampMs,
    /// Series made.
    pub series_created_total: u64,
    /// Series dropped.
    pub series_removed_total: u64,
    /// Chunks begun.
    pub chunks_created_total: u64,
    /// Chunks dropped.
    pub chunks_removed_total: u64,
    /// Chunks that went to a mapped file.
    pub chunks_mapped_total: u64,
    /// Chunk file writes that failed; the chunks stayed in memory.
    pub chunk_file_failures_total: u64,
    /// Chunk files set aside at the start.
    pub chunk_file_corruptions_total: u64,
    /// Floats committed.
    pub samples_appended_total: u64,
    /// Native histograms committed.
    pub histograms_appended_total: u64,
    /// Exemplars committed.
    pub exemplars_appended_total: u64,
    /// Exemplars kept, how many of them there may be, and of how many series they are.
    pub exemplars: ExemplarStats,
    /// Exemplars refused: older than the newest of their series.
    pub exemplars_out_of_order_total: u64,
    /// Transactions committed.
    pub commits_total: u64,
    /// Transactions given up.
    pub rollbacks_total: u64,
    /// Refused: older than the newest sample of the series.
    pub out_of_order_total: u64,
    /// Refused: older than anything the head takes.
    pub out_of_bounds_total: u64,
    /// Refused: older than the out-of-order window.
    pub too_old_total: u64,
    /// Samples committed out of order.
    pub out_of_order_appended_total: u64,
    /// Entries of the out-of-order log whose series is not known.
    pub wbl_unknown_refs_total: u64,
    /// Times that segments of the out-of-order log were let go of.
    pub wbl_truncations_total: u64,
    /// Of those the ones that failed.
    pub wbl_truncations_failed_total: u64,
    /// Failed writes of the out-of-order log.
    pub wbl_failures_total: u64,
    /// The segment of the out-of-order log being written.
    pub wbl_segment: u32,
    /// What the out-of-order log counts.
    pub wbl: WalCounts,
    /// How late samples were.
    pub late_delays: LateDelays,
    /// Oldest sample that came out of order, while it is here.
    pub out_of_order_min_t: Option<TimestampMs>,
    /// Newest sample that came out of order, while it is here.
    pub out_of_order_max_t: Option<TimestampMs>,
    /// Refused: another value at the time of the newest sample.
    pub duplicate_total: u64,
    /// Staged, and overtaken by another transaction before the commit.
    pub lost_races_total: u64,
    /// Truncations done.
    pub truncations_total: u64,
    /// Truncations that failed.
    pub truncations_failed_total: u64,
    /// Redo points noted.
    pub redo_points_total: u64,
    /// Checkpoints written.
    pub checkpoints_total: u64,
    /// Checkpoints that failed.
    pub checkpoints_failed_total: u64,
    /// Group fsyncs of the log.
    pub wal_syncs_total: u64,
    /// Bytes written to the log.
    pub wal_bytes_total: u64,
    /// Failed writes and fsyncs of the log.
    pub wal_failures_total: u64,
    /// Commits and deletions refused because the disk was full.
    pub refused_full_total: u64,
    /// Whether the disk was full when it was last asked.
    pub is_full: bool,
    /// Damaged places found in the log.
    pub wal_corruptions_total: u64,
    /// Log entries whose series is not known.
    pub wal_unknown_refs_total: u64,
    /// Log records of kinds that are not kept here.
    pub wal_skipped_records_total: u64,
    /// The segment being written.
    pub wal_segment: u32,
    /// What the log counts.
    pub wal: WalCounts,
}

/// A name and how often, or how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCount {
    /// What is counted.
    pub name: String,
    /// How many.
    pub value: u64,
}

/// The tables of `/api/v1/status/tsdb`, each sorted by count, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeadStatus {
    /// Series in memory.
    pub n_series: u64,
    /// Different label pairs.
    pub n_label_pairs: u64,
    /// Chunks in memory and in mapped files.
    pub n_chunks: u64,
    /// Oldest sample; `i64::MAX` when there is none, as Prometheus says it.
    pub min_t: TimestampMs,
    /// Newest sample; `i64::MIN` when there is none.
    pub max_t: TimestampMs,
    /// Series by metric name.
    pub series_by_metric: Vec<NamedCount>,
    /// Values by label name.
    pub values_by_label: Vec<NamedCount>,
    /// Bytes of values, each series counted, by label name.
    pub bytes_by_label: Vec<NamedCount>,
    /// Series by label pair, written `name=value`.
    pub series_by_pair: Vec<NamedCount>,
}

impl Head {
    /// The numbers now.
    pub fn stats(&self) -> HeadStats {
        let inner = self.inner();
        let c = &inner.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bounds = inner.bounds.get();
        let late = inner.late.span();
        HeadStats {
            n_series: get(&c.series_created).saturating_sub(get(&c.series_removed)),
            n_chunks: get(&c.chunks_created).saturating_sub(get(&c.chunks_removed)),
            min_t: bounds.map(|bounds| bounds.min),
            max_t: bounds.map(|bounds| bounds.max),
            floor: inner.bounds.floor(),
            series_created_total: get(&c.series_created),
            series_removed_total: get(&c.series_removed),
            chunks_created_total: get(&c.chunks_created),
            chunks_removed_total: get(&c.chunks_removed),
            chunks_mapped_total: get(&c.chunks_mapped),
            chunk_file_failures_total: get(&c.chunk_file_failures),
            chunk_file_corruptions_total: get(&c.chunk_file_corruptions),
            samples_appended_total: get(&c.samples_appended),
            histograms_appended_total: get(&c.histograms_appended),
            exemplars_appended_total: get(&c.exemplars_appended),
            exemplars: self.exemplar_stats(),
            exemplars_out_of_order_total: get(&c.exemplars_out_of_order),
            commits_total: get(&c.commits),
            rollbacks_total: get(&c.rollbacks),
            out_of_order_total: get(&c.out_of_order),
            out_of_bounds_total: get(&c.out_of_bounds),
            too_old_total: get(&c.too_old),
            out_of_order_appended_total: get(&c.late_appended),
            wbl_unknown_refs_total: get(&c.wbl_unknown_refs),
            wbl_truncations_total: get(&c.wbl_truncations),
            wbl_truncations_failed_total: get(&c.wbl_truncations_failed),
            wbl_failures_total: get(&inner.late.log.n_failures),
            wbl_segment: inner.late.log.segment.load(Ordering::Relaxed),
            wbl: (inner.late.log.counters.get()).map_or_else(WalCounts::default, |log| log.get()),
            late_delays: inner.late.delays.get(),
            out_of_order_min_t: late.map(|late| late.min),
            out_of_order_max_t: late.map(|late| late.max),
            duplicate_total: get(&c.duplicate),
            lost_races_total: get(&c.lost_races),
            truncations_total: get(&c.truncations),
            truncations_failed_total: get(&c.truncations_failed),
            redo_points_total: get(&c.redo_points),
            checkpoints_total: get(&c.checkpoints),
            checkpoints_failed_total: get(&c.checkpoints_failed),
            wal_syncs_total: get(&c.wal_syncs),
            wal_bytes_total: get(&c.wal_bytes),
            wal_failures_total: get(&c.wal_failures),
            refused_full_total: get(&c.refused_full),
            is_full: inner.room.is_short(),
            wal_corruptions_total: get(&c.wal_corruptions),
            wal_unknown_refs_total: get(&c.wal_unknown_refs),
            wal_skipped_records_total: get(&c.wal_skipped_records),
            wal_segment: inner.wal_segment.load(Ordering::Relaxed),
            wal: inner.wal_counters.get(),
        }
    }

    /// The tables of the status page, at most `limit` rows each.
    pub fn status(&self, limit: usize) -> HeadStatus {
        let stats = self.stats();
        let postings = self.inner().postings.read();
        let mut status = HeadStatus {
            n_series: stats.n_series,
            n_label_pairs: postings.n_pairs() as u64,
            n_chunks: stats.n_chunks,
            min_t: stats.min_t.unwrap_or(i64::MAX),
            max_t: stats.max_t.unwrap_or(i64::MIN),
            ..HeadStatus::default()
        };
        let mut by_metric = Largest::new(limit);
        let mut by_pair = Largest::new(limit);
        let mut values_by_label = Largest::new(limit);
        let mut bytes_by_label = Largest::new(limit);
        for name in postings.names() {
            let (mut n_values, mut n_bytes) = (0u64, 0u64);
            for (value, n_series) in postings.values(name) {
                let n_series = n_series as u64;
                n_values += 1;
                n_bytes += value.len() as u64 * n_series;
                by_pair.offer(n_series, || format!("{name}={value}"));
                if name == METRIC_NAME {
                    by_metric.offer(n_series, || value.to_owned());
                }
            }
            values_by_label.offer(n_values, || name.to_owned());
            bytes_by_label.offer(n_bytes, || name.to_owned());
        }
        drop(postings);
        status.series_by_metric = by_metric.into_sorted();
        status.series_by_pair = by_pair.into_sorted();
        status.values_by_label = values_by_label.into_sorted();
        status.bytes_by_label = bytes_by_label.into_sorted();
        status
    }
}

/// The largest few of many, without making a name for each.
struct Largest {
    limit: usize,
    rows: Vec<NamedCount>,
}

impl Largest {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            rows: Vec::new(),
        }
    }

    fn offer(&mut self, value: u64, name: impl FnOnce() -> String) {
        // Of equals the first stays in front.
        let at = self.rows.partition_point(|row| row.value >= value);
        if at < self.limit {
            self.rows.truncate(self.limit.saturating_sub(1).max(at));
            self.rows.insert(
                at,
                NamedCount {
                    name: name(),
                    value,
                },
            );
        }
    }

    fn into_sorted(self) -> Vec<NamedCount> {
        self.rows
    }
}
