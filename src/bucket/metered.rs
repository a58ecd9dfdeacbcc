//! Counts what a bucket is asked.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use crate::bucket::error::BucketError;
use crate::bucket::port::{Bucket, BucketFuture, ObjectInfo};
use crate::bucket::requests::Requests;
use crate::foundation::buffers::Buffers;
use crate::foundation::{Clock, SystemClock};

/// What a bucket can be asked, under the names metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing from memory.
    Put,
    /// Writing from a file.
    Upload,
    /// Reading whole.
    Get,
    /// Reading a part.
    GetRange,
    /// Reading into a file.
    Download,
    /// Size and time.
    Head,
    /// Objects or directories.
    List,
    /// Removing.
    Delete,
}

impl Operation {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Put,
        Self::Upload,
        Self::Get,
        Self::GetRange,
        Self::Download,
        Self::Head,
        Self::List,
        Self::Delete,
    ];

    /// The name metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Upload => "upload",
            Self::Get => "get",
            Self::GetRange => "get_range",
            Self::Download => "download",
            Self::Head => "attributes",
            Self::List => "iter",
            Self::Delete => "delete",
        }
    }
}

/// Bounds of the times that are told apart, in milliseconds: those of Thanos.
pub const DURATION_BOUNDS_MS: [u64; 14] = [
    1, 10, 100, 300, 600, 1_000, 3_000, 6_000, 9_000, 20_000, 30_000, 60_000, 90_000, 120_000,
];

/// Bounds of the sizes that are told apart, in bytes: those of Thanos, 32 KiB to 1 GiB.
pub const SIZE_BOUNDS: [u64; 16] = [
    1 << 15,
    1 << 16,
    1 << 17,
    1 << 18,
    1 << 19,
    1 << 20,
    1 << 21,
    1 << 22,
    1 << 23,
    1 << 24,
    1 << 25,
    1 << 26,
    1 << 27,
    1 << 28,
    1 << 29,
    1 << 30,
];

/// Counts of one operation since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OperationCounts {
    /// Asked.
    pub n_started: u64,
    /// Refused or unanswered; an object that is not there is an answer.
    pub n_failed: u64,
    /// Bytes of content moved by those that worked.
    pub bytes: u64,
    /// Time all took altogether.
    pub micros: u64,
    /// How many took at most each of [`DURATION_BOUNDS_MS`], and longer; each counted once.
    pub durations: [u64; DURATION_BOUNDS_MS.len() + 1],
    /// How many of those that worked moved at most each of [`SIZE_BOUNDS`], and more.
    pub sizes: [u64; SIZE_BOUNDS.len() + 1],
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
    durations: [AtomicU64; DURATION_BOUNDS_MS.len() + 1],
    sizes: [AtomicU64; SIZE_BOUNDS.len() + 1],
}

/// Counts `value` at the first bound that is not below it, or behind all.
fn count_at(counts: &[AtomicU64], bounds: &[u64], value: u64) {
    let at = bounds.partition_point(|bound| *bound < value);
    if let Some(count) = counts.get(at) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// A bucket that counts what another one is asked.
#[derive(Debug)]
pub struct MeteredBucket {
    inner: Arc<dyn Bucket>,
    clock: Arc<dyn Clock>,
    last_upload_ms: AtomicI64,
    operations: [(Operation, Counters); 8],
}

impl MeteredBucket {
    /// Counts what `inner` is asked from now on.
    pub fn new(inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            clock: Arc::new(SystemClock),
            last_upload_ms: AtomicI64::new(0),
            operations: Operation::ALL.map(|operation| (operation, Counters::default())),
        }
    }

    /// When something was last written, in milliseconds since the Unix epoch; zero when nothing was.
    pub fn last_upload_ms(&self) -> i64 {
        self.last_upload_ms.load(Ordering::Relaxed)
    }

    /// The counts of every operation.
    pub fn counts(&self) -> Vec<(Operation, OperationCounts)> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.operations
            .iter()
            .map(|(operation, counters)| {
                let counts = OperationCounts {
                    n_started: read(&counters.started),
                    n_failed: read(&counters.failed),
                    bytes: read(&counters.bytes),
                    micros: read(&counters.micros),
                    durations: counters.durations.each_ref().map(read),
                    sizes: counters.sizes.each_ref().map(read),
                };
                (*operation, counts)
            })
            .collect()
    }

    async fn count<T>(
        &self,
        operation: Operation,
        answer: BucketFuture<'_, T>,
        bytes: impl Fn(&T) -> u64,
    ) -> Result<T, BucketError> {
        let counters = self
            .operations
            .iter()
            .find_map(|(here, counters)| (*here == operation).then_some(counters));
        let Some(counters) = counters else {
            return answer.await;
        };
        counters.started.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let answer = answer.await;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.micros.fetch_add(micros, Ordering::Relaxed);
        // What takes a millisecond and a half has not taken at most one.
        let ms = micros.div_ceil(1_000);
        count_at(&counters.durations, &DURATION_BOUNDS_MS, ms);
        match &answer {
            Ok(value) => {
                let bytes = bytes(value);
                counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                count_at(&counters.sizes, &SIZE_BOUNDS, bytes);
                if matches!(operation, Operation::Put | Operation::Upload) {
                    let now_ms = self.clock.now_ms();
                    self.last_upload_ms.store(now_ms, Ordering::Relaxed);
                }
            }
            Err(error) if error.is_not_found() => (),
            Err(_) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }
}

impl Bucket for MeteredBucket {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()> {
        let size = content.len() as u64;
        let answer = self.inner.put(key, content);
        self.count(Operation::Put, answer, move |()| size).boxed()
    }

    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        let answer = self.inner.upload(key, file);
        self.count(Operation::Upload, answer, |size| *size).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        let answer = self.inner.get(key, size_max);
        self.count(Operation::Get, answer, |bytes| bytes.len() as u64)
            .boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        let answer = self.inner.get_range(key, range);
        self.count(Operation::GetRange, answer, |bytes| bytes.len() as u64)
            .boxed()
    }

    fn get_part<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        buffers: &'a Buffers,
    ) -> BucketFuture<'a, Bytes> {
        let answer = self.inner.get_part(key, range, buffers);
        self.count(Operation::GetRange, answer, |bytes| bytes.len() as u64)
            .boxed()
    }

    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        let answer = self.inner.download(key, file);
        self.count(Operation::Download, answer, |size| *size)
            .boxed()
    }

    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        let answer = self.inner.head(key);
        self.count(Operation::Head, answer, |_| 0).boxed()
    }

    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        let answer = self.inner.list(dir);
        self.count(Operation::List, answer, |_| 0).boxed()
    }

    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        let answer = self.inner.list_dirs();
        self.count(Operation::List, answer, |_| 0).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        let answer = self.inner.delete(key);
        self.count(Operation::Delete, answer, |()| 0).boxed()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }

    fn requests(&self) -> Option<&Requests> {
        self.inner.requests()
    }
}
