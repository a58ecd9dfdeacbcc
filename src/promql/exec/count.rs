//! Counting series: whoever only asks whether there is a value looks at the same samples once for all that have them.
//!
//! A head that is asked for presence hands the same few samples to series after series. What the steps see of them is
//! the same row; it is made once, and stands for as many series of each group as came.
#![expect(
    clippy::indexing_slicing,
    reason = "members are numbered by those who count them"
)]

use crate::foundation::HashedMap;
use crate::model::{Labels, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::aggregate::{Folding, GroupBy};
use crate::promql::exec::fold::Fold;
use crate::promql::exec::frame::{Frame, Head};
use crate::promql::exec::parallel::{SeriesWork, Sink};
use crate::promql::exec::select::{Look, Show, Sights};
use crate::promql::exec::source::Samples;
use crate::promql::limits::QueryError;
use crate::promql::plan::{Grid, Leaf, Reading};
use crate::storage::Windows;

/// [`Look`] for somebody who only counts.
#[derive(Debug)]
struct Counted {
    look: Look,
    by: GroupBy,
}

/// Rows, and which groups they belong to how many times.
#[derive(Debug)]
struct Counts {
    frame: Frame,
    members: Vec<Member>,
}

/// Series of one group with one row.
#[derive(Debug)]
struct Member {
    group: SeriesKey,
    /// The first of them.
    head: Head,
    row: usize,
    /// So many came behind it.
    more: u32,
}

/// Who has the samples of the series before.
#[derive(Debug, Default)]
struct Counting {
    sights: Sights,
    members: HashedMap<SeriesKey, usize>,
    /// Of these the one that was looked for last.
    last: Option<(SeriesKey, usize)>,
    /// Their row; none where no step shows anything.
    row: Option<usize>,
}

impl Counting {
    /// The member that a series of this group belongs to; it may be the `next` one.
    fn member(&mut self, group: SeriesKey, next: usize) -> usize {
        if let Some((_, member)) = self.last.filter(|(last, _)| *last == group) {
            return member;
        }
        let member = *self.members.entry(group).or_insert(next);
        self.last = Some((group, member));
        member
    }
}

impl Counts {
    /// One series more with `row`.
    fn add(&mut self, (group, labels, row): (SeriesKey, &Labels, usize), state: &mut Counting) {
        let next = self.members.len();
        let member = state.member(group, next);
        if member < next {
            self.members[member].more += 1;
            return;
        }
        self.members.push(Member {
            group,
            head: Head::new(labels.clone()),
            row,
            more: 0,
        });
    }
}

impl SeriesWork for Counted {
    type State = Counting;
    type Out = Counts;

    fn windows(&self) -> Windows {
        self.look.windows()
    }

    fn reading(&self) -> Reading {
        self.look.reading()
    }

    fn begin(&self, frame: Frame, _n_series: usize) -> Counts {
        Counts {
            frame,
            members: Vec::new(),
        }
    }

    fn series(
        &self,
        evaluator: &Evaluator,
        (labels, samples): (&Labels, &Samples),
        state: &mut Counting,
        out: &mut Counts,
    ) -> Result<(), QueryError> {
        let row = out.frame.len();
        let (sights, frame) = (&mut state.sights, &mut out.frame);
        self.look
            .series(evaluator, (labels, samples), sights, frame)?;
        state.members.clear();
        state.last = None;
        // Rows without a value do not stay.
        state.row = (row < out.frame.len()).then_some(row);
        if let Some(row) = state.row {
            out.add((self.by.key(labels), labels, row), state);
        }
        Ok(())
    }

    fn again(
        &self,
        evaluator: &Evaluator,
        (labels, _): (&Labels, &Samples),
        state: &mut Counting,
        out: &mut Counts,
    ) -> Result<(), QueryError> {
        if let Some(row) = state.row {
            out.add((self.by.key(labels), labels, row), state);
            let row = out.frame.row(row);
            self.look.tell_again(evaluator, row, &mut state.sights);
        }
        Ok(())
    }

    fn end(&self, evaluator: &Evaluator, state: &mut Counting) {
        self.look.end(evaluator, &mut state.sights);
    }
}

impl<F: Fold> Sink<Counts> for Folding<F> {
    fn take(&mut self, part: Counts) -> Result<(), QueryError> {
        for (i, member) in part.members.iter().enumerate() {
            let group = self.group(member.group, &member.head)?;
            let row = part.frame.row(member.row);
            self.add(group, &member.head, (row, member.more));
            self.budget.every(i)?;
        }
        Ok(())
    }
}

impl Evaluator {
    /// Folds what a selector shows where it does not matter what that is.
    pub(super) fn count_into<F: Fold>(
        &self,
        leaf: Leaf,
        grid: Grid,
        (by, folding): (GroupBy, Folding<F>),
    ) -> Result<Folding<F>, QueryError> {
        let look = self.look(leaf, grid, Show::Value);
        match self.selected.get(leaf.selector) {
            Some(selected) => {
                let counted = Counted { look, by };
                self.over_series_into(selected, counted, grid.n, (|counts| counts, folding))
            }
            None => Ok(folding),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use crate::foundation::Pool;
    use crate::model::stale_nan;
    use crate::promql::exec::tests::{lines, series};
    use crate::promql::testing::MemoryStore;
    use crate::promql::{Engine, EngineSettings, QueryOptions, QueryValue};
    use crate::storage::{ChunkSeries, Queryable};

    const STEPS: usize = 60;

    /// What the samples of a series may be: whole, few, ending and coming again at either of two times in as many bytes,
    /// ending for good, nothing but an end, and in two chunks.
    fn shapes() -> Vec<ChunkSeries> {
        let line: Vec<f64> = (0..200u32).map(f64::from).collect();
        let ending_at = |step: usize| {
            let mut ending = vec![1.0; 200];
            ending[step] = stale_nan();
            ending
        };
        let (ending, later) = (ending_at(60), ending_at(70));
        let mut shapes = [
            &line[..],
            &line[..7],
            &ending[..],
            &later[..],
            &ending[..61],
            &ending[60..61],
        ]
        .map(|values| series(&[("a", "b")], values))
        .to_vec();
        let two = shapes[0].chunks.len();
        assert!(1 < two, "chunks hold 120 samples");
        shapes.iter_mut().for_each(|shape| shape.chunks.truncate(1));
        let length = |shape: usize| shapes[shape].chunks[0].data.len();
        assert_eq!(length(2), length(3), "only what they hold tells them apart");
        shapes.push(series(&[("a", "b")], &line));
        shapes
    }

    fn answer(store: &Arc<dyn Queryable>, pool: Option<&Pool>, query: &str) -> String {
        let engine = Engine::new(EngineSettings::default(), pool.cloned());
        let options = QueryOptions {
            per_step: true,
            ..QueryOptions::default()
        };
        let end_ms = i64::try_from(STEPS).unwrap() * 20_000;
        let output = engine
            .range(Arc::clone(store), query, 0, end_ms, 20_000, &options)
            .unwrap();
        let stats = output.stats;
        let by_step = stats.samples_per_step.iter().map(|(_, n)| n);
        assert_eq!(by_step.sum::<u64>(), stats.total_queryable_samples);
        let steps = (stats.samples_per_step, stats.samples_read_per_step);
        let n = (
            stats.total_queryable_samples,
            stats.samples_read,
            stats.samples_decoded,
        );
        let value = lines(&output.value);
        format!("{value:?} {n:?} {steps:?}")
    }

    /// How many series there are at every step.
    fn counts(series: Vec<ChunkSeries>) -> BTreeMap<i64, f64> {
        let engine = Engine::new(EngineSettings::default(), None);
        let store = Arc::new(MemoryStore::from_series(series));
        let end_ms = i64::try_from(STEPS).unwrap() * 20_000;
        let options = QueryOptions::default();
        let output = engine.range(store, "count(m)", 0, end_ms, 20_000, &options);
        let QueryValue::Columns(columns) = output.unwrap().value else {
            return BTreeMap::new();
        };
        let points = columns.to_matrix().into_iter().flat_map(|one| one.floats);
        points.map(|point| (point.t, point.v)).collect()
    }

    fn of_shape(shape: &ChunkSeries, number: usize, job: usize) -> ChunkSeries {
        let (i, job) = (format!("{number:04}"), job.to_string());
        let mut one = series(&[("__name__", "m"), ("i", &i), ("job", &job)], &[]);
        one.chunks.clone_from(&shape.chunks);
        one
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn series_with_the_same_bytes_count_as_many_as_series_with_the_same_samples(
            runs in prop::collection::vec((prop_oneof![2 => 2usize..4, 1 => 0usize..7], 1usize..90), 4..12),
            n_jobs in 1usize..9,
        ) {
            let shapes = shapes();
            let (mut shared, mut apart) = (Vec::new(), Vec::new());
            let mut expect = BTreeMap::new();
            for (shape, n) in runs {
                for (t, one) in counts(vec![of_shape(&shapes[shape], 0, 0)]) {
                    *expect.entry(t).or_insert(0.0) += one * f64::from(u32::try_from(n).unwrap());
                }
                for _ in 0..n {
                    let mut one = of_shape(&shapes[shape], shared.len(), shared.len() * 7 % n_jobs);
                    shared.push(one.clone());
                    for chunk in &mut one.chunks {
                        chunk.data = chunk.data.to_vec().into();
                    }
                    apart.push(one);
                }
            }
            prop_assert_eq!(counts(shared.clone()), expect);
            let store = |series| Arc::new(MemoryStore::from_series(series)) as Arc<dyn Queryable>;
            let (shared, apart) = (store(shared), store(apart));
            let pool = Pool::new("count", 2, 64).unwrap();
            for query in [
                "count(m)",
                "count by (job) (m)",
                "count without (i) (m offset 70s)",
                "count by (i) (m)",
                "group by (job) (m)",
                "count(m @ 300)",
                "count by (job) (m smoothed)",
                "count by (job) (m) + on (job) count by (job) (m)",
                "sum by (job) (m)",
            ] {
                let expect = answer(&apart, None, query);
                prop_assert_eq!(&answer(&shared, None, query), &expect, "{}", query);
                prop_assert_eq!(&answer(&shared, Some(&pool), query), &expect, "{}", query);
            }
        }
    }
}
