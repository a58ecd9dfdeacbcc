//! What a reader sees: the head as of one commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::head::core::Head;
use crate::head::series::{CommitId, MemSeries};
use crate::model::{Interval, Labels, Matcher};
use crate::storage::{
    ChunkSeries, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
    VecSeriesSet,
};

/// The head up to the last commit before this was made; later commits stay unseen for as long as it is held.
///
/// Truncation is seen: what it drops is in a block by then.
#[derive(Debug)]
pub struct HeadView {
    head: Head,
    view: CommitId,
}

impl Head {
    /// A view of everything committed so far.
    pub fn view(&self) -> HeadView {
        HeadView {
            head: self.clone(),
            view: self.inner().views.open(),
        }
    }
}

impl Drop for HeadView {
    fn drop(&mut self) {
        self.head.inner().views.close(self.view);
    }
}

/// Between two looks at the cancel flag.
const SERIES_PER_CANCEL_CHECK: usize = 256;

impl HeadView {
    /// The head's span at this moment.
    pub fn span(&self) -> Option<Interval> {
        self.head.inner().bounds.get()
    }

    /// Every series with samples in `interval`, in label order, one at a time. Chunks that touch the interval are whole.
    pub fn series_in(&self, interval: Interval) -> impl Iterator<Item = ChunkSeries> + '_ {
        let mut all = Vec::new();
        self.head
            .inner()
            .series
            .for_each(|series| all.push(Arc::clone(series)));
        all.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        all.into_iter().filter_map(move |series| {
            let series = self.chunks_of(&series, interval);
            (!series.chunks.is_empty()).then_some(series)
        })
    }

    fn chunks_of(&self, series: &MemSeries, interval: Interval) -> ChunkSeries {
        let files = &self.head.inner().files;
        let mut chunks = series.lock().slices(interval, self.view, files);
        self.head.inner().deleted.hide(series.series, &mut chunks);
        ChunkSeries {
            labels: series.labels.clone(),
            chunks,
        }
    }

    pub(crate) fn matching(&self, matchers: &[Matcher]) -> Vec<Arc<MemSeries>> {
        let inner = self.head.inner();
        let candidates = inner.postings.read().candidates(matchers);
        let mut matching = Vec::with_capacity(candidates.series.len());
        inner.series.by_refs(&candidates.series, &mut matching);
        if !candidates.unchecked.is_empty() {
            matching.retain(|series| {
                let mut unchecked = candidates.unchecked.iter();
                unchecked.all(|matcher| matcher.matches(series.labels.value(&matcher.name)))
            });
        }
        matching
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
        let mut matching = self.matching(matchers);
        if hints.limit > 0 {
            matching.sort_unstable_by(|left, right| left.labels.cmp(&right.labels));
        }
        let mut found = Vec::with_capacity(matching.len());
        for (position, series) in matching.iter().enumerate() {
            if position % SERIES_PER_CANCEL_CHECK == 0 && hints.cancel.reason().is_some() {
                return Err(StorageError::Canceled);
            }
            if hints.limit > 0 && found.len() >= hints.limit {
                break;
            }
            let mut series = self.chunks_of(series, hints.interval);
            if series.chunks.is_empty() {
                continue;
            }
            if hints.skip_chunks {
                series.chunks = Vec::new();
            }
            found.push(series);
        }
        let mut found = VecSeriesSet::unsorted(found);
        if !hints.any_order {
            found.sort();
        }
        Ok(Box::new(found))
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
            let postings = self.head.inner().postings.read();
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
            let postings = self.head.inner().postings.read();
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
