//! Named threads for work that computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;
use rustix::process::setpriority_process;
use tokio::sync::oneshot;

/// Nice values: of every thread, and of one that lets others go first.
const NORMAL: i32 = 0;
const LOW: i32 = 10;

/// Stack of every thread: a query is as deep as its expression, and what evaluates it calls itself level by level. Only
/// what is used of it takes memory.
const STACK_BYTES: usize = 64 << 20;

type Job = Box<dyn FnOnce() + Send + 'static>;

/// The pool's queue is full or the pool has stopped; the work was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pool {pool} takes no more work")]
pub struct PoolBusy {
    /// Name of the pool that refused.
    pub pool: &'static str,
}

/// The work panicked; the pool's thread went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("work in pool {pool} panicked")]
pub struct PoolPanic {
    /// Name of the pool the work ran in.
    pub pool: &'static str,
}

/// Threads with a name, a bounded queue and no runtime of their own.
#[derive(Debug, Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    jobs: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    n_threads: usize,
    running: Arc<AtomicUsize>,
    panics: Arc<AtomicU64>,
}

impl Pool {
    /// Starts `threads` threads called `<name>-0`, `<name>-1`, …; at most `queue_max` jobs wait.
    pub fn new(name: &'static str, threads: usize, queue_max: usize) -> std::io::Result<Self> {
        Self::start(name, threads, queue_max, NORMAL)
    }

    /// [`Pool::new`] with threads that let all others go first.
    pub fn with_low_priority(
        name: &'static str,
        threads: usize,
        queue_max: usize,
    ) -> std::io::Result<Self> {
        Self::start(name, threads, queue_max, LOW)
    }

    fn start(
        name: &'static str,
        threads: usize,
        queue_max: usize,
        niceness: i32,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(queue_max);
        let running = Arc::new(AtomicUsize::new(0));
        let panics = Arc::new(AtomicU64::new(0));
        let mut handles = Vec::new();
        for number in 0..threads {
            let (queue, running, panics) =
                (queue.clone(), Arc::clone(&running), Arc::clone(&panics));
            let thread = thread::Builder::new().name(format!("{name}-{number}"));
            let thread = thread.stack_size(STACK_BYTES);
            handles.push(thread.spawn(move || {
                lower_priority(niceness);
                work(&queue, &running, &panics);
            })?);
        }
        let inner = Inner {
            name,
            jobs: Mutex::new(Some(jobs)),
            threads: Mutex::new(handles),
            n_threads: threads,
            running,
            panics,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What the pool is called.
    pub(crate) fn name(&self) -> &'static str {
        self.inner.name
    }

    /// How many threads work here; callers split their work into about as many parts.
    pub fn n_threads(&self) -> usize {
        self.inner.n_threads
    }

    /// Jobs being worked on now.
    pub fn n_running(&self) -> usize {
        self.inner.running.load(Ordering::Relaxed)
    }

    /// Jobs that panicked since the start.
    pub fn n_panics(&self) -> u64 {
        self.inner.panics.load(Ordering::Relaxed)
    }

    /// Queues `job` or refuses at once.
    pub fn try_spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<(), PoolBusy> {
        let busy = PoolBusy {
            pool: self.inner.name,
        };
        let Some(jobs) = self.inner.jobs.lock().clone() else {
            return Err(busy);
        };
        match jobs.try_send(Box::new(job)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(busy),
        }
    }

    /// Runs `work` here and hands back its result; a panic inside is an error here, not there.
    pub fn run<T, F>(
        &self,
        work: F,
    ) -> Result<impl Future<Output = Result<T, PoolPanic>> + Send + use<T, F>, PoolBusy>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let pool = self.inner.name;
        self.try_spawn(move || {
            done.send(work()).ok();
        })?;
        Ok(async move {
            result
                .await
                .map_err(|_dropped_by_unwinding| PoolPanic { pool })
        })
    }

    /// Runs `work` on the thread that asks, and counts it as the pool's: for work that takes less than handing it over.
    /// A panic inside is an error, as in [`Self::run`].
    pub fn run_here<T>(&self, work: impl FnOnce() -> T) -> Result<T, PoolPanic> {
        let (running, panics) = (&self.inner.running, &self.inner.panics);
        let pool = self.inner.name;
        counted(running, panics, work).map_err(|_panic| PoolPanic { pool })
    }

    /// Takes no more work, finishes what is queued and waits for the threads.
    pub fn stop(&self) {
        self.inner.jobs.lock().take();
        for thread in self.inner.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!(pool = self.inner.name, "pool thread ended by panic");
            }
        }
    }
}

/// On Linux a priority belongs to a thread. Where it may not be changed, the work is done all the same.
fn lower_priority(niceness: i32) {
    if niceness != NORMAL
        && let Err(error) = setpriority_process(None, niceness)
    {
        tracing::debug!(%error, "priority of a pool thread stays as it is");
    }
}

fn work(queue: &Receiver<Job>, running: &AtomicUsize, panics: &AtomicU64) {
    while let Ok(job) = queue.recv() {
        // Whoever waits for the job learns that its end of the channel is gone.
        counted(running, panics, job).ok();
    }
}

fn counted<T>(
    running: &AtomicUsize,
    panics: &AtomicU64,
    work: impl FnOnce() -> T,
) -> thread::Result<T> {
    running.fetch_add(1, Ordering::Relaxed);
    let result = catch_unwind(AssertUnwindSafe(work));
    if result.is_err() {
        panics.fetch_add(1, Ordering::Relaxed);
    }
    running.fetch_sub(1, Ordering::Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_job_and_not_the_thread() {
        let pool = Pool::new("query", 1, 4).unwrap();
        let result = pool.run(|| panic!("on purpose")).unwrap().await;
        assert_eq!(result, Err::<(), _>(PoolPanic { pool: "query" }));
        assert_eq!(pool.run(|| 7).unwrap().await, Ok(7));
        assert_eq!(pool.n_panics(), 1);
        pool.stop();
        assert!(pool.try_spawn(|| ()).is_err());
    }

    #[test]
    fn a_panic_on_the_thread_that_asks_is_counted_and_goes_no_further() {
        let pool = Pool::new("query", 1, 1).unwrap();
        assert_eq!(pool.run_here(|| pool.n_running()), Ok(1));
        let result = pool.run_here(|| -> usize { panic!("on purpose") });
        assert_eq!(result, Err(PoolPanic { pool: "query" }));
        assert_eq!((pool.n_panics(), pool.n_running()), (1, 0));
    }

    #[tokio::test]
    async fn only_threads_of_low_priority_let_others_go_first() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let low = Pool::with_low_priority("bulk", 1, 4).unwrap();
        let normal = Pool::new("query", 1, 4).unwrap();
        assert_eq!(low.run(niceness).unwrap().await, Ok(LOW));
        assert_eq!(normal.run(niceness).unwrap().await, Ok(before));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn a_full_queue_refuses() {
        let pool = Pool::new("bulk", 1, 1).unwrap();
        let (release, wait) = bounded::<()>(0);
        let (started, is_started) = bounded::<()>(0);
        pool.try_spawn(move || {
            started.send(()).unwrap();
            wait.recv().ok();
        })
        .unwrap();
        is_started.recv().unwrap();
        pool.try_spawn(|| ()).unwrap();
        assert_eq!(pool.try_spawn(|| ()), Err(PoolBusy { pool: "bulk" }));
        drop(release);
        pool.stop();
    }
}
