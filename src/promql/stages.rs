//! A query on its way: planned, then with its series collected. It may go on on another thread at either point, which is
//! for whoever asks to judge.

use std::sync::Arc;

use crate::model::{Matcher, TimestampMs};
use crate::promql::annotations::Annotations;
use crate::promql::engine::QueryOptions;
use crate::promql::exec::effort::effort_ns;
use crate::promql::exec::source::{SelectCost, Selected};
use crate::promql::limits::Budget;
use crate::promql::plan::{Grid, Plan};
use crate::storage::Queryable;

/// When a query is evaluated, and since when it is worked on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) grid: Grid,
    pub(crate) end_ms: TimestampMs,
    pub(crate) step_ms: i64,
    pub(crate) is_range: bool,
    pub(crate) began_ns: u64,
}

impl Times {
    pub(crate) fn instant(t_ms: TimestampMs, began_ns: u64) -> Self {
        Self {
            grid: Grid::instant(t_ms),
            end_ms: t_ms,
            step_ms: 0,
            is_range: false,
            began_ns,
        }
    }

    pub(crate) fn range(
        (start_ms, end_ms, step_ms): (TimestampMs, TimestampMs, i64),
        began_ns: u64,
    ) -> Self {
        Self {
            grid: Grid::range(start_ms, end_ms, step_ms),
            end_ms,
            step_ms,
            is_range: true,
            began_ns,
        }
    }
}

/// A query that is read and planned.
#[derive(Debug)]
pub struct PlannedQuery {
    pub(crate) plan: Plan,
    pub(crate) text: String,
    pub(crate) times: Times,
    pub(crate) options: QueryOptions,
}

/// A query whose series are collected, and nothing decoded yet.
pub struct SelectedQuery {
    pub(crate) query: PlannedQuery,
    pub(crate) queryable: Arc<dyn Queryable>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) notes: Arc<Annotations>,
    pub(crate) selected: Arc<[Arc<Selected>]>,
    pub(crate) cost: SelectCost,
    pub(crate) prepared_ns: u64,
}

impl PlannedQuery {
    /// At most how many series its selectors find in `queryable` together, where that is known at once.
    pub fn series_at_most(&self, queryable: &dyn Queryable) -> Option<usize> {
        let selectors = self.plan.selectors.iter();
        let mut n_series = selectors.map(|selector| {
            let matchers: Vec<&Matcher> =
                selector.matchers.iter().map(|matcher| &**matcher).collect();
            queryable.series_at_most(&matchers, selector.interval)
        });
        n_series.try_fold(0_usize, |sum, n| Some(sum.saturating_add(n?)))
    }
}

impl SelectedQuery {
    /// About how long its evaluation takes on one thread; without end where nobody can tell.
    pub fn effort_ns(&self) -> u64 {
        effort_ns(&self.query.plan, self.query.times.grid, &self.selected)
    }
}

impl std::fmt::Debug for SelectedQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelectedQuery")
            .field("query", &self.query)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}
