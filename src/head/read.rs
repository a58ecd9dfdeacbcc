//! What a reader sees: the head as of one commit.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::foundation::Pool;
use crate::head::core::{Head, Inner};
use crate::head::map::SERIES_PER_GROUP;
use crate::head::postings::Candidates;
use crate::head::presence::Presence;
use crate::head::series::{CommitId, MemSeries, SeriesState};
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{
    ChunkSeries, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
    VecSeriesSet,
};

/// The head up to the last commit before this was made; later commits stay unseen for as long as it is held.
///
/// Truncation is seen: what it drops is in a block by then.
///
/// Clones are the same view.
#[derive(Debug, Clone)]
pub struct HeadView {
    open: Arc<OpenView>,
}

/// Keeps what a reader sees until it is dropped.
#[derive(Debug)]
struct OpenView {
    head: Head,
    view: CommitId,
}

impl Head {
    /// A view of everything committed so far.
    pub fn view(&self) -> HeadView {
        HeadView {
            open: Arc::new(OpenView {
                head: self.clone(),
                view: self.inner().views.open(),
            }),
        }
    }
}

impl Drop for OpenView {
    fn drop(&mut self) {
        self.head.inner().views.close(self.view);
    }
}

/// Between two looks at the cancel flag.
const SERIES_PER_CANCEL_CHECK: usize = 256;

/// Series whose chunks one thread collects at a time: some 100 µs of work, a few times what waking a thread costs.
const SERIES_PER_PART: usize = 192;

impl HeadView {
    pub(crate) fn inner(&self) -> &Inner {
        self.open.head.inner()
    }

    /// The head's span at this moment, samples that came out of order included.
    pub fn span(&self) -> Option<Interval> {
        let (in_order, late) = (self.inner().bounds.get(), self.inner().late.span());
        let spans = in_order.into_iter().chain(late);
        spans.reduce(|left, right| Interval {
            min: left.min.min(right.min),
            max: left.max.max(right.max),
        })
    }

    /// From the oldest to the newest sample that came in order.
    pub fn in_order_span(&self) -> Option<Interval> {
        self.inner().bounds.get()
    }

    /// From the oldest to the newest sample that came out of order.
    pub fn late_span(&self) -> Option<Interval> {
        self.inner().late.span()
    }

    /// The commit it sees last.
    pub(crate) fn commit(&self) -> CommitId {
        self.open.view
    }

    /// As [`HeadView::series_in`], without samples that came out of order.
    pub fn series_in_order_in(&self, interval: Interval) -> impl Iterator<Item = ChunkSeries> + '_ {
        let inner = self.inner();
        self.sorted_series().into_iter().filter_map(move |series| {
            let view = self.commit();
            let mut chunks = series.lock().slices_in_order(interval, view, &inner.files);
            inner.deleted.hide(series.series, &mut chunks);
            (!chunks.is_empty()).then(|| ChunkSeries {
                labels: series.labels.clone(),
                chunks,
            })
        })
    }

    fn sorted_series(&self) -> Vec<Arc<MemSeries>> {
        let mut all = Vec::new();
        self.inner()
            .series
            .for_each(|series| all.push(Arc::clone(series)));
        all.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        all
    }

    /// Every series with samples in `interval`, in label order, one at a time. Chunks that touch the interval are whole.
    pub fn series_in(&self, interval: Interval) -> impl Iterator<Item = ChunkSeries> + '_ {
        self.sorted_series().into_iter().filter_map(move |series| {
            let series = self.chunks_of(&series, interval);
            (!series.chunks.is_empty()).then_some(series)
        })
    }

    pub(crate) fn chunks_of(&self, series: &MemSeries, interval: Interval) -> ChunkSeries {
        self.chunks_of_locked((series, series.lock()), interval, None)
    }

    fn chunks_of_locked(
        &self,
        (series, state): (&MemSeries, MutexGuard<'_, SeriesState>),
        interval: Interval,
        presence: Option<&mut Presence>,
    ) -> ChunkSeries {
        let inner = self.inner();
        let presence = presence.filter(|_| !inner.deleted.has(series.series));
        let said = presence.and_then(|presence| state.presence(interval, self.open.view, presence));
        let hide = |chunks: &mut Vec<_>| inner.deleted.hide(series.series, chunks);
        let chunks = match said {
            Some(said) => vec![said],
            None => state.slices(interval, self.open.view, &inner.files, hide),
        };
        drop(state);
        ChunkSeries {
            labels: series.labels.clone(),
            chunks,
        }
    }

    /// Every series that matches, in the order they were made.
    pub(crate) fn matching(&self, matchers: &[Matcher]) -> Vec<Arc<MemSeries>> {
        let inner = self.inner();
        let candidates = inner.postings.read().candidates(matchers);
        let mut matching = Vec::with_capacity(candidates.series.len());
        inner.series.by_refs(&candidates.series, |series| {
            if is_match(series, &candidates.unchecked) {
                matching.push(Arc::clone(series));
            }
        });
        matching
    }

    /// What there is of those of `numbers` that pass the `unchecked` matchers.
    fn collect(
        &self,
        numbers: &[u64],
        unchecked: &[impl Borrow<Matcher>],
        hints: &SelectHints,
    ) -> Result<Vec<ChunkSeries>, StorageError> {
        let mut found = Vec::with_capacity(numbers.len());
        let mut presence = hints.presence_ms.and_then(Presence::within);
        for some in numbers.chunks(SERIES_PER_CANCEL_CHECK) {
            if hints.cancel.reason().is_some() {
                return Err(StorageError::Canceled);
            }
            let series = &self.inner().series;
            series.groups_by_refs(some, MemSeries::touch, |group| {
                let into = (&mut found, &mut presence);
                self.collect_group(group, unchecked, hints, into);
            });
        }
        Ok(found)
    }

    /// [`Self::collect`] of a few series that were touched.
    fn collect_group(
        &self,
        group: &[&Arc<MemSeries>],
        unchecked: &[impl Borrow<Matcher>],
        hints: &SelectHints,
        (found, presence): (&mut Vec<ChunkSeries>, &mut Option<Presence>),
    ) {
        let matching = group.iter().filter(|series| is_match(series, unchecked));
        // A group is in the order of its numbers, and whoever waits for one of it holds only later ones: nobody waits in a
        // circle.
        let locked: SmallVec<[_; SERIES_PER_GROUP]> =
            matching.map(|series| (series, series.try_lock())).collect();
        // The memory of all chunks is asked for at once: locking in between would wait for each.
        if presence.is_none() {
            let states = locked.iter().filter_map(|(_, state)| state.as_ref());
            let touched = states.fold(0, |sum, state| sum ^ state.touch_chunks());
            std::hint::black_box(touched);
        }
        for (series, state) in locked {
            let state = state.unwrap_or_else(|| series.lock());
            let interval = hints.interval;
            let series = self.chunks_of_locked((series, state), interval, presence.as_mut());
            found.extend(wanted(series, hints));
        }
    }

    /// [`Self::collect`] with the help of other threads.
    fn collect_together(
        &self,
        candidates: Candidates<'_>,
        hints: &SelectHints,
        helpers: &Pool,
    ) -> Result<Vec<ChunkSeries>, StorageError> {
        let unchecked: Vec<Matcher> = candidates.unchecked.into_iter().cloned().collect();
        let (view, hints) = (self.clone(), hints.clone());
        let n_parts = candidates.series.len().div_ceil(SERIES_PER_PART);
        let parts = helpers.share(n_parts, move |part| {
            let mut parts = candidates.series.chunks(SERIES_PER_PART);
            view.collect(parts.nth(part).unwrap_or_default(), &unchecked, &hints)
        });
        let parts = parts.map_err(|panic| StorageError::Unavailable(panic.to_string()))?;
        let mut found = Vec::with_capacity(parts.iter().flatten().map(Vec::len).sum());
        for part in parts {
            found.append(&mut part?);
        }
        Ok(found)
    }

    fn is_outside(&self, interval: Interval) -> bool {
        self.span().is_none_or(|span| !span.overlaps(&interval))
    }
}

impl Queryable for HeadView {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        if self.is_outside(hints.interval) {
            return Ok(Box::new(VecSeriesSet::default()));
        }
        let found = if hints.limit > 0 {
            let mut matching = self.matching(matchers);
            matching.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
            let mut found = Vec::with_capacity(hints.limit.min(matching.len()));
            for (position, series) in matching.iter().enumerate() {
                let is_time = position.is_multiple_of(SERIES_PER_CANCEL_CHECK);
                if is_time && hints.cancel.reason().is_some() {
                    return Err(StorageError::Canceled);
                }
                if found.len() >= hints.limit {
                    break;
                }
                found.extend(wanted(self.chunks_of(series, hints.interval), hints));
            }
            found
        } else {
            let candidates = self.inner().postings.read().candidates(matchers);
            match &hints.helpers {
                Some(pool) if candidates.series.len() > SERIES_PER_PART => {
                    self.collect_together(candidates, hints, pool)?
                }
                _ => self.collect(&candidates.series, &candidates.unchecked, hints)?,
            }
        };
        let mut found = VecSeriesSet::unsorted(found);
        if !hints.any_order {
            found.sort();
        }
        Ok(Box::new(found))
    }

    fn series_at_most(&self, matchers: &[&Matcher], interval: Interval) -> Option<usize> {
        if self.is_outside(interval) {
            return Some(0);
        }
        self.inner().postings.read().series_at_most(matchers)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        if self.is_outside(hints.interval) {
            return Ok(LabelAnswer::default());
        }
        if matchers.is_empty() {
            let postings = self.inner().postings.read();
            return Ok(answer(postings.names().map(str::to_owned), hints.limit));
        }
        let mut names = BTreeSet::new();
        for series in self.matching(matchers) {
            for (name, _) in &series.labels {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(answer(names.into_iter(), hints.limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        if self.is_outside(hints.interval) {
            return Ok(LabelAnswer::default());
        }
        if matchers.is_empty() {
            let postings = self.inner().postings.read();
            let values = postings.values(name).map(|(value, _)| value.to_owned());
            return Ok(answer(values, hints.limit));
        }
        let matching = self.matching(matchers);
        let values: BTreeSet<&str> = matching
            .iter()
            .filter_map(|series| series.labels.get(name))
            .collect();
        Ok(answer(values.into_iter().map(str::to_owned), hints.limit))
    }
}

/// What `hints` ask for of a series, unless it has nothing in their interval.
fn wanted(mut series: ChunkSeries, hints: &SelectHints) -> Option<ChunkSeries> {
    if series.chunks.is_empty() {
        return None;
    }
    if hints.skip_chunks {
        series.chunks = Vec::new();
    }
    Some(series)
}

fn is_match(series: &MemSeries, unchecked: &[impl Borrow<Matcher>]) -> bool {
    unchecked.iter().all(|matcher| {
        let matcher = matcher.borrow();
        matcher.matches(series.labels.value(&matcher.name))
    })
}

/// `values` are sorted and unique.
fn answer(values: impl Iterator<Item = String>, limit: usize) -> LabelAnswer {
    let limit = if limit == 0 { usize::MAX } else { limit };
    LabelAnswer {
        values: values.take(limit).collect(),
        warnings: Vec::new(),
    }
}

impl Queryable for Head {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        self.view().select(matchers, hints)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.view().label_names(matchers, hints)
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        self.view().label_values(name, matchers, hints)
    }
}

impl Head {
    /// The labels of a series, while it is here.
    pub fn labels_of(&self, series: crate::storage::SeriesRef) -> Option<Labels> {
        let series = self.inner().series.by_ref(series.0)?;
        Some(series.labels.clone())
    }
}
