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
        })
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

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;

    use super::*;
    use crate::bucket::faulty::{Fault, FaultyBucket};
    use crate::bucket::{MeteredBucket, Operation, StoreBucket};
    use crate::foundation::cancel::CancelReason;
    use crate::gateway::limits::QueryLimits;

    #[test]
    fn near_pages_are_one_request_and_far_ones_are_not() {
        assert_eq!(runs(&[0, 1, 2, 9, 100]), [0..10, 100..101]);
        assert_eq!(runs(&[0, 9, 20]), [0..10, 20..21]);
        assert_eq!(runs(&[0, 10]), [0..1, 10..11]);
        let many: Vec<u64> = (0..150).collect();
        assert_eq!(runs(&many), [0..64, 64..128, 128..150]);
        assert_eq!(runs(&[]), []);
    }

    struct Fixture {
        dir: tempfile::TempDir,
        faulty: Arc<FaultyBucket>,
        bucket: Arc<MeteredBucket>,
        file: RemoteFile,
        content: Vec<u8>,
    }

    impl Fixture {
        async fn new() -> Self {
            let content: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
            let faulty = Arc::new(FaultyBucket::new(Arc::new(StoreBucket::in_memory())));
            let bucket = Arc::new(MeteredBucket::new(Arc::clone(&faulty) as _));
            let file = RemoteFile {
                block: BlockId::from_parts(1, 1),
                part: Part::Segment(1),
                n_bytes: content.len() as u64,
            };
            bucket
                .put(&file.key(), content.clone().into())
                .await
                .unwrap();
            let dir = tempfile::tempdir().unwrap();
            Self {
                dir,
                faulty,
                bucket,
                file,
                content,
            }
        }

        fn cache(&self, memory_max: u64, disk_max: u64) -> PageCache {
            self.limited(memory_max, disk_max, QueryLimits::default())
        }

        fn limited(&self, memory_max: u64, disk_max: u64, limits: QueryLimits) -> PageCache {
            let settings = PageSettings {
                directory: self.dir.path().to_owned(),
                memory_max,
                disk_max,
                requests_max: 4,
            };
            let bucket = Arc::clone(&self.bucket) as Arc<dyn Bucket>;
            let limiter = Arc::new(Limiter::new(limits));
            let stats = Arc::new(Stats::default());
            PageCache::open(settings, bucket, Handle::current(), limiter, stats).unwrap()
        }

        fn n_requests(&self) -> u64 {
            let counts = self.bucket.counts();
            let ranges = counts.iter().find(|(what, _)| *what == Operation::GetRange);
            ranges.unwrap().1.n_started
        }

        fn check(&self, cache: &PageCache, range: Range<u64>) {
            let pages = read(cache, &self.file, range.clone(), &ask()).unwrap();
            let end = range.end.min(self.file.n_bytes);
            let expect = &self.content[to_usize(range.start)..to_usize(end)];
            assert!(pages.get(range.clone()) == expect, "{range:?}");
        }
    }

    fn read(
        cache: &PageCache,
        file: &RemoteFile,
        range: Range<u64>,
        ask: &Ask,
    ) -> Result<Pages, StorageError> {
        cache.read(file, std::iter::once(range), ask)
    }

    async fn eventually(is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "it does not come to that");
    }

    fn ask() -> Ask {
        Ask {
            kind: Kind::Chunks,
            cancel: Cancel::new(),
            tally: Tally::default(),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_read_once_comes_from_the_disk_also_after_a_restart() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(0, 10 << 20);
        for range in [0..10, 65_530..65_540, 100..600_000, 999_000..1_000_500] {
            fixture.check(&cache, range);
        }
        let n_requests = fixture.n_requests();
        for range in [0..65_600, 5_000..500_000, 999_999..1_000_000] {
            fixture.check(&cache, range.clone());
            fixture.check(&fixture.cache(0, 10 << 20), range);
        }
        assert_eq!(fixture.n_requests(), n_requests);
        let counts = cache.stats().read().kinds[2].1;
        assert_eq!((counts.memory_hits, counts.misses), (0, 11));
        assert!(9 <= counts.disk_hits, "{counts:?}");
        assert_eq!(counts.fetches, n_requests);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_in_memory_needs_no_disk() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20, 0);
        fixture.check(&cache, 0..600_000);
        assert_eq!(cache.store().n_bytes().1, 0);
        fixture.faulty.fail(0..u64::MAX, Fault::Refused);
        fixture.check(&cache, 5..500_000);
        assert_eq!(cache.stats().read().kinds[2].1.memory_hits, 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn both_budgets_hold_under_load() {
        let fixture = Fixture::new().await;
        let cache = Arc::new(fixture.cache(150_000, 200_000));
        let fixture = Arc::new(fixture);
        let mut readers = Vec::new();
        for reader in 0..4 {
            let (fixture, cache) = (Arc::clone(&fixture), Arc::clone(&cache));
            readers.push(tokio::task::spawn_blocking(move || {
                for start in (reader * 1_000..900_000).step_by(50_000) {
                    fixture.check(&cache, start..start + 60_000);
                    let (memory, disk) = cache.store().n_bytes();
                    assert!(memory <= 150_000 && disk <= 200_000, "{memory} {disk}");
                }
                fixture.check(&cache, 0..1_000_000);
            }));
        }
        for reader in readers {
            reader.await.unwrap();
        }
        let (memory, disk) = cache.store().n_bytes();
        assert!(memory <= 150_000 && disk <= 200_000, "{memory} {disk}");
        let counts = cache.stats().read().kinds[2].1;
        assert!(0 < counts.memory_evictions && 0 < counts.disk_evictions);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_damaged_page_is_fetched_again() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(0, 10 << 20);
        fixture.check(&cache, 0..10);
        let key = PageKey::new(fixture.file.block, fixture.file.part, 0);
        let path = cache.store().path_of(key);
        let whole = fs::read(&path).unwrap();
        for damage in 0..3 {
            let mut bytes = whole.clone();
            match damage {
                0 => bytes[77] ^= 1,
                1 => bytes.truncate(5_000),
                _ => bytes.clear(),
            }
            File::create(&path).unwrap().write_all(&bytes).unwrap();
            fixture.check(&cache, 0..1_000);
        }
        assert_eq!(fixture.n_requests(), 4);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_page_that_many_want_at_once_is_fetched_once() {
        let fixture = Arc::new(Fixture::new().await);
        let cache = Arc::new(fixture.cache(10 << 20, 10 << 20));
        // Nothing leaves before all have asked.
        let held = Arc::clone(&cache.requests)
            .acquire_many_owned(4)
            .await
            .unwrap();
        let mut readers = Vec::new();
        for _ in 0..8 {
            let (fixture, cache) = (Arc::clone(&fixture), Arc::clone(&cache));
            readers.push(tokio::task::spawn_blocking(move || {
                fixture.check(&cache, 10..60_000);
            }));
        }
        let kinds = || cache.stats().read().kinds[2].1;
        eventually(|| 7 <= kinds().memory_hits).await;
        drop(held);
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!((fixture.n_requests(), kinds().misses), (1, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_who_gives_up_does_not_take_the_page_from_others() {
        let fixture = Arc::new(Fixture::new().await);
        let cache = Arc::new(fixture.cache(10 << 20, 10 << 20));
        let held = Arc::clone(&cache.requests)
            .acquire_many_owned(4)
            .await
            .unwrap();
        let gone = ask();
        let first = {
            let (fixture, cache, gone) = (Arc::clone(&fixture), Arc::clone(&cache), gone.clone());
            tokio::task::spawn_blocking(move || read(&cache, &fixture.file, 0..10, &gone).map(drop))
        };
        eventually(|| 0 < cache.stats().read().kinds[2].1.misses).await;
        let second = {
            let (fixture, cache) = (Arc::clone(&fixture), Arc::clone(&cache));
            tokio::task::spawn_blocking(move || fixture.check(&cache, 0..10))
        };
        gone.cancel.cancel(CancelReason::Canceled);
        let first = first.await.unwrap();
        assert!(matches!(first, Err(StorageError::Canceled)), "{first:?}");
        drop(held);
        second.await.unwrap();
        assert_eq!(fixture.n_requests(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_will_be_read_is_under_way_before_anybody_waits_for_it() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20, 10 << 20);
        cache.prefetch(&fixture.file, [0..10, 70_000..80_000], &ask());
        fixture.check(&cache, 0..100_000);
        assert_eq!(fixture.n_requests(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_may_not_fetch_so_much_is_told_and_others_are_served() {
        let fixture = Fixture::new().await;
        let limits = QueryLimits {
            bytes_max: Some(3 * PAGE_BYTES),
            ..QueryLimits::default()
        };
        let cache = fixture.limited(10 << 20, 10 << 20, limits);
        let greedy = ask();
        read(&cache, &fixture.file, 0..10, &greedy).unwrap();
        let error = read(&cache, &fixture.file, 100_000..400_000, &greedy);
        let text = error.unwrap_err().to_string();
        assert_eq!(
            text,
            "the selector takes 458752 bytes fetched from the bucket, at most 196608 are allowed: narrow its matchers or \
             its times, or raise gateway.bytes_max"
        );
        assert_eq!(fixture.n_requests(), 1);
        // What is here already costs nothing, and another asker has a limit of his own.
        read(&cache, &fixture.file, 0..10, &greedy).unwrap();
        fixture.check(&cache, 100_000..250_000);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_failed_request_fails_who_waits_and_is_made_again_for_the_next() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20, 10 << 20);
        fixture.faulty.fail(0..1, Fault::Refused);
        let error = read(&cache, &fixture.file, 0..10, &ask()).unwrap_err();
        assert!(matches!(error, StorageError::Unavailable(_)), "{error:?}");
        fixture.check(&cache, 0..10);
        fixture.bucket.delete(&fixture.file.key()).await.unwrap();
        let error = read(&cache, &fixture.file, 200_000..200_010, &ask());
        let error = error.unwrap_err();
        assert!(matches!(error, StorageError::Corrupt(_)), "{error:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pages_of_blocks_that_are_gone_go() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20, 10 << 20);
        fixture.check(&cache, 0..10);
        let store = cache.store();
        store.retain(&|_| true).unwrap();
        assert!(0 < store.n_bytes().0 && 0 < store.n_bytes().1);
        store.retain(&|_| false).unwrap();
        assert_eq!(store.n_bytes(), (0, 0));
        assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 0);
    }
}
