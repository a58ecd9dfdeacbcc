//! Commits: what was staged goes in one step into the log and into memory.

use std::sync::Arc;

use crate::foundation::durable::DurableFile;
use crate::head::append::{Staged, Staging};
use crate::head::core::Inner;
use crate::head::late::Limits;
use crate::head::open_chunk::{ChunkRules, Value};
use crate::head::records::CommitRecords;
use crate::head::redo::LastRedo;
use crate::head::series::{CommitId, CommitPoint, MemSeries, Pushed};
use crate::head::stats::count;
use crate::head::wbl::OutOfOrderLog;
use crate::model::{Exemplar, Interval, Metadata, SampleTime};
use crate::storage::AppendError;
use crate::wal::{Wal, WalCounters, WalError};

/// So many series are asked for together before samples go into them.
const FLOATS_PER_TOUCH: usize = 32;

/// The log and what a commit needs beside it.
pub(crate) struct Committer {
    pub(crate) wal: Wal,
    pub(crate) next_id: CommitId,
    pub(crate) records: CommitRecords,
    /// The log of what came out of order.
    pub(crate) late: OutOfOrderLog,
    /// A commit in memory that the logs had no room for; its records are those above.
    pub(crate) owed: Option<Owed>,
    pub(crate) last_redo: LastRedo,
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
    pub(crate) fn new(wal: Wal, late: OutOfOrderLog) -> Self {
        Self {
            wal,
            next_id: 1,
            records: CommitRecords::default(),
            late,
            owed: None,
            last_redo: LastRedo::default(),
            closed: Vec::new(),
        }
    }

    /// Writes the records of the commit under way. May be called again when there was no room: what the log has twice
    /// counts once.
    pub(crate) fn log(&mut self) -> Result<(), WalError> {
        self.records.write(&mut self.wal)?;
        self.late.write()
    }

    /// Bytes written to both logs since the start.
    pub(crate) fn n_bytes_written(&self) -> u64 {
        self.wal.n_bytes_written() + self.late.n_bytes_written()
    }

    /// The files whose fsync makes every commit so far durable, and what counts that.
    pub(crate) fn unsynced(&mut self) -> Vec<(Arc<DurableFile>, Option<Arc<WalCounters>>)> {
        let wal = Some(Arc::clone(self.wal.counters()));
        let late = self.late.numbers.counters.get().cloned();
        let of_wal = self.wal.unsynced().into_iter();
        let of_late = self.late.unsynced().into_iter();
        let of_wal = of_wal.map(|file| (file, wal.clone()));
        of_wal
            .chain(of_late.map(|file| (file, late.clone())))
            .collect()
    }
}

/// What a commit did to memory.
pub(crate) struct Applied {
    pub(crate) point: CommitPoint,
    rules: ChunkRules,
    limits: Limits,
    span: Option<Interval>,
    pub(crate) n_samples: u64,
    /// How many of them came out of order.
    pub(crate) n_late: u64,
    pub(crate) n_histograms: u64,
    pub(crate) n_lost: u64,
    pub(crate) n_chunks: u64,
}

impl Applied {
    fn new(point: CommitPoint, rules: ChunkRules, limits: Limits) -> Self {
        Self {
            point,
            rules,
            limits,
            span: None,
            n_samples: 0,
            n_late: 0,
            n_histograms: 0,
            n_lost: 0,
            n_chunks: 0,
        }
    }
}

/// What becomes known when the log has it.
#[derive(Default)]
struct Noted<'a> {
    metadata: Vec<(String, Arc<Metadata>)>,
    exemplars: Vec<&'a (Arc<MemSeries>, Exemplar)>,
}

/// A commit that waits for room.
pub(crate) struct Owed {
    applied: Applied,
    metadata: Vec<(String, Arc<Metadata>)>,
    exemplars: Vec<(Arc<MemSeries>, Exemplar)>,
}

impl Inner {
    /// Memory first, unseen; then the log; then seen. A commit that the log refuses stays unseen for good, and since
    /// the log is poisoned then, no later commit can uncover it. One that the log has no room for is refused as well and
    /// stays unseen until there is room: no other comes before it.
    pub(crate) fn commit(&self, staging: &Staging, limits: Limits) -> Result<(), AppendError> {
        let mut committer = self.committer.lock();
        if let Some(reason) = committer.wal.poisoned() {
            return Err(AppendError::Closed(reason.to_owned()));
        }
        self.settle(&mut committer)?;
        let id = committer.next_id;
        let point = CommitPoint {
            id,
            oldest_view: self.views.oldest(),
        };
        let has_starts =
            self.settings.keeps_start_times && staging.rare.iter().any(|rare| rare.at.start_t != 0);
        committer.records.begin(has_starts);
        committer.late.begin(has_starts);
        let mut applied = Applied::new(
            point,
            self.settings.chunk_rules(),
            limits.within(&self.bounds),
        );
        self.apply(&mut committer, staging, &mut applied);
        let noted = self.note(&mut committer, staging);
        if let Err(error) = committer.log() {
            if error.is_full() {
                committer.owed = Some(Owed {
                    applied,
                    metadata: noted.metadata,
                    exemplars: noted.exemplars.into_iter().cloned().collect(),
                });
            }
            return Err(self.refuse(&mut committer.wal, &error));
        }
        self.finish_commit(&mut committer, &applied, noted);
        Ok(())
    }

    /// The log has it: from now on it is seen.
    fn finish_commit(&self, committer: &mut Committer, applied: &Applied, noted: Noted<'_>) {
        let id = applied.point.id;
        committer.next_id = id + 1;
        if let Some(span) = applied.span {
            self.bounds.extend(span);
        }
        self.views.publish(id);
        let c = &self.counters;
        c.wal_bytes.store(
            committer.n_bytes_written(),
            std::sync::atomic::Ordering::Relaxed,
        );
        self.wal_segment.store(
            committer.wal.segment(),
            std::sync::atomic::Ordering::Relaxed,
        );
        if !noted.metadata.is_empty() {
            self.metadata.write().extend(noted.metadata);
        }
        for (series, exemplar) in noted.exemplars {
            let is_new = self.exemplars.add(series, exemplar);
            count(&c.exemplars_appended, u64::from(is_new));
        }
        if !committer.closed.is_empty() {
            self.mapping.lock().append(&mut committer.closed);
        }
        count(&c.commits, 1);
        count(&c.samples_appended, applied.n_samples);
        count(&c.histograms_appended, applied.n_histograms);
        count(&c.late_appended, applied.n_late);
        count(&c.lost_races, applied.n_lost);
        count(&c.chunks_created, applied.n_chunks);
    }

    /// What [`Inner::settle`] has brought into the log is seen.
    pub(crate) fn finish_owed(&self, committer: &mut Committer, owed: &Owed) {
        let noted = Noted {
            metadata: owed.metadata.clone(),
            exemplars: owed.exemplars.iter().collect(),
        };
        self.finish_commit(committer, &owed.applied, noted);
    }

    /// In the order in which they were staged.
    fn apply(&self, committer: &mut Committer, staging: &Staging, applied: &mut Applied) {
        let mut n_done = 0;
        for rare in &staging.rare {
            let before = staging.samples.get(n_done..rare.after);
            self.apply_floats(committer, before.unwrap_or_default(), applied);
            n_done = rare.after;
            let limits = applied.limits;
            applied.limits = limits.for_order(rare.is_in_order);
            let sample = (&rare.series, rare.at, rare.value.as_value());
            self.apply_one(committer, sample, applied);
            applied.limits = limits;
        }
        let rest = staging.samples.get(n_done..).unwrap_or_default();
        self.apply_floats(committer, rest, applied);
    }

    fn apply_floats(&self, committer: &mut Committer, floats: &[Staged], applied: &mut Applied) {
        for some in floats.chunks(FLOATS_PER_TOUCH) {
            // Series lie far apart, and so do their chunks: every one would wait for the memory of the one before. Looked
            // at like this, they come all at once.
            let touched = some
                .iter()
                .fold(0, |sum, staged| sum ^ staged.series.touch_state());
            std::hint::black_box(touched);
            let touched = some
                .iter()
                .fold(0, |sum, staged| sum ^ staged.series.touch_chunk());
            std::hint::black_box(touched);
            for Staged { series, t, v } in some {
                let sample = (series, SampleTime::from(*t), Value::Float(*v));
                self.apply_one(committer, sample, applied);
            }
        }
    }

    #[inline]
    fn apply_one(
        &self,
        committer: &mut Committer,
        (series, at, value): (&Arc<MemSeries>, SampleTime, Value<'_>),
        applied: &mut Applied,
    ) {
        let limits = applied.limits;
        if at.t < limits.floor && limits.oldest.is_none() {
            applied.n_lost += 1;
            return;
        }
        let reborn;
        let mut series = series;
        let mut state = series.lock();
        if state.is_dead {
            drop(state);
            reborn = self.get_or_create(series.key, &series.labels);
            series = &reborn;
            state = series.lock();
        }
        let value = state.settled(value);
        let turns = state.turns(value, applied.point);
        let had_chunk = state.has_open();
        let pushed = if at.t < limits.floor {
            Err(AppendError::OutOfBounds {
                oldest: limits.floor,
            })
        } else {
            state.push(at, value, applied.point, applied.rules)
        };
        if let Err(refusal) = &pushed
            && limits.oldest.is_some()
            && limits.judge(at.t, refusal.clone()).is_ok()
        {
            self.apply_late(committer, (series, state), (at, value), applied);
            return;
        }
        let is_logged = state.is_logged;
        state.is_logged |= pushed.is_ok();
        drop(state);
        match pushed {
            Ok(Pushed::Same) => return,
            Ok(Pushed::Appended) => applied.n_chunks += u64::from(!had_chunk),
            Ok(Pushed::AppendedAndClosed) => {
                applied.n_chunks += 1;
                committer.closed.push(Arc::clone(series));
            }
            Err(_) => {
                applied.n_lost += 1;
                return;
            }
        }
        if !is_logged {
            committer.records.series(series.series, &series.labels);
        }
        if turns {
            committer.records.next_batch();
        }
        committer.records.value(series.series, at, value);
        match value {
            Value::Float(_) => applied.n_samples += 1,
            Value::Histogram(..) => applied.n_histograms += 1,
        }
        let span = applied.span.get_or_insert(Interval {
            min: at.t,
            max: at.t,
        });
        (span.min, span.max) = (span.min.min(at.t), span.max.max(at.t));
    }

    /// Metadata and exemplars of series the log knows; others have no samples yet and come again with the next scrape.
    fn note<'a>(&self, committer: &mut Committer, staging: &'a Staging) -> Noted<'a> {
        let mut noted = Noted::default();
        for (series, metadata) in &staging.metadata {
            let name = series.labels.metric_name();
            let is_twin = noted
                .metadata
                .last()
                .is_some_and(|(last, said)| last == name && said == metadata);
            if is_twin || !is_known(series) {
                continue;
            }
            committer.records.metadata(series.series, metadata);
            noted.metadata.push((name.to_owned(), Arc::clone(metadata)));
        }
        for entry in &staging.exemplars {
            let (series, exemplar) = entry;
            if is_known(series) && self.exemplars.check(series.key, exemplar) == Ok(true) {
                committer.records.exemplar(series.series, exemplar);
                noted.exemplars.push(entry);
            }
        }
        noted
    }
}

/// Does the log have its labels?
fn is_known(series: &MemSeries) -> bool {
    let state = series.lock();
    state.is_logged && !state.is_dead
}
