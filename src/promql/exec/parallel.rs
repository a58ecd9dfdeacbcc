//! The same work over many series, shared with idle threads of the pool.
//!
//! The thread that asks takes part and never waits for work that nobody has begun, so a query may run in the very pool
//! whose threads help it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::foundation::Pool;
use crate::model::Labels;
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::Frame;
use crate::promql::exec::source::{Samples, Selected, Series};
use crate::promql::limits::QueryError;
use crate::promql::plan::Reading;
use crate::storage::Windows;

/// Series that one thread takes at a time, at most and, where several do, at least.
const SERIES_PER_PART: usize = 128;
const SERIES_PER_SHARED_PART: usize = 16;

/// Where threads share series, each gets about so many parts: who comes late or is slow takes fewer.
const PARTS_PER_THREAD: usize = 4;

/// Below this many encoded bytes and cells together handing work over costs more than it saves: a thread wakes in some
/// 20 µs and finds nothing of what it reads in its caches, in which time a few thousand are read and written.
const SHARED_MIN: usize = 96 << 10;

/// Series whose memory is asked for at once.
const SERIES_PER_TOUCH: usize = 16;

/// Samples looked at, or steps written, before somebody asks whether to go on.
const SAMPLES_BETWEEN_CHECKS: usize = 16_384;

/// What is done with every series.
pub(crate) trait SeriesWork: Send + Sync + 'static {
    /// What one thread keeps from series to series.
    type State: Default;

    /// What comes of a few series.
    type Out;

    /// From when to when samples matter: of other chunks nothing is decoded.
    fn windows(&self) -> Windows;

    /// What it reads of aggregates.
    fn reading(&self) -> Reading;

    /// Where what comes of `n_series` will be, in `frame`.
    fn begin(&self, frame: Frame, n_series: usize) -> Self::Out;

    /// Adds what comes of one series, which has samples, to `out`.
    fn series(
        &self,
        evaluator: &Evaluator,
        series: (&Labels, &Samples),
        state: &mut Self::State,
        out: &mut Self::Out,
    ) -> Result<(), QueryError>;

    /// [`Self::series`] of one whose samples, all of them floats, are the very ones of the series before.
    fn again(
        &self,
        evaluator: &Evaluator,
        series: (&Labels, &Samples),
        state: &mut Self::State,
        out: &mut Self::Out,
    ) -> Result<(), QueryError> {
        self.series(evaluator, series, state, out)
    }

    /// There are no more of these few.
    fn end(&self, _evaluator: &Evaluator, _state: &mut Self::State) {}
}

/// Takes what comes of the series, part by part, in series order whatever thread a part was made by.
pub(crate) trait Sink<T>: Send + 'static {
    /// So many series come at most, in several parts.
    fn expect(&mut self, _n_series: usize) {}

    /// The next part.
    fn take(&mut self, part: T) -> Result<(), QueryError>;
}

impl Sink<Self> for Frame {
    fn expect(&mut self, n_series: usize) {
        self.expect_rows(n_series);
    }

    fn take(&mut self, part: Self) -> Result<(), QueryError> {
        if self.len() == 0 && !self.has_room_for(part.len()) {
            *self = part;
        } else {
            self.append(part)?;
        }
        Ok(())
    }
}

/// A selection being worked on by several threads.
struct Shared<W, P, T, S> {
    evaluator: Evaluator,
    selected: Arc<Selected>,
    work: W,
    prepare: P,
    n_steps: usize,
    n_parts: usize,
    series_per_part: usize,
    next_part: AtomicUsize,
    done: Mutex<Done<T, S>>,
    all_done: Condvar,
}

struct Done<T, S> {
    /// Away while somebody hands it parts.
    sink: Option<S>,
    /// Parts made before their turn.
    waiting: BTreeMap<usize, T>,
    /// The part whose turn it is.
    turn: usize,
    /// Parts nobody has finished making.
    n_left: usize,
    /// The error of the earliest part that has one.
    failed: Option<(usize, QueryError)>,
}

/// Counts a part as done even when making it panics, so that nobody waits for it for ever.
struct Part<'a, W, P, T, S> {
    shared: &'a Shared<W, P, T, S>,
    number: usize,
    result: Option<Result<T, QueryError>>,
}

impl<W, P, T, S> Drop for Part<'_, W, P, T, S> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(panicked()));
        let mut done = self.shared.done.lock();
        match result {
            Ok(part) => {
                done.waiting.insert(self.number, part);
            }
            Err(error) => done.fail(self.number, error),
        }
        done.n_left = done.n_left.saturating_sub(1);
        self.shared.notify(&done);
    }
}

fn panicked() -> QueryError {
    QueryError::execution("evaluation of a part of the series panicked")
}

impl<T, S> Done<T, S> {
    fn fail(&mut self, number: usize, error: QueryError) {
        if self
            .failed
            .as_ref()
            .is_none_or(|(first, _)| number < *first)
        {
            self.failed = Some((number, error));
        }
        self.waiting.clear();
    }

    /// Is every part made, and handed over unless one failed?
    fn is_over(&self) -> bool {
        self.n_left == 0
            && (self.failed.is_some() || (self.sink.is_some() && self.waiting.is_empty()))
    }
}

/// Brings the sink back, or says that it is gone for good.
struct Borrowed<'a, W, P, T, S> {
    shared: &'a Shared<W, P, T, S>,
    sink: Option<S>,
    number: usize,
    result: Option<Result<(), QueryError>>,
}

impl<W, P, T, S> Drop for Borrowed<'_, W, P, T, S> {
    fn drop(&mut self) {
        let mut done = self.shared.done.lock();
        let result = self.result.take().unwrap_or_else(|| Err(panicked()));
        match result {
            Ok(()) => done.sink = self.sink.take(),
            Err(error) => done.fail(self.number, error),
        }
        self.shared.notify(&done);
    }
}

impl<W, P, T, S> Shared<W, P, T, S> {
    fn notify(&self, done: &Done<T, S>) {
        if done.is_over() {
            self.all_done.notify_all();
        }
    }
}

impl<W, P, T, S> Shared<W, P, T, S>
where
    W: SeriesWork,
    P: Fn(W::Out) -> T,
    S: Sink<T>,
{
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
            let from = number * self.series_per_part;
            let failed = self.done.lock().failed.clone();
            part.result = Some(match failed {
                Some((_, error)) => Err(error),
                None => {
                    let made = self.evaluator.series_part(
                        &self.selected,
                        from..from + self.series_per_part,
                        &self.work,
                        self.n_steps,
                    );
                    made.map(&self.prepare)
                }
            });
            drop(part);
            self.hand_over();
        }
    }

    /// Hands parts whose turn it is to the sink, unless another thread is about it.
    fn hand_over(&self) {
        loop {
            let mut done = self.done.lock();
            let turn = done.turn;
            if done.failed.is_some() || done.sink.is_none() || !done.waiting.contains_key(&turn) {
                return;
            }
            let (Some(part), sink) = (done.waiting.remove(&turn), done.sink.take()) else {
                return;
            };
            done.turn += 1;
            drop(done);
            let mut borrowed = Borrowed {
                shared: self,
                sink,
                number: turn,
                result: None,
            };
            borrowed.result = borrowed.sink.as_mut().map(|sink| sink.take(part));
        }
    }
}

impl Evaluator {
    /// `work` over every series of `selected`; the result is in series order.
    pub(crate) fn over_series<W: SeriesWork<Out = Frame>>(
        &self,
        selected: &Arc<Selected>,
        work: W,
        n_steps: usize,
    ) -> Result<Frame, QueryError> {
        let whole = Frame::of_selector(n_steps, &self.budget, selected.share());
        self.over_series_into(selected, work, n_steps, (|frame| frame, whole))
    }

    /// `work` over every series of `selected`; its columns go through `prepare` on the thread that made them, and then
    /// to `sink` in series order, a few series at a time.
    pub(crate) fn over_series_into<W, P, T, S>(
        &self,
        selected: &Arc<Selected>,
        work: W,
        n_steps: usize,
        (prepare, mut sink): (P, S),
    ) -> Result<S, QueryError>
    where
        W: SeriesWork,
        P: Fn(W::Out) -> T + Send + Sync + 'static,
        T: Send + 'static,
        S: Sink<T>,
    {
        let n_series = selected.series.len();
        let n_threads = self.pool.as_ref().map_or(1, Pool::n_threads);
        let series_per_part = (n_series / (n_threads * PARTS_PER_THREAD))
            .clamp(SERIES_PER_SHARED_PART, SERIES_PER_PART);
        let n_parts = n_series.div_ceil(series_per_part);
        let n_bytes = usize::try_from(selected.n_bytes()).unwrap_or(usize::MAX);
        let n_worked_on = n_series.saturating_mul(n_steps).saturating_add(n_bytes);
        let helpers = if SHARED_MIN <= n_worked_on {
            n_threads.min(n_parts).saturating_sub(1)
        } else {
            0
        };
        if helpers > 0 || n_series > SERIES_PER_PART {
            sink.expect(n_series);
        }
        if helpers == 0 {
            for from in (0..n_series).step_by(SERIES_PER_PART) {
                let range = from..from + SERIES_PER_PART;
                sink.take(prepare(self.series_part(selected, range, &work, n_steps)?))?;
            }
            return Ok(sink);
        }
        let shared = Arc::new(Shared {
            evaluator: self.clone(),
            selected: Arc::clone(selected),
            work,
            prepare,
            n_steps,
            n_parts,
            series_per_part,
            next_part: AtomicUsize::new(0),
            done: Mutex::new(Done {
                sink: Some(sink),
                waiting: BTreeMap::new(),
                turn: 0,
                n_left: n_parts,
                failed: None,
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
        while !done.is_over() {
            shared.all_done.wait(&mut done);
        }
        if let Some((_, error)) = done.failed.take() {
            return Err(error);
        }
        done.sink.take().ok_or_else(panicked)
    }

    /// `work` over some series, on this thread.
    fn series_part<W: SeriesWork>(
        &self,
        selected: &Selected,
        range: std::ops::Range<usize>,
        work: &W,
        n_steps: usize,
    ) -> Result<W::Out, QueryError> {
        let frame = Frame::of_selector(n_steps, &self.budget, selected.share());
        let mut out = work.begin(frame, range.len().min(selected.series.len()));
        let mut scratch = Samples::booked(&self.budget);
        let mut state = W::State::default();
        let reach = (work.windows(), work.reading());
        let mut since_check = SAMPLES_BETWEEN_CHECKS;
        let mut n_read = 0;
        let mut before: Option<&Series> = None;
        let some = selected.series.iter().take(range.end).skip(range.start);
        for (position, series) in some.clone().enumerate() {
            if position.is_multiple_of(SERIES_PER_TOUCH) {
                // They lie where whoever collected them put them: their memory is asked for together.
                let next = some.clone().skip(position).take(SERIES_PER_TOUCH);
                std::hint::black_box(next.fold(0, |sum, series| sum ^ series.touch(reach.0)));
            }
            if since_check >= SAMPLES_BETWEEN_CHECKS {
                since_check = 0;
                self.budget.check()?;
            }
            // While both are held, what lies in one place is the same.
            let is_again = before.is_some_and(|before| selected.has_samples_of(series, before));
            before = Some(series);
            let samples = if is_again {
                &scratch
            } else {
                selected.samples(series, &mut scratch, reach)?
            };
            n_read += samples.len() as u64;
            since_check += samples.len() + n_steps;
            if samples.is_empty() {
                continue;
            }
            let next = (&series.labels, samples);
            if is_again {
                work.again(self, next, &mut state, &mut out)?;
            } else {
                work.series(self, next, &mut state, &mut out)?;
            }
        }
        work.end(self, &mut state);
        selected.n_read.fetch_add(n_read, Ordering::Relaxed);
        self.n_read.fetch_add(n_read, Ordering::Relaxed);
        Ok(out)
    }
}
