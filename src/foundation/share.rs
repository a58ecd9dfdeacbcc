//! Work in numbered parts, shared with idle threads of a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::foundation::pool::{Pool, PoolPanic};

/// Parts being made by several threads.
struct Sharing<T, F> {
    work: F,
    next: AtomicUsize,
    done: Mutex<Done<T>>,
    all_done: Condvar,
}

struct Done<T> {
    /// By number; none before a part is made, or when making it panicked.
    results: Vec<Option<T>>,
    n_left: usize,
}

/// Counts a part as done even when making it panics, so that nobody waits for it for ever.
struct Part<'a, T, F> {
    sharing: &'a Sharing<T, F>,
    number: usize,
    result: Option<T>,
}

impl<T, F> Drop for Part<'_, T, F> {
    fn drop(&mut self) {
        let mut done = self.sharing.done.lock();
        if let Some(slot) = done.results.get_mut(self.number) {
            *slot = self.result.take();
        }
        done.n_left = done.n_left.saturating_sub(1);
        if done.n_left == 0 {
            self.sharing.all_done.notify_all();
        }
    }
}

impl<T, F: Fn(usize) -> T> Sharing<T, F> {
    /// Takes parts until there are none.
    fn help(&self, n_parts: usize) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= n_parts {
                return;
            }
            let mut part = Part {
                sharing: self,
                number,
                result: None,
            };
            part.result = Some((self.work)(number));
        }
    }
}

impl Pool {
    /// `work(0)`, `work(1)`, … up to `n_parts`, made by this thread and by idle ones of the pool, in order.
    ///
    /// The thread that asks takes part and never waits for a part that nobody has begun, so it may itself be one of the
    /// pool's. An error says that `work` panicked on another thread; on this one the panic goes on.
    pub fn share<T, F>(&self, n_parts: usize, work: F) -> Result<Vec<T>, PoolPanic>
    where
        T: Send + 'static,
        F: Fn(usize) -> T + Send + Sync + 'static,
    {
        let sharing = Arc::new(Sharing {
            work,
            next: AtomicUsize::new(0),
            done: Mutex::new(Done {
                results: (0..n_parts).map(|_| None).collect(),
                n_left: n_parts,
            }),
            all_done: Condvar::new(),
        });
        for _ in 1..self.n_threads().min(n_parts) {
            let helped = Arc::clone(&sharing);
            if self.try_spawn(move || helped.help(n_parts)).is_err() {
                break;
            }
        }
        sharing.help(n_parts);
        let mut done = sharing.done.lock();
        while done.n_left > 0 {
            sharing.all_done.wait(&mut done);
        }
        let results = std::mem::take(&mut done.results);
        let results: Option<Vec<T>> = results.into_iter().collect();
        results.ok_or(PoolPanic { pool: self.name() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_order_whoever_makes_them() {
        let pool = Pool::new("query", 3, 4).unwrap();
        for n in [0, 1, 2, 100] {
            let squares = pool.share(n, |i| i * i).unwrap();
            assert_eq!(squares, (0..n).map(|i| i * i).collect::<Vec<_>>());
        }
        pool.stop();
        assert_eq!(pool.share(3, |i| i), Ok(vec![0, 1, 2]));
    }

    #[test]
    fn threads_of_a_busy_pool_do_their_parts_alone() {
        let pool = Pool::new("query", 1, 4).unwrap();
        let inner = pool.clone();
        let all = pool.share(4, move |i| inner.share(4, move |j| i * j).unwrap());
        assert_eq!(all.unwrap()[3], [0, 3, 6, 9]);
        pool.stop();
    }

    #[test]
    fn a_panic_on_another_thread_is_an_error_here() {
        let pool = Pool::new("query", 2, 4).unwrap();
        let here = std::thread::current().id();
        let (begun, is_begun) = crossbeam::channel::bounded(1);
        let result = pool.share(2, move |_| {
            if std::thread::current().id() == here {
                // Not before the other has a part of its own.
                is_begun.recv().unwrap();
                return;
            }
            begun.send(()).unwrap();
            panic!("on purpose");
        });
        assert_eq!(result, Err(PoolPanic { pool: "query" }));
        pool.stop();
    }
}
