//! Aggregations of vectors that hold native histograms.
//!
//! Sums and means take histograms with histograms and floats with floats; a group that has both has no result.
//! Counting takes everything, all other aggregations leave histograms out and say so.

use std::sync::Arc;

use crate::model::{Histogram, Labels};
use crate::promql::annotations::{Annotations, HistogramOperation};
use crate::promql::exec::Evaluator;
use crate::promql::exec::fold::{Fold, GroupFolds};
use crate::promql::exec::frame::{Cell, Frame, Row};
use crate::promql::functions::histogram_mean::{
    HistogramFold, HistogramMean, HistogramSum, Incompatible, Noticed,
};
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::{AggregateOp, Span};
use crate::promql::plan::Aggregate;
use crate::promql::value::PointValue;

/// What becomes of the histograms in an aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Sum,
    Mean,
    /// They count like any other value.
    Counted,
    /// They are left out.
    Ignored,
}

/// Histograms taken together.
#[derive(Debug)]
enum Together {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

impl Together {
    fn add(&mut self, histogram: &Histogram) -> Result<(), Incompatible> {
        match self {
            Self::Sum(sum) => sum.add(histogram),
            Self::Mean(mean) => mean.add(histogram),
        }
    }

    fn noticed(&self) -> Noticed {
        match self {
            Self::Sum(sum) => sum.noticed(),
            Self::Mean(mean) => mean.noticed(),
        }
    }

    fn get(self) -> Histogram {
        match self {
            Self::Sum(sum) => sum.get(),
            Self::Mean(mean) => mean.get(),
        }
    }
}

/// A group at a step where there was a histogram.
#[derive(Debug, Default)]
struct Met {
    /// Nothing when floats came first: there will be no result.
    together: Option<Together>,
    /// Buckets of exponential and of custom bounds have met: whatever follows is not looked at.
    is_incompatible: bool,
}

/// What goes beside the floats of an aggregation once a histogram turns up.
#[derive(Debug)]
pub(crate) struct Beside {
    op: AggregateOp,
    way: Way,
    at: Span,
    notes: Arc<Annotations>,
    /// By group and step; empty as long as there are only floats.
    met: Vec<Option<Box<Met>>>,
}

impl Beside {
    /// Nothing met yet.
    pub(crate) fn new(aggregate: &Aggregate, notes: &Arc<Annotations>) -> Self {
        let way = if aggregate.op == AggregateOp::Sum {
            Way::Sum
        } else if aggregate.op == AggregateOp::Avg {
            Way::Mean
        } else if matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group) {
            Way::Counted
        } else {
            Way::Ignored
        };
        Self {
            op: aggregate.op,
            way,
            at: aggregate.expr_span,
            notes: Arc::clone(notes),
            met: Vec::new(),
        }
    }

    /// Have there been only floats?
    pub(crate) fn is_empty(&self) -> bool {
        self.met.is_empty()
    }

    /// Adds a row to its group, whose floats are `folds` and whose places begin at `from`.
    pub(crate) fn add<F: Fold>(
        &mut self,
        folds: &mut GroupFolds<'_, F>,
        from: usize,
        labels: &Labels,
        row: Row<'_>,
    ) {
        let mut is_ignored = false;
        let mut is_incompatible = false;
        if matches!(self.way, Way::Sum | Way::Mean) && self.met.len() < from + folds.n_steps() {
            self.met.resize_with(from + folds.n_steps(), || None);
        }
        for (step, cell) in row.cells() {
            match (cell, self.way) {
                (Cell::Histogram(_), Way::Ignored) => is_ignored = true,
                (Cell::Histogram(_), Way::Counted) => folds.add(step, 0.0),
                (Cell::Histogram(histogram), Way::Sum | Way::Mean) => {
                    is_incompatible |= self.take(from + step, histogram, folds.is_present(step));
                }
                (Cell::Float(v), _) => {
                    let met = self.met.get(from + step).and_then(Option::as_ref);
                    if !met.is_some_and(|met| met.is_incompatible) {
                        folds.add(step, v);
                    }
                }
            }
        }
        if is_ignored {
            self.notes
                .histogram_ignored_in_aggregation(self.op.as_str(), self.at);
        }
        if is_incompatible {
            self.notes
                .mixed_exponential_custom_histograms(labels.metric_name(), self.at);
        }
    }

    /// One more histogram at a place. True if it does not fit those before it.
    fn take(&mut self, place: usize, histogram: &Histogram, has_floats: bool) -> bool {
        let Some(met) = self.met.get_mut(place) else {
            return false;
        };
        let is_first = met.is_none();
        let met = met.get_or_insert_default();
        if met.is_incompatible {
            return false;
        }
        match &mut met.together {
            Some(together) => {
                met.is_incompatible = together.add(histogram).is_err();
                return met.is_incompatible;
            }
            None if is_first && !has_floats => {
                met.together = Some(if self.way == Way::Mean {
                    Together::Mean(HistogramMean::first(histogram))
                } else {
                    Together::Sum(HistogramSum::first(histogram))
                });
            }
            None => (),
        }
        false
    }

    /// What a group has become at a place.
    pub(crate) fn result<F: Fold>(
        &mut self,
        place: usize,
        floats: Option<&F>,
    ) -> Option<PointValue> {
        let met = self.met.get_mut(place).and_then(Option::take);
        let Some(met) = met else {
            return floats.map(|floats| PointValue::Float(floats.get()));
        };
        let noticed = met.together.as_ref().map(Together::noticed);
        let noticed = noticed.unwrap_or_default();
        if noticed.reconciled {
            self.notes
                .mismatched_custom_buckets(HistogramOperation::Aggregation, self.at);
        }
        if floats.is_some() {
            self.notes.mixed_floats_histograms_in_aggregation(self.at);
            return None;
        }
        if met.is_incompatible {
            return None;
        }
        if noticed.is_collision() {
            self.notes
                .counter_reset_collision(HistogramOperation::Aggregation, self.at);
        }
        let mut histogram = met.together?.get();
        histogram.compact();
        Some(PointValue::Histogram(Arc::new(histogram)))
    }
}

impl Evaluator {
    /// Leaves histograms out and says so.
    pub(crate) fn ignore_histograms(
        &self,
        aggregate: &Aggregate,
        input: &mut Frame,
    ) -> Result<(), QueryError> {
        if input
            .rows()
            .any(|(_, row)| row.histograms().next().is_some())
        {
            self.notes
                .histogram_ignored_in_aggregation(aggregate.op.as_str(), aggregate.expr_span);
        }
        self.keep_floats(input)
    }
}
