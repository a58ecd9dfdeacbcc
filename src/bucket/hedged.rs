//! Asks a second time when the first answer is late.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bucket::error::BucketError;
use crate::bucket::port::{Bucket, BucketFuture, ObjectInfo};
use crate::bucket::requests::Requests;

/// Answers whose times are remembered.
const WINDOW: usize = 256;
/// Before so many answers nobody knows what late means.
const ANSWERS_MIN: usize = 16;
/// No answer is late before.
const DELAY_MIN: Duration = Duration::from_millis(1);

/// When and how often a read is asked once more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HedgeSettings {
    /// Requests for one answer, the first included.
    pub up_to: u32,
    /// A read is late when so many of all took less time, between 0 and 1.
    pub quantile: f64,
}

impl Eq for HedgeSettings {}

/// A bucket whose reads are asked again when they take longer than most; the first answer is taken.
#[derive(Debug)]
pub struct HedgedBucket {
    inner: Arc<dyn Bucket>,
    settings: HedgeSettings,
    times: Mutex<Times>,
}

/// How long the latest answers took.
#[derive(Debug, Default)]
struct Times {
    latest: Vec<Duration>,
    next: usize,
}

impl Times {
    fn add(&mut self, time: Duration) {
        if self.latest.len() < WINDOW {
            self.latest.push(time);
        } else if let Some(oldest) = self.latest.get_mut(self.next) {
            *oldest = time;
        }
        self.next = (self.next + 1) % WINDOW;
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the quantile lies between 0 and 1, the window holds a few hundred times"
    )]
    fn quantile(&self, quantile: f64) -> Option<Duration> {
        if self.latest.len() < ANSWERS_MIN {
            return None;
        }
        let mut sorted = self.latest.clone();
        sorted.sort_unstable();
        let rank = (quantile.clamp(0.0, 1.0) * (sorted.len() - 1) as f64).round() as usize;
        sorted.get(rank).copied()
    }
}

impl HedgedBucket {
    /// Hedges the reads of `inner`.
    pub fn new(inner: Arc<dyn Bucket>, settings: HedgeSettings) -> Self {
        Self {
            inner,
            settings,
            times: Mutex::default(),
        }
    }

    async fn race<'a, T>(
        &'a self,
        ask: impl Fn() -> BucketFuture<'a, T>,
    ) -> Result<T, BucketError> {
        let began = Instant::now();
        let delay = self.times.lock().quantile(self.settings.quantile);
        let Some(delay) = delay.map(|delay| delay.max(DELAY_MIN)) else {
            let answer = ask().await;
            self.answered(began, &answer);
            return answer;
        };
        let mut asked = FuturesUnordered::from_iter([ask()]);
        let mut n_asked = 1;
        loop {
            let is_last = self.settings.up_to <= n_asked;
            tokio::select! {
                answer = asked.next() => match answer {
                    // Another one that is still on its way may do better than an error.
                    Some(Err(error)) if !asked.is_empty() && !error.is_not_found() => (),
                    Some(answer) => {
                        self.answered(began, &answer);
                        return answer;
                    }
                    None => asked.push(ask()),
                },
                () = tokio::time::sleep(delay), if !is_last => {
                    n_asked += 1;
                    if let Some(requests) = self.inner.requests() {
                        requests.hedged();
                    }
                    asked.push(ask());
                }
            }
        }
    }

    fn answered<T>(&self, began: Instant, answer: &Result<T, BucketError>) {
        if answer.is_ok() {
            self.times.lock().add(began.elapsed());
        }
    }
}

impl Bucket for HedgedBucket {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn put<'a>(&'a self, key: &'a str, content: Bytes) -> BucketFuture<'a, ()> {
        self.inner.put(key, content)
    }

    fn upload<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.inner.upload(key, file)
    }

    fn get<'a>(&'a self, key: &'a str, size_max: u64) -> BucketFuture<'a, Bytes> {
        self.race(move || self.inner.get(key, size_max)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, range: Range<u64>) -> BucketFuture<'a, Bytes> {
        self.race(move || self.inner.get_range(key, range.clone()))
            .boxed()
    }

    fn download<'a>(&'a self, key: &'a str, file: &'a Path) -> BucketFuture<'a, u64> {
        self.inner.download(key, file)
    }

    fn head<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ObjectInfo> {
        self.race(move || self.inner.head(key)).boxed()
    }

    fn list<'a>(&'a self, dir: &'a str) -> BucketFuture<'a, Vec<ObjectInfo>> {
        self.inner.list(dir)
    }

    fn list_dirs(&self) -> BucketFuture<'_, Vec<String>> {
        self.inner.list_dirs()
    }

    fn delete<'a>(&'a self, key: &'a str) -> BucketFuture<'a, ()> {
        self.inner.delete(key)
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key)
    }

    fn requests(&self) -> Option<&Requests> {
        self.inner.requests()
    }
}
