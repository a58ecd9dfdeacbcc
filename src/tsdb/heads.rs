//! The head that takes samples now: a young one while the log is replayed, afterwards the replayed one.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

use crate::head::{Head, HeadAppender, ReplayProgress};
use crate::model::{
    Counts, Exemplar, Histogram, Interval, Labels, LabelsError, Metadata, SampleTime, SeriesKey,
    TimestampMs,
};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// One head after the other.
#[derive(Debug)]
pub(crate) struct Heads {
    first: Head,
    /// Where the first one is a young one.
    young: Option<Young>,
    replayed: OnceLock<Head>,
}

/// What is known of a young head beside itself.
#[derive(Debug)]
pub(crate) struct Young {
    /// Its data directory.
    pub(crate) dir: PathBuf,
    pub(crate) turns: Turns,
    /// Where samples may be missing until the log is replayed: from the end of the blocks to the start.
    missing: Interval,
    progress: Arc<ReplayProgress>,
}

impl Young {
    pub(crate) fn new(dir: PathBuf, missing: Interval, progress: Arc<ReplayProgress>) -> Self {
        Self {
            dir,
            turns: Turns::default(),
            missing,
            progress,
        }
    }

    /// What an answer about `interval` cannot have yet.
    pub(crate) fn warning(&self, interval: Interval) -> Option<String> {
        if !self.missing.overlaps(&interval) {
            return None;
        }
        let (n_done, n_total) = self.progress.get();
        let segment = n_done.saturating_add(1).min(n_total);
        let until = written(self.missing.max);
        let which = match self.missing.min {
            TimestampMs::MIN => format!("samples before {until}"),
            min => format!("samples from {} to {until}", written(min)),
        };
        Some(format!(
            "the log is being replayed: segment {segment} of {n_total}; {which} are not all visible yet"
        ))
    }
}

/// As in RFC 3339, or as a number where that has none.
fn written(t: TimestampMs) -> String {
    jiff::Timestamp::from_millisecond(t).map_or_else(|_| t.to_string(), |t| t.to_string())
}

impl Heads {
    /// Nothing is to be replayed any more.
    pub(crate) fn replayed(head: Head) -> Self {
        Self {
            first: head,
            young: None,
            replayed: OnceLock::new(),
        }
    }

    /// `head` takes samples until [`Heads::replace`].
    pub(crate) fn young(head: Head, young: Young) -> Self {
        Self {
            first: head,
            young: Some(young),
            replayed: OnceLock::new(),
        }
    }

    pub(crate) fn current(&self) -> &Head {
        self.replayed.get().unwrap_or(&self.first)
    }

    /// The young head, while the log is replayed.
    pub(crate) fn still_young(&self) -> Option<(&Head, &Young)> {
        let young = self.young.as_ref()?;
        self.replayed
            .get()
            .is_none()
            .then_some((&self.first, young))
    }

    /// The head that has taken over from a young one.
    pub(crate) fn successor(&self) -> Option<&Head> {
        self.replayed.get()
    }

    /// From now on `head` is the one. It has everything that the young one has.
    pub(crate) fn replace(&self, head: Head) {
        // The one who replays does it once.
        self.replayed.set(head).ok();
    }

    pub(crate) fn appender(&self) -> Box<dyn Appender + '_> {
        if let Some((young, about)) = self.still_young() {
            let turn = about.turns.begin();
            // Whoever waited for its turn may find another head than before.
            if self.replayed.get().is_none() {
                return Box::new(YoungAppender {
                    inner: young.head_appender(),
                    _turn: turn,
                });
            }
        }
        self.current().appender()
    }
}

/// Lets transactions run together, and one waits for the end of all.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<TurnsState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct TurnsState {
    n_open: usize,
    is_paused: bool,
}

/// One transaction.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

/// No transaction runs or begins.
#[derive(Debug)]
pub(crate) struct Pause<'a>(&'a Turns);

impl Turns {
    /// Waits while there is a pause.
    fn begin(&self) -> Turn<'_> {
        let mut state = self.state.lock();
        while state.is_paused {
            self.changed.wait(&mut state);
        }
        state.n_open += 1;
        Turn(self)
    }

    /// Lets nobody begin, and waits until those who have are done.
    pub(crate) fn pause(&self) -> Pause<'_> {
        let mut state = self.state.lock();
        state.is_paused = true;
        while 0 < state.n_open {
            self.changed.wait(&mut state);
        }
        Pause(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state.lock().n_open -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_paused = false;
        self.0.changed.notify_all();
    }
}

/// A transaction on a young head, whose references no other head takes for its own.
struct YoungAppender<'a> {
    inner: HeadAppender<'a>,
    /// After the transaction, so that it has ended when the turn has.
    _turn: Turn<'a>,
}

fn there(series: SeriesRef) -> Result<SeriesRef, AppendError> {
    let series = series.of_young().ok_or(AppendError::UnknownSeries)?;
    Ok(SeriesRef(series))
}

impl Appender for YoungAppender<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        let series = self.inner.series(key, labels)?;
        Ok(SeriesRef::young(series.0))
    }

    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        self.inner.append_at(there(series)?, at, v)
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        self.inner
            .append_histogram(there(series)?, at, counts, histogram)
    }

    fn discard_out_of_order(&mut self, discards: bool) {
        self.inner.discard_out_of_order(discards);
    }

    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        self.inner.exemplar(there(series)?, exemplar)
    }

    fn metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        self.inner.metadata(there(series)?, metadata)
    }

    fn commit(mut self: Box<Self>) -> Result<(), AppendError> {
        self.inner.finish()
    }

    fn rollback(self: Box<Self>) {
        drop(self);
    }
}
