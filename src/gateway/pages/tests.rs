//! Pages under load, damage and failing requests, and within both bounds.

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
