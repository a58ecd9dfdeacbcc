//! What the selectors of a plan would find, more or less.

use crate::chunk::n_samples;
use crate::model::{Interval, Matcher};
use crate::promql::limits::{Budget, QueryError};
use crate::promql::plan::{Plan, Selector};
use crate::storage::{ChunkSlice, Queryable, SelectHints};

/// Series of a selector whose chunks are looked at.
const SERIES_LOOKED_AT: usize = 16;

/// Series that are counted before somebody asks whether to go on.
const SERIES_BETWEEN_CHECKS: u64 = 1024;

/// How many series every selector of `plan` matches, and about how many samples they have at times that matter: as many as
/// some of them have.
pub(crate) fn estimate_all(
    plan: &Plan,
    queryable: &dyn Queryable,
    budget: &Budget,
) -> Result<Vec<(u64, u64)>, QueryError> {
    let selectors = plan.selectors.iter();
    let estimates = selectors.map(|selector| {
        let (n_series, _) = counted(selector, queryable, (true, 0), budget)?;
        let (n_some, n_samples) = counted(selector, queryable, (false, SERIES_LOOKED_AT), budget)?;
        Ok((n_series, scaled(n_samples, (n_series, n_some.max(1)))))
    });
    estimates.collect()
}

/// Series, `limit` at most, and samples of their chunks.
fn counted(
    selector: &Selector,
    queryable: &dyn Queryable,
    (skip_chunks, limit): (bool, usize),
    budget: &Budget,
) -> Result<(u64, u64), QueryError> {
    let matchers = selector.matchers.iter();
    let matchers: Vec<Matcher> = matchers.map(|matcher| Matcher::clone(matcher)).collect();
    let hints = SelectHints {
        resolutions: selector.resolutions,
        skip_chunks,
        limit,
        cancel: budget.cancel().clone(),
        ..SelectHints::new(selector.interval)
    };
    let mut set = queryable
        .select(&matchers, &hints)
        .map_err(|error| budget.storage_error(&error))?;
    let (mut n_series, mut n_samples) = (0, 0);
    while let Some(series) = set.next() {
        let series = series.map_err(|error| budget.storage_error(&error))?;
        n_series += 1;
        let chunks = series.chunks.iter();
        n_samples += chunks
            .map(|chunk| samples_within(chunk, selector.interval))
            .sum::<u64>();
        if n_series % SERIES_BETWEEN_CHECKS == 0 {
            budget.check()?;
        }
    }
    Ok((n_series, n_samples))
}

/// About how many samples of a chunk lie in `interval`, as if they were spread evenly.
fn samples_within(chunk: &ChunkSlice, interval: Interval) -> u64 {
    // What is damaged is found where it is read.
    let n = n_samples(chunk.encoding, &chunk.data).unwrap_or(0) as u64;
    let (from, to) = (chunk.min_t.max(interval.min), chunk.max_t.min(interval.max));
    if to < from {
        return 0;
    }
    let ms = |from: i64, to: i64| to.abs_diff(from).saturating_add(1);
    scaled(n, (ms(from, to), ms(chunk.min_t, chunk.max_t)))
}

fn scaled(n: u64, (part, whole): (u64, u64)) -> u64 {
    let scaled = u128::from(n) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::promql::exec::tests::series;
    use crate::promql::testing::MemoryStore;
    use crate::promql::{Engine, EngineSettings, QueryOptions};

    #[test]
    fn samples_of_many_series_are_as_many_as_some_of_them_have() {
        let values: Vec<f64> = (0..100u32).map(f64::from).collect();
        let all = (0..40).map(|i| series(&[("__name__", "x"), ("i", &i.to_string())], &values));
        let store = MemoryStore::from_series(all.collect());
        let engine = Engine::new(EngineSettings::default(), None);
        let estimated = |query| {
            let times = (990_000, 990_000, 0);
            let root = engine.explain(&store, query, times, &QueryOptions::default());
            root.unwrap().text()
        };
        assert!(
            estimated("x").ends_with("x  [about 40 series, 1200 samples]\n"),
            "{}",
            estimated("x")
        );
        let short = estimated("rate(x[50s])");
        assert!(short.contains("[about 40 series, 200 samples]"), "{short}");
        assert!(estimated("y").ends_with("y  [about 0 series, 0 samples]\n"));
    }
}
