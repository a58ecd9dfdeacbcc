//! Out-of-order samples of the head as a whole: which are taken, how they come in, and how they leave for blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::head::HeadError;
use crate::head::commit::{Applied, Committer};
use crate::head::core::{Bounds, Head, Inner};
use crate::head::open_chunk::Value;
use crate::head::out_of_order::{Inserted, Wanted};
use crate::head::read::HeadView;
use crate::head::series::{MemSeries, SeriesState};
use crate::head::stats::count;
use crate::head::wbl::{LogNumbers, remove_segments_before};
use crate::model::{Interval, SampleTime, TimestampMs};
use crate::storage::{AppendError, ChunkSeries};
use crate::wal::SegmentNumber;

/// What the head knows of its out-of-order samples beside those of each series.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) dir: PathBuf,
    /// Samples as much older than the newest one are taken; none when zero.
    window_ms: AtomicI64,
    /// Those with out-of-order samples, in no order.
    pub(crate) series: Mutex<Vec<Arc<MemSeries>>>,
    /// From the oldest to the newest of these samples.
    span: Mutex<Option<Interval>>,
    pub(crate) log: Arc<LogNumbers>,
    pub(crate) delays: DelayCounters,
}

/// Which samples a transaction takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Older ones are out of bounds, or come out of order.
    pub(crate) floor: TimestampMs,
    /// Where out-of-order samples are taken: the oldest time for them.
    pub(crate) oldest: Option<TimestampMs>,
    /// The newest sample of all when the transaction began.
    pub(crate) newest: TimestampMs,
}

/// Upper bounds in minutes of [`LateDelays`], as Prometheus has them.
pub const LATE_DELAY_MINUTES: [u32; 7] = [10, 30, 60, 120, 180, 360, 720];

/// How much older than the newest sample of all out-of-order samples were, taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LateDelays {
    /// Samples up to each of [`LATE_DELAY_MINUTES`], and beyond them.
    pub counts: [u64; 8],
    /// All delays together.
    pub sum_ms: u64,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(crate) struct DelayCounters {
    counts: [AtomicU64; 8],
    sum_ms: AtomicU64,
}

impl DelayCounters {
    pub(crate) fn observe(&self, delay_ms: i64) {
        let within = |minutes: &u32| delay_ms <= i64::from(*minutes) * 60_000;
        let place = LATE_DELAY_MINUTES.iter().position(within);
        if let Some(counter) = self.counts.get(place.unwrap_or(LATE_DELAY_MINUTES.len())) {
            count(counter, 1);
        }
        count(&self.sum_ms, delay_ms.unsigned_abs());
    }

    pub(crate) fn get(&self) -> LateDelays {
        LateDelays {
            counts: std::array::from_fn(|n| {
                let counter = self.counts.get(n);
                counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
            }),
            sum_ms: self.sum_ms.load(Ordering::Relaxed),
        }
    }
}

impl Late {
    pub(crate) fn new(dir: &Path, log: Arc<LogNumbers>, window_ms: i64) -> Self {
        Self {
            dir: dir.to_owned(),
            window_ms: AtomicI64::new(window_ms),
            series: Mutex::default(),
            span: Mutex::default(),
            log,
            delays: DelayCounters::default(),
        }
    }

    /// The oldest time for out-of-order samples while the newest sample is at `max_t`.
    pub(crate) fn oldest(&self, max_t: TimestampMs) -> Option<TimestampMs> {
        let window_ms = self.window_ms.load(Ordering::Relaxed);
        (window_ms > 0).then(|| max_t.saturating_sub(window_ms))
    }

    pub(crate) fn span(&self) -> Option<Interval> {
        *self.span.lock()
    }

    pub(crate) fn extend(&self, more: Interval) {
        let mut span = self.span.lock();
        *span = Some(span.map_or(more, |span| Interval {
            min: span.min.min(more.min),
            max: span.max.max(more.max),
        }));
    }
}

impl Limits {
    /// The same, while the head takes nothing in order before `bounds`' floor.
    pub(crate) fn within(self, bounds: &Bounds) -> Self {
        Self {
            floor: self.floor.max(bounds.floor()),
            ..self
        }
    }

    /// The same; nothing out of order when `only_in_order`.
    pub(crate) fn for_order(self, only_in_order: bool) -> Self {
        Self {
            oldest: self.oldest.filter(|_| !only_in_order),
            ..self
        }
    }

    /// What is said of a sample at `t` that cannot come in order, because of `refusal`.
    pub(crate) fn judge(&self, t: TimestampMs, refusal: AppendError) -> Result<(), AppendError> {
        match (self.oldest, refusal) {
            (Some(oldest), AppendError::OutOfOrder { .. } | AppendError::OutOfBounds { .. }) => {
                if t < oldest {
                    return Err(AppendError::TooOld { oldest });
                }
                Ok(())
            }
            (_, refusal) => Err(refusal),
        }
    }
}

impl SeriesState {
    /// May a sample come, in order or out of it? `Ok(false)` when the very same sample is there.
    pub(crate) fn admit(
        &self,
        t: TimestampMs,
        value: Value<'_>,
        limits: Limits,
    ) -> Result<bool, AppendError> {
        let in_order = if t < limits.floor {
            Err(AppendError::OutOfBounds {
                oldest: limits.floor,
            })
        } else {
            self.check(t, value)
        };
        let Err(refusal) = in_order else {
            return in_order;
        };
        limits.judge(t, refusal)?;
        match &self.late {
            Some(late) => late.check(t, value),
            None => Ok(true),
        }
    }
}

impl Inner {
    /// Puts a sample where those out of order are; nobody sees it before the commit is published.
    pub(crate) fn apply_late(
        &self,
        committer: &mut Committer,
        (series, mut state): (&Arc<MemSeries>, MutexGuard<'_, SeriesState>),
        (at, value): (SampleTime, Value<'_>),
        applied: &mut Applied,
    ) {
        let is_first = state.late.is_none();
        let late = state.late.get_or_insert_default();
        let n_chunks = late.n_chunks();
        let inserted = late.insert(at, value, applied.point);
        match inserted {
            Ok(Inserted::New) => (),
            Ok(Inserted::NewAndClosed) => {
                let chunks = late.to_write(series.series);
                match self.files.write(&chunks) {
                    Ok(places) => {
                        late.set_written(&places);
                        count(&self.counters.chunks_mapped, places.len() as u64);
                        for place in places {
                            committer.late.mark(series.series, place);
                        }
                    }
                    Err(error) => {
                        // Without a marker the log brings their samples back.
                        count(&self.counters.chunk_file_failures, 1);
                        tracing::warn!(%error, "out-of-order chunks stay in memory");
                    }
                }
            }
            Ok(Inserted::Same) => return,
            Err(_) => {
                applied.n_lost += 1;
                return;
            }
        }
        applied.n_chunks += (late.n_chunks() - n_chunks) as u64;
        let is_logged = std::mem::replace(&mut state.is_logged, true);
        drop(state);
        if !is_logged {
            committer.records.series(series.series, &series.labels);
        }
        committer.late.push(series.series, at, value);
        if is_first {
            self.late.series.lock().push(Arc::clone(series));
        }
        match value {
            Value::Float(_) => applied.n_samples += 1,
            Value::Histogram(..) => applied.n_histograms += 1,
        }
        applied.n_late += 1;
        self.late.extend(Interval {
            min: at.t,
            max: at.t,
        });
    }
}

/// Out-of-order samples on their way into blocks.
#[derive(Debug)]
pub struct FrozenSamples {
    view: HeadView,
    series: Vec<Arc<MemSeries>>,
    /// Segments before this one hold nothing else.
    segment: Option<SegmentNumber>,
    /// From the oldest to the newest.
    pub span: Interval,
}

impl FrozenSamples {
    /// Is a chunk there that touches `interval`? Asked before a block is begun.
    pub fn touches(&self, interval: Interval) -> bool {
        let mut series = self.series.iter();
        series.any(|series| {
            let state = series.lock();
            state
                .late
                .as_ref()
                .is_some_and(|late| late.touches(interval))
        })
    }

    /// Every series with such samples in `interval`, in label order. Chunks that touch the interval are whole, and may
    /// overlap.
    pub fn series_in(&self, interval: Interval) -> impl Iterator<Item = ChunkSeries> + '_ {
        self.series.iter().filter_map(move |series| {
            let series = self.view.frozen_of(series, interval);
            (!series.chunks.is_empty()).then_some(series)
        })
    }
}

impl HeadView {
    fn frozen_of(&self, series: &MemSeries, interval: Interval) -> ChunkSeries {
        let wanted = Wanted {
            interval,
            view: self.commit(),
            files: &self.inner().files,
            only_frozen: true,
        };
        let mut chunks = Vec::new();
        if let Some(late) = &series.lock().late {
            late.slices(wanted, &mut chunks);
        }
        chunks.sort_by_key(|chunk| chunk.min_t);
        ChunkSeries {
            labels: series.labels.clone(),
            chunks,
        }
    }
}

impl Head {
    /// Samples as much older than the newest one are taken from the next transaction on; none when zero.
    pub fn set_out_of_order_window(&self, window_ms: i64) {
        self.inner()
            .late
            .window_ms
            .store(window_ms, Ordering::Relaxed);
    }

    /// How much older than the newest sample a sample may be; zero when none is taken out of order.
    pub fn out_of_order_window(&self) -> i64 {
        self.inner().late.window_ms.load(Ordering::Relaxed)
    }

    /// Sets the out-of-order samples apart that are here now, to be written to blocks; `None` where there are none. They
    /// stay readable until [`Head::drop_frozen`].
    pub fn freeze_out_of_order(&self) -> Result<Option<FrozenSamples>, HeadError> {
        let inner = self.inner();
        if inner.late.series.lock().is_empty() {
            return Ok(None);
        }
        // Whatever is logged before the new segment is in memory, and is frozen below.
        let segment = inner.committer.lock().late.next_segment()?;
        let mut series = inner.late.series.lock().clone();
        let mut span: Option<Interval> = None;
        for series in &series {
            let mut state = series.lock();
            let Some(late) = &mut state.late else {
                continue;
            };
            let n_before = late.n_chunks();
            let frozen = late.freeze(inner.views.oldest());
            // What waited counted as one chunk, and may have become several.
            let n_new = late.n_chunks().saturating_sub(n_before);
            count(&inner.counters.chunks_created, n_new as u64);
            frozen.map_err(|error| HeadError::ChunkFiles(error.to_string()))?;
            let more = late.span();
            span = span.into_iter().chain(more).reduce(|left, right| Interval {
                min: left.min.min(right.min),
                max: left.max.max(right.max),
            });
        }
        // What is frozen is seen once the commits that brought it are in the log.
        inner
            .await_log()
            .map_err(|refused| HeadError::Refused(refused.to_string()))?;
        series.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        let view = self.view();
        Ok(span.map(|span| FrozenSamples {
            view,
            series,
            segment,
            span,
        }))
    }

    /// Lets go of samples that are in blocks, and of the log they came from; how many chunks went.
    pub fn drop_frozen(&self, frozen: FrozenSamples) -> Result<u64, HeadError> {
        let FrozenSamples {
            view,
            series,
            segment,
            ..
        } = frozen;
        drop(view);
        let inner = self.inner();
        let mut n_chunks = 0;
        for series in &series {
            if let Some(late) = &mut series.lock().late {
                n_chunks += late.drop_frozen() as u64;
            }
        }
        inner.forget_empty();
        count(&inner.counters.chunks_removed, n_chunks);
        if let Some(segment) = segment {
            count(&inner.counters.wbl_truncations, 1);
            remove_segments_before(&inner.late.dir, segment)
                .inspect_err(|_| count(&inner.counters.wbl_truncations_failed, 1))?;
            inner.committer.lock().late.forget_before(segment);
        }
        Ok(n_chunks)
    }
}

impl Inner {
    /// The list and the span are those of the series that still have such samples.
    fn forget_empty(&self) {
        let _no_commit_meanwhile = self.committer.lock();
        let mut all = self.late.series.lock();
        let mut span: Option<Interval> = None;
        all.retain(|series| {
            let mut state = series.lock();
            let here = state.late.as_ref().and_then(|late| late.span());
            if here.is_none() {
                state.late = None;
            }
            span = span.into_iter().chain(here).reduce(|left, right| Interval {
                min: left.min.min(right.min),
                max: left.max.max(right.max),
            });
            here.is_some()
        });
        drop(all);
        *self.late.span.lock() = span;
    }
}
