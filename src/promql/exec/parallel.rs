//! The same work over many series, shared with idle threads of the pool.
//!
//! The thread that asks takes part and never waits for work that nobody has begun, so a query may run in the very pool
//! whose threads help it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::model::Interval;
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::{Frame, Head};
use crate::promql::exec::source::{Samples, Selected};
use crate::promql::limits::QueryError;

/// Series that one thread takes at a time.
const SERIES_PER_PART: usize = 128;

/// Below this many encoded bytes handing work over costs more than it saves.
const SHARED_BYTES_MIN: u64 = 128 << 10;

/// Samples looked at, or steps written, before somebody asks whether to go on.
const SAMPLES_BETWEEN_CHECKS: usize = 16_384;

/// What is done with every series.
pub(crate) trait SeriesWork: Send + Sync + 'static {
    /// What one thread keeps from series to series.
    type State: Default;

    /// From when to when samples matter: of other chunks nothing is decoded.
    fn reach(&self) -> Interval;

    /// Adds what comes of one series, which has samples, to `out`.
    fn series(
        &self,
        evaluator: &Evaluator,
        series: (Head, &Samples),
        state: &mut Self::State,
        out: &mut Frame,
    ) -> Result<(), QueryError>;
}

/// A selection being worked on by several threads.
struct Shared<W> {
    evaluator: Evaluator,
    selected: Arc<Selected>,
    work: W,
    n_steps: usize,
    n_parts: usize,
    next_part: AtomicUsize,
    done: Mutex<Done>,
    all_done: Condvar,
}

#[derive(Default)]
struct Done {
    parts: Vec<(usize, Result<Frame, QueryError>)>,
    n_left: usize,
}

/// Counts a part as done even when it panics, so that nobody waits for it for ever.
struct Part<'a, W> {
    shared: &'a Shared<W>,
    number: usize,
    result: Option<Result<Frame, QueryError>>,
}

impl<W> Drop for Part<'_, W> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| {
            Err(QueryError::execution(
                "evaluation of a part of the series panicked",
            ))
        });
        let mut done = self.shared.done.lock();
        done.parts.push((self.number, result));
        done.n_left = done.n_left.saturating_sub(1);
        if done.n_left == 0 {
            self.shared.all_done.notify_all();
        }
    }
}

impl<W: SeriesWork> Shared<W> {
    /// Takes parts until there are none.
    fn help(&self) {
        loop {
            let number = self.next_part.fetch_add(1, Ordering::Relaxed);
            if number >= self.n_parts {
                return;
            }
            let mut part = Part {
                shared: self,
                number,
                result: None,
            };
            let from = number * SERIES_PER_PART;
            part.result = Some(self.evaluator.series_part(
                &self.selected,
                from..from + SERIES_PER_PART,
                &self.work,
                self.n_steps,
            ));
        }
    }
}

impl Evaluator {
    /// `work` over every series of `selected`; the result is in series order.
    pub(crate) fn over_series<W: SeriesWork>(
        &self,
        selected: &Arc<Selected>,
        work: W,
        n_steps: usize,
    ) -> Result<Frame, QueryError> {
        let n_series = selected.series.len();
        let n_parts = n_series.div_ceil(SERIES_PER_PART);
        let helpers = match &self.pool {
            Some(pool) if n_parts > 1 && selected.n_bytes() >= SHARED_BYTES_MIN => {
                pool.n_threads().min(n_parts) - 1
            }
            _ => 0,
        };
        if helpers == 0 {
            return self.series_part(selected, 0..n_series, &work, n_steps);
        }
        let shared = Arc::new(Shared {
            evaluator: self.clone(),
            selected: Arc::clone(selected),
            work,
            n_steps,
            n_parts,
            next_part: AtomicUsize::new(0),
            done: Mutex::new(Done {
                parts: Vec::with_capacity(n_parts),
                n_left: n_parts,
            }),
            all_done: Condvar::new(),
        });
        for _ in 0..helpers {
            let shared = Arc::clone(&shared);
            let asked = self
                .pool
                .as_ref()
                .map(|pool| pool.try_spawn(move || shared.help()));
            if !matches!(asked, Some(Ok(()))) {
                break;
            }
        }
        shared.help();
        let mut done = shared.done.lock();
        while done.n_left > 0 {
            shared.all_done.wait(&mut done);
        }
        let mut parts = std::mem::take(&mut done.parts);
        drop(done);
        parts.sort_unstable_by_key(|(number, _)| *number);
        let mut whole = Frame::new(n_steps, &self.budget);
        for (_, part) in parts {
            whole.append(part?);
        }
        Ok(whole)
    }

    /// `work` over some series, on this thread.
    fn series_part<W: SeriesWork>(
        &self,
        selected: &Selected,
        range: std::ops::Range<usize>,
        work: &W,
        n_steps: usize,
    ) -> Result<Frame, QueryError> {
        let mut frame = Frame::new(n_steps, &self.budget);
        let mut scratch = Samples::default();
        let mut state = W::State::default();
        let reach = work.reach();
        let mut since_check = SAMPLES_BETWEEN_CHECKS;
        let mut n_read = 0;
        for series in selected.series.iter().take(range.end).skip(range.start) {
            if since_check >= SAMPLES_BETWEEN_CHECKS {
                since_check = 0;
                self.budget.check()?;
            }
            let samples = selected.samples(series, &mut scratch, reach)?;
            n_read += samples.len() as u64;
            since_check += samples.len() + n_steps;
            if samples.is_empty() {
                continue;
            }
            let head = Head::new(series.labels.clone());
            work.series(self, (head, samples), &mut state, &mut frame)?;
        }
        self.n_read.fetch_add(n_read, Ordering::Relaxed);
        Ok(frame)
    }
}
