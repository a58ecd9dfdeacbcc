//! Queries that take less than handing them to another thread: they are computed where they are asked, as far as they turn
//! out to be brief, and go on in the pool from where they are when they do not.

use std::sync::Arc;

use crate::actors::querier::{AskError, When};
use crate::promql::{Engine, PlannedQuery, QueryOptions, QueryOutput, SelectedQuery};
use crate::storage::Queryable;

/// Longer texts are planned in the pool: their plans may be high, and the thread that asks has a small stack.
const TEXT_BYTES_MAX: usize = 512;

/// Series are collected here when there are at most so many, and all of them in memory: a few hundred nanoseconds each.
const SERIES_MAX: usize = 1024;

/// What takes longer to evaluate is evaluated in the pool.
const EFFORT_NS_MAX: u64 = 1_000_000;

/// How far a query is.
pub(super) enum Begun {
    /// Not read yet.
    Text(String, When, QueryOptions),
    /// Planned.
    Planned(Box<PlannedQuery>),
    /// Its series are collected.
    Selected(Box<SelectedQuery>),
    /// Answered.
    Done(Box<QueryOutput>),
}

impl Begun {
    /// Is it worth a look at the plan?
    pub(super) fn may_be_brief(&self) -> bool {
        matches!(self, Self::Text(text, ..) if text.len() <= TEXT_BYTES_MAX)
    }

    /// Goes on for as long as it takes less than a millisecond or so.
    pub(super) fn while_brief(
        mut self,
        timeline: &Arc<dyn Queryable>,
        engine: &Engine,
    ) -> Result<Self, AskError> {
        while self.is_brief(timeline.as_ref()) {
            self = self.next(timeline, engine)?;
        }
        Ok(self)
    }

    /// The answer, however long it takes.
    pub(super) fn finish(
        mut self,
        timeline: &Arc<dyn Queryable>,
        engine: &Engine,
    ) -> Result<QueryOutput, AskError> {
        loop {
            if let Self::Done(output) = self {
                return Ok(*output);
            }
            self = self.next(timeline, engine)?;
        }
    }

    fn is_brief(&self, timeline: &dyn Queryable) -> bool {
        match self {
            Self::Text(..) => self.may_be_brief(),
            Self::Planned(query) => query
                .series_at_most(timeline)
                .is_some_and(|n_series| n_series <= SERIES_MAX),
            Self::Selected(query) => query.effort_ns() <= EFFORT_NS_MAX,
            Self::Done(_) => false,
        }
    }

    fn next(self, timeline: &Arc<dyn Queryable>, engine: &Engine) -> Result<Self, AskError> {
        Ok(match self {
            Self::Text(text, When::Instant(t_ms), options) => {
                Self::Planned(Box::new(engine.plan_instant(&text, t_ms, &options)?))
            }
            Self::Text(
                text,
                When::Range {
                    start_ms,
                    end_ms,
                    step_ms,
                },
                options,
            ) => {
                let times = (start_ms, end_ms, step_ms);
                Self::Planned(Box::new(engine.plan_range(&text, times, &options)?))
            }
            Self::Planned(query) => {
                Self::Selected(Box::new(engine.select(Arc::clone(timeline), *query)?))
            }
            Self::Selected(query) => Self::Done(Box::new(engine.evaluate(*query)?)),
            Self::Done(output) => Self::Done(output),
        })
    }
}
