//! `absent` and `absent_over_time`: 1 where there is nothing.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::{Labels, LabelsBuilder, METRIC_NAME, MatchType, Matcher};
use crate::promql::exec::Evaluator;
use crate::promql::exec::call::arg;
use crate::promql::exec::frame::{Frame, Head};
use crate::promql::functions::RangeFn;
use crate::promql::limits::QueryError;
use crate::promql::plan::{Call, Grid};

impl Evaluator {
    /// `absent(v)`.
    pub(crate) fn absent(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let frame = self.vector(arg(call, 0)?, grid)?;
        self.where_nothing(call, grid, &frame.any_present())
    }

    /// `absent_over_time(m)`.
    pub(crate) fn absent_over_time(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        // One that keeps names: without them series may have the same labels, which is no matter here.
        let frame = self.range_call(call, RangeFn::LastOverTime, grid)?;
        self.where_nothing(call, grid, &frame.any_present())
    }

    fn where_nothing(&self, call: &Call, grid: Grid, present: &[u64]) -> Result<Frame, QueryError> {
        let mut out = Frame::new(grid.n, &self.budget);
        let mut row = out.push(Head::new(certain_labels(&call.matchers)?));
        for step in 0..grid.n {
            let word = present.get(step / 64).copied().unwrap_or(0);
            if word >> (step % 64) & 1 == 0 {
                row.set(step, 1.0);
            }
        }
        out.settle_last()?;
        Ok(out)
    }
}

/// The labels that a series found by `matchers` would surely have: those named once, by equality.
fn certain_labels(matchers: &[Arc<Matcher>]) -> Result<Labels, QueryError> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut labels = LabelsBuilder::new();
    for matcher in matchers {
        if &*matcher.name == METRIC_NAME {
            continue;
        }
        let is_first = !seen.contains(&*matcher.name);
        if matcher.match_type == MatchType::Equal && is_first {
            labels.set(&matcher.name, &matcher.value);
            seen.insert(&matcher.name);
        } else {
            labels.remove(&matcher.name);
        }
    }
    labels
        .build()
        .map_err(|error| QueryError::Execution(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_named_once_by_equality_are_certain() {
        let matcher =
            |match_type, name, value| Arc::new(Matcher::new(match_type, name, value).unwrap());
        let labels = certain_labels(&[
            matcher(MatchType::Equal, "job", "a"),
            matcher(MatchType::Equal, "job", "b"),
            matcher(MatchType::Equal, "foo", "bar"),
            matcher(MatchType::Regex, "baz", "x.*"),
            matcher(MatchType::Equal, METRIC_NAME, "up"),
        ]);
        assert_eq!(labels.unwrap(), Labels::new(&[("foo", "bar")]).unwrap());
    }
}
