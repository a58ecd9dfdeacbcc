//! Aggregations that pick series of a group, and those that count values.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "groups are numbered by the walk that places the series"
)]

use crate::foundation::HashedMap;
use crate::model::SeriesKey;
use crate::model::labels::go_quote;
use crate::model::number::{format_f, format_g};
use crate::promql::exec::aggregate::{Bounds, GroupBy, Grouping};
use crate::promql::exec::frame::{Cell, Frame, Head};
use crate::promql::exec::{Evaluator, Value};
use crate::promql::functions::heap;
use crate::promql::functions::label::is_label_name;
use crate::promql::limits::QueryError;
use crate::promql::memory::Hold;
use crate::promql::parse::ast::AggregateOp;
use crate::promql::plan::{Aggregate, Grid};

/// Members of a group that are ranked without asking whether to go on.
const MEMBERS_BETWEEN_CHECKS: usize = 256;

/// Where more are picked, steps are ranked one after the other: what waits for the rest of the series would take memory.
const SIDE_BY_SIDE_MAX: f64 = 64.0;

/// A series, a step, and its float there.
type Pick = (usize, usize, f64);

/// 2^63: from here on a float is no 64-bit integer.
const INT64_BOUND: f64 = 9_223_372_036_854_775_808.0;

impl Evaluator {
    /// `topk`, `bottomk`, `limitk` and `limit_ratio`.
    pub(crate) fn pick(&self, aggregate: &Aggregate, grid: Grid) -> Result<Frame, QueryError> {
        let params = self.param(aggregate, grid)?;
        let input = self.vector(&aggregate.expr, grid)?;
        let mut out = Frame::new(grid.n, &self.budget);
        if !self.check_pick(aggregate, &params)? || input.len() == 0 {
            return Ok(out);
        }
        if matches!(aggregate.op, AggregateOp::Topk | AggregateOp::Bottomk) {
            self.note_unranked(aggregate, &params, &input);
        }
        let grouping = Grouping::of(input.heads(), aggregate, &self.budget)?;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); grouping.heads.len()];
        for (i, group) in grouping.group_of.iter().enumerate() {
            members[*group].push(i);
        }
        if grid.n == 1 {
            // An instant result keeps the order of rank.
            for members in &members {
                self.budget.check()?;
                for i in picked_at_once(aggregate.op, params[0], members, &input) {
                    self.budget.every(out.len())?;
                    out.push_row(input.head(i).clone(), input.row(i));
                    out.settle_last()?;
                }
            }
            return Ok(out);
        }
        if aggregate.op == AggregateOp::LimitRatio {
            return self.pick_share(&params, &input);
        }
        if let Some(worse) = worse_for(aggregate.op)
            && params.iter().all(|k| *k <= SIDE_BY_SIDE_MAX)
        {
            return self.pick_side_by_side(worse, &params, &members, &input);
        }
        for head in input.heads() {
            out.push(head.clone());
        }
        for members in &members {
            self.budget.check()?;
            for (step, k) in params.iter().enumerate() {
                if members.len() > MEMBERS_BETWEEN_CHECKS {
                    self.budget.check()?;
                }
                for i in rank(aggregate.op, *k, members, step, &input) {
                    if let Some(cell) = input.row(i).cell(step) {
                        out.row_mut(i).set_cell(step, cell);
                    }
                }
            }
        }
        out.settle(&self.budget)?;
        Ok(out)
    }

    /// What of each series its hash and the ratio of the step leave.
    fn pick_share(&self, params: &[f64], input: &Frame) -> Result<Frame, QueryError> {
        let mut out = Frame::new(params.len(), &self.budget);
        for (i, (head, row)) in input.rows().enumerate() {
            self.budget.every(i)?;
            let part = share_of_hashes(head);
            let mut picked = out.push(head.clone());
            for (step, cell) in row.cells() {
                if is_in_ratio(params[step], part) {
                    picked.set_cell(step, cell);
                }
            }
            out.settle_last()?;
        }
        Ok(out)
    }

    /// The best of each step, all steps at a time: series lie one after the other in memory, and so they are read.
    fn pick_side_by_side(
        &self,
        worse: heap::Worse,
        params: &[f64],
        members: &[Vec<usize>],
        input: &Frame,
    ) -> Result<Frame, QueryError> {
        let memory = Hold::new(&self.budget);
        let mut picks: Vec<Pick> = Vec::new();
        for members in members {
            let ks = params.iter().map(|k| at_most(*k, members.len()));
            let n_picks: usize = ks.clone().sum();
            memory.add(n_picks.saturating_mul(size_of::<Pick>() + size_of::<heap::Candidate>()))?;
            let mut steps: Vec<heap::Best> = ks.map(|k| heap::Best::new(k, worse)).collect();
            for (position, i) in members.iter().enumerate() {
                self.budget.every(position)?;
                for (step, v) in input.row(*i).iter() {
                    steps[step].offer((*i, v));
                }
            }
            for (step, best) in steps.iter().enumerate() {
                picks.extend(best.stayed().iter().map(|(i, v)| (*i, step, *v)));
            }
        }
        picks.sort_unstable_by_key(|(i, step, _)| (*i, *step));
        let mut out = Frame::new(params.len(), &self.budget);
        for of_series in picks.chunk_by(|(left, ..), (right, ..)| left == right) {
            let Some((i, ..)) = of_series.first() else {
                continue;
            };
            self.budget.every(out.len())?;
            let mut row = out.push(input.head(*i).clone());
            for (_, step, v) in of_series {
                row.set(*step, *v);
            }
            out.settle_last()?;
        }
        Ok(out)
    }

    /// Histograms have no rank; where anything is picked, that is told.
    fn note_unranked(&self, aggregate: &Aggregate, params: &[f64], input: &Frame) {
        let is_met = input
            .rows()
            .flat_map(|(_, row)| row.histograms())
            .any(|(step, _)| params[step] >= 1.0);
        if is_met {
            self.notes
                .histogram_ignored_in_aggregation(aggregate.op.as_str(), aggregate.span);
        }
    }

    /// Is there anything to pick? Parameters that are none are errors.
    fn check_pick(&self, aggregate: &Aggregate, params: &[f64]) -> Result<bool, QueryError> {
        let bounds = Bounds::of(params);
        let span = aggregate.param.as_ref().map(|(_, span)| *span);
        let span = span.unwrap_or(aggregate.span);
        if aggregate.op == AggregateOp::LimitRatio {
            if bounds.max == 0.0 && bounds.min == 0.0 {
                return Ok(false);
            }
            if bounds.has_nan {
                return Err(QueryError::execution("Ratio value is NaN"));
            }
            if bounds.max > 1.0 {
                self.notes.invalid_ratio(bounds.max, 1.0, span);
            }
            if bounds.min < -1.0 {
                self.notes.invalid_ratio(bounds.min, -1.0, span);
            }
            return Ok(true);
        }
        if bounds.max < 1.0 && (!bounds.has_nan || bounds.max.is_finite()) {
            return Ok(false);
        }
        if bounds.has_nan {
            return Err(QueryError::execution("Parameter value is NaN"));
        }
        if bounds.min <= -INT64_BOUND {
            let text = format!("Scalar value {} underflows int64", format_g(bounds.min));
            return Err(QueryError::Execution(text));
        }
        if bounds.max >= INT64_BOUND {
            let text = format!("Scalar value {} overflows int64", format_g(bounds.max));
            return Err(QueryError::Execution(text));
        }
        Ok(true)
    }

    /// `count_values`: how many series of a group have each value.
    pub(crate) fn count_values(
        &self,
        aggregate: &Aggregate,
        grid: Grid,
    ) -> Result<Frame, QueryError> {
        let label = match &aggregate.param {
            Some((param, _)) => self.eval(param, grid)?,
            None => return Err(QueryError::execution("aggregation without its parameter")),
        };
        let Value::Text(label) = label else {
            return Err(QueryError::execution("count_values needs a label name"));
        };
        if !is_label_name(&label) {
            let label = go_quote(&label);
            return Err(QueryError::Execution(format!("invalid label name {label}")));
        }
        let mut grouping = aggregate.grouping.clone();
        if !aggregate.without && !grouping.iter().any(|name| **name == *label) {
            grouping.push(label.as_ref().to_owned());
        }
        let by_value = GroupBy::new(grouping, aggregate.without);
        let input = self.vector(&aggregate.expr, grid)?;
        let mut place_of: HashedMap<SeriesKey, usize> = HashedMap::default();
        let mut out = Frame::new(grid.n, &self.budget);
        for (head, row) in input.rows() {
            self.budget.check()?;
            let mut last: Option<(u64, usize)> = None;
            for (step, cell) in row.cells() {
                let bits = match cell {
                    Cell::Float(v) => Some(v.to_bits()),
                    Cell::Histogram(_) => None,
                };
                let place = match last {
                    Some((known, place)) if bits == Some(known) => place,
                    _ => {
                        let mut builder = head.labels.to_builder();
                        match cell {
                            Cell::Float(v) => builder.set(&label, &format_f(v)),
                            Cell::Histogram(histogram) => {
                                builder.set(&label, &histogram.to_string())
                            }
                        };
                        let labels = builder
                            .build()
                            .map_err(|error| QueryError::Execution(error.to_string()))?;
                        *place_of.entry(by_value.key(&labels)).or_insert_with(|| {
                            out.push(Head::new(by_value.labels(&labels)));
                            out.len() - 1
                        })
                    }
                };
                last = bits.map(|bits| (bits, place));
                let count = out.row(place).get(step).unwrap_or(0.0);
                out.row_mut(place).set(step, count + 1.0);
            }
        }
        out.settle(&self.budget)?;
        Ok(out)
    }
}

/// Which of `members` are picked at the only step, in the order of the result.
fn picked_at_once(op: AggregateOp, param: f64, members: &[usize], input: &Frame) -> Vec<usize> {
    match op {
        AggregateOp::LimitRatio => {
            let there = members.iter().copied();
            let there = there.filter(|i| input.row(*i).is_present(0));
            let share = there.filter(|i| is_in_ratio(param, share_of_hashes(input.head(*i))));
            as_held(share, input)
        }
        AggregateOp::Limitk => as_held(rank(op, param, members, 0, input).into_iter(), input),
        _ => rank(op, param, members, 0, input),
    }
}

/// In the order of the heap in which Prometheus holds what it takes, where histograms count as zero.
fn as_held(taken: impl Iterator<Item = usize>, input: &Frame) -> Vec<usize> {
    let mut held = heap::Best::new(usize::MAX, heap::smaller);
    for i in taken {
        held.offer((i, input.row(i).get(0).unwrap_or(0.0)));
    }
    held.stayed().iter().map(|(i, _)| *i).collect()
}

/// Which of `members` are picked at `step`, best first.
fn rank(op: AggregateOp, k: f64, members: &[usize], step: usize, input: &Frame) -> Vec<usize> {
    let k = at_most(k, input.len());
    if k == 0 {
        return Vec::new();
    }
    if op == AggregateOp::Limitk {
        let there = members.iter().copied();
        let there = there.filter(|i| input.row(*i).is_present(step));
        return there.take(k).collect();
    }
    let mut there: Vec<(usize, f64)> = Vec::new();
    for i in members {
        if let Some(v) = input.row(*i).get(step) {
            there.push((*i, v));
        }
    }
    match op {
        AggregateOp::Topk => heap::best(k, heap::smaller, there.into_iter()),
        AggregateOp::Bottomk => heap::best(k, heap::larger, there.into_iter()),
        _ => there.into_iter().map(|(i, _)| i).take(k).collect(),
    }
}

/// How many a parameter of `k` picks among `n`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "k is between 1 and the number of series once it is cast"
)]
fn at_most(k: f64, n: usize) -> usize {
    if k.is_nan() || k < 1.0 {
        return 0;
    }
    k.min(n as u32 as f64) as usize
}

/// What goes before what, for operators that rank floats.
fn worse_for(op: AggregateOp) -> Option<heap::Worse> {
    match op {
        AggregateOp::Topk => Some(heap::smaller),
        AggregateOp::Bottomk => Some(heap::larger),
        _ => None,
    }
}

/// Where in 0 to 1 the hash of a series lies.
#[expect(
    clippy::cast_precision_loss,
    reason = "the share is meant to be the nearest float"
)]
fn share_of_hashes(head: &Head) -> f64 {
    head.labels.prometheus_hash() as f64 / u64::MAX as f64
}

/// Is a series with this share among the part `ratio`? A negative ratio takes the complement.
fn is_in_ratio(ratio: f64, share: f64) -> bool {
    let ratio = ratio.clamp(-1.0, 1.0);
    if ratio == 0.0 {
        return false;
    }
    (ratio >= 0.0 && share < ratio) || (ratio < 0.0 && share >= 1.0 + ratio)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Labels;
    use crate::promql::exec::tests::series;
    use crate::promql::testing::MemoryStore;
    use crate::promql::{Engine, EngineSettings, PointValue, QueryOptions, QueryValue};
    use crate::storage::Queryable;

    #[test]
    fn the_best_are_picked_and_those_that_come_first_where_all_are_the_same() {
        let budget = Arc::new(crate::promql::limits::Budget::new(
            100,
            crate::foundation::Cancel::new(),
            Arc::new(crate::foundation::ManualClock::new(0)),
            i64::MAX,
        ));
        let mut frame = Frame::new(1, &budget);
        for v in [3.0, f64::NAN, 5.0, 3.0, 5.0, 1.0] {
            frame.push(Head::new(Labels::empty())).set(0, v);
        }
        let members: Vec<usize> = (0..6).collect();
        let best = |op, k| rank(op, k, &members, 0, &frame);
        assert_eq!(best(AggregateOp::Topk, 3.9), [4, 2, 0]);
        assert_eq!(best(AggregateOp::Bottomk, 2.0), [5, 0]);
        assert_eq!(best(AggregateOp::Topk, 9.0), [4, 2, 0, 3, 5, 1]);
        assert_eq!(best(AggregateOp::Limitk, 2.0), [0, 1]);
        assert!(best(AggregateOp::Topk, f64::NAN).is_empty());
    }

    #[test]
    fn each_step_of_a_range_picks_what_an_instant_picks() {
        let all: Vec<_> = (0..80u32)
            .map(|n| {
                let value = |i: u32| f64::from((n * 7 + i * i * 3) % 13);
                let values: Vec<f64> = (0..30).map(value).collect();
                let (odd, n) = ((n % 2).to_string(), n.to_string());
                series(&[("__name__", "x"), ("n", &n), ("odd", &odd)], &values)
            })
            .collect();
        let store: Arc<dyn Queryable> = Arc::new(MemoryStore::from_series(all));
        let engine = Engine::new(EngineSettings::default(), None);
        let options = QueryOptions::default();
        for query in ["topk(3, x)", "bottomk by (odd) (2, x)", "topk(70, x)"] {
            let range = engine.range(Arc::clone(&store), query, 0, 280_000, 10_000, &options);
            let QueryValue::Columns(columns) = range.unwrap().value else {
                panic!("{query}");
            };
            for (step, t) in (0..29).zip((0..).step_by(10_000)) {
                let mut picked: Vec<(Labels, u64)> = columns
                    .iter()
                    .filter_map(|series| {
                        let (_, v) = series.floats().find(|(at, _)| *at == step)?;
                        Some((series.labels().clone(), v.to_bits()))
                    })
                    .collect();
                let instant = engine.instant(Arc::clone(&store), query, t, &options);
                let QueryValue::Vector(vector) = instant.unwrap().value else {
                    panic!("{query}");
                };
                let mut expect: Vec<(Labels, u64)> = vector
                    .into_iter()
                    .map(|sample| match sample.value {
                        PointValue::Float(v) => (sample.labels, v.to_bits()),
                        PointValue::Histogram(_) => panic!("{query}"),
                    })
                    .collect();
                picked.sort();
                expect.sort();
                assert_eq!(picked, expect, "{query} at {t}");
            }
        }
    }

    #[test]
    fn a_ratio_and_its_complement_share_no_series() {
        for share in [0.0, 0.2, 0.5, 0.999] {
            assert_ne!(is_in_ratio(0.3, share), is_in_ratio(-0.7, share));
            assert!(is_in_ratio(1.0, share) && is_in_ratio(-1.5, share));
            assert!(!is_in_ratio(0.0, share));
        }
    }
}
