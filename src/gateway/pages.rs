//! Pages of remote objects, kept on disk up to a bound.
//!
//! A page is a file `<block>/<object>.<number>`: the bytes, then their CRC32-Castagnoli. A file that does not fit its
//! checksum is a page that is not there. Nothing here is the only copy of anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError, bounded};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::bucket::{Bucket, BucketError};
use crate::foundation::checksum::crc32c;
use crate::foundation::{Cancel, Verdict};
use crate::model::BlockId;
use crate::storage::StorageError;

/// Small enough that a lone series costs little, large enough that its neighbours come along.
const PAGE_BYTES: u64 = 64 << 10;
/// Missing pages this close together are fetched in one request with what lies between: a request costs more than the
/// transfer of half a megabyte.
const GAP_PAGES_MAX: u64 = 8;
/// Pages of one request.
const RUN_PAGES_MAX: u64 = 128;
/// Requests in flight for one read.
const RUNS_IN_FLIGHT_MAX: usize = 8;
/// How often a waiting reader looks whether anybody still wants the answer.
const CANCEL_POLL: Duration = Duration::from_millis(20);

/// An object of the bucket and its size.
#[derive(Debug, Clone)]
pub(crate) struct RemoteFile {
    pub(crate) block: BlockId,
    /// Path inside the block.
    pub(crate) name: String,
    pub(crate) n_bytes: u64,
}

impl RemoteFile {
    fn key(&self) -> String {
        crate::bucket::keys::in_block(self.block, &self.name)
    }
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

/// The cache: a directory of pages, the least recently used ones go first.
#[derive(Debug)]
pub(crate) struct PageCache {
    directory: PathBuf,
    bytes_max: u64,
    bucket: Arc<dyn Bucket>,
    runtime: Handle,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Size and last use.
    files: BTreeMap<PathBuf, (u64, u64)>,
    by_use: BTreeMap<u64, PathBuf>,
    clock: u64,
    n_bytes: u64,
}

impl Recent {
    fn touch(&mut self, path: &Path, n_bytes: u64) {
        self.clock += 1;
        if let Some((old_bytes, old_use)) =
            self.files.insert(path.to_owned(), (n_bytes, self.clock))
        {
            self.by_use.remove(&old_use);
            self.n_bytes -= old_bytes;
        }
        self.by_use.insert(self.clock, path.to_owned());
        self.n_bytes += n_bytes;
    }

    fn forget(&mut self, path: &Path) {
        if let Some((n_bytes, last_use)) = self.files.remove(path) {
            self.by_use.remove(&last_use);
            self.n_bytes -= n_bytes;
        }
    }
}

impl PageCache {
    /// Goes on with what an earlier run left in `directory`; requests run on `runtime`.
    pub(crate) fn open(
        directory: PathBuf,
        bytes_max: u64,
        bucket: Arc<dyn Bucket>,
        runtime: Handle,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let mut recent = Recent::default();
        for block in fs::read_dir(&directory)? {
            let block = block?.path();
            if !block.is_dir() {
                continue;
            }
            for page in fs::read_dir(&block)? {
                let page = page?;
                let is_page = page
                    .path()
                    .extension()
                    .is_some_and(|ext| ext.as_encoded_bytes().iter().all(u8::is_ascii_digit));
                if is_page {
                    recent.touch(&page.path(), page.metadata()?.len());
                }
            }
        }
        let cache = Self {
            directory,
            bytes_max,
            bucket,
            runtime,
            recent: Mutex::new(recent),
        };
        cache.evict();
        Ok(cache)
    }

    /// Where a block's files are kept.
    pub(crate) fn block_dir(&self, block: BlockId) -> PathBuf {
        self.directory.join(block.to_string())
    }

    pub(crate) fn bucket(&self) -> &dyn Bucket {
        &*self.bucket
    }

    /// Bytes on disk.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.recent.lock().n_bytes
    }

    /// Removes everything of blocks that are not served any more.
    pub(crate) fn retain(&self, keep: impl Fn(BlockId) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if crate::bucket::keys::block_of(&name).is_some_and(|block| !keep(block)) {
                let mut recent = self.recent.lock();
                let gone: Vec<_> = recent
                    .files
                    .keys()
                    .filter(|file| file.starts_with(&path))
                    .cloned()
                    .collect();
                for file in gone {
                    recent.forget(&file);
                }
                drop(recent);
                fs::remove_dir_all(&path)?;
            }
        }
        Ok(())
    }

    /// All pages that these ranges touch. Waits for the bucket where pages are missing, unless `cancel` is raised.
    pub(crate) fn read(
        &self,
        file: &RemoteFile,
        ranges: impl IntoIterator<Item = Range<u64>>,
        cancel: &Cancel,
    ) -> Result<Pages, StorageError> {
        let mut wanted = BTreeSet::new();
        for range in ranges {
            let range = range.start..range.end.min(file.n_bytes);
            if range.start < range.end {
                let (first, last) = page_numbers(&range);
                wanted.extend(first..=last);
            }
        }
        let mut pages = Pages::default();
        let mut missing = Vec::new();
        for number in wanted {
            match self.read_page(file, number) {
                Some(page) => {
                    pages.0.insert(number, page);
                }
                None => missing.push(number),
            }
        }
        if missing.is_empty() {
            return Ok(pages);
        }
        for (first, bytes) in self.fetch(file, runs(&missing), cancel)? {
            for (number, start) in (first..).zip((0..bytes.len()).step_by(to_usize(PAGE_BYTES))) {
                let end = bytes.len().min(start + to_usize(PAGE_BYTES));
                let page = bytes.slice(start..end);
                if let Err(error) = self.write_page(file, number, &page) {
                    // A full disk makes queries slow, not wrong.
                    tracing::warn!(error = %error, "page not cached");
                }
                pages.0.insert(number, page);
            }
        }
        self.evict();
        Ok(pages)
    }

    fn fetch(
        &self,
        file: &RemoteFile,
        runs: Vec<Range<u64>>,
        cancel: &Cancel,
    ) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let (done, result) = bounded(1);
        let (bucket, key, n_bytes) = (Arc::clone(&self.bucket), file.key(), file.n_bytes);
        let fetching = self.runtime.spawn(async move {
            let fetched: Vec<Result<(u64, Bytes), BucketError>> = stream::iter(runs)
                .map(|run| {
                    let (bucket, key) = (Arc::clone(&bucket), key.clone());
                    async move {
                        let end = (run.end * PAGE_BYTES).min(n_bytes);
                        let bytes = bucket.get_range(&key, run.start * PAGE_BYTES..end).await?;
                        Ok((run.start, bytes))
                    }
                })
                .buffer_unordered(RUNS_IN_FLIGHT_MAX)
                .collect()
                .await;
            let fetched: Result<Vec<_>, _> = fetched.into_iter().collect();
            done.send(fetched).ok();
        });
        let answer = wait(&result, cancel);
        if answer.is_err() {
            fetching.abort();
        }
        answer?.map_err(|error| {
            // The object is shorter than it was, or gone: no repetition helps.
            let is_lost = matches!(error.verdict(), Verdict::Missing | Verdict::Quarantine);
            if is_lost {
                StorageError::Corrupt(error.chain())
            } else {
                StorageError::Unavailable(error.chain())
            }
        })
    }

    fn page_path(&self, file: &RemoteFile, number: u64) -> PathBuf {
        let name = file.name.replace('/', "-");
        self.block_dir(file.block).join(format!("{name}.{number}"))
    }

    fn read_page(&self, file: &RemoteFile, number: u64) -> Option<Bytes> {
        let path = self.page_path(file, number);
        // Read and not mapped: a page may be written anew while it is read.
        let bytes = Bytes::from(fs::read(&path).ok()?);
        let at = bytes.len().checked_sub(size_of::<u32>())?;
        let (page, sum) = (bytes.slice(..at), bytes.slice(at..));
        let expect = PAGE_BYTES.min(file.n_bytes.saturating_sub(number * PAGE_BYTES));
        if page.len() as u64 != expect || crc32c(&page).to_be_bytes() != *sum {
            return None;
        }
        self.recent.lock().touch(&path, bytes.len() as u64);
        Some(page)
    }

    fn write_page(&self, file: &RemoteFile, number: u64, page: &[u8]) -> io::Result<()> {
        let path = self.page_path(file, number);
        fs::create_dir_all(self.block_dir(file.block))?;
        let mut target = File::create(&path)?;
        target.write_all(page)?;
        target.write_all(&crc32c(page).to_be_bytes())?;
        let n_bytes = (page.len() + size_of::<u32>()) as u64;
        self.recent.lock().touch(&path, n_bytes);
        Ok(())
    }

    fn evict(&self) {
        let mut recent = self.recent.lock();
        while self.bytes_max < recent.n_bytes
            && let Some((_, path)) = recent.by_use.pop_first()
        {
            recent.forget(&path);
            // Gone already, or not to be removed: either way it is no page of this cache any more.
            fs::remove_file(&path).ok();
        }
    }
}

fn wait<T>(result: &Receiver<T>, cancel: &Cancel) -> Result<T, StorageError> {
    loop {
        match result.recv_timeout(CANCEL_POLL) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Timeout) if cancel.reason().is_some() => {
                return Err(StorageError::Canceled);
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the runtime that reads the bucket has stopped".to_owned();
                return Err(StorageError::Unavailable(text));
            }
        }
    }
}

/// Joins page numbers, which ascend, to runs of pages.
fn runs(numbers: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(run) if number - run.end < GAP_PAGES_MAX && number - run.start < RUN_PAGES_MAX => {
                run.end = number + 1;
            }
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::{MeteredBucket, Operation, StoreBucket};

    #[test]
    fn near_pages_are_one_request_and_far_ones_are_not() {
        assert_eq!(runs(&[0, 1, 2, 9, 100]), [0..10, 100..101]);
        assert_eq!(runs(&[0, 9]), [0..1, 9..10]);
        let many: Vec<u64> = (0..300).collect();
        assert_eq!(runs(&many), [0..128, 128..256, 256..300]);
        assert_eq!(runs(&[]), []);
    }

    struct Fixture {
        dir: tempfile::TempDir,
        bucket: Arc<MeteredBucket>,
        file: RemoteFile,
        content: Vec<u8>,
    }

    impl Fixture {
        async fn new() -> Self {
            let content: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
            let bucket = Arc::new(MeteredBucket::new(Arc::new(StoreBucket::in_memory())));
            let file = RemoteFile {
                block: BlockId::from_parts(1, 1),
                name: "chunks/000001".to_owned(),
                n_bytes: content.len() as u64,
            };
            bucket
                .put(&file.key(), content.clone().into())
                .await
                .unwrap();
            let dir = tempfile::tempdir().unwrap();
            Self {
                dir,
                bucket,
                file,
                content,
            }
        }

        fn cache(&self, bytes_max: u64) -> PageCache {
            let bucket = Arc::clone(&self.bucket) as Arc<dyn Bucket>;
            let directory = self.dir.path().to_owned();
            PageCache::open(directory, bytes_max, bucket, Handle::current()).unwrap()
        }

        fn n_requests(&self) -> u64 {
            let counts = self.bucket.counts();
            let ranges = counts.iter().find(|(what, _)| *what == Operation::GetRange);
            ranges.unwrap().1.n_started
        }

        fn check(&self, cache: &PageCache, range: Range<u64>) {
            let pages = cache
                .read(&self.file, [range.clone()], &Cancel::new())
                .unwrap();
            let end = range.end.min(self.file.n_bytes);
            let expect = &self.content[to_usize(range.start)..to_usize(end)];
            assert!(pages.get(range.clone()) == expect, "{range:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_read_once_comes_from_the_disk_also_after_a_restart() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20);
        for range in [0..10, 65_530..65_540, 100..600_000, 999_000..1_000_500] {
            fixture.check(&cache, range);
        }
        let n_requests = fixture.n_requests();
        for range in [0..65_600, 5_000..500_000, 999_999..1_000_000] {
            fixture.check(&cache, range.clone());
            fixture.check(&fixture.cache(10 << 20), range);
        }
        assert_eq!(fixture.n_requests(), n_requests);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_cache_stays_within_its_bound() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(200_000);
        for start in (0..900_000).step_by(50_000) {
            fixture.check(&cache, start..start + 60_000);
            assert!(cache.n_bytes() <= 200_000);
        }
        fixture.check(&cache, 0..1_000_000);
        assert!(cache.n_bytes() <= 200_000);
        assert_eq!(fixture.cache(0).n_bytes(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_damaged_page_is_fetched_again() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20);
        fixture.check(&cache, 0..10);
        let path = cache.page_path(&fixture.file, 0);
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pages_of_blocks_that_are_gone_go() {
        let fixture = Fixture::new().await;
        let cache = fixture.cache(10 << 20);
        fixture.check(&cache, 0..10);
        cache.retain(|_| true).unwrap();
        assert!(0 < cache.n_bytes());
        cache.retain(|_| false).unwrap();
        assert_eq!(cache.n_bytes(), 0);
        assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 0);
    }
}
