//! The threads of a replay. Each has series of its own and applies what the log says of them, in the order of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, bounded};

use crate::head::HeadError;
use crate::head::core::Inner;
use crate::head::open_chunk::Value;
use crate::head::progress::ReplayProgress;
use crate::head::replay_apply::{Applied, Worker};
use crate::head::series::{MappedChunk, MemSeries};
use crate::model::{Counts, Encoding, Histogram, SampleTime, TimestampMs};

/// Threads that apply what was read, at most. Four bits of a slot say which.
pub(crate) const LANES_MAX: usize = 1 << LANE_BITS;
const LANE_BITS: u32 = 4;

/// Floats of one batch: 192 KiB.
const FLOATS_PER_BATCH: usize = 8192;
/// About so many bytes of everything else in one batch; one more value may come on top.
const RARE_BYTES_PER_BATCH: usize = 256 << 10;
/// Batches that wait for a thread. With the one being filled and the one being applied a thread has at most four, which
/// is 2 MiB.
const BATCHES_WAITING_MAX: usize = 2;
/// Series that wait for the postings, in batches of so many.
const SERIES_PER_BATCH: usize = 1024;

/// Which thread has a series, and where in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    const NONE: Self = Self(u32::MAX);

    fn of(lane: usize, place: usize) -> Option<Self> {
        let lane = u32::try_from(lane).ok()?;
        let place = u32::try_from(place).ok()?;
        let slot = Self(place.checked_mul(1 << LANE_BITS)? | lane);
        (slot != Self::NONE).then_some(slot)
    }

    fn lane(self) -> usize {
        (self.0 & ((1 << LANE_BITS) - 1)) as usize
    }

    fn place(self) -> u32 {
        self.0 >> LANE_BITS
    }
}

const SLOTS_PER_PAGE: usize = 256;

/// The page a number is on, and its place there.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder of SLOTS_PER_PAGE"
)]
fn page_and_place(series: u64) -> (u64, usize) {
    let n = SLOTS_PER_PAGE as u64;
    (series / n, (series % n) as usize)
}

/// Slots by the numbers of series in the log: four bytes each, for most numbers follow each other.
pub(crate) struct Slots {
    pages: Vec<[Slot; SLOTS_PER_PAGE]>,
    by_number: HashMap<u64, usize, foldhash::fast::RandomState>,
    /// The page that was asked for last, and where it is.
    last: (u64, usize),
}

impl Slots {
    fn new() -> Self {
        Self {
            pages: Vec::new(),
            by_number: HashMap::default(),
            last: (u64::MAX, usize::MAX),
        }
    }

    #[inline]
    pub(crate) fn get(&mut self, series: u64) -> Option<Slot> {
        let (number, place) = page_and_place(series);
        if self.last.0 != number {
            self.last = (number, *self.by_number.get(&number)?);
        }
        let page = self.pages.get(self.last.1)?;
        let slot = page.get(place)?;
        (*slot != Slot::NONE).then_some(*slot)
    }

    pub(crate) fn insert(&mut self, series: u64, slot: Slot) {
        let (number, place) = page_and_place(series);
        let pages = &mut self.pages;
        let at = *self.by_number.entry(number).or_insert_with(|| {
            pages.push([Slot::NONE; SLOTS_PER_PAGE]);
            pages.len() - 1
        });
        if let Some(page) = pages.get_mut(at)
            && let Some(here) = page.get_mut(place)
        {
            *here = slot;
        }
    }
}

/// One float, by the place of its series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Float {
    pub(crate) place: u32,
    pub(crate) t: TimestampMs,
    pub(crate) v: f64,
}

/// A value that is more than a float.
#[derive(Debug)]
pub(crate) enum Rich {
    Float(f64),
    Histogram(Counts, Arc<Histogram>),
}

impl Rich {
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Self::Float(v) => Value::Float(*v),
            Self::Histogram(counts, histogram) => Value::Histogram(*counts, histogram),
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Float(_) => 0,
            Self::Histogram(_, histogram) => {
                let n_buckets = histogram.positive.counts.len() + histogram.negative.counts.len();
                size_of::<Histogram>() + n_buckets * size_of::<f64>()
            }
        }
    }
}

/// Everything beside plain floats.
#[derive(Debug)]
pub(crate) enum Rare {
    /// The next place of this thread.
    Series(Arc<MemSeries>),
    /// What it was when it was saved.
    Restored(u32, Bytes),
    /// Chunks that files have under a number of the series.
    Chunks(u32, Vec<MappedChunk>),
    Sample(u32, SampleTime, Rich),
    /// The series left the head early; what comes later was appended later.
    Left(u32),
    /// It came out of order.
    Late(u32, SampleTime, Rich),
    /// What came out of order so far is in this chunk.
    LateChunk(u32, MappedChunk, Encoding),
}

impl Rare {
    fn n_bytes(&self) -> usize {
        let more = match self {
            Self::Chunks(_, chunks) => chunks.len() * size_of::<MappedChunk>(),
            Self::Restored(_, state) => state.len(),
            Self::Sample(_, _, value) | Self::Late(_, _, value) => value.n_bytes(),
            Self::Series(_) | Self::Left(_) | Self::LateChunk(..) => 0,
        };
        size_of::<(usize, Self)>() + more
    }
}

/// What one thread has to do, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) floats: Vec<Float>,
    /// Each with the number of floats that come before it.
    pub(crate) rare: Vec<(usize, Rare)>,
    n_rare_bytes: usize,
}

struct Lane {
    batch: Batch,
    n_series: usize,
    full: Sender<Batch>,
    empty: Receiver<Batch>,
}

impl Lane {
    fn send(&mut self) {
        let next = self.empty.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.batch, next);
        // A thread that is gone has panicked, and whoever waits for it learns of that.
        self.full.send(full).ok();
    }
}

/// Where what was read goes.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    pub(crate) slots: Slots,
    n_series: usize,
    unlisted: Vec<Arc<MemSeries>>,
    postings: Sender<Vec<Arc<MemSeries>>>,
}

/// The threads, to be waited for.
pub(crate) struct Threads<'scope> {
    workers: Vec<ScopedJoinHandle<'scope, Applied>>,
    postings: ScopedJoinHandle<'scope, ()>,
}

impl Lanes {
    /// Starts `n_threads` threads that apply, and one that lists series by their labels.
    pub(crate) fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        n_threads: usize,
        inner: &'env Inner,
        progress: &'env ReplayProgress,
    ) -> Result<(Self, Threads<'scope>), HeadError> {
        let failed = |error| HeadError::io("start a thread for", &inner.wal_dir)(error);
        let mut lanes = Vec::new();
        let mut workers = Vec::new();
        for number in 0..n_threads.clamp(1, LANES_MAX) {
            let (full, batches) = bounded(BATCHES_WAITING_MAX);
            let (done, empty) = bounded(BATCHES_WAITING_MAX);
            lanes.push(Lane {
                batch: Batch::default(),
                n_series: 0,
                full,
                empty,
            });
            let worker = Worker::new(inner, progress);
            let thread = Builder::new().name(format!("replay-{number}"));
            let thread = thread.spawn_scoped(scope, move || worker.run(&batches, &done));
            workers.push(thread.map_err(failed)?);
        }
        let (postings, unlisted) = bounded::<Vec<Arc<MemSeries>>>(BATCHES_WAITING_MAX);
        let thread = Builder::new().name("replay-postings".to_owned());
        let listing = thread.spawn_scoped(scope, move || {
            for batch in unlisted {
                let mut postings = inner.postings.write();
                for series in batch {
                    postings.insert(series.series, &series.labels);
                }
            }
        });
        let threads = Threads {
            workers,
            postings: listing.map_err(failed)?,
        };
        let lanes = Self {
            lanes,
            slots: Slots::new(),
            n_series: 0,
            unlisted: Vec::new(),
            postings,
        };
        Ok((lanes, threads))
    }

    /// A thread takes the series over, which is new.
    pub(crate) fn adopt(&mut self, series: Arc<MemSeries>) -> Option<Slot> {
        let at = self.n_series % self.lanes.len().max(1);
        let lane = self.lanes.get_mut(at)?;
        let slot = Slot::of(at, lane.n_series)?;
        lane.n_series += 1;
        self.n_series += 1;
        self.slots.insert(series.series, slot);
        self.unlisted.push(Arc::clone(&series));
        if self.unlisted.len() >= SERIES_PER_BATCH {
            self.list();
        }
        self.rare(slot, |_| Rare::Series(series));
        Some(slot)
    }

    fn list(&mut self) {
        let batch = std::mem::take(&mut self.unlisted);
        self.postings.send(batch).ok();
    }

    #[inline]
    pub(crate) fn float(&mut self, slot: Slot, t: TimestampMs, v: f64) {
        if let Some(lane) = self.lanes.get_mut(slot.lane()) {
            let place = slot.place();
            lane.batch.floats.push(Float { place, t, v });
            if lane.batch.floats.len() >= FLOATS_PER_BATCH {
                lane.send();
            }
        }
    }

    pub(crate) fn rare(&mut self, slot: Slot, make: impl FnOnce(u32) -> Rare) {
        if let Some(lane) = self.lanes.get_mut(slot.lane()) {
            let rare = make(slot.place());
            lane.batch.n_rare_bytes += rare.n_bytes();
            lane.batch.rare.push((lane.batch.floats.len(), rare));
            if lane.batch.n_rare_bytes >= RARE_BYTES_PER_BATCH {
                lane.send();
            }
        }
    }

    /// Hands over what is left; the threads end when they have applied it.
    pub(crate) fn finish(mut self) {
        self.lanes.iter_mut().for_each(Lane::send);
        self.list();
    }
}

impl Batch {
    /// Nothing to do, with the buffers it has.
    pub(crate) fn clear(&mut self) {
        self.floats.clear();
        self.rare.clear();
        self.n_rare_bytes = 0;
    }
}

impl Threads<'_> {
    /// What they did, all together.
    pub(crate) fn join(self) -> Result<Applied, HeadError> {
        let panicked = |_| HeadError::Refused("a thread of the replay panicked".to_owned());
        let mut all = Applied::default();
        let mut failed = self.postings.join().map_err(panicked).err();
        for worker in self.workers {
            match worker.join() {
                Ok(applied) => all.add(applied),
                Err(panic) => failed = Some(panicked(panic)),
            }
        }
        failed.map_or(Ok(all), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_number_wherever_numbers_lie() {
        let mut slots = Slots::new();
        let numbers = [0, 1, 255, 256, 1 << 40, u64::MAX, u64::MAX - 256];
        for (n, number) in numbers.into_iter().enumerate() {
            assert_eq!(slots.get(number), None);
            slots.insert(number, Slot::of(n % 3, n).unwrap());
        }
        for (n, number) in numbers.into_iter().enumerate() {
            let slot = slots.get(number).unwrap();
            assert_eq!((slot.lane(), slot.place() as usize), (n % 3, n));
        }
        assert_eq!(slots.get(2), None);
        assert_eq!(slots.get(257 << 8), None);
        assert_eq!(Slot::of(15, 1 << 28), None, "too many series for a slot");
    }
}
