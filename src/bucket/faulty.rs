//! A bucket that fails when a test says so.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;

use crate::bucket::error::BucketError;
use crate::bucket::port::{Bucket, BucketFuture, ObjectInfo};
use crate::bucket::requests::Requests;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens.
    Refused,
    /// It happens, but the answer is lost.
    Unheard,
    /// Of what was to be written only the first half arrives, as on a store without atomic writes.
    Torn,
    /// It happens after so long.
    Late(Duration),
    /// Nothing happens, and whoever asked is not answered: the code that asks panics.
    Panic,
}

/// Passes everything on, except that one operation, or all from one on, fail.
#[derive(Debug)]
pub(crate) struct FaultyBucket {
    inner: Arc<dyn Bucket>,
    n_operations: AtomicU64,
    plan: Mutex<Option<Plan>>,
    /// Which object is not what was written, and from which of its bytes on.
    flipped: Mutex<Option<(String, usize)>>,
}

/// Which operations fail, and how.
#[derive(Debug, Clone)]
enum Plan {
    /// Those with these numbers.
    Numbers(Range<u64>, Fault),
    /// So many of a hundred, scattered by a seed.
    Share(u64, u64, Fault),
}

impl FaultyBucket {
    pub(crate) fn new(inner: Arc<dyn Bucket>) -> Self {
        Self {
            inner,
            n_operations: AtomicU64::new(0),
            plan: Mutex::new(None),
            flipped: Mutex::new(None),
        }
    }

    /// Operations so far.
    pub(crate) fn n_operations(&self) -> u64 {
        self.n_operations.load(Ordering::SeqCst)
    }

    /// The operations with these numbers, counted from zero and from now, fail.
    pub(crate) fn fail(&self, numbers: Range<u64>, fault: Fault) {
        self.n_operations.store(0, Ordering::SeqCst);
        *self.plan.lock() = Some(Plan::Numbers(numbers, fault));
    }

    /// About `percent` of the operations fail, counted from now; which ones, the seed decides.
    pub(crate) fn fail_some(&self, seed: u64, percent: u64, fault: Fault) {
        self.n_operations.store(0, Ordering::SeqCst);
        *self.plan.lock() = Some(Plan::Share(seed, percent, fault));
    }

    /// Everything works again.
    pub(crate) fn heal(&self) {
        *self.plan.lock() = None;
    }

    fn fault(&self) -> Option<Fault> {
        let number = self.n_operations.fetch_add(1, Ordering::SeqCst);
        let plan = self.plan.lock();
        match plan.as_ref()? {
            Plan::Numbers(numbers, fault) => numbers.contains(&number).then_some(*fault),
            Plan::Share(seed, percent, fault) => {
                let mixed = (number ^ (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                ((mixed >> 33) % 100 < *percent).then_some(*fault)
            }
        }
    }

    fn error(&self, key: &str) -> BucketError {
        BucketError::Unavailable {
            bucket: self.inner.name().to_owned(),
            action: "touch",
            key: key.to_owned(),
            source: Box::new(io::Error::other("on purpose")),
        }
    }

    async fn through<T>(&self, key: &str, answer: BucketFuture<'_, T>) -> Result<T, BucketError> {
        match self.fault() {
            None => answer.await,
            Some(Fault::Refused | Fault::Torn) => Err(self.error(key)),
            Some(Fault::Panic) => panics(),
            Some(Fault::Unheard) => {
                answer.await.ok();
                Err(self.error(key))
            }
            Some(Fault::Late(pause)) => {
                tokio::time::sleep(pause).await;
                answer.await
            }
        }
    }

    /// From now on objects of this name are written with one bit turned, in the byte at `at`, and nobody is told.
    pub(crate) fn flip(&self, name: &str, at: usize) {
        *self.flipped.lock() = Some((name.to_owned(), at));
    }

    fn as_it_arrives(&self, key: &str, content: Bytes) -> Bytes {
        match &*self.flipped.lock() {
            Some((name, at)) if key.ends_with(name) => {
                let mut bytes = content.to_vec();
                bytes[*at] ^= 1;
                Bytes::from(bytes)
            }
            _ => content,
        }
    }

    async fn write(&self, key: &str, content: Bytes) -> Result<(), BucketError> {
        let content = self.as_it_arrives(key, content);
        match self.fault() {
            None => self.inner.put(key, content).await,
            Some(Fault::Refused) => Err(self.error(key)),
            Some(Fault::Panic) => panics(),
            Some(Fault::Unheard) => {
                self.inner.put(key, content).await?;
                Err(self.error(key))
            }
            Some(Fault::Late(pause)) => {
                tokio::time::sleep(pause).await;
                self.inner.put(key, content).await
            }
            Some(Fault::Torn) => {
                let half = content.slice(..content.len() / 2);
                self.inner.put(key, half).await?;
                Err(self.error(key))
            }
        }
    }
}

/// Without the hook, which says where: there are many of them.
fn panics() -> ! {
    std::panic::resume_unwind(Box::new("on purpose"))
}

impl Bucket for FaultyBucket {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()> {
        self.write(key, content).boxed()
    }

    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        async move {
            let content = Bytes::from(std::fs::read(file).unwrap());
            let size = content.len() as u64;
            self.write(key, content).await?;
            Ok(size)
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        self.through(key, self.inner.get(key, size_max)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        self.through(key, self.inner.get_range(key, range)).boxed()
    }

    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.through(key, self.inner.download(key, file)).boxed()
    }

    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        self.through(key, self.inner.head(key)).boxed()
    }

    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        self.through(dir, self.inner.list(dir)).boxed()
    }

    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        self.through("", self.inner.list_dirs()).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        self.through(key, self.inner.delete(key)).boxed()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }

    fn requests(&self) -> Option<&Requests> {
        self.inner.requests()
    }
}
