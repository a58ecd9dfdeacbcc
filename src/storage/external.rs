//! A source under a name: external labels on every series that leaves it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Interval, Labels, Matcher};
use crate::storage::merge::merge_label_lists;
use crate::storage::select::{
    ChunkSeries, LabelAnswer, LabelHints, Queryable, SelectHints, SeriesSet, StorageError,
    VecSeriesSet,
};

/// A source whose series carry the same labels more.
///
/// An external label overrides a series' own label of that name. Matchers on external labels are answered from
/// them, and the source is asked for the others.
#[derive(Clone)]
pub struct WithExternalLabels {
    inner: Arc<dyn Queryable>,
    external: Labels,
}

impl WithExternalLabels {
    /// `inner`, with `external` on every series.
    pub fn new(inner: Arc<dyn Queryable>, external: Labels) -> Self {
        Self { inner, external }
    }

    /// Has the source a series with a label that an external one overrides? Then the order of series may change.
    fn has_overrides(&self, hints: &SelectHints) -> Result<bool, StorageError> {
        let hints = LabelHints {
            interval: hints.interval,
            limit: 0,
            cancel: hints.cancel.clone(),
            tally: hints.tally.clone(),
        };
        let names = self.inner.label_names(&[], &hints)?.values;
        Ok(names.iter().any(|name| self.external.get(name).is_some()))
    }
}

impl std::fmt::Debug for WithExternalLabels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WithExternalLabels")
            .field("external", &self.external)
            .finish_non_exhaustive()
    }
}

/// The matchers that are not about external labels; `None` where one contradicts them.
pub fn strip_external_matchers(matchers: &[Matcher], external: &Labels) -> Option<Vec<Matcher>> {
    let mut rest = Vec::with_capacity(matchers.len());
    for matcher in matchers {
        match external.get(&matcher.name) {
            None => rest.push(matcher.clone()),
            Some(value) if matcher.matches(value) => (),
            Some(_) => return None,
        }
    }
    Some(rest)
}

/// `labels` with `external` set over them.
pub fn extend_labels(labels: &Labels, external: &Labels) -> Labels {
    let mut left = labels.iter().peekable();
    let mut right = external.iter().peekable();
    let mut merged = Vec::with_capacity(16);
    loop {
        match (left.peek(), right.peek()) {
            (Some(own), Some(set)) if own.0 < set.0 => merged.extend(left.next()),
            (Some(own), Some(set)) => {
                if own.0 == set.0 {
                    left.next();
                }
                merged.extend(right.next());
            }
            (Some(_), None) => merged.extend(left.next()),
            (None, Some(_)) => merged.extend(right.next()),
            (None, None) => break,
        }
    }
    // Both are sorted, unique and short enough, so the merge is.
    Labels::from_sorted(&merged).unwrap_or_else(|_impossible| labels.clone())
}

impl Queryable for WithExternalLabels {
    fn select(
        &self,
        matchers: &[Matcher],
        hints: &SelectHints,
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let Some(matchers) = strip_external_matchers(matchers, &self.external) else {
            return Ok(Box::new(VecSeriesSet::default()));
        };
        if self.external.is_empty() {
            return self.inner.select(&matchers, hints);
        }
        let has_overrides = self.has_overrides(hints)?;
        let mut hints = hints.clone();
        let limit = std::mem::take(&mut hints.limit);
        // Two series may become one.
        hints.presence_ms = None;
        Ok(Box::new(ExternalSeriesSet {
            inner: self.inner.select(&matchers, &hints)?,
            external: self.external.clone(),
            has_overrides,
            ahead: None,
            sorted: VecDeque::new(),
            failed: None,
            n_left: if limit == 0 { usize::MAX } else { limit },
        }))
    }

    fn series_at_most(&self, matchers: &[&Matcher], interval: Interval) -> Option<usize> {
        let is_own = |matcher: &&&Matcher| self.external.get(&matcher.name).is_none();
        let own: Vec<&Matcher> = matchers.iter().filter(is_own).copied().collect();
        self.inner.series_at_most(&own, interval)
    }

    fn label_names(
        &self,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let Some(matchers) = strip_external_matchers(matchers, &self.external) else {
            return Ok(LabelAnswer::default());
        };
        let mut all = hints.clone();
        all.limit = 0;
        let answer = self.inner.label_names(&matchers, &all)?;
        if answer.values.is_empty() {
            return Ok(answer);
        }
        let external = LabelAnswer {
            values: self
                .external
                .iter()
                .map(|(name, _)| name.to_owned())
                .collect(),
            warnings: Vec::new(),
        };
        Ok(merge_label_lists(vec![answer, external], hints.limit))
    }

    fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        hints: &LabelHints,
    ) -> Result<LabelAnswer, StorageError> {
        let Some(matchers) = strip_external_matchers(matchers, &self.external) else {
            return Ok(LabelAnswer::default());
        };
        let Some(value) = self.external.get(name) else {
            return self.inner.label_values(name, &matchers, hints);
        };
        let mut any = SelectHints::new(hints.interval);
        (any.skip_chunks, any.limit) = (true, 1);
        any.cancel = hints.cancel.clone();
        any.tally = hints.tally.clone();
        let mut answer = LabelAnswer::default();
        let mut set = self.inner.select(&matchers, &any)?;
        if set.next().transpose()?.is_some() {
            answer.values.push(value.to_owned());
        }
        answer.warnings = set.warnings();
        Ok(answer)
    }
}

/// Restores label order after the external labels went in.
///
/// Where no label is overridden, two series can change places only if the labels of one are the first labels of the
/// other (`{a}` `{a,b}` become `{a,c}` `{a,b,c}`). So it is enough to sort each run of series that begin with the
/// labels of the run's first one. Where one is overridden, everything is sorted.
struct ExternalSeriesSet {
    inner: Box<dyn SeriesSet>,
    external: Labels,
    has_overrides: bool,
    /// First series of the next run.
    ahead: Option<ChunkSeries>,
    /// The run that goes out now.
    sorted: VecDeque<ChunkSeries>,
    failed: Option<StorageError>,
    n_left: usize,
}

impl ExternalSeriesSet {
    fn pull(&mut self) -> Option<ChunkSeries> {
        if let Some(series) = self.ahead.take() {
            return Some(series);
        }
        match self.inner.next()? {
            Ok(series) => Some(series),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    fn fill(&mut self) {
        let Some(first) = self.pull() else { return };
        let prefix = first.labels.clone();
        let mut run = vec![first];
        while let Some(series) = self.pull() {
            if !self.has_overrides && !begins_with(&series.labels, &prefix) {
                self.ahead = Some(series);
                break;
            }
            run.push(series);
        }
        for series in &mut run {
            series.labels = extend_labels(&series.labels, &self.external);
        }
        run.sort_by(|left, right| left.labels.cmp(&right.labels));
        for series in run {
            match self.sorted.back_mut() {
                // Two that differed in an overridden label only are one series now.
                Some(last) if last.labels == series.labels => {
                    last.chunks.extend(series.chunks);
                    last.chunks.sort_by_key(|chunk| chunk.min_t);
                }
                _ => self.sorted.push_back(series),
            }
        }
    }
}

fn begins_with(labels: &Labels, prefix: &Labels) -> bool {
    let mut rest = labels.iter();
    prefix.iter().all(|label| rest.next() == Some(label))
}

impl SeriesSet for ExternalSeriesSet {
    fn next(&mut self) -> Option<Result<ChunkSeries, StorageError>> {
        if self.n_left == 0 {
            return None;
        }
        if self.sorted.is_empty() && self.failed.is_none() {
            self.fill();
        }
        match self.sorted.pop_front() {
            Some(series) => {
                self.n_left -= 1;
                Some(Ok(series))
            }
            None => self.failed.take().map(Err),
        }
    }

    fn warnings(&mut self) -> Vec<String> {
        self.inner.warnings()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Interval, MatchType};

    struct Source(Vec<Labels>);

    impl Queryable for Source {
        fn select(
            &self,
            matchers: &[Matcher],
            _: &SelectHints,
        ) -> Result<Box<dyn SeriesSet>, StorageError> {
            let series = self.0.iter().filter(|labels| {
                matchers
                    .iter()
                    .all(|matcher| matcher.matches(labels.value(&matcher.name)))
            });
            let series = series.map(|labels| ChunkSeries {
                labels: labels.clone(),
                chunks: Vec::new(),
            });
            Ok(Box::new(VecSeriesSet::new(series.collect(), Vec::new())))
        }

        fn label_names(&self, _: &[Matcher], _: &LabelHints) -> Result<LabelAnswer, StorageError> {
            let names = self.0.iter().flat_map(Labels::iter);
            let values = names.map(|(name, _)| name.to_owned()).collect();
            let warnings = Vec::new();
            Ok(merge_label_lists(vec![LabelAnswer { values, warnings }], 0))
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

    fn labels(text: &str) -> Labels {
        let pairs: Vec<_> = text
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        Labels::new(&pairs).unwrap()
    }

    fn source(series: &[&str], external: &str) -> WithExternalLabels {
        let series = series.iter().map(|text| labels(text)).collect();
        WithExternalLabels::new(Arc::new(Source(series)), labels(external))
    }

    fn select(source: &WithExternalLabels, matchers: &[Matcher], limit: usize) -> Vec<Labels> {
        let mut hints = SelectHints::new(Interval::ALL);
        hints.limit = limit;
        let mut set = source.select(matchers, &hints).unwrap();
        let mut out = Vec::new();
        while let Some(series) = set.next() {
            out.push(series.unwrap().labels);
        }
        out
    }

    #[track_caller]
    fn check(series: &[&str], external: &str, expect: &[&str]) {
        let expect: Vec<_> = expect.iter().map(|text| labels(text)).collect();
        assert_eq!(select(&source(series, external), &[], 0), expect);
    }

    #[test]
    fn a_series_that_begins_like_another_changes_places_with_it() {
        check(
            &["a=1", "a=1,b=2", "a=2"],
            "c=x",
            &["a=1,b=2,c=x", "a=1,c=x", "a=2,c=x"],
        );
    }

    #[test]
    fn an_external_label_overrides_and_twins_become_one() {
        check(
            &["a=1,r=1,z=9", "a=1,r=2,z=1", "a=1,r=3,z=9"],
            "r=x",
            &["a=1,r=x,z=1", "a=1,r=x,z=9"],
        );
    }

    #[test]
    fn matchers_on_external_labels_are_answered_from_them() {
        let source = source(&["a=1", "a=2"], "r=x");
        let all = [Matcher::new(MatchType::Regex, "r", "x|y").unwrap()];
        assert_eq!(select(&source, &all, 0).len(), 2);
        assert_eq!(select(&source, &all, 1).len(), 1);
        let one = [Matcher::equal("r", "x"), Matcher::equal("a", "2")];
        assert_eq!(select(&source, &one, 0), [labels("a=2,r=x")]);
        assert_eq!(select(&source, &[Matcher::equal("r", "y")], 0), []);
    }

    #[test]
    fn external_names_and_values_are_there_when_data_is() {
        let source = source(&["a=1"], "r=x");
        let hints = LabelHints::new(Interval::ALL);
        let names = source.label_names(&[], &hints).unwrap();
        assert_eq!(names.values, ["a", "r"]);
        let values = source.label_values("r", &[], &hints).unwrap();
        assert_eq!(values.values, ["x"]);
        let none = [Matcher::equal("a", "7")];
        let values = source.label_values("r", &none, &hints).unwrap();
        assert_eq!(values.values, Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_labels_as_they_leave(
            series in proptest::collection::vec(proptest::collection::btree_map("[a-e]", "[12]", 1..4), 0..12),
            external in proptest::collection::btree_map("[b-f]", "[xy]", 1..3),
        ) {
            let to_labels = |map: &std::collections::BTreeMap<String, String>| {
                Labels::new(&map.iter().collect::<Vec<_>>()).unwrap()
            };
            let external = to_labels(&external);
            let mut series: Vec<_> = series.iter().map(to_labels).collect();
            series.sort();
            series.dedup();
            let mut expect: Vec<_> = series.iter().map(|labels| extend_labels(labels, &external)).collect();
            expect.sort();
            expect.dedup();
            let source = WithExternalLabels::new(Arc::new(Source(series)), external);
            prop_assert_eq!(select(&source, &[], 0), expect);
        }
    }
}
