//! Several sources as one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::model::{Interval, Labels, Matcher};
use crate::storage::select::{
    ChunkSeries, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
};

/// Sources that together hold every sample; a sample held by several comes out once.
#[derive(Clone, Default)]
pub struct Fanout {
    sources: Vec<Arc<dyn Queryable>>,
}

impl Fanout {
    /// All of `sources`, in no particular order.
    pub fn new(sources: Vec<Arc<dyn Queryable>>) -> Self {
        Self { sources }
    }

    /// Is there at most one source that has anything?
    fn is_alone(&self, matchers: &[Matcher], interval: Interval) -> bool {
        let matchers: Vec<&Matcher> = matchers.iter().collect();
        let sources = self.sources.iter();
        let n_series = sources.map(|source| source.series_at_most(&matchers, interval));
        n_series.filter(|n_series| *n_series != Some(0)).count() <= 1
    }
}

impl std::fmt::Debug for Fanout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fanout")
            .field("n_sources", &self.sources.len())
            .finish()
    }
}

impl Queryable for Fanout {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let hints = hints.whole_unless(|| self.is_alone(matchers, hints.interval));
        let mut sets = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            sets.push(source.select(matchers, &hints)?);
        }
        Ok(merge_series_sets(sets, hints.limit))
    }

    fn series_at_most(&self, matchers: &[&Matcher], interval: Interval) -> Option<usize> {
        let sources = self.sources.iter();
        let mut n_series = sources.map(|source| source.series_at_most(matchers, interval));
        n_series.try_fold(0_usize, |sum, n| Some(sum.saturating_add(n?)))
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let answers: Result<Vec<_>, _> = self
            .sources
            .iter()
            .map(|source| source.label_names(matchers, hints))
            .collect();
        Ok(merge_label_lists(answers?, hints.limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let answers: Result<Vec<_>, _> = self
            .sources
            .iter()
            .map(|source| source.label_values(name, matchers, hints))
            .collect();
        Ok(merge_label_lists(answers?, hints.limit))
    }
}

/// Sorted, unique, cut to `limit` (zero means all).
pub fn merge_label_lists(answers: Vec<LabelAnswer>, limit: usize) -> LabelAnswer {
    let mut merged = LabelAnswer::default();
    for answer in answers {
        merged.values.extend(answer.values);
        merged.warnings.extend(answer.warnings);
    }
    merged.values.sort_unstable();
    merged.values.dedup();
    if limit > 0 {
        merged.values.truncate(limit);
    }
    merged
}

/// One set; chunks of a series from several sets are joined, sorted by time, equal chunks once. It is in label order
/// unless all series come from one set that is not.
pub fn merge_series_sets(mut sets: Vec<Box<dyn SeriesSet>>, limit: usize) -> Box<dyn SeriesSet> {
    if sets.len() == 1
        && let Some(only) = sets.pop()
    {
        return only;
    }
    let mut full = sets.iter().enumerate().filter(|(_, set)| !set.is_empty());
    if let (Some((only, _)), None) = (full.next(), full.next()) {
        // Warnings are complete once the end was seen.
        let others = (0..sets.len()).filter(|other| *other != only);
        for other in others {
            sets.get_mut(other).and_then(|set| set.next());
        }
        return Box::new(OnlySeriesSet { sets, only });
    }
    for set in &mut sets {
        set.sort();
    }
    let mut merged = MergedSeriesSet {
        sets,
        heap: BinaryHeap::new(),
        failed: None,
        n_left: limit,
        is_limited: limit > 0,
    };
    for position in 0..merged.sets.len() {
        merged.advance(position);
    }
    Box::new(merged)
}

/// Several sets of which all but one are empty.
struct OnlySeriesSet {
    sets: Vec<Box<dyn SeriesSet>>,
    only: usize,
}

impl SeriesSet for OnlySeriesSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        self.sets.get_mut(self.only)?.next()
    }

    fn sort(&mut self) {
        if let Some(only) = self.sets.get_mut(self.only) {
            only.sort();
        }
    }

    fn warnings(&mut self) -> Vec<String> {
        self.sets
            .iter_mut()
            .flat_map(|set| set.warnings())
            .collect()
    }
}

struct MergedSeriesSet {
    sets: Vec<Box<dyn SeriesSet>>,
    heap: BinaryHeap<Reverse<Waiting>>,
    failed: Option<StorageError>,
    n_left: usize,
    is_limited: bool,
}

/// The next series of one set; ordered by labels, then by set, so that the earlier source comes first.
struct Waiting {
    series: ChunkSeries,
    position: usize,
}

impl Waiting {
    fn key(&self) -> (&Labels, usize) {
        (&self.series.labels, self.position)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl MergedSeriesSet {
    fn advance(&mut self, position: usize) {
        match self.sets.get_mut(position).and_then(|set| set.next()) {
            Some(Ok(series)) => self.heap.push(Reverse(Waiting { series, position })),
            Some(Err(error)) => self.failed = Some(error),
            None => (),
        }
    }
}

impl SeriesSet for MergedSeriesSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if let Some(error) = self.failed.take() {
            self.heap.clear();
            return Some(Err(error));
        }
        if self.is_limited && self.n_left == 0 {
            return None;
        }
        let Reverse(Waiting {
            mut series,
            position,
        }) = self.heap.pop()?;
        self.advance(position);
        let mut is_joined = false;
        while self
            .heap
            .peek()
            .is_some_and(|Reverse(next)| next.series.labels == series.labels)
        {
            let Some(Reverse(twin)) = self.heap.pop() else {
                break;
            };
            series.chunks.extend(twin.series.chunks);
            is_joined = true;
            self.advance(twin.position);
        }
        if is_joined {
            // Stable: of two chunks that start together the earlier source's stays first.
            series.chunks.sort_by_key(|chunk| chunk.min_t);
            series.chunks.dedup_by(|right, left| {
                (left.min_t, left.max_t, left.encoding)
                    == (right.min_t, right.max_t, right.encoding)
                    && left.data == right.data
            });
        }
        self.n_left = self.n_left.saturating_sub(1);
        Some(Ok(series))
    }

    fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.failed.is_none()
    }

    fn warnings(&mut self) -> Vec<String> {
        self.sets
            .iter_mut()
            .flat_map(|set| set.warnings())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parking_lot::Mutex;

    use super::*;
    use crate::model::Encoding;
    use crate::storage::select::{ChunkSlice, VecSeriesSet};

    /// Has so many series and notes whether it is asked for presence only.
    struct Asked {
        n_series: Option<usize>,
        presence_ms: Mutex<Option<i64>>,
    }

    impl Queryable for Asked {
        fn select(
            &self,
            _: &[Matcher],
            hints: &SelectHints,
        ) -> Result<Box<dyn SeriesSet>, StorageError> {
            *self.presence_ms.lock() = hints.presence_ms;
            Ok(set(Vec::new()))
        }

        fn series_at_most(&self, _: &[&Matcher], _: Interval) -> Option<usize> {
            self.n_series
        }

        fn label_names(&self, _: &[Matcher], _: &LabelHints) -> Result<LabelAnswer, StorageError> {
            Ok(LabelAnswer::default())
        }

        fn label_values(
            &self,
            _: &str,
            _: &[Matcher],
            _: &LabelHints,
        ) -> Result<LabelAnswer, StorageError> {
            Ok(LabelAnswer::default())
        }
    }

    #[test]
    fn only_a_source_beside_which_nobody_has_anything_may_leave_samples_out() {
        for (others, expect) in [
            (vec![], Some(9)),
            (vec![Some(0), Some(0)], Some(9)),
            (vec![Some(0), Some(1)], None),
            (vec![None], None),
        ] {
            let asked = |n_series| {
                Arc::new(Asked {
                    n_series,
                    presence_ms: Mutex::new(None),
                })
            };
            let first = asked(None);
            let mut sources = vec![Arc::clone(&first) as Arc<dyn Queryable>];
            sources.extend(others.iter().map(|n| asked(*n) as Arc<dyn Queryable>));
            let hints = SelectHints {
                presence_ms: Some(9),
                ..SelectHints::new(Interval::ALL)
            };
            let found = Fanout::new(sources).select(&[], &hints);
            assert!(found.is_ok());
            assert_eq!(*first.presence_ms.lock(), expect, "{others:?}");
        }
    }

    fn series(name: &str, times: &[(i64, i64)]) -> ChunkSeries {
        let chunks = times
            .iter()
            .map(|&(min_t, max_t)| ChunkSlice {
                min_t,
                max_t,
                encoding: Encoding::Xor,
                data: Bytes::new(),
            })
            .collect();
        ChunkSeries {
            labels: Labels::new(&[("__name__", name)]).unwrap(),
            chunks,
        }
    }

    fn set(series: Vec<ChunkSeries>) -> Box<dyn SeriesSet> {
        Box::new(VecSeriesSet::new(series, vec!["slow".to_owned()]))
    }

    fn names_and_times(mut merged: Box<dyn SeriesSet>) -> Vec<(String, Vec<i64>)> {
        let mut out = Vec::new();
        while let Some(series) = merged.next() {
            let series = series.unwrap();
            let times = series.chunks.iter().map(|chunk| chunk.min_t).collect();
            out.push((series.labels.metric_name().to_owned(), times));
        }
        out
    }

    #[test]
    fn a_series_in_two_sources_comes_out_once_with_all_its_chunks() {
        let left = set(vec![
            series("a", &[(0, 9), (20, 29)]),
            series("c", &[(0, 1)]),
        ]);
        let right = set(vec![
            series("a", &[(10, 19), (20, 29)]),
            series("b", &[(0, 1)]),
        ]);
        let expect = [
            ("a".to_owned(), vec![0, 10, 20]),
            ("b".to_owned(), vec![0]),
            ("c".to_owned(), vec![0]),
        ];
        assert_eq!(
            names_and_times(merge_series_sets(vec![left, right], 0)),
            expect
        );
    }

    #[test]
    fn a_set_in_any_order_is_sorted_only_where_it_meets_another() {
        let unsorted = || {
            let series = vec![series("b", &[(0, 1)]), series("a", &[(0, 1)])];
            Box::new(VecSeriesSet::unsorted(series)) as Box<dyn SeriesSet>
        };
        let names = |sets| {
            let found = names_and_times(merge_series_sets(sets, 0));
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(vec![set(Vec::new()), unsorted()]), ["b", "a"]);
        let other = set(vec![series("a", &[(2, 3)])]);
        assert_eq!(names(vec![unsorted(), other]), ["a", "b"]);
        let mut merged = merge_series_sets(vec![unsorted(), set(Vec::new())], 0);
        merged.sort();
        assert_eq!(names_and_times(merged)[0].0, "a");
        let mut merged = merge_series_sets(vec![unsorted(), set(Vec::new())], 0);
        while merged.next().is_some() {}
        assert_eq!(merged.warnings(), ["slow"]);
    }

    #[test]
    fn the_limit_counts_merged_series() {
        let left = set(vec![series("a", &[(0, 9)]), series("c", &[(0, 1)])]);
        let right = set(vec![series("a", &[(10, 19)]), series("b", &[(0, 1)])]);
        assert_eq!(
            names_and_times(merge_series_sets(vec![left, right], 2)).len(),
            2
        );
    }

    #[test]
    fn warnings_of_all_sources_are_kept() {
        let mut merged = merge_series_sets(vec![set(Vec::new()), set(Vec::new())], 0);
        assert!(merged.next().is_none());
        assert_eq!(merged.warnings(), ["slow", "slow"]);
    }
}
