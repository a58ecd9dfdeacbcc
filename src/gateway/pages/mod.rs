//! Ranges of remote objects, read in pages through what is kept of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::bucket::{Bucket, BucketError, keys};
use crate::foundation::{Cancel, Verdict};
use crate::gateway::flights::{Flight, Flights, Led, Seat};
use crate::gateway::limits::Limiter;
use crate::gateway::stats::{Kind, Stats};
use crate::gateway::store::{PAGE_BYTES, PageKey, PageStore, Part};
use crate::model::BlockId;
use crate::storage::{StorageError, Tally};

#[cfg(test)]
mod tests;

/// Missing pages with at most so many between them are fetched in one request with what lies between: a request costs
/// more than the transfer of half a megabyte.
const GAP_PAGES_MAX: u64 = 8;
/// Pages of one request.
const RUN_PAGES_MAX: u64 = 64;
/// Requests in flight for one read.
const RUNS_IN_FLIGHT_MAX: usize = 8;

/// An object of the bucket and its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteFile {
    pub(crate) block: BlockId,
    pub(crate) part: Part,
    pub(crate) n_bytes: u64,
}

impl RemoteFile {
    pub(crate) fn key(&self) -> String {
        keys::in_block(self.block, &self.part.path())
    }
}

/// Why pages are wanted, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) kind: Kind,
    pub(crate) cancel: Cancel,
    pub(crate) tally: Tally,
}

/// Pages of one object, in memory for as long as somebody reads them.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<u64, Bytes>);

impl Pages {
    /// These bytes; fewer where the object ends, none where a page was not fetched.
    pub(crate) fn get(&self, range: Range<u64>) -> Bytes {
        let (first, last) = page_numbers(&range);
        let start = range.start - first * PAGE_BYTES;
        if first == last {
            let Some(page) = self.0.get(&first) else {
                return Bytes::new();
            };
            let from = to_usize(start).min(page.len());
            let to = to_usize(range.end - first * PAGE_BYTES).min(page.len());
            return page.slice(from..to);
        }
        let mut joined = Vec::with_capacity(to_usize(range.end - range.start));
        for number in first..=last {
            let Some(page) = self.0.get(&number) else {
                break;
            };
            let from = if number == first { to_usize(start) } else { 0 };
            let to = to_usize(range.end - number * PAGE_BYTES).min(page.len());
            joined.extend_from_slice(page.get(from..to).unwrap_or_default());
        }
        Bytes::from(joined)
    }

    /// Adds pages of a second read.
    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

/// First and last page of a range that is not empty.
fn page_numbers(range: &Range<u64>) -> (u64, u64) {
    let last = range.end.saturating_sub(1).max(range.start);
    (range.start / PAGE_BYTES, last / PAGE_BYTES)
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// How much is kept, and how much is asked at once.
#[derive(Debug, Clone)]
pub(crate) struct PageSettings {
    pub(crate) directory: PathBuf,
    pub(crate) memory_max: u64,
    pub(crate) disk_max: u64,
    /// Requests in flight, of all queries together.
    pub(crate) requests_max: usize,
}

/// Reads pages of remote objects: from memory, from the disk, or from the bucket, each once for all who wait for it.
#[derive(Debug)]
pub(crate) struct PageCache {
    store: Arc<PageStore>,
    bucket: Arc<dyn Bucket>,
    runtime: Handle,
    flights: Arc<Flights>,
    requests: Arc<Semaphore>,
    limiter: Arc<Limiter>,
    stats: Arc<Stats>,
    answer_bytes_max: u64,
}

impl PageCache {
    /// Requests run on `runtime`.
    pub(crate) fn open(
        settings: PageSettings,
        bucket: Arc<dyn Bucket>,
        runtime: Handle,
        limiter: Arc<Limiter>,
        stats: Arc<Stats>,
    ) -> io::Result<Self> {
        let bounds = (settings.memory_max, settings.disk_max);
        let store = PageStore::open(settings.directory, bounds, Arc::clone(&stats))?;
        let requests_max = settings.requests_max.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            store: Arc::new(store),
            bucket,
            runtime,
            flights: Arc::default(),
            requests: Arc::new(Semaphore::new(requests_max)),
            limiter,
            stats,
            answer_bytes_max: settings.memory_max / 2,
        })
    }

    /// How much the blocks of one answer may have read of series that nobody has taken yet.
    pub(crate) fn answer_bytes_max(&self) -> u64 {
        self.answer_bytes_max
    }

    pub(crate) fn store(&self) -> &Arc<PageStore> {
        &self.store
    }

    pub(crate) fn bucket(&self) -> &Arc<dyn Bucket> {
        &self.bucket
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// All pages that these ranges touch. Waits for the bucket where pages are missing, unless the asker gives up.
    pub(crate) fn read(
        &self,
        file: &RemoteFile,
        ranges: impl IntoIterator<Item = Range<u64>>,
        ask: &Ask,
    ) -> Result<Pages, StorageError> {
        let mut wanted = pages_of(file, ranges);
        let mut pages = Pages::default();
        // Once more where somebody gave up who was to fetch a page for this reader too.
        while !wanted.is_empty() {
            for (number, flight) in self.take_off(file, &wanted, ask, &mut pages)? {
                if let Some(page) = flight.wait(&ask.cancel)? {
                    pages.0.insert(number, page);
                }
            }
            wanted.retain(|number| !pages.0.contains_key(number));
        }
        Ok(pages)
    }

    /// Sees to it that these pages are on their way when somebody reads them later.
    pub(crate) fn prefetch(
        &self,
        file: &RemoteFile,
        ranges: impl IntoIterator<Item = Range<u64>>,
        ask: &Ask,
    ) {
        let wanted = pages_of(file, ranges);
        // Who reads them is told what is wrong.
        self.take_off(file, &wanted, ask, &mut Pages::default())
            .ok();
    }

    /// Takes what is in memory, and sees to it that everything else is on its way.
    fn take_off(
        &self,
        file: &RemoteFile,
        wanted: &BTreeSet<u64>,
        ask: &Ask,
        pages: &mut Pages,
    ) -> Result<Vec<(u64, Arc<Flight>)>, StorageError> {
        let counts = self.stats.of(ask.kind);
        let mut awaited = Vec::new();
        let mut missing = Vec::new();
        let mut led = Led::new(Arc::clone(&self.flights));
        for &number in wanted {
            let key = PageKey::new(file.block, file.part, number);
            let seat = match self.store.in_memory(key) {
                Some(page) => Seat::There(page),
                None => self.flights.board(key, || self.store.in_memory(key)),
            };
            match seat {
                Seat::There(page) => {
                    counts.memory_hits.add(1);
                    pages.0.insert(number, page);
                }
                Seat::Passenger(flight) => {
                    counts.memory_hits.add(1);
                    awaited.push((number, flight));
                }
                Seat::Pilot(flight) => {
                    led.add(key, Arc::clone(&flight));
                    if let Some(page) = self.store.on_disk(key, page_length(file, number), ask.kind)
                    {
                        counts.disk_hits.add(1);
                        led.arrived(key, page.clone());
                        pages.0.insert(number, page);
                    } else {
                        missing.push(number);
                        awaited.push((number, flight));
                    }
                }
            }
        }
        if !missing.is_empty() {
            counts.misses.add(missing.len() as u64);
            let runs = runs(&missing);
            let n_pages: u64 = runs.iter().map(|run| run.end - run.start).sum();
            self.limiter.bytes(&ask.tally, n_pages * PAGE_BYTES)?;
            self.fetch(*file, runs, ask.kind, led.begin());
        }
        Ok(awaited)
    }

    /// Goes on when nobody waits any more: what is under way is paid for.
    fn fetch(&self, file: RemoteFile, runs: Vec<Range<u64>>, kind: Kind, mut led: Led) {
        let mut fetching = Vec::with_capacity(runs.len());
        for run in runs {
            let fetcher = Fetcher {
                store: Arc::clone(&self.store),
                bucket: Arc::clone(&self.bucket),
                requests: Arc::clone(&self.requests),
                stats: Arc::clone(&self.stats),
                file,
                kind,
            };
            fetching.push(fetcher.fetch(run).boxed());
        }
        self.runtime.spawn(async move {
            let mut arriving = stream::iter(fetching).buffer_unordered(RUNS_IN_FLIGHT_MAX);
            while let Some((run, fetched)) = arriving.next().await {
                let key = |number| PageKey::new(file.block, file.part, number);
                match fetched {
                    Ok(pages) => {
                        for (number, page) in run.zip(pages) {
                            led.arrived(key(number), page);
                        }
                    }
                    Err(error) => {
                        for number in run {
                            led.failed(key(number), error.clone());
                        }
                    }
                }
            }
        });
    }
}

/// Fetches one run of pages.
struct Fetcher {
    store: Arc<PageStore>,
    bucket: Arc<dyn Bucket>,
    requests: Arc<Semaphore>,
    stats: Arc<Stats>,
    file: RemoteFile,
    kind: Kind,
}

impl Fetcher {
    async fn fetch(self, run: Range<u64>) -> (Range<u64>, Result<Vec<Bytes>, StorageError>) {
        let fetched = self.fetch_bytes(&run).await;
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => return (run, Err(unread(&error))),
        };
        let counts = self.stats.of(self.kind);
        counts.fetches.add(1);
        counts.fetched_bytes.add(bytes.len() as u64);
        let first = run.start;
        let kept = tokio::task::spawn_blocking(move || {
            let pages = bytes.chunks(to_usize(PAGE_BYTES));
            let keep = |(number, page): (u64, &[u8])| {
                let key = PageKey::new(self.file.block, self.file.part, number);
                self.store.put(key, page, self.kind)
            };
            (first..).zip(pages).map(keep).collect()
        });
        let kept = kept.await.map_err(|error| {
            StorageError::Unavailable(format!("keep what was read of the bucket: {error}"))
        });
        (run, kept)
    }

    async fn fetch_bytes(&self, run: &Range<u64>) -> Result<Bytes, BucketError> {
        // Never closed.
        let _permit = self.requests.acquire().await;
        let end = (run.end * PAGE_BYTES).min(self.file.n_bytes);
        let range = run.start * PAGE_BYTES..end;
        self.bucket.get_range(&self.file.key(), range).await
    }
}

/// An object that is shorter than it was, or gone, does not come back by asking again.
pub(crate) fn unread(error: &BucketError) -> StorageError {
    match error.verdict() {
        Verdict::Missing | Verdict::Quarantine => StorageError::Corrupt(error.chain()),
        Verdict::RetryAfter(_) | Verdict::Refuse => StorageError::Unavailable(error.chain()),
    }
}

/// Numbers of the pages that these ranges touch.
fn pages_of(file: &RemoteFile, ranges: impl IntoIterator<Item = Range<u64>>) -> BTreeSet<u64> {
    let mut wanted = BTreeSet::new();
    for range in ranges {
        let range = range.start..range.end.min(file.n_bytes);
        if range.start < range.end {
            let (first, last) = page_numbers(&range);
            wanted.extend(first..=last);
        }
    }
    wanted
}

fn page_length(file: &RemoteFile, number: u64) -> u64 {
    PAGE_BYTES.min(file.n_bytes.saturating_sub(number * PAGE_BYTES))
}

/// Joins page numbers, which ascend, to runs of pages.
fn runs(numbers: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(run)
                if number - run.end <= GAP_PAGES_MAX && number - run.start < RUN_PAGES_MAX =>
            {
                run.end = number + 1;
            }
            _ => runs.push(number..number + 1),
        }
    }
    runs
}
