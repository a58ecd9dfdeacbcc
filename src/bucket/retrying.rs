//! Asks again when a bucket did not answer.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use crate::bucket::error::BucketError;
use crate::bucket::port::{Bucket, BucketFuture, ObjectInfo};
use crate::foundation::verdict::Verdict;

/// A bucket that asks another one again, up to a number of times, with growing pauses.
///
/// Every operation of a bucket may be repeated: writing the same object twice is writing it once.
#[derive(Debug)]
pub struct RetryingBucket {
    inner: Arc<dyn Bucket>,
    attempts_max: u32,
    first_pause: Duration,
}

impl RetryingBucket {
    /// Asks `inner` up to `attempts_max` times; the pause doubles from `first_pause`.
    pub fn new(inner: Arc<dyn Bucket>, attempts_max: u32, first_pause: Duration) -> Self {
        Self {
            inner,
            attempts_max,
            first_pause,
        }
    }

    async fn again<'a, T>(
        &self,
        operation: impl Fn() -> BucketFuture<'a, T>,
    ) -> Result<T, BucketError> {
        let mut attempt = 1;
        let mut pause = self.first_pause;
        loop {
            match operation().await {
                Err(error)
                    if attempt < self.attempts_max
                        && matches!(error.verdict(), Verdict::RetryAfter(_)) =>
                {
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }
}

impl Bucket for RetryingBucket {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()> {
        async move { self.again(|| self.inner.put(key, content.clone())).await }.boxed()
    }

    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.again(move || self.inner.upload(key, file)).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        self.again(move || self.inner.get(key, size_max)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        async move {
            self.again(|| self.inner.get_range(key, range.clone()))
                .await
        }
        .boxed()
    }

    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.again(move || self.inner.download(key, file)).boxed()
    }

    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        self.again(move || self.inner.head(key)).boxed()
    }

    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        self.again(move || self.inner.list(dir)).boxed()
    }

    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        self.again(move || self.inner.list_dirs()).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        self.again(move || self.inner.delete(key)).boxed()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
}
