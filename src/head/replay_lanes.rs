//! The threads of a replay. Each has series of its own and applies what the log says of them, in the order of the log.

use std::any::Any;
use std::sync::Arc;
use std::thread::{Builder, Scope, ScopedJoinHandle};

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, bounded};

use crate::head::HeadError;
use crate::head::append::RareValue;
use crate::head::chunk_files::FoundChunk;
use crate::head::core::Inner;
use crate::head::postings_build::PostingsBuilder;
use crate::head::progress::ReplayProgress;
use crate::head::replay::ReplayReport;
use crate::head::replay_apply::{Applied, Worker};
use crate::head::replay_numbers::Slots;
use crate::head::replay_rows::{FLOATS_PER_GROUP, Rows, SLOTS_PER_PAGE};
use crate::head::replay_slots::{Slot, Waiting, Waits};
use crate::head::series::{MappedChunk, MemSeries};
use crate::model::{Encoding, Histogram, SampleTime, TimestampMs};
use crate::wal::{FLOATS_PER_RUN, FloatReader, Unwanted, WalError};

/// Threads that apply what was read, at most.
pub(crate) const LANES_MAX: usize = 16;

/// Pages of floats of one batch: 400 KiB.
const PAGES_PER_BATCH: usize = 8;
/// About so many bytes of everything else in one batch; one more value may come on top.
const RARE_BYTES_PER_BATCH: usize = 256 << 10;
/// Batches that wait for a thread. With the one being filled and the one being applied a thread has at most four, which
/// is 3 MiB.
const BATCHES_WAITING_MAX: usize = 2;
/// Series that wait for the postings, in batches of so many.
const SERIES_PER_BATCH: usize = 1024;

impl RareValue {
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
    /// The next place of this thread, and about how many bytes its next chunk will have, if that is known.
    Series(Arc<MemSeries>, u32),
    /// What it was when it was saved.
    Restored(u32, Bytes),
    /// The chunks that a redo point has of it.
    Newest(u32, Bytes),
    /// Chunks that files have under a number of the series.
    Chunks(u32, Vec<FoundChunk>),
    Sample(u32, SampleTime, RareValue),
    /// The series left the head early; what comes later was appended later.
    Left(u32),
    /// It came out of order.
    Late(u32, SampleTime, RareValue),
    /// What came out of order so far is in this chunk.
    LateChunk(u32, MappedChunk, Encoding),
}

impl Rare {
    fn n_bytes(&self) -> usize {
        let more = match self {
            Self::Chunks(_, chunks) => chunks.len() * size_of::<FoundChunk>(),
            Self::Restored(_, state) | Self::Newest(_, state) => state.len(),
            Self::Sample(_, _, value) | Self::Late(_, _, value) => value.n_bytes(),
            Self::Series(..) | Self::Left(_) | Self::LateChunk(..) => 0,
        };
        size_of::<(usize, Self)>() + more
    }
}

/// What one thread has to do, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Floats, each page with the place of its first series.
    pub(crate) pages: Vec<(u32, Rows)>,
    /// Each with the number of pages that come before it.
    pub(crate) rare: Vec<(usize, Rare)>,
    n_rare_bytes: usize,
}

struct Lane {
    batch: Batch,
    full: Sender<Batch>,
    empty: Receiver<Batch>,
}

impl Lane {
    /// Pages that are not in use come back into `spare`.
    fn send(&mut self, spare: &mut Vec<Rows>) {
        let mut next = self.empty.try_recv().unwrap_or_default();
        spare.extend(next.pages.drain(..).map(|(_, rows)| rows));
        let full = std::mem::replace(&mut self.batch, next);
        // A thread that is gone has panicked, and whoever waits for it learns of that.
        self.full.send(full).ok();
    }
}

/// Where what was read goes.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    pub(crate) slots: Slots,
    waiting: Waiting,
    /// Not in use.
    spare: Vec<Rows>,
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
            let mut postings = PostingsBuilder::default();
            for batch in unlisted {
                batch.iter().for_each(|series| postings.add(series));
            }
            *inner.postings.write() = postings.build();
        });
        let threads = Threads {
            workers,
            postings: listing.map_err(failed)?,
        };
        let lanes = Self {
            lanes,
            slots: Slots::new(),
            waiting: Waiting::new(),
            spare: Vec::new(),
            unlisted: Vec::new(),
            postings,
        };
        Ok((lanes, threads))
    }

    /// A thread takes the series over, which is new. Floats before `from` are not wanted: files hold what there was then,
    /// the last of it in a chunk of `n_bytes`.
    pub(crate) fn adopt(
        &mut self,
        series: Arc<MemSeries>,
        from: TimestampMs,
        n_bytes: u32,
    ) -> Option<Slot> {
        let slot = self.waiting.add(from)?;
        self.slots.insert(series.series, slot, from);
        self.unlisted.push(Arc::clone(&series));
        if self.unlisted.len() >= SERIES_PER_BATCH {
            self.list();
        }
        self.rare(slot, |_| Rare::Series(series, n_bytes));
        Some(slot)
    }

    fn list(&mut self) {
        let batch = std::mem::take(&mut self.unlisted);
        self.postings.send(batch).ok();
    }

    /// A float, which waits for others of its series; false where it is not wanted.
    #[inline(always)]
    pub(crate) fn float(&mut self, slot: Slot, t: TimestampMs, v: f64) -> bool {
        match self.waiting.push(slot, t, v) {
            Waits::Yes => true,
            Waits::NotWanted => false,
            Waits::NoRoom => {
                self.make_room(slot, t);
                self.waiting.push(slot, t, v) == Waits::Yes
            }
        }
    }

    /// Floats without start times: of these there are by far the most. Those before `floor` are not wanted.
    pub(crate) fn floats(
        &mut self,
        body: &[u8],
        floor: TimestampMs,
        report: &mut ReplayReport,
    ) -> Result<(), WalError> {
        let mut floats = FloatReader::new(body)?;
        while let Some((series, t, v, _)) = floats.take()? {
            let slot = self.slots.get(series).filter(|_| floor <= t);
            let Some(slot) = slot else {
                let is_old = t < floor;
                report.n_samples_old += u64::from(is_old);
                report.n_unknown_refs += u64::from(!is_old);
                if is_old {
                    let around = Unwanted {
                        series: 0..=u64::MAX,
                        before: floor,
                    };
                    report.n_samples_old += floats.pass_over(&around);
                }
                continue;
            };
            if self.float(slot, t, v) {
                report.n_samples_old += self.more_floats(&mut floats, (series, slot), floor);
                continue;
            }
            report.n_samples_old += 1;
            report.n_samples_old += match self.slots.unwanted_around(series, t) {
                Some(around) => floats.pass_over(&around),
                None => self.more_floats(&mut floats, (series, slot), floor),
            };
        }
        Ok(())
    }

    /// Takes the floats that come next, as long as they are of series beside this one and there is room: so nearly all are.
    /// How many of them are not wanted.
    fn more_floats(
        &mut self,
        floats: &mut FloatReader<'_>,
        (series, slot): (u64, Slot),
        floor: TimestampMs,
    ) -> u64 {
        let (Some(numbers), Some(mut page)) = (self.slots.around(series), self.waiting.page(slot))
        else {
            return 0;
        };
        let mut n_old = 0;
        // So many one by one before a run is looked for; more, where none was found.
        let (mut n_single, mut n_single_next) = (0, FLOATS_PER_RUN);
        loop {
            let mut new = page.new_from(floor);
            if n_single == 0 {
                let mut is_any = false;
                floats.take_runs(|series, t, values| {
                    let slot = numbers.get_run(series);
                    let Some(n_unwanted) = slot.and_then(|slot| new.push_run(slot, t, values))
                    else {
                        return false;
                    };
                    n_old += n_unwanted;
                    is_any = true;
                    true
                });
                n_single_next = if is_any {
                    floats.until_run()
                } else {
                    2 * n_single_next
                };
                n_single = n_single_next;
            }
            floats.take_short(|series, t, v| {
                let slot = numbers.get(series).filter(|_| 0 < n_single);
                let is_taken = slot.is_some_and(|slot| new.push(slot, t, v));
                n_single -= usize::from(is_taken);
                is_taken
            });
            if n_single == 0 {
                continue;
            }
            if let Some((series, t, v, n_bytes)) = floats.peek()
                && let Some(slot) = numbers.get(series)
                && floor <= t
            {
                match page.push(slot, t, v) {
                    Waits::Yes => (),
                    Waits::NotWanted => n_old += 1,
                    Waits::NoRoom => return n_old,
                }
                floats.advance(n_bytes);
                n_single -= 1;
            } else {
                return n_old;
            }
        }
    }

    /// What waits on the page of the series waits no longer, and a float at `t` can.
    #[inline(never)]
    fn make_room(&mut self, slot: Slot, t: TimestampMs) {
        let mut next = match self.spare.pop() {
            Some(mut rows) => {
                rows.clear(t);
                rows
            }
            None => Rows::new(t),
        };
        let page = slot.page();
        if !self.waiting.has_begun(page) {
            next.take_at_most(first_group(page, self.lanes.len()));
        }
        self.hand_over(page, Some(next));
    }

    /// What waits on the page waits no longer.
    fn hand_over(&mut self, page: usize, next: Option<Rows>) {
        let Some(rows) = self.waiting.turn(page, next) else {
            return;
        };
        let (lane, first) = lane_of(page, self.lanes.len());
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.batch.pages.push((first, rows));
            if lane.batch.pages.len() >= PAGES_PER_BATCH {
                lane.send(&mut self.spare);
            }
        }
    }

    /// Something else, which comes behind the floats that wait.
    pub(crate) fn rare(&mut self, slot: Slot, make: impl FnOnce(u32) -> Rare) {
        if self.waiting.has(slot) {
            self.hand_over(slot.page(), None);
        }
        let (lane, first) = lane_of(slot.page(), self.lanes.len());
        if let Some(lane) = self.lanes.get_mut(lane) {
            let rare = make(first + u32::from(slot.place()));
            lane.batch.n_rare_bytes += rare.n_bytes();
            lane.batch.rare.push((lane.batch.pages.len(), rare));
            if lane.batch.n_rare_bytes >= RARE_BYTES_PER_BATCH {
                lane.send(&mut self.spare);
            }
        }
    }

    /// The series left the head: what comes now is wanted whatever files hold.
    pub(crate) fn left(&mut self, slot: Slot) {
        self.rare(slot, Rare::Left);
        self.waiting.want_all(slot);
    }

    /// Hands over what is left; the threads end when they have applied it.
    pub(crate) fn finish(mut self) {
        self.list();
        // All series are known: they are listed while the rest is applied.
        drop(self.postings);
        // What waits has its memory already: handed over little by little, it would be applied by one thread at times.
        for page in 0..self.waiting.n_pages() {
            let (lane, first) = lane_of(page, self.lanes.len());
            if let Some(rows) = self.waiting.turn(page, None)
                && let Some(lane) = self.lanes.get_mut(lane)
            {
                lane.batch.pages.push((first, rows));
            }
        }
        for lane in self.lanes {
            lane.full.send(lane.batch).ok();
        }
    }
}

/// Which of so many threads has the series of a page, and where in its list they begin.
#[expect(
    clippy::cast_possible_truncation,
    reason = "series have numbers of 32 bits"
)]
fn lane_of(page: usize, n_lanes: usize) -> (usize, u32) {
    let n_lanes = n_lanes.max(1);
    (page % n_lanes, (page / n_lanes * SLOTS_PER_PAGE) as u32)
}

/// How many floats of a series are in the first group of its page. A log has one float of each series after the other, so
/// that all pages would be full at once, again and again: the threads that apply would have nothing to do, and then all of
/// it. Thus it is another part of the pages each time.
fn first_group(page: usize, n_lanes: usize) -> usize {
    1 + page / n_lanes.max(1) % FLOATS_PER_GROUP
}

impl Batch {
    /// Nothing to do; its pages can be used for others.
    pub(crate) fn clear(&mut self) {
        self.rare.clear();
        self.n_rare_bytes = 0;
    }
}

/// A thread ended in the middle of what it did.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> HeadError {
    HeadError::Refused("a thread of the replay panicked".to_owned())
}

impl Threads<'_> {
    /// What they did, all together.
    pub(crate) fn join(self) -> Result<Applied, HeadError> {
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
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn in_every_round_of_a_log_each_thread_gets_a_part_of_the_pages() {
        for n_lanes in [1, 2, 3, LANES_MAX] {
            let n_pages = n_lanes * FLOATS_PER_GROUP;
            let mut n_full: HashMap<(usize, usize), usize> = HashMap::new();
            for page in 0..n_pages {
                let lane = lane_of(page, n_lanes).0;
                let full_after = first_group(page, n_lanes);
                *n_full.entry((lane, full_after)).or_default() += 1;
            }
            for lane in 0..n_lanes {
                for round in 1..=FLOATS_PER_GROUP {
                    assert_eq!(
                        n_full.get(&(lane, round)),
                        Some(&1),
                        "{n_lanes} {lane} {round}"
                    );
                }
            }
        }
    }
}
