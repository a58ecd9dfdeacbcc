//! What one thread of a replay does with its series.

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender};

use crate::head::chunk_files::FoundChunk;
use crate::head::core::Inner;
use crate::head::open_chunk::{ChunkRules, Value, ValueKind};
use crate::head::out_of_order::Inserted;
use crate::head::progress::ReplayProgress;
use crate::head::replay::{ReplayReport, extend};
use crate::head::replay_lanes::{Batch, Rare};
use crate::head::replay_rows::{BLOCKS_PER_PAGE, NO_COLUMNS, Rows, SERIES_PER_BLOCK};
use crate::head::series::{CommitPoint, MappedChunk, MemSeries, Pushed, SeriesState};
use crate::head::stats::count;
use crate::model::{Encoding, Interval, Sample, SampleTime, TimestampMs};

/// Replay makes no commits: all of it is visible.
pub(crate) const AT_START: CommitPoint = CommitPoint {
    id: 0,
    oldest_view: 0,
};

/// Closed chunks wait for so many series before they go to files: few enough to be near still.
const CLOSED_SERIES_MAX: usize = 512;

/// What a thread did, for the whole to be summed up.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) report: ReplayReport,
    pub(crate) span: Option<Interval>,
    /// Series that left the head early, and may have come back.
    pub(crate) left: Vec<Arc<MemSeries>>,
    /// Why the snapshot is good for nothing, if so.
    pub(crate) failed: Option<String>,
    n_chunks_created: u64,
    n_chunks_removed: u64,
    late_span: Option<Interval>,
}

impl Applied {
    pub(crate) fn add(&mut self, other: Self) {
        self.report.add(&other.report);
        self.left.extend(other.left);
        self.failed = self.failed.take().or(other.failed);
        self.n_chunks_created += other.n_chunks_created;
        self.n_chunks_removed += other.n_chunks_removed;
        for (mine, theirs) in [
            (&mut self.span, other.span),
            (&mut self.late_span, other.late_span),
        ] {
            if let Some(Interval { min, max }) = theirs {
                extend(mine, min, max);
            }
        }
    }

    /// Tells the head.
    pub(crate) fn publish(&self, inner: &Inner) {
        count(&inner.counters.chunks_created, self.n_chunks_created);
        count(&inner.counters.chunks_removed, self.n_chunks_removed);
        if let Some(span) = self.late_span {
            inner.late.extend(span);
        }
    }
}

/// A thread with its series.
pub(crate) struct Worker<'a> {
    inner: &'a Inner,
    progress: &'a ReplayProgress,
    rules: ChunkRules,
    floor: TimestampMs,
    series: Vec<Arc<MemSeries>>,
    /// How many bytes the next chunk of each will have, where that is known.
    n_bytes: Vec<u32>,
    applied: Applied,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(inner: &'a Inner, progress: &'a ReplayProgress) -> Self {
        Self {
            inner,
            progress,
            rules: inner.settings.chunk_rules(),
            floor: inner.bounds.floor(),
            series: Vec::new(),
            n_bytes: Vec::new(),
            applied: Applied::default(),
        }
    }

    /// Applies batches until no more come, and gives their buffers back.
    pub(crate) fn run(mut self, batches: &Receiver<Batch>, done: &Sender<Batch>) -> Applied {
        for mut batch in batches {
            let before = self.applied.report.n_samples;
            self.batch(&mut batch);
            self.progress
                .add_samples(self.applied.report.n_samples - before);
            batch.clear();
            done.try_send(batch).ok();
        }
        self.applied
    }

    fn batch(&mut self, batch: &mut Batch) {
        let mut n_done = 0;
        for (after, rare) in batch.rare.drain(..) {
            self.pages(batch.pages.get(n_done..after).unwrap_or_default());
            n_done = after;
            self.rare(rare);
        }
        self.pages(batch.pages.get(n_done..).unwrap_or_default());
    }

    fn pages(&mut self, pages: &[(u32, Rows)]) {
        if pages.is_empty() {
            return;
        }
        let mut columns = NO_COLUMNS;
        for (first, rows) in pages {
            let firsts = (*first..).step_by(SERIES_PER_BLOCK);
            for (block, first) in (0..BLOCKS_PER_PAGE).zip(firsts) {
                // Series lie far apart; looked at like this, they come all at once.
                let series = self.series.iter().skip(first as usize);
                let series = series.take(SERIES_PER_BLOCK);
                std::hint::black_box(series.fold(0, |sum, series| sum ^ series.touch_state()));
                let Some(floats) = rows.columns(block, &mut columns) else {
                    continue;
                };
                for (place, floats) in (first..).zip(floats) {
                    self.floats(place, floats);
                }
            }
        }
    }

    fn floats(&mut self, place: u32, floats: &[Sample]) {
        let Some(series) = self.series.get(place as usize) else {
            return;
        };
        if floats.is_empty() {
            return;
        }
        let n_bytes = self.n_bytes.get(place as usize).map_or(0, |n| *n as usize);
        let mut state = series.lock();
        let pushed = state.push_floats(floats, AT_START, (self.rules, n_bytes));
        drop(state);
        if 0 < pushed.n_closed {
            self.inner.enqueue_closed(series);
        }
        self.applied.n_chunks_created += pushed.n_chunks as u64;
        let report = &mut self.applied.report;
        report.n_samples += pushed.n_appended as u64;
        report.n_samples_old += (floats.len() - pushed.n_appended) as u64;
        if let Some(Interval { min, max }) = pushed.span {
            extend(&mut self.applied.span, min, max);
        }
    }

    fn rare(&mut self, rare: Rare) {
        match rare {
            Rare::Series(series, n_bytes) => {
                self.series.push(series);
                self.n_bytes.push(n_bytes);
            }
            Rare::Restored(place, state) => {
                if let Err(reason) = self.restored(place, &state) {
                    self.applied.failed = Some(reason);
                }
            }
            Rare::Newest(place, chunks) => {
                if let Err(reason) = self.newest(place, &chunks) {
                    self.applied.failed = Some(reason);
                }
            }
            Rare::Chunks(place, chunks) => self.chunks(place, &chunks),
            Rare::Sample(place, at, value) => self.sample(place, at, value.as_value()),
            Rare::Left(place) => {
                let Some(series) = self.series.get(place as usize) else {
                    return;
                };
                // Nobody writes chunks of it to a file meanwhile.
                let turn = self.inner.mapping_turn.lock();
                let n_removed = series.lock().truncate_before(i64::MAX);
                drop(turn);
                self.applied.n_chunks_removed += n_removed as u64;
                self.applied.left.push(Arc::clone(series));
            }
            Rare::Late(place, at, value) => self.late(place, at, value.as_value()),
            Rare::LateChunk(place, chunk, encoding) => self.late_chunk(place, chunk, encoding),
        }
    }

    fn restored(&mut self, place: u32, saved: &[u8]) -> Result<(), String> {
        let Some(series) = self.series.get(place as usize) else {
            return Ok(());
        };
        let mut state = SeriesState::restore(saved)?;
        let files = &self.inner.files;
        let late = state.late.iter().flat_map(|late| late.in_files());
        let mut chunks = state.mapped.iter().copied().chain(late);
        if !chunks.all(|chunk| files.has(&chunk)) {
            return Err("a chunk is not in its file".to_owned());
        }
        drop(chunks);
        state.truncate_before(self.floor);
        self.applied.n_chunks_created += state.n_chunks() as u64;
        let late_span = state.late.as_ref().and_then(|late| late.span());
        let is_late = state.late.is_some();
        let has_closed = !state.closed().is_empty();
        *series.lock() = state;
        if has_closed {
            self.inner.mapping.lock().push(Arc::clone(series));
        }
        if is_late {
            self.inner.late.series.lock().push(Arc::clone(series));
        }
        if let Some(Interval { min, max }) = late_span {
            extend(&mut self.applied.late_span, min, max);
        }
        Ok(())
    }

    fn newest(&mut self, place: u32, saved: &[u8]) -> Result<(), String> {
        let Some(series) = self.series.get(place as usize) else {
            return Ok(());
        };
        let mut state = series.lock();
        let (n_chunks, span) = state.restore_newest(saved, self.floor)?;
        let has_closed = !state.closed().is_empty();
        drop(state);
        self.applied.n_chunks_created += n_chunks as u64;
        self.applied.report.n_chunks_redone += n_chunks as u64;
        if has_closed {
            self.inner.enqueue_closed(series);
        }
        if let Some(Interval { min, max }) = span {
            extend(&mut self.applied.span, min, max);
        }
        Ok(())
    }

    fn chunks(&mut self, place: u32, chunks: &[FoundChunk]) {
        if let Some(series) = self.series.get(place as usize) {
            let mut state = series.lock();
            let span = self
                .inner
                .attach_chunks(&mut state, chunks, &mut self.applied.report);
            if let Some(Interval { min, max }) = span {
                extend(&mut self.applied.span, min, max);
            }
        }
    }

    #[inline]
    fn sample(&mut self, place: u32, at: SampleTime, value: Value<'_>) {
        let Some(series) = self.series.get(place as usize) else {
            return;
        };
        let mut state = series.lock();
        let had_chunk = state.has_open();
        let pushed = state.push(at, value, AT_START, self.rules);
        drop(state);
        match pushed {
            Ok(Pushed::Appended) => self.applied.n_chunks_created += u64::from(!had_chunk),
            Ok(Pushed::AppendedAndClosed) => {
                self.applied.n_chunks_created += 1;
                self.inner.enqueue_closed(series);
            }
            Ok(Pushed::Same) | Err(_) => {
                self.applied.report.n_samples_old += 1;
                return;
            }
        }
        self.applied.report.n_samples += 1;
        extend(&mut self.applied.span, at.t, at.t);
    }

    fn late(&mut self, place: u32, at: SampleTime, value: Value<'_>) {
        let Some(series) = self.series.get(place as usize) else {
            return;
        };
        let mut state = series.lock();
        let is_first = state.late.is_none();
        let late = state.late.get_or_insert_default();
        let before = late.n_chunks();
        let inserted = late.insert(at, value, AT_START);
        let n_new = late.n_chunks() - before;
        drop(state);
        match inserted {
            Ok(Inserted::New | Inserted::NewAndClosed) => {
                self.applied.n_chunks_created += n_new as u64;
                self.applied.report.n_samples += 1;
                self.note_late(place, is_first, at.t, at.t);
            }
            Ok(Inserted::Same) | Err(_) => self.applied.report.n_samples_old += 1,
        }
    }

    fn late_chunk(&mut self, place: u32, chunk: MappedChunk, encoding: Encoding) {
        let Some(series) = self.series.get(place as usize) else {
            return;
        };
        let mut state = series.lock();
        let is_first = state.late.is_none();
        let late = state.late.get_or_insert_default();
        let before = late.n_chunks();
        late.attach(chunk, encoding);
        let n_new = late.n_chunks().saturating_sub(before);
        drop(state);
        self.applied.n_chunks_created += n_new as u64;
        self.applied.report.n_chunks_mapped += 1;
        self.applied.report.n_out_of_order_chunks += 1;
        self.note_late(place, is_first, chunk.min_t, chunk.max_t);
    }

    fn note_late(&mut self, place: u32, is_first: bool, min: TimestampMs, max: TimestampMs) {
        if is_first && let Some(series) = self.series.get(place as usize) {
            self.inner.late.series.lock().push(Arc::clone(series));
        }
        extend(&mut self.applied.late_span, min, max);
    }
}

impl Inner {
    /// A chunk of the series was closed, and goes to a file with others.
    fn enqueue_closed(&self, series: &Arc<MemSeries>) {
        let mut queue = self.mapping.lock();
        queue.push(Arc::clone(series));
        let is_full = queue.len() >= CLOSED_SERIES_MAX;
        drop(queue);
        if is_full {
            self.map_closed_chunks();
        }
    }

    /// Gives a series the chunks that files have of it; the time they span, those that are wanted.
    pub(crate) fn attach_chunks(
        &self,
        state: &mut SeriesState,
        chunks: &[FoundChunk],
        report: &mut ReplayReport,
    ) -> Option<Interval> {
        let floor = self.bounds.floor();
        let mut span = None;
        // A series has few chunks and many series have some: no room is kept for more.
        state.mapped.reserve_exact(chunks.len());
        for FoundChunk {
            chunk, encoding, ..
        } in chunks
        {
            if chunk.max_t >= floor && state.attach(*chunk) {
                report.n_chunks_mapped += 1;
                extend(&mut span, chunk.min_t, chunk.max_t);
                if state.open.is_none() && state.last_mapped() == Some(*chunk) {
                    state.kind = ValueKind::of(*encoding);
                }
            }
        }
        span
    }
}
