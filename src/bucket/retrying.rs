//! Asks again when a bucket did not answer.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use crate::bucket::error::BucketError;
use crate::bucket::port::{Bucket, BucketFuture, ObjectInfo};
use crate::bucket::requests::Requests;
use crate::foundation::verdict::Verdict;

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A file that is copied has so much more time for each of its bytes: nobody waits for a slower line.
const FILE_BYTES_PER_SECOND: u64 = 256 << 10;
/// Largest file that is thought of when nobody knows how large one is: a segment of chunks.
const FILE_BYTES_UNKNOWN: u64 = 512 << 20;

/// A bucket that asks another one again, up to a number of times, with growing pauses, until a deadline.
///
/// Every operation of a bucket may be repeated: writing the same object twice is writing it once.
#[derive(Debug)]
pub struct RetryingBucket {
    inner: Arc<dyn Bucket>,
    attempts_max: u32,
    first_pause: Duration,
    deadline: Option<Duration>,
}

impl RetryingBucket {
    /// Asks `inner` up to `attempts_max` times, for copies of objects up to twice as often; the pause doubles from `first_pause`.
    pub fn new(inner: Arc<dyn Bucket>, attempts_max: u32, first_pause: Duration) -> Self {
        Self {
            inner,
            attempts_max,
            first_pause,
            deadline: None,
        }
    }

    /// Every operation ends after so long, all its repetitions included; copies of files have more, by their size.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    async fn again<'a, T>(
        &self,
        key: &str,
        operation: impl Fn() -> BucketFuture<'a, T>,
    ) -> Result<T, BucketError> {
        self.within((self.deadline, self.attempts_max), key, operation)
            .await
    }

    /// [`Self::again`] for a copy of `n_bytes`.
    async fn copy<'a, T>(
        &self,
        key: &str,
        n_bytes: u64,
        operation: impl Fn() -> BucketFuture<'a, T>,
    ) -> Result<T, BucketError> {
        let more = Duration::from_secs(n_bytes / FILE_BYTES_PER_SECOND);
        let deadline = self.deadline.map(|deadline| deadline.saturating_add(more));
        // A copy of many requests ends badly more often than one request, and nobody waits for it to answer a query.
        let attempts_max = self.attempts_max.saturating_mul(2);
        self.within((deadline, attempts_max), key, operation).await
    }

    async fn within<'a, T>(
        &self,
        (deadline, attempts_max): (Option<Duration>, u32),
        key: &str,
        operation: impl Fn() -> BucketFuture<'a, T>,
    ) -> Result<T, BucketError> {
        let Some(deadline) = deadline else {
            return self.attempts(attempts_max, operation).await;
        };
        match tokio::time::timeout(deadline, self.attempts(attempts_max, operation)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(BucketError::Unavailable {
                bucket: self.inner.name().to_owned(),
                action: "wait for",
                key: key.to_owned(),
                source: Box::new(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not done within {} s", deadline.as_secs_f64()),
                )),
            }),
        }
    }

    async fn attempts<'a, T>(
        &self,
        attempts_max: u32,
        operation: impl Fn() -> BucketFuture<'a, T>,
    ) -> Result<T, BucketError> {
        let mut attempt = 1;
        let mut pause = self.first_pause;
        loop {
            match operation().await {
                Err(error)
                    if attempt < attempts_max
                        && matches!(error.verdict(), Verdict::RetryAfter(_)) =>
                {
                    // Those who were refused together do not come back together.
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
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
        async move {
            let n_bytes = content.len() as u64;
            self.copy(key, n_bytes, || self.inner.put(key, content.clone()))
                .await
        }
        .boxed()
    }

    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        async move {
            let n_bytes = tokio::fs::metadata(file).await.map_or(0, |meta| meta.len());
            self.copy(key, n_bytes, || self.inner.upload(key, file))
                .await
        }
        .boxed()
    }

    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        self.again(key, move || self.inner.get(key, size_max))
            .boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        async move {
            self.again(key, || self.inner.get_range(key, range.clone()))
                .await
        }
        .boxed()
    }

    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.copy(key, FILE_BYTES_UNKNOWN, move || {
            self.inner.download(key, file)
        })
        .boxed()
    }

    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        self.again(key, move || self.inner.head(key)).boxed()
    }

    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        self.again(dir, move || self.inner.list(dir)).boxed()
    }

    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        self.again("", move || self.inner.list_dirs()).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        self.again(key, move || self.inner.delete(key)).boxed()
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }

    fn requests(&self) -> Option<&Requests> {
        self.inner.requests()
    }
}
