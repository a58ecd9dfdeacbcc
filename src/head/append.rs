//! Transactions: what is staged until the commit.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::head::core::{Head, Inner};
use crate::head::late::Limits;
use crate::head::open_chunk::Value;
use crate::head::series::MemSeries;
use crate::head::stats::count;
use crate::model::histogram::EXPONENTIAL_SCHEMA_MAX;
use crate::model::{
    Counts, Exemplar, Histogram, Labels, LabelsError, Metadata, SampleTime, SeriesKey, Spelling,
    TimestampMs, is_stale,
};
use crate::storage::{AppendError, Appendable, Appender, SeriesRef};

/// Staging buffers kept for the next transactions.
const STAGING_KEPT: usize = 16;
/// A staging buffer with room for more samples than this is given back.
const STAGING_SAMPLES_KEPT: usize = 1 << 16;

/// What a transaction has collected; the buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    pub(crate) samples: Vec<Staged>,
    /// What is no plain float, in its order.
    pub(crate) rare: Vec<StagedRare>,
    pub(crate) exemplars: Vec<(Arc<MemSeries>, Exemplar)>,
    pub(crate) metadata: Vec<(Arc<MemSeries>, Arc<Metadata>)>,
    /// Series whose samples come next.
    expected: Vec<Option<Arc<MemSeries>>>,
}

/// A float.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) series: Arc<MemSeries>,
    pub(crate) t: TimestampMs,
    pub(crate) v: f64,
}

/// A histogram, or a float that says since when it counts or must not come out of order.
#[derive(Debug)]
pub(crate) struct StagedRare {
    /// So many of [`Staging::samples`] come before it.
    pub(crate) after: usize,
    pub(crate) series: Arc<MemSeries>,
    pub(crate) at: SampleTime,
    pub(crate) value: RareValue,
    /// It comes in order or not at all.
    pub(crate) is_in_order: bool,
}

#[derive(Debug)]
pub(crate) enum RareValue {
    Float(f64),
    Histogram(Counts, Arc<Histogram>),
}

impl RareValue {
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Self::Float(v) => Value::Float(*v),
            Self::Histogram(counts, histogram) => Value::Histogram(*counts, histogram),
        }
    }
}

impl Staging {
    pub(crate) fn is_empty(&self) -> bool {
        self.samples.is_empty()
            && self.rare.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }

    fn clear(&mut self) {
        self.samples.clear();
        self.rare.clear();
        self.exemplars.clear();
        self.metadata.clear();
        self.expected.clear();
    }
}

/// One transaction on a head.
#[derive(Debug)]
pub struct HeadAppender<'a> {
    head: &'a Inner,
    staging: Staging,
    /// Which samples are taken; known with the first one when the head has none.
    limits: Option<Limits>,
    /// The series asked for last: its sample is the next to come.
    last: Option<Arc<MemSeries>>,
    /// So many of [`Staging::expected`] have come.
    n_come: usize,
    /// Samples come in order or not at all.
    discards_late: bool,
    /// A sample came that is there already, perhaps of a commit that is not in the log yet.
    meets_known: bool,
    is_done: bool,
}

impl Appendable for Head {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(self.head_appender())
    }
}

impl Head {
    /// Begins a transaction.
    pub fn head_appender(&self) -> HeadAppender<'_> {
        let head = self.inner();
        let limits = head.bounds.get().map(|bounds| head.limits_at(bounds.max));
        HeadAppender {
            head,
            staging: head.staging.lock().pop().unwrap_or_default(),
            limits,
            last: None,
            n_come: 0,
            discards_late: false,
            meets_known: false,
            is_done: false,
        }
    }
}

impl Inner {
    /// Which samples are taken while the newest is at `max_t`.
    fn limits_at(&self, max_t: TimestampMs) -> Limits {
        let half = self.settings.chunk_range_ms / 2;
        Limits {
            floor: max_t.saturating_sub(half).max(self.bounds.floor()),
            oldest: self.late.oldest(max_t),
            newest: max_t,
        }
    }
}

impl HeadAppender<'_> {
    /// The series of this number; whoever does not stage it gives it back into `last`.
    #[inline]
    fn take(&mut self, series: SeriesRef) -> Result<Arc<MemSeries>, AppendError> {
        if let Some(last) = self.last.take_if(|last| last.series == series.0) {
            return Ok(last);
        }
        if let Some(staged) = self.staging.samples.last()
            && staged.series.series == series.0
        {
            return Ok(Arc::clone(&staged.series));
        }
        let expected = self.staging.expected.get_mut(self.n_come..);
        let mut expected = expected.unwrap_or_default().iter_mut().enumerate();
        let is_it = |here: &Option<Arc<MemSeries>>| {
            here.as_ref().is_some_and(|here| here.series == series.0)
        };
        if let Some((at, found)) = expected.find(|(_, here)| is_it(here))
            && let Some(found) = found.take()
        {
            self.n_come += at + 1;
            return Ok(found);
        }
        let found = self.head.series.by_ref(series.0);
        found.ok_or(AppendError::UnknownSeries)
    }

    fn find(&mut self, series: SeriesRef) -> Result<&Arc<MemSeries>, AppendError> {
        let found = self.take(series)?;
        Ok(self.last.insert(found))
    }

    /// Looks whether a sample may come; its series, unless the very same sample is there.
    #[inline]
    fn admit(
        &mut self,
        series: SeriesRef,
        t: TimestampMs,
        value: Value<'_>,
    ) -> Result<Option<Arc<MemSeries>>, AppendError> {
        let head = self.head;
        let limits = *self.limits.get_or_insert_with(|| head.limits_at(t));
        let limits = limits.for_order(self.discards_late);
        let mut found = self.take(series)?;
        if t < limits.floor && limits.oldest.is_none() {
            self.last = Some(found);
            self.note_late(t, limits);
            return Err(AppendError::OutOfBounds {
                oldest: limits.floor,
            });
        }
        let mut state = found.lock();
        if state.is_dead {
            drop(state);
            found = head.get_or_create(found.key, &found.labels);
            state = found.lock();
        }
        let admitted = state.admit(t, state.settled(value), limits);
        let is_late = t < limits.floor || state.max_t().is_some_and(|max_t| t < max_t);
        drop(state);
        if is_late {
            self.note_late(t, limits);
        }
        match admitted {
            Ok(true) => Ok(Some(found)),
            Ok(false) => {
                self.meets_known = true;
                self.last = Some(found);
                Ok(None)
            }
            Err(refusal) => {
                self.last = Some(found);
                Err(refusal)
            }
        }
    }

    fn note_late(&self, t: TimestampMs, limits: Limits) {
        if t < limits.newest && !self.discards_late {
            let delay_ms = limits.newest.saturating_sub(t);
            self.head.late.delays.observe(delay_ms);
        }
    }

    fn stage(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        let Some(series) = self.admit(series, at.t, Value::Float(v))? else {
            return Ok(());
        };
        let has_start = at.start_t != 0 && self.head.settings.keeps_start_times;
        if has_start || self.discards_late {
            let value = RareValue::Float(v);
            self.stage_rare(series, at, value);
        } else {
            self.staging.samples.push(Staged { series, t: at.t, v });
        }
        Ok(())
    }

    /// Forgets what was expected and expects `series`.
    fn expect_instead(&mut self, fill: impl FnOnce(&Inner, &mut Vec<Option<Arc<MemSeries>>>)) {
        self.n_come = 0;
        self.staging.expected.clear();
        fill(self.head, &mut self.staging.expected);
    }

    fn stage_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        histogram.check(counts)?;
        let counts = match counts {
            Counts::Whole if histogram.has_whole_counts() => Counts::Whole,
            Counts::Whole | Counts::Float => Counts::Float,
        };
        let mut histogram = Arc::clone(histogram);
        if EXPONENTIAL_SCHEMA_MAX < histogram.schema {
            Arc::make_mut(&mut histogram).reduce_to(EXPONENTIAL_SCHEMA_MAX);
        }
        let found = self.admit(series, at.t, Value::Histogram(counts, &histogram))?;
        if let Some(series) = found {
            self.stage_rare(series, at, RareValue::Histogram(counts, histogram));
        }
        Ok(())
    }

    fn stage_rare(&mut self, series: Arc<MemSeries>, at: SampleTime, value: RareValue) {
        self.staging.rare.push(StagedRare {
            after: self.staging.samples.len(),
            series,
            at,
            value,
            is_in_order: self.discards_late,
        });
    }

    fn count_refusal(&self, error: &AppendError) {
        if self.discards_late {
            return;
        }
        let counters = &self.head.counters;
        match error {
            AppendError::OutOfOrder { .. } => count(&counters.out_of_order, 1),
            AppendError::OutOfBounds { .. } => count(&counters.out_of_bounds, 1),
            AppendError::Duplicate => count(&counters.duplicate, 1),
            AppendError::OutOfOrderExemplar { .. } => count(&counters.exemplars_out_of_order, 1),
            AppendError::TooOld { .. } => count(&counters.too_old, 1),
            AppendError::TooFarAhead { .. }
            | AppendError::Histogram(_)
            | AppendError::ExemplarLabels { .. }
            | AppendError::UnknownSeries
            | AppendError::Labels(_)
            | AppendError::EmptyLabels
            | AppendError::Wal(_)
            | AppendError::Closed(_) => (),
        }
    }

    /// Writes the log, then makes every staged sample visible.
    pub fn finish(&mut self) -> Result<(), AppendError> {
        self.is_done = true;
        if self.staging.is_empty() {
            if self.meets_known {
                self.head.await_log()?;
            }
            count(&self.head.counters.commits, 1);
            return Ok(());
        }
        let head = self.head;
        let limits = self.limits.unwrap_or_else(|| head.limits_at(i64::MIN));
        let result = head.commit(&self.staging, limits);
        self.head.map_closed_chunks();
        result
    }
}

impl Appender for HeadAppender<'_> {
    fn series(
        &mut self,
        key: SeriesKey,
        labels: &mut dyn FnMut() -> Result<Labels, LabelsError>,
    ) -> Result<SeriesRef, AppendError> {
        let series = match self.head.series.by_key(key) {
            Some(series) => series,
            None => {
                let labels = labels()?;
                if labels.is_empty() {
                    return Err(AppendError::EmptyLabels);
                }
                self.head.get_or_create(key, &labels)
            }
        };
        let number = series.series;
        self.last = Some(series);
        Ok(SeriesRef(number))
    }

    fn by_spelling(&mut self, spellings: &[Spelling], found: &mut Vec<Option<SeriesRef>>) {
        self.expect_instead(|head, expected| head.series.spellings.find(spellings, expected));
        let numbers = self.staging.expected.iter();
        found.extend(numbers.map(|series| Some(SeriesRef(series.as_ref()?.series))));
    }

    fn learn(&mut self, spelling: Spelling, series: SeriesRef) {
        let found = self.find(series).map(Arc::clone);
        if let Ok(series) = found {
            self.head.series.spellings.learn(spelling, &series);
        }
    }

    fn expect(&mut self, series: &[SeriesRef]) {
        let numbers: SmallVec<[u64; 64]> = series.iter().map(|series| series.0).collect();
        self.expect_instead(|head, expected| {
            head.series
                .by_refs_touched(&numbers, MemSeries::touch_state, |series| {
                    expected.push(Some(Arc::clone(series)));
                });
        });
    }

    fn append_at(&mut self, series: SeriesRef, at: SampleTime, v: f64) -> Result<(), AppendError> {
        let staged = match self.stage(series, at, v) {
            // Whoever ends a series has no labels to ask for it again.
            Err(AppendError::UnknownSeries) if is_stale(v) => {
                let successor = self.head.retired.lock().successor(series);
                let successor = successor.ok_or(AppendError::UnknownSeries);
                successor.and_then(|series| self.stage(series, at, v))
            }
            staged => staged,
        };
        staged.inspect_err(|error| self.count_refusal(error))
    }

    fn append_histogram(
        &mut self,
        series: SeriesRef,
        at: SampleTime,
        counts: Counts,
        histogram: &Arc<Histogram>,
    ) -> Result<(), AppendError> {
        self.stage_histogram(series, at, counts, histogram)
            .inspect_err(|error| self.count_refusal(error))
    }

    fn discard_out_of_order(&mut self, discards: bool) {
        self.discards_late = discards;
    }

    fn exemplar(&mut self, series: SeriesRef, exemplar: &Exemplar) -> Result<(), AppendError> {
        let series = Arc::clone(self.find(series)?);
        let checked = self.head.exemplars.check(series.key, exemplar);
        let is_new = checked.inspect_err(|error| self.count_refusal(error))?;
        if is_new {
            self.staging.exemplars.push((series, exemplar.clone()));
        }
        Ok(())
    }

    fn metadata(&mut self, series: SeriesRef, metadata: &Metadata) -> Result<(), AppendError> {
        let series = Arc::clone(self.find(series)?);
        let known = self.head.metadata.read();
        let is_known = known
            .get(series.labels.metric_name())
            .is_some_and(|known| **known == *metadata);
        drop(known);
        if !is_known {
            self.staging
                .metadata
                .push((series, Arc::new(metadata.clone())));
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), AppendError> {
        self.finish()
    }

    fn rollback(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for HeadAppender<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            count(&self.head.counters.rollbacks, 1);
        }
        self.staging.clear();
        if self.staging.samples.capacity() <= STAGING_SAMPLES_KEPT {
            let mut kept = self.head.staging.lock();
            if kept.len() < STAGING_KEPT {
                kept.push(std::mem::take(&mut self.staging));
            }
        }
    }
}
