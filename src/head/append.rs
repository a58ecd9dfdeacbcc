//! Transactions: staged in a buffer, then in one step in the log and in memory.

use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::head::core::{Head, Inner};
use crate::head::series::{CommitId, CommitPoint, MemSeries, Pushed};
use crate::head::stats::count;
use crate::model::{
    Counts, EXEMPLAR_CHARS_MAX, Exemplar, Histogram, Interval, Labels, LabelsError, Metadata,
    SampleTime, SeriesKey, TimestampMs,
};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};
use crate::wal::{MetadataEncoder, SamplesEncoder, SeriesEncoder, Wal};

/// Staging buffers kept for the next transactions.
const STAGING_KEPT: usize = 16;
/// A staging buffer with room for more samples than this is given back.
const STAGING_SAMPLES_KEPT: usize = 1 << 16;

/// The log and what a commit needs beside it.
pub(crate) struct Committer {
    pub(crate) wal: Wal,
    next_id: CommitId,
    series: SeriesEncoder,
    metadata: MetadataEncoder,
    samples: SamplesEncoder,
    closed: Vec<Arc<MemSeries>>,
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer")
            .field("wal", &self.wal)
            .field("next_id", &self.next_id)
            .finish_non_exhaustive()
    }
}

impl Committer {
    pub(crate) fn new(wal: Wal) -> Self {
        Self {
            wal,
            next_id: 1,
            series: SeriesEncoder::default(),
            metadata: MetadataEncoder::default(),
            samples: SamplesEncoder::default(),
            closed: Vec::new(),
        }
    }
}

/// What a transaction has collected; the buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    samples: Vec<Staged>,
    metadata: Vec<(Arc<MemSeries>, Arc<Metadata>)>,
}

#[derive(Debug)]
struct Staged {
    series: Arc<MemSeries>,
    t: TimestampMs,
    v: f64,
}

/// One transaction on a head.
#[derive(Debug)]
pub struct HeadAppender<'a> {
    head: &'a Inner,
    staging: Staging,
    /// Older samples are out of bounds; known with the first sample when the head has none.
    floor: Option<TimestampMs>,
    /// The series asked for last: its sample is the next to come.
    last: Option<Arc<MemSeries>>,
    is_done: bool,
}

impl Appendable for Head {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(self.head_appender())
    }
}

impl Head {
    /// Begins a transaction.
    pub fn head_appender(&self) -> HeadAppender<'_> {
        let head = self.inner();
        let floor = head.bounds.get().map(|bounds| head.floor_for(bounds.max));
        HeadAppender {
            head,
            staging: head.staging.lock().pop().unwrap_or_default(),
            floor,
            last: None,
            is_done: false,
        }
    }
}

impl Inner {
    /// From when on samples are taken while the newest is at `max_t`.
    fn floor_for(&self, max_t: TimestampMs) -> TimestampMs {
        let half = self.settings.chunk_range_ms / 2;
        max_t.saturating_sub(half).max(self.bounds.floor())
    }
}

impl HeadAppender<'_> {
    fn find(&mut self, series: SeriesRef) -> Result<&Arc<MemSeries>, AppendError> {
        if self
            .last
            .as_ref()
            .is_none_or(|last| last.series != series.0)
        {
            self.last = Some(
                self.head
                    .series
                    .by_ref(series.0)
                    .ok_or(AppendError::UnknownSeries)?,
            );
        }
        self.last.as_ref().ok_or(AppendError::UnknownSeries)
    }

    fn stage(&mut self, series: SeriesRef, t: TimestampMs, v: f64) -> Result<(), AppendError> {
        let head = self.head;
        let floor = *self.floor.get_or_insert_with(|| head.floor_for(t));
        let mut found = Arc::clone(self.find(series)?);
        if t < floor {
            return Err(AppendError::OutOfBounds { oldest: floor });
        }
        let mut state = found.lock();
        if state.is_dead {
            drop(state);
            found = head.get_or_create(found.key, &found.labels);
            state = found.lock();
        }
        let is_new = state.check(t, v)?;
        drop(state);
        if is_new {
            self.staging.samples.push(Staged {
                series: found,
                t,
                v,
            });
        }
        Ok(())
    }

    /// Writes the log, then makes every staged sample visible.
    pub fn finish(&mut self) -> Result<(), AppendError> {
        self.is_done = true;
        if self.staging.samples.is_empty() && self.staging.metadata.is_empty() {
            count(&self.head.counters.commits, 1);
            return Ok(());
        }
        let result = self.head.commit(&mut self.staging);
        self.head.map_closed_chunks();
        result
    }
}

impl Appender for HeadAppender<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        let series = match self.head.series.by_key(key) {
            Some(series) => series,
            None => {
                let labels = labels()?;
                if labels.is_empty() {
                    return Err(AppendError::EmptyLabels);
                }
                self.head.get_or_create(key, &labels)
            }
        };
        let number = series.series;
        self.last = Some(series);
        Ok(SeriesRef(number))
    }

    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        self.stage(series, at.t, v).inspect_err(|error| {
            let counters = &self.head.counters;
            match error {
                AppendError::OutOfOrder { .. } => count(&counters.out_of_order, 1),
                AppendError::OutOfBounds { .. } => count(&counters.out_of_bounds, 1),
                AppendError::Duplicate => count(&counters.duplicate, 1),
                AppendError::TooOld { .. }
                | AppendError::TooFarAhead { .. }
                | AppendError::Histogram(_)
                | AppendError::OutOfOrderExemplar { .. }
                | AppendError::ExemplarLabels { .. }
                | AppendError::UnknownSeries
                | AppendError::Labels(_)
                | AppendError::EmptyLabels
                | AppendError::Wal(_)
                | AppendError::Closed(_) => (),
            }
        })
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        _: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        self.find(series)?;
        histogram.check(counts)?;
        Err(AppendError::Closed("native histograms".to_owned()))
    }

    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        self.find(series)?;
        match exemplar.n_chars() {
            0..=EXEMPLAR_CHARS_MAX => Ok(()),
            n_chars => Err(AppendError::ExemplarLabels { n_chars }),
        }
    }

    fn metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        let series = Arc::clone(self.find(series)?);
        let known = self.head.metadata.read();
        let is_known = known
            .get(series.labels.metric_name())
            .is_some_and(|known| **known == *metadata);
        drop(known);
        if !is_known {
            self.staging
                .metadata
                .push((series, Arc::new(metadata.clone())));
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), AppendError> {
        self.finish()
    }

    fn rollback(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for HeadAppender<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            count(&self.head.counters.rollbacks, 1);
        }
        self.staging.samples.clear();
        self.staging.metadata.clear();
        if self.staging.samples.capacity() <= STAGING_SAMPLES_KEPT {
            let mut kept = self.head.staging.lock();
            if kept.len() < STAGING_KEPT {
                kept.push(std::mem::take(&mut self.staging));
            }
        }
    }
}

/// What a commit did to memory.
#[derive(Default)]
struct Applied {
    span: Option<Interval>,
    n_samples: u64,
    n_lost: u64,
    n_chunks: u64,
}

impl Inner {
    /// Memory first, unseen; then the log; then seen. A commit that the log refuses stays unseen for good, and since
    /// the log is poisoned then, no later commit can uncover it.
    fn commit(&self, staging: &mut Staging) -> Result<(), AppendError> {
        let mut committer = self.committer.lock();
        if let Some(reason) = committer.wal.poisoned() {
            return Err(AppendError::Closed(reason.to_owned()));
        }
        let id = committer.next_id;
        let point = CommitPoint {
            id,
            oldest_view: self.views.oldest(),
        };
        let applied = self.apply(&mut committer, staging, point);
        let named = self.name(&mut committer, staging);
        if let Err(error) = committer.log() {
            count(&self.counters.wal_failures, 1);
            committer.wal.poison(error.clone());
            return Err(AppendError::Wal(error));
        }
        committer.next_id = id + 1;
        if let Some(span) = applied.span {
            self.bounds.extend(span);
        }
        self.views.publish(id);
        self.finish_commit(committer, &applied, named);
        Ok(())
    }

    fn finish_commit(
        &self,
        mut committer: MutexGuard<'_, Committer>,
        applied: &Applied,
        named: Vec<(String, Arc<Metadata>)>,
    ) {
        let c = &self.counters;
        c.wal_bytes.store(
            committer.wal.n_bytes_written(),
            std::sync::atomic::Ordering::Relaxed,
        );
        self.wal_segment.store(
            committer.wal.segment(),
            std::sync::atomic::Ordering::Relaxed,
        );
        if !named.is_empty() {
            self.metadata.write().extend(named);
        }
        if !committer.closed.is_empty() {
            self.mapping.lock().append(&mut committer.closed);
        }
        count(&c.commits, 1);
        count(&c.samples_appended, applied.n_samples);
        count(&c.lost_races, applied.n_lost);
        count(&c.chunks_created, applied.n_chunks);
    }

    fn apply(&self, committer: &mut Committer, staging: &Staging, point: CommitPoint) -> Applied {
        let mut applied = Applied::default();
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        let floor = self.bounds.floor();
        committer.series.clear();
        committer.samples.clear();
        for Staged { series, t, v } in &staging.samples {
            if *t < floor {
                applied.n_lost += 1;
                continue;
            }
            let mut reborn = None;
            let mut state = series.lock();
            if state.is_dead {
                drop(state);
                let series = reborn.insert(self.get_or_create(series.key, &series.labels));
                state = series.lock();
            }
            let had_chunk = state.has_open();
            let pushed = state.push(*t, *v, point, self.settings.chunk_range_ms);
            let is_logged = state.is_logged;
            state.is_logged |= pushed.is_ok();
            drop(state);
            let series = reborn.as_ref().unwrap_or(series);
            match pushed {
                Ok(Pushed::Same) => continue,
                Ok(Pushed::Appended) => applied.n_chunks += u64::from(!had_chunk),
                Ok(Pushed::AppendedAndClosed) => {
                    applied.n_chunks += 1;
                    committer.closed.push(Arc::clone(series));
                }
                Err(_) => {
                    applied.n_lost += 1;
                    continue;
                }
            }
            if !is_logged {
                committer.series.push(series.series, &series.labels);
            }
            committer.samples.push(series.series, *t, *v);
            applied.n_samples += 1;
            (min, max) = (min.min(*t), max.max(*t));
        }
        applied.span = (min <= max).then_some(Interval { min, max });
        applied
    }

    /// Metadata of series the log knows; others have no samples yet and come again with the next scrape.
    fn name(&self, committer: &mut Committer, staging: &Staging) -> Vec<(String, Arc<Metadata>)> {
        committer.metadata.clear();
        let mut named: Vec<(String, Arc<Metadata>)> = Vec::new();
        for (series, metadata) in &staging.metadata {
            let name = series.labels.metric_name();
            let is_twin = named
                .last()
                .is_some_and(|(last, said)| last == name && said == metadata);
            let state = series.lock();
            let is_here = state.is_logged && !state.is_dead;
            drop(state);
            if is_twin || !is_here {
                continue;
            }
            committer.metadata.push(series.series, metadata);
            named.push((name.to_owned(), Arc::clone(metadata)));
        }
        named
    }
}

impl Committer {
    fn log(&mut self) -> Result<(), String> {
        let records = [
            self.series.record(),
            self.metadata.record(),
            self.samples.record(),
        ];
        let records: smallvec::SmallVec<[&[u8]; 3]> = records.into_iter().flatten().collect();
        if records.is_empty() {
            return Ok(());
        }
        self.wal.append(&records).map_err(|error| error.to_string())
    }
}
