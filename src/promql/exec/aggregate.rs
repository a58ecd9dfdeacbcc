//! Aggregations that make one series of a group: sums, means, extremes, deviations, quantiles.
#![expect(
    clippy::indexing_slicing,
    reason = "groups are numbered by the walk that places the series; rows have a value per step"
)]

use std::sync::Arc;

use crate::foundation::HashedMap;
use crate::model::{Label, Labels, METRIC_NAME, SeriesKey};
use crate::promql::exec::Evaluator;
use crate::promql::exec::booking::Booking;
use crate::promql::exec::fold::{Count, Fold, Folds, Max, Min, One, Variance};
use crate::promql::exec::frame::{Frame, Head, Row};
use crate::promql::exec::histogram_aggregate::Beside;
use crate::promql::exec::parallel::Sink;
use crate::promql::exec::select::Show;
use crate::promql::functions::kahan::{Kahan, Mean};
use crate::promql::functions::quantile::quantile;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::Hold;
use crate::promql::parse::ast::{AggregateOp, VectorMatching};
use crate::promql::plan::{Aggregate, Grid, Node};

/// Which group every series belongs to, and who the groups are.
#[derive(Debug)]
pub(crate) struct Grouping {
    /// By series.
    pub(crate) group_of: Vec<usize>,
    /// By group.
    pub(crate) heads: Vec<Head>,
    _memory: Hold,
}

/// What a group takes beside its labels: its head and its place among the others.
const GROUP_BYTES: usize = size_of::<Head>() + 2 * size_of::<(SeriesKey, usize)>();

/// Series that are placed before somebody asks whether to go on.
const SERIES_BETWEEN_CHECKS: usize = 1024;

impl Grouping {
    /// Places every series.
    pub(crate) fn of(
        heads: &[Head],
        aggregate: &Aggregate,
        budget: &Arc<Budget>,
    ) -> Result<Self, QueryError> {
        let memory = Hold::with(budget, heads.len().saturating_mul(size_of::<usize>()))?;
        let mut n_bytes = 0;
        let mut by_key: HashedMap<SeriesKey, usize> = HashedMap::default();
        let mut groups: Vec<Head> = Vec::new();
        let by = GroupBy::of(aggregate);
        let is_single = !by.without && by.grouping.is_empty();
        let mut group_of = Vec::with_capacity(heads.len());
        for (i, head) in heads.iter().enumerate() {
            if i % SERIES_BETWEEN_CHECKS == SERIES_BETWEEN_CHECKS - 1 {
                budget.check()?;
                memory.prepay(n_bytes)?;
            }
            let group = if is_single && !groups.is_empty() {
                0
            } else {
                *by_key.entry(by.key(&head.labels)).or_insert_with(|| {
                    let labels = by.labels(&head.labels);
                    n_bytes += GROUP_BYTES + labels.n_bytes();
                    groups.push(Head::new(labels));
                    groups.len() - 1
                })
            };
            groups[group].drop_name |= head.drop_name;
            group_of.push(group);
        }
        Ok(Self {
            group_of,
            heads: groups,
            _memory: memory,
        })
    }
}

/// What groups series: made once, used wherever series are computed.
#[derive(Debug, Clone)]
pub(crate) struct GroupBy {
    /// Ascending.
    grouping: Vec<String>,
    without: bool,
}

impl GroupBy {
    /// By the labels of these names, or by all others but the metric's name.
    pub(crate) fn new(mut grouping: Vec<String>, without: bool) -> Self {
        grouping.sort_unstable();
        Self { grouping, without }
    }

    /// By the labels that decide who meets whom.
    pub(crate) fn of_matching(matching: &VectorMatching) -> Self {
        Self::new(matching.labels.clone(), !matching.on)
    }

    fn of(aggregate: &Aggregate) -> Self {
        Self::new(aggregate.grouping.clone(), aggregate.without)
    }

    fn keeps(&self, name: &str) -> bool {
        let is_listed = self.grouping.iter().any(|listed| listed == name);
        if self.without {
            name != METRIC_NAME && !is_listed
        } else {
            is_listed
        }
    }

    /// The labels of the group that `labels` belong to.
    pub(crate) fn labels(&self, labels: &Labels) -> Labels {
        labels.filtered(|name| self.keeps(name))
    }

    /// The key of this group.
    pub(crate) fn key(&self, labels: &Labels) -> SeriesKey {
        if self.without {
            return SeriesKey::of(labels.iter().filter(|(name, _)| self.keeps(name)));
        }
        if self.grouping.is_empty() {
            return SeriesKey(0);
        }
        SeriesKey::of(listed(labels, &self.grouping))
    }
}

/// Those labels that are called one of `names`, which ascend: nothing is looked at behind the last of these.
fn listed<'a>(labels: &'a Labels, names: &'a [String]) -> impl Iterator<Item = Label<'a>> {
    let (mut labels, mut names) = (labels.iter(), names.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            names.peek()?;
            let (name, value) = labels.next()?;
            while names.next_if(|wanted| wanted.as_str() < name).is_some() {}
            if names.next_if(|wanted| wanted.as_str() == name).is_some() {
                return Some((name, value));
            }
        }
    })
}

/// Columns and, by series, the key of its group.
struct Keyed {
    frame: Frame,
    keys: Vec<SeriesKey>,
}

impl Keyed {
    fn new(frame: Frame, by: &GroupBy) -> Self {
        let keys = frame.heads().iter().map(|head| by.key(&head.labels));
        Self {
            keys: keys.collect(),
            frame,
        }
    }
}

/// Groups being folded: one slot per group and step, filled in series order.
pub(super) struct Folding<F> {
    by: GroupBy,
    n_steps: usize,
    pub(super) budget: Arc<Budget>,
    booking: Booking,
    group_of: HashedMap<SeriesKey, usize>,
    /// Groups there is memory for.
    groups_max: usize,
    heads: Vec<Head>,
    folds: Folds<F>,
    histograms: Beside,
}

impl<F: Fold> Folding<F> {
    fn new(by: GroupBy, n_steps: usize, budget: &Arc<Budget>, histograms: Beside) -> Self {
        Self {
            by,
            n_steps,
            budget: Arc::clone(budget),
            booking: Booking::new(budget),
            group_of: HashedMap::default(),
            groups_max: 0,
            heads: Vec::new(),
            folds: Folds::new(n_steps),
            histograms,
        }
    }

    /// The number of the group of a series.
    pub(super) fn group(&mut self, key: SeriesKey, head: &Head) -> Result<usize, QueryError> {
        let next = self.heads.len();
        let group = *self.group_of.entry(key).or_insert(next);
        if group == next {
            self.booking.add(self.n_steps)?;
            let labels = self.by.labels(&head.labels);
            self.make_room(labels.n_bytes())?;
            self.heads.push(Head::new(labels));
            self.folds.push();
        }
        self.heads[group].drop_name |= head.drop_name;
        Ok(group)
    }

    /// Memory for one group more, booked before it is taken: for twice as many if there is room.
    fn make_room(&mut self, label_bytes: usize) -> Result<(), QueryError> {
        let memory = &self.booking.memory;
        memory.add(label_bytes)?;
        if self.heads.len() < self.groups_max {
            return Ok(());
        }
        let group_bytes = GROUP_BYTES + self.folds.group_bytes();
        let mut more = self.groups_max.max(1);
        if !memory.try_add(more.saturating_mul(group_bytes)) {
            memory.add(group_bytes)?;
            more = 1;
        }
        self.groups_max = self.heads.len() + more;
        self.folds.reserve(more);
        Ok(())
    }

    /// A row of a group that stands for one series and so many `more`.
    pub(super) fn add(&mut self, group: usize, head: &Head, (row, more): (Row<'_>, u32)) {
        let mut folds = self.folds.group(group);
        if row.has_histograms() || !self.histograms.is_empty() {
            let from = group * self.n_steps;
            self.histograms.add(&mut folds, from, &head.labels, row);
        } else {
            folds.add_row(row);
            if more > 0 {
                folds.add_again(row, more);
            }
        }
    }

    fn finish(mut self) -> Result<Frame, QueryError> {
        let mut out = Frame::new(self.n_steps, &self.budget);
        for (group, head) in self.heads.into_iter().enumerate() {
            let mut row = out.push(head);
            let folds = self.folds.group(group);
            for step in 0..self.n_steps {
                let place = group * self.n_steps + step;
                let floats = folds.get(step);
                if !self.histograms.is_empty() {
                    if let Some(point) = self.histograms.result(place, floats) {
                        row.set_point(step, point);
                    }
                } else if let Some(floats) = floats {
                    row.set(step, floats.get());
                }
            }
            out.settle_last()?;
        }
        Ok(out)
    }
}

impl<F: Fold> Sink<Keyed> for Folding<F> {
    fn take(&mut self, part: Keyed) -> Result<(), QueryError> {
        for (i, (key, (head, row))) in part.keys.iter().zip(part.frame.rows()).enumerate() {
            let group = self.group(*key, head)?;
            self.add(group, head, (row, 0));
            self.budget.every(i)?;
        }
        Ok(())
    }
}

impl Evaluator {
    /// An aggregation at every step.
    pub(crate) fn aggregate(&self, aggregate: &Aggregate, grid: Grid) -> Result<Frame, QueryError> {
        match aggregate.op {
            AggregateOp::Sum => self.fold::<Kahan>(aggregate, grid),
            AggregateOp::Avg => self.fold::<Mean>(aggregate, grid),
            AggregateOp::Count => self.fold::<Count>(aggregate, grid),
            AggregateOp::Group => self.fold::<One>(aggregate, grid),
            AggregateOp::Min => self.fold::<Min>(aggregate, grid),
            AggregateOp::Max => self.fold::<Max>(aggregate, grid),
            AggregateOp::Stdvar => self.fold::<Variance>(aggregate, grid),
            AggregateOp::Stddev => {
                let mut frame = self.fold::<Variance>(aggregate, grid)?;
                for v in frame.values_mut() {
                    *v = v.sqrt();
                }
                Ok(frame)
            }
            AggregateOp::Quantile => self.quantile_of_groups(aggregate, grid),
            AggregateOp::CountValues => self.count_values(aggregate, grid),
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => self.pick(aggregate, grid),
        }
    }

    fn fold<F: Fold>(&self, aggregate: &Aggregate, grid: Grid) -> Result<Frame, QueryError> {
        let by = GroupBy::of(aggregate);
        let mut folding = Folding::<F>::new(
            by.clone(),
            grid.n,
            &self.budget,
            Beside::new(aggregate, &self.notes),
        );
        let counted_by = by.clone();
        let prepare = move |frame| Keyed::new(frame, &by);
        if let Node::Select(leaf) = &aggregate.expr
            && aggregate.is_fused
            && F::ONLY_COUNTS
        {
            folding = self.count_into(*leaf, grid, (counted_by, folding))?;
        } else if let Node::Select(leaf) = &aggregate.expr
            && aggregate.is_fused
        {
            folding = self.select_into(*leaf, grid, Show::Value, (prepare, folding))?;
        } else if let Node::Call(call) = &aggregate.expr
            && aggregate.is_fused
            && self.context.delayed_name_removal
        {
            folding = self.range_call_into(call, grid, (prepare, folding))?;
        } else {
            folding.take(prepare(self.vector(&aggregate.expr, grid)?))?;
        }
        let mut out = folding.finish()?;
        self.settle_names(&mut out)?;
        Ok(out)
    }

    /// The parameter of an aggregation at every step.
    pub(crate) fn param(&self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match &aggregate.param {
            Some((param, _)) => self.scalar(param, grid),
            None => Err(QueryError::execution("aggregation without its parameter")),
        }
    }

    fn quantile_of_groups(&self, aggregate: &Aggregate, grid: Grid) -> Result<Frame, QueryError> {
        let qs = self.param(aggregate, grid)?;
        let mut input = self.vector(&aggregate.expr, grid)?;
        let span = aggregate.param.as_ref().map(|(_, span)| *span);
        let span = span.unwrap_or(aggregate.span);
        if input.len() > 0 {
            let bounds = Bounds::of(&qs);
            if bounds.has_nan {
                self.notes.invalid_quantile(f64::NAN, span);
            }
            if bounds.max > 1.0 {
                self.notes.invalid_quantile(bounds.max, span);
            }
            if bounds.min < 0.0 {
                self.notes.invalid_quantile(bounds.min, span);
            }
        }
        if input.has_histograms() {
            self.ignore_histograms(aggregate, &mut input)?;
        }
        let grouping = Grouping::of(input.heads(), aggregate, &self.budget)?;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); grouping.heads.len()];
        for (i, group) in grouping.group_of.iter().enumerate() {
            members[*group].push(i);
        }
        let mut out = Frame::new(grid.n, &self.budget);
        let mut values = Vec::new();
        for (head, members) in grouping.heads.into_iter().zip(members) {
            self.budget.check()?;
            let mut row = out.push(head);
            let rows: Vec<Row<'_>> = members.iter().map(|i| input.row(*i)).collect();
            for (step, q) in qs.iter().enumerate() {
                if step % 64 == 63 || members.len() > SERIES_BETWEEN_CHECKS {
                    self.budget.check()?;
                }
                values.clear();
                values.extend(rows.iter().filter_map(|row| row.get(step)));
                if !values.is_empty() {
                    row.set(step, quantile(*q, &mut values));
                }
            }
            out.settle_last()?;
        }
        self.settle_names(&mut out)?;
        Ok(out)
    }
}

/// The extremes of a parameter over all steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Least number.
    pub(crate) min: f64,
    /// Greatest number.
    pub(crate) max: f64,
    /// Is any of them not a number?
    pub(crate) has_nan: bool,
}

impl Bounds {
    /// Of these values; infinities the wrong way round when none is a number.
    pub(crate) fn of(values: &[f64]) -> Self {
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            has_nan: values.iter().any(|v| v.is_nan()),
        }
    }
}
