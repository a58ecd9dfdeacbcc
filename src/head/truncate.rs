//! The old part goes: from memory, from the chunk files and from the log.

use std::sync::Arc;

use crate::foundation::Cancel;
use crate::head::HeadError;
use crate::head::core::{Head, Inner};
use crate::head::save::remove_snapshot;
use crate::head::series::MemSeries;
use crate::head::stats::count;
use crate::model::{Labels, METRIC_NAME, TimestampMs};
use crate::wal::{
    CheckpointStats, CheckpointWanted, SegmentNumber, checkpoint_range, list_segments,
    remove_before, write_checkpoint,
};

/// Lists of so many labels are shortened before somebody else may look at them.
const PAIRS_PER_SLICE: usize = 64;

/// What a truncation dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TruncateStats {
    /// Series without chunks.
    pub n_series_removed: u64,
    /// Chunks that ended before the new start.
    pub n_chunks_removed: u64,
    /// The checkpoint, if the log was long enough for one.
    pub checkpoint: Option<CheckpointStats>,
}

impl Head {
    /// Goes on in a new segment, as after a segment that is full.
    #[cfg(test)]
    pub(crate) fn rotate_log(&self) {
        let mut committer = self.inner().committer.lock();
        committer.wal.next_segment().unwrap();
    }

    /// From now on takes nothing older than `floor`, and waits until no commit that might is under way.
    ///
    /// What the head holds before `floor` is final after this.
    pub fn close_before(&self, floor: TimestampMs) {
        let inner = self.inner();
        inner.bounds.raise_floor(floor);
        // Commits read the floor under this lock.
        drop(inner.committer.lock());
    }

    /// Drops what is older than `mint`, which is in a block by now: chunks, series left without any, then the part of
    /// the log and of the chunk files that nothing needs any more.
    pub fn truncate_before(&self, mint: TimestampMs) -> Result<TruncateStats, HeadError> {
        self.truncate_before_with(mint, &Cancel::new())
    }

    /// The same, where the log stays as long as it is once `cancel` is raised: shortening it may take longer than whoever
    /// stops the process waits, and the next start finds the same.
    pub fn truncate_before_with(
        &self,
        mint: TimestampMs,
        cancel: &Cancel,
    ) -> Result<TruncateStats, HeadError> {
        self.close_before(mint);
        let inner = self.inner();
        if let Some(dir) = inner.wal_dir.parent() {
            remove_snapshot(dir)?;
            inner.remove_redo_point(dir)?;
        }
        let result = inner.truncate(mint, cancel);
        match &result {
            Ok(_) => count(&inner.counters.truncations, 1),
            Err(_) => count(&inner.counters.truncations_failed, 1),
        }
        result
    }
}

/// Forgets dead series; until `segment` of the log is gone, so must their labels stay there.
pub(crate) fn retire(inner: &Inner, dead: &[Arc<MemSeries>], segment: SegmentNumber) {
    for series in dead {
        inner.series.remove(series);
    }
    let mut gone: Vec<(u64, Labels)> = dead
        .iter()
        .map(|series| (series.series, series.labels.clone()))
        .collect();
    gone.sort_unstable_by_key(|(series, _)| *series);
    inner
        .retired
        .lock()
        .removed
        .extend(gone.iter().map(|(series, _)| (*series, segment)));
    let numbers: Vec<u64> = gone.iter().map(|(series, _)| *series).collect();
    let mut pairs: Vec<(&str, &str)> = gone.iter().flat_map(|(_, labels)| labels).collect();
    pairs.sort_unstable();
    pairs.dedup();
    // In slices: nobody who makes a series waits for all of it. Meanwhile a list may name what is not there any more,
    // which whoever reads it passes over.
    inner.postings.write().remove_from_all(&numbers);
    for some in pairs.chunks(PAIRS_PER_SLICE) {
        inner.postings.write().remove(some, &numbers);
    }
    let (postings, mut metadata) = (inner.postings.read(), inner.metadata.write());
    metadata.retain(|name, _| postings.has_value(METRIC_NAME, name));
    drop((postings, metadata));
    inner.series.shrink();
    count(&inner.counters.series_removed, dead.len() as u64);
}

impl Inner {
    fn truncate(&self, mint: TimestampMs, cancel: &Cancel) -> Result<TruncateStats, HeadError> {
        let mut stats = TruncateStats::default();
        let first_file = self.collect_garbage(mint, &mut stats);
        self.deleted.truncate_before(mint);
        self.files.remove_before(first_file)?;
        stats.checkpoint = self.shorten_log(mint, cancel)?;
        Ok(stats)
    }

    /// Drops old chunks and empty series; the first chunk file that is still wanted.
    fn collect_garbage(&self, mint: TimestampMs, stats: &mut TruncateStats) -> u32 {
        let no_mapping_meanwhile = self.mapping_turn.lock();
        let mut first_file = self.files.write_position();
        let mut min_t = i64::MAX;
        let mut dead = Vec::new();
        self.series.for_each(|series| {
            let mut state = series.lock();
            stats.n_chunks_removed += state.truncate_before(mint) as u64;
            if state.n_chunks() == 0 {
                state.is_dead = true;
                dead.push(Arc::clone(series));
            }
            min_t = min_t.min(state.min_t().unwrap_or(i64::MAX));
            first_file = first_file.min(state.first_file().unwrap_or(u32::MAX));
        });
        drop(no_mapping_meanwhile);
        let segment = self.wal_segment.load(std::sync::atomic::Ordering::Relaxed);
        retire(self, &dead, segment);
        self.bounds.raise_min(if min_t == i64::MAX {
            mint
        } else {
            min_t.max(mint)
        });
        stats.n_series_removed = dead.len() as u64;
        count(&self.counters.chunks_removed, stats.n_chunks_removed);
        first_file
    }

    /// A checkpoint over the older two thirds of the closed segments, which then go.
    fn shorten_log(
        &self,
        mint: TimestampMs,
        cancel: &Cancel,
    ) -> Result<Option<CheckpointStats>, HeadError> {
        let Some(first) = list_segments(&self.wal_dir)?.first().map(|s| s.number) else {
            return Ok(None);
        };
        let mut committer = self.committer.lock();
        let active = committer.wal.segment();
        // A fresh segment, so that a head with little traffic has something to fold in next time.
        committer.wal.next_segment()?;
        self.wal_segment.store(
            committer.wal.segment(),
            std::sync::atomic::Ordering::Relaxed,
        );
        drop(committer);
        let Some(upto) = checkpoint_range(first, active) else {
            return Ok(None);
        };
        let keep = |series: u64| {
            let retired = self.retired.lock();
            let series = retired.aliases.get(&series).copied().unwrap_or(series);
            let is_mentioned = retired.removed.get(&series).is_some_and(|at| *at > upto);
            drop(retired);
            is_mentioned || self.series.by_ref(series).is_some()
        };
        let wanted = CheckpointWanted {
            mint,
            keeps: &keep,
            cancel,
        };
        let written = write_checkpoint(&self.wal_dir, upto, self.settings.wal, &wanted);
        let written = written.inspect_err(|_| count(&self.counters.checkpoints_failed, 1))?;
        let Some(stats) = written else {
            return Ok(None);
        };
        remove_before(&self.wal_dir, upto)?;
        let first = upto.saturating_add(1);
        self.committer.lock().wal.forget_before(first);
        count(&self.counters.checkpoints, 1);
        self.retired.lock().removed.retain(|_, at| *at > upto);
        Ok(Some(stats))
    }
}
