//! One series: its chunks, where they are cut, and which of its samples a reader may see.

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::block::join_preferred;
use crate::chunk::{decode_times, with_n_samples};
use crate::head::chunk_files::ChunkFiles;
use crate::head::closed::{ClosedChunk, ClosedChunks};
use crate::head::open_chunk::{ChunkRules, OpenChunk, Value, ValueKind};
use crate::head::out_of_order::{OutOfOrder, Wanted};
use crate::head::presence::{EvenSince, Presence};
use crate::model::{Encoding, Interval, Labels, SampleTime, SeriesKey, TimestampMs, is_stale};
use crate::storage::{AppendError, ChunkSlice};

/// Number of a commit; zero is what was there at the start, visible to all.
pub(crate) type CommitId = u64;

/// A series of the head.
pub(crate) struct MemSeries {
    /// Its number here and in the log.
    pub(crate) series: u64,
    /// Its key in this process.
    pub(crate) key: SeriesKey,
    /// Who it is.
    pub(crate) labels: Labels,
    state: Mutex<SeriesState>,
}

impl MemSeries {
    pub(crate) fn new(series: u64, key: SeriesKey, labels: Labels) -> Self {
        Self {
            series,
            key,
            labels,
            state: Mutex::new(SeriesState::default()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SeriesState> {
        self.state.lock()
    }

    /// The lock, if nobody has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, SeriesState>> {
        self.state.try_lock()
    }

    /// Reads a little of everything that is read of a series: whoever will lock many asks for their memory before.
    pub(crate) fn touch(&self) -> u64 {
        let labels = self.labels.touch_first();
        self.series ^ u64::from(labels) ^ u64::from(self.state.is_locked())
    }

    /// Reads a little of what is read when a sample comes.
    pub(crate) fn touch_state(&self) -> u64 {
        self.series ^ u64::from(self.state.is_locked())
    }

    /// Reads where the next sample is written.
    pub(crate) fn touch_chunk(&self) -> u8 {
        let state = self.state.try_lock();
        let open = state.as_ref().and_then(|state| state.open.as_ref());
        open.map_or(0, OpenChunk::touch)
    }
}

impl std::fmt::Debug for MemSeries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:?}", self.series, self.labels)
    }
}

/// A closed chunk in a mapped file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MappedChunk {
    pub(crate) min_t: TimestampMs,
    pub(crate) max_t: TimestampMs,
    pub(crate) file: u32,
    pub(crate) offset: u32,
}

/// What happened to a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is in.
    Appended,
    /// It is in and closed a chunk on its way.
    AppendedAndClosed,
    /// It was there already.
    Same,
}

/// Commits whose samples some reader may not see yet, and the time of the first sample each brought; oldest first.
type Tail = SmallVec<[(CommitId, TimestampMs); 1]>;

/// What is guarded by the lock of a series.
#[derive(Debug, Default)]
pub(crate) struct SeriesState {
    pub(crate) mapped: Vec<MappedChunk>,
    closed: ClosedChunks,
    pub(crate) open: Option<OpenChunk>,
    tail: Tail,
    /// Since when samples follow closely.
    even_since: EvenSince,
    /// Samples that came out of order.
    pub(crate) late: Option<Box<OutOfOrder>>,
    /// What its newest sample is.
    pub(crate) kind: ValueKind,
    /// It is a histogram of custom buckets.
    pub(crate) is_custom: bool,
    /// Its labels are in the log.
    pub(crate) is_logged: bool,
    /// Taken out of the head: whoever still holds it looks the series up again.
    pub(crate) is_dead: bool,
}

/// The commit a sample belongs to and the oldest view that any reader holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitPoint {
    pub(crate) id: CommitId,
    pub(crate) oldest_view: CommitId,
}

impl SeriesState {
    /// Time of the newest sample.
    pub(crate) fn max_t(&self) -> Option<TimestampMs> {
        self.open
            .as_ref()
            .map(|open| open.max_t)
            .or_else(|| self.closed().last().map(|chunk| chunk.max_t))
            .or_else(|| self.mapped.last().map(|chunk| chunk.max_t))
    }

    /// Time of the oldest sample.
    pub(crate) fn min_t(&self) -> Option<TimestampMs> {
        self.mapped
            .first()
            .map(|chunk| chunk.min_t)
            .or_else(|| self.closed().first().map(|chunk| chunk.min_t))
            .or_else(|| self.open.as_ref().map(|open| open.min_t))
    }

    /// From the oldest to the newest sample, in order or not.
    pub(crate) fn span(&self) -> Option<Interval> {
        let in_order = self.min_t().zip(self.max_t());
        let in_order = in_order.map(|(min, max)| Interval { min, max });
        let late = self.late.as_ref().and_then(|late| late.span());
        let spans = in_order.into_iter().chain(late);
        spans.reduce(|left, right| Interval {
            min: left.min.min(right.min),
            max: left.max.max(right.max),
        })
    }

    /// The first file a chunk of this series lies in.
    pub(crate) fn first_file(&self) -> Option<u32> {
        let late = self.late.as_ref().and_then(|late| late.first_file());
        self.mapped.iter().map(|chunk| chunk.file).chain(late).min()
    }

    /// Reads a little of what is read when chunks are asked for.
    pub(crate) fn touch_chunks(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, OpenChunk::touch_all);
        let mapped = self.mapped.last().map_or(0, |chunk| chunk.offset);
        let late = self.late.is_some();
        u64::from(open) ^ u64::from(mapped) ^ u64::from(late)
    }

    pub(crate) fn has_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn n_chunks(&self) -> usize {
        let late = self.late.as_ref().map_or(0, |late| late.n_chunks());
        self.mapped.len() + self.closed().len() + usize::from(self.open.is_some()) + late
    }

    /// May a sample follow? `Ok(false)` when the very same sample is there.
    pub(crate) fn check(&self, t: TimestampMs, value: Value<'_>) -> Result<bool, AppendError> {
        match self.max_t() {
            Some(max_t) if t < max_t => Err(AppendError::OutOfOrder { newest: max_t }),
            Some(max_t) if t == max_t => match &self.open {
                Some(open) if open.ends_with(value) => Ok(false),
                Some(_) => Err(AppendError::Duplicate),
                None => Err(AppendError::OutOfOrder { newest: max_t }),
            },
            Some(_) | None => Ok(true),
        }
    }

    /// What `value` is here: what ends a series, ends it as the kind of series it is.
    pub(crate) fn settled<'a>(&self, value: Value<'a>) -> Value<'a> {
        match (value, self.kind) {
            (Value::Float(v), ValueKind::Histogram(counts)) if is_stale(v) => Value::stale(counts),
            _ => value,
        }
    }

    /// Would this sample, within one commit, come into another record of the log than the one before?
    pub(crate) fn turns(&self, value: Value<'_>, point: CommitPoint) -> bool {
        let is_other = self.kind != value.kind() || self.is_custom != value.is_custom();
        is_other && self.tail.last().is_some_and(|(id, _)| *id == point.id)
    }

    /// Appends where [`SeriesState::check`] allows it, cutting chunks where Prometheus does.
    pub(crate) fn push(
        &mut self,
        at: SampleTime,
        value: Value<'_>,
        point: CommitPoint,
        rules: ChunkRules,
    ) -> Result<Pushed, AppendError> {
        if !self.check(at.t, value)? {
            return Ok(Pushed::Same);
        }
        let before = self.max_t();
        let mut pushed = Pushed::Appended;
        let has_room = match &mut self.open {
            Some(open) => {
                !open.is_done_before(at, value, rules) && open.append(at, value, rules)?
            }
            None => false,
        };
        if !has_room {
            let mut next = match &self.open {
                Some(open) => open.successor(at, value, rules),
                None => OpenChunk::new(at, value, rules),
            };
            if !next.append(at, value, rules)? {
                return Err(AppendError::Closed("a chunk takes no sample".to_owned()));
            }
            if let Some(open) = self.open.replace(next) {
                self.closed.push(open.into_closed());
                pushed = Pushed::AppendedAndClosed;
            }
        }
        match value {
            Value::Float(v) => self.even_since.note(before, (at.t, v)),
            Value::Histogram(..) => self.even_since = EvenSince::UNKNOWN,
        }
        self.kind = value.kind();
        self.is_custom = value.is_custom();
        self.note(at.t, point);
        Ok(pushed)
    }

    fn note(&mut self, t: TimestampMs, point: CommitPoint) {
        if point.id == 0 || self.tail.last().is_some_and(|(id, _)| *id == point.id) {
            return;
        }
        self.tail.retain(|(id, _)| *id > point.oldest_view);
        if self.tail.spilled() && self.tail.is_empty() {
            self.tail.shrink_to_fit();
        }
        self.tail.push((point.id, t));
    }

    /// The time from which on samples are hidden from a reader who holds `view`.
    fn hidden_from(&self, view: CommitId) -> Option<TimestampMs> {
        self.tail
            .iter()
            .find(|(id, _)| *id > view)
            .map(|(_, first_t)| *first_t)
    }

    /// Samples came that nobody looked at.
    pub(crate) fn forget_evenness(&mut self) {
        self.even_since = EvenSince::UNKNOWN;
    }

    /// Adds a chunk found in a file, wherever it belongs among the others: a series that was dropped and made again has
    /// chunks under several numbers, and the order in which the log names those says nothing. A chunk that overlaps what
    /// is here, or is newer than samples of the log, is refused: its samples are in the log too.
    pub(crate) fn attach(&mut self, chunk: MappedChunk) -> bool {
        let first_in_memory = self.closed().first().map(|first| first.min_t);
        let first_in_memory = first_in_memory.or(self.open.as_ref().map(|open| open.min_t));
        if first_in_memory.is_some_and(|min_t| min_t <= chunk.max_t) {
            return false;
        }
        let at = self.mapped.partition_point(|old| old.min_t < chunk.min_t);
        let before = at.checked_sub(1).and_then(|before| self.mapped.get(before));
        if before.is_some_and(|before| chunk.min_t <= before.max_t)
            || self
                .mapped
                .get(at)
                .is_some_and(|after| after.min_t <= chunk.max_t)
        {
            return false;
        }
        self.mapped.insert(at, chunk);
        true
    }

    /// The newest chunk that lies in a file.
    pub(crate) fn last_mapped(&self) -> Option<MappedChunk> {
        self.mapped.last().copied()
    }

    /// Chunks that want to go into a file.
    pub(crate) fn closed(&self) -> &[ClosedChunk] {
        self.closed.as_slice()
    }

    /// One more chunk that wants to go into a file.
    pub(crate) fn push_closed(&mut self, chunk: ClosedChunk) {
        self.closed.push(chunk);
    }

    /// The oldest of [`SeriesState::closed`] now lie at `places`.
    pub(crate) fn set_mapped(&mut self, places: &[(u32, u32)]) {
        let n = places.len().min(self.closed().len());
        // A series has few chunks and many series have some: no room is kept for more.
        self.mapped.reserve_exact(n);
        for (chunk, (file, offset)) in self.closed.as_slice().iter().zip(places) {
            self.mapped.push(MappedChunk {
                min_t: chunk.min_t,
                max_t: chunk.max_t,
                file: *file,
                offset: *offset,
            });
        }
        self.closed.remove_first(n);
    }

    /// Drops chunks that end before `mint`; how many went.
    pub(crate) fn truncate_before(&mut self, mint: TimestampMs) -> usize {
        let before = self.n_chunks();
        self.mapped.retain(|chunk| chunk.max_t >= mint);
        self.mapped.shrink_to_fit();
        self.closed.retain(|chunk| chunk.max_t >= mint);
        if self.open.as_ref().is_some_and(|open| open.max_t < mint) {
            self.open = None;
        }
        let after = self.n_chunks();
        if after == 0 {
            self.tail.clear();
        }
        before - after
    }

    /// The chunks that touch `interval`, without samples of commits after `view`. They do not overlap: of two samples at
    /// one time, the one that came in order is there.
    pub(crate) fn slices(
        &self,
        interval: Interval,
        view: CommitId,
        files: &ChunkFiles,
        hide: impl FnOnce(&mut Vec<ChunkSlice>),
    ) -> Vec<ChunkSlice> {
        let mut slices = self.slices_in_order(interval, view, files);
        hide(&mut slices);
        if let Some(late) = &self.late {
            let before = slices.len();
            let only_frozen = false;
            late.slices(
                Wanted {
                    interval,
                    view,
                    files,
                    only_frozen,
                },
                &mut slices,
            );
            if before < slices.len() {
                return join_preferred(slices);
            }
        }
        slices
    }

    /// As [`Self::slices`] for somebody who only asks when there were samples: one chunk that says as much, where that is
    /// known without reading any.
    pub(crate) fn presence(
        &self,
        interval: Interval,
        view: CommitId,
        presence: &mut Presence,
    ) -> Option<ChunkSlice> {
        if self.late.is_some() || self.hidden_from(view).is_some() {
            return None;
        }
        let mapped = self.mapped.iter().map(|chunk| (chunk.min_t, chunk.max_t));
        let closed = self.closed().iter().map(|chunk| (chunk.min_t, chunk.max_t));
        let open = self.open.iter().map(|chunk| (chunk.min_t, chunk.max_t));
        let spans = mapped.chain(closed).chain(open);
        let spans = spans.map(|(min, max)| Interval { min, max });
        let mut touched = spans.filter(|span| interval.overlaps(span));
        let first = touched.next()?;
        if !self.even_since.is_even(first.min, self.max_t()?) {
            return None;
        }
        // They follow each other in time, and nothing lies between them.
        let max = touched.last().map_or(first.max, |last| last.max);
        let min = first.min;
        presence.over(Interval { min, max })
    }

    /// The same, of samples that came in order only.
    pub(crate) fn slices_in_order(
        &self,
        interval: Interval,
        view: CommitId,
        files: &ChunkFiles,
    ) -> Vec<ChunkSlice> {
        let mut slices = Vec::with_capacity(self.n_chunks());
        let touches = |min, max| interval.overlaps(&Interval { min, max });
        for chunk in &self.mapped {
            if touches(chunk.min_t, chunk.max_t)
                && let Some((encoding, data)) = files.chunk(chunk.file, chunk.offset)
            {
                slices.push(slice(chunk.min_t, chunk.max_t, encoding, data));
            }
        }
        for chunk in self.closed() {
            if touches(chunk.min_t, chunk.max_t) {
                let data = chunk.data.clone();
                slices.push(slice(chunk.min_t, chunk.max_t, chunk.encoding, data));
            }
        }
        if let Some(open) = &self.open
            && touches(open.min_t, open.max_t)
        {
            let data = Bytes::copy_from_slice(open.bytes());
            slices.push(slice(open.min_t, open.max_t, open.encoding(), data));
        }
        if let Some(hidden_from) = self.hidden_from(view) {
            hide_from(&mut slices, hidden_from);
        }
        slices
    }
}

fn slice(min_t: TimestampMs, max_t: TimestampMs, encoding: Encoding, data: Bytes) -> ChunkSlice {
    ChunkSlice {
        min_t,
        max_t,
        encoding,
        data,
    }
}

/// Takes the samples at and after `hidden_from` away; they are the newest.
fn hide_from(slices: &mut Vec<ChunkSlice>, hidden_from: TimestampMs) {
    slices.retain(|slice| slice.min_t < hidden_from);
    let Some(last) = slices.last_mut().filter(|last| last.max_t >= hidden_from) else {
        return;
    };
    let mut times = Vec::new();
    if decode_times(last.encoding, &last.data, &mut times).is_err() {
        return;
    }
    let n_seen = times.partition_point(|t| *t < hidden_from);
    if let Some(max_t) = n_seen.checked_sub(1).and_then(|last| times.get(last))
        && let Ok(data) = with_n_samples(last.encoding, &last.data, n_seen)
    {
        last.data = Bytes::from(data);
        last.max_t = *max_t;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::decode_floats;

    const AT: CommitPoint = CommitPoint {
        id: 0,
        oldest_view: 0,
    };

    fn rules(range_ms: i64) -> ChunkRules {
        ChunkRules {
            range_ms,
            writes_xor2: false,
            keeps_starts: false,
        }
    }

    fn push(
        state: &mut SeriesState,
        t: i64,
        v: f64,
        point: CommitPoint,
        range_ms: i64,
    ) -> Result<Pushed, AppendError> {
        state.push(SampleTime::from(t), Value::Float(v), point, rules(range_ms))
    }

    #[test]
    fn a_series_and_its_counts_fit_the_224_bytes_that_an_allocator_has_for_them() {
        let n_bytes = size_of::<MemSeries>().next_multiple_of(16) + 2 * size_of::<usize>();
        assert!(n_bytes <= 224, "{n_bytes} bytes");
    }

    fn chunk_bounds(samples: impl IntoIterator<Item = i64>, range: i64) -> Vec<(i64, i64)> {
        let mut state = SeriesState::default();
        for t in samples {
            push(&mut state, t, 1.0, AT, range).unwrap();
        }
        let open = state.open.take().map(OpenChunk::into_closed);
        open.into_iter().for_each(|open| state.closed.push(open));
        state.closed().iter().map(|c| (c.min_t, c.max_t)).collect()
    }

    #[test]
    fn a_steady_series_fills_its_range_with_equal_chunks() {
        // 480 samples in two hours: 7_200_000 / (450_000 + 1) / 4 gives three chunks of 40 minutes.
        let bounds = chunk_bounds((0..480).map(|n| n * 15_000), 7_200_000);
        let starts: Vec<_> = bounds.iter().map(|(min, _)| *min).collect();
        assert_eq!(starts, [0, 1_800_000, 3_600_000, 5_400_000]);
    }

    #[test]
    fn a_chunk_never_crosses_an_aligned_range() {
        for (min, max) in chunk_bounds((0..2000).map(|n| n * 7001), 600_000) {
            assert_eq!(min / 600_000, max / 600_000, "{min} {max}");
        }
    }

    #[test]
    fn a_chunk_that_fills_faster_than_judged_ends_at_240_samples() {
        let slow = (0..30).map(|n| n * 60_000);
        let fast = (0..400).map(|n| 1_740_001 + n);
        let bounds = chunk_bounds(slow.chain(fast), 7_200_000);
        assert_eq!(bounds[0].1, 1_740_001 + 209);
    }

    #[test]
    fn a_chunk_of_wild_values_ends_at_a_kibibyte() {
        let mut state = SeriesState::default();
        let mut bits = 1u64;
        for t in 0..200 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            push(
                &mut state,
                t * 1_000 + (t * t) % 7,
                f64::from_bits(bits >> 2),
                AT,
                1 << 40,
            )
            .unwrap();
        }
        assert!(!state.closed().is_empty());
        for chunk in state.closed() {
            assert!(
                (1006..=1024).contains(&chunk.data.len()),
                "{}",
                chunk.data.len()
            );
        }
    }

    #[test]
    fn the_same_sample_is_taken_silently_and_another_value_is_not() {
        let mut state = SeriesState::default();
        assert_eq!(push(&mut state, 10, 1.0, AT, 1000), Ok(Pushed::Appended));
        assert_eq!(push(&mut state, 10, 1.0, AT, 1000), Ok(Pushed::Same));
        assert_eq!(
            push(&mut state, 10, 2.0, AT, 1000),
            Err(AppendError::Duplicate)
        );
        assert_eq!(
            push(&mut state, 9, 1.0, AT, 1000),
            Err(AppendError::OutOfOrder { newest: 10 })
        );
        assert_eq!(push(&mut state, 11, -0.0, AT, 1000), Ok(Pushed::Appended));
        assert_eq!(
            push(&mut state, 11, 0.0, AT, 1000),
            Err(AppendError::Duplicate)
        );
    }

    #[test]
    fn a_reader_sees_no_sample_of_a_later_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = ChunkFiles::open(dir.path(), 1 << 20, dir.path()).unwrap();
        let mut state = SeriesState::default();
        for id in 1..=5u64 {
            for n in 0..3 {
                let point = CommitPoint { id, oldest_view: 1 };
                let t = (id * 10 + n).cast_signed();
                push(&mut state, t, 0.5, point, 20).unwrap();
            }
        }
        for view in 1..=5u64 {
            let slices = state.slices(Interval::ALL, view, &files, |_| ());
            let (mut times, mut values) = (Vec::new(), Vec::new());
            for slice in &slices {
                decode_floats(slice.encoding, &slice.data, &mut times, &mut values).unwrap();
                assert_eq!(slice.max_t, *times.last().unwrap());
            }
            assert_eq!(times.len() as u64, view * 3, "view {view}");
        }
    }
}
