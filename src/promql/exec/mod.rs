//! Plans over columns.
//!
//! Owns: the operators, the columns between them, what is decoded for them.
//! Never: knows who asked, or what a sample means beyond its float.
//! Tested by: `tests` beside the operators and the conformance scripts.
mod absent;
mod aggregate;
mod arith;
mod binary;
mod booking;
#[cfg(test)]
mod bounds_tests;
mod call;
#[cfg(test)]
mod cancel_tests;
mod coarse;
#[cfg(test)]
mod coarse_tests;
mod count;
pub(crate) mod effort;
pub(crate) mod estimate;
pub(crate) mod finish;
mod fold;
pub(crate) mod frame;
mod histogram_aggregate;
mod histogram_binary;
mod histogram_stats;
mod info;
mod label;
mod matching;
mod parallel;
pub(crate) mod profile;
mod quantile;
mod range;
mod range_mixed;
mod range_rate;
mod rank;
mod select;
mod set;
mod slide;
pub(crate) mod source;
pub(crate) mod tally;
#[cfg(test)]
mod tests;
mod whole_range;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::foundation::pool::Pool;
use crate::model::TimestampMs;
use crate::promql::annotations::Annotations;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::Hold;
use crate::promql::plan::{Grid, Node};
use crate::promql::value::PointValue;
use crate::storage::{Queryable, ResolutionBounds};
pub(crate) use arith::scalar_binary;
use frame::{Cell, Frame};
use profile::Profile;
use source::Selected;
use tally::Tally;

/// Cells that are computed in one go.
const CELLS_BETWEEN_CHECKS: usize = 1 << 16;

/// The value of an expression at every step.
#[derive(Debug)]
pub(crate) enum Value {
    /// A number per step.
    Scalar(Vec<f64>),
    /// A text, the same at every step.
    Text(Arc<str>),
    /// Series with a number at some steps.
    Vector(Frame),
}

/// What evaluation goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvalContext {
    /// The query's own evaluation times, whatever a subquery is evaluated at.
    pub(crate) grid: Grid,
    /// The end of the query as asked for; the last evaluation may be before it.
    pub(crate) end_ms: TimestampMs,
    /// The query's step as `step()` sees it.
    pub(crate) step_ms: i64,
    /// How old the newest sample may be.
    pub(crate) lookback_ms: i64,
    /// Names go when the query is done, not when a function is.
    pub(crate) delayed_name_removal: bool,
    /// `__type__` says what a counter is, rather than the name.
    pub(crate) type_and_unit_labels: bool,
    /// Range query rather than instant query.
    pub(crate) is_range: bool,
    /// How coarse samples may be that nobody planned for.
    pub(crate) resolutions: ResolutionBounds,
}

/// Evaluates one query. Cloning is cheap: threads that help have one each.
#[derive(Clone)]
pub(crate) struct Evaluator {
    /// What evaluation goes by.
    pub(crate) context: EvalContext,
    /// What the plan's selectors found.
    pub(crate) selected: Arc<[Arc<Selected>]>,
    /// Where `info()` finds its series.
    pub(crate) queryable: Arc<dyn Queryable>,
    /// What the query may hold.
    pub(crate) budget: Arc<Budget>,
    /// What the answer takes.
    pub(crate) answer: Arc<Hold>,
    /// Where remarks go.
    pub(crate) notes: Arc<Annotations>,
    /// Samples handed to operators so far.
    pub(crate) tally: Arc<Tally>,
    /// What operators did, if somebody wants to know.
    pub(crate) profile: Option<Arc<Profile>>,
    /// How long bringing the answer into order took.
    pub(crate) sort_ns: Arc<AtomicU64>,
    /// Samples decoded so far.
    pub(crate) n_read: Arc<AtomicU64>,
    /// Threads that may help.
    pub(crate) pool: Option<Pool>,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

impl Evaluator {
    /// The value of `node` at every step of `grid`.
    pub(crate) fn eval(&self, node: &Node, grid: Grid) -> Result<Value, QueryError> {
        self.budget.check()?;
        match &self.profile {
            None => self.operator(node, grid),
            Some(profile) => profile.observe(node, self, || self.operator(node, grid)),
        }
    }

    fn operator(&self, node: &Node, grid: Grid) -> Result<Value, QueryError> {
        Ok(match node {
            Node::Number(v) => Value::Scalar(vec![*v; grid.n]),
            Node::Text(text) => Value::Text(Arc::clone(text)),
            Node::Select(leaf) => Value::Vector(self.select(*leaf, grid, select::Show::Value)?),
            Node::Range(_) => {
                return Err(QueryError::execution("a range vector outside a function"));
            }
            Node::Negate(inner) => self.negate(inner, grid)?,
            Node::Binary(binary) => self.binary(binary, grid)?,
            Node::Aggregate(aggregate) => Value::Vector(self.aggregate(aggregate, grid)?),
            Node::Call(call) => self.call(call, grid)?,
            Node::Pinned(inner) => self.pinned(inner, grid)?,
        })
    }

    /// The value of `node`, which the parser has checked to be a vector.
    pub(crate) fn vector(&self, node: &Node, grid: Grid) -> Result<Frame, QueryError> {
        match self.eval(node, grid)? {
            Value::Vector(frame) => Ok(frame),
            Value::Scalar(_) | Value::Text(_) => {
                Err(QueryError::execution("expected an instant vector"))
            }
        }
    }

    /// The value of `node`, which the parser has checked to be a scalar.
    pub(crate) fn scalar(&self, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.eval(node, grid)? {
            Value::Scalar(values) => Ok(values),
            Value::Vector(_) | Value::Text(_) => Err(QueryError::execution("expected a scalar")),
        }
    }

    /// The value of `node`, which the parser has checked to be a text.
    pub(crate) fn text(&self, node: &Node, grid: Grid) -> Result<Arc<str>, QueryError> {
        match self.eval(node, grid)? {
            Value::Text(text) => Ok(text),
            Value::Vector(_) | Value::Scalar(_) => Err(QueryError::execution("expected a string")),
        }
    }

    fn pinned(&self, inner: &Node, grid: Grid) -> Result<Value, QueryError> {
        if grid.n <= 1 {
            return self.eval(inner, grid);
        }
        let once = self.apart(Tally::default());
        let value = once.eval(inner, grid.first())?;
        // Every step counts what would be read for it, although it is read once.
        let (queried, read) = (once.tally.queried(), once.tally.read());
        self.tally.add(queried.saturating_mul(grid.n as u64), read);
        if self.tally.is_per_step() {
            grid.times().for_each(|t| self.tally.at(t, queried, 0));
            self.tally.at(grid.start, 0, read);
        }
        Ok(match value {
            Value::Scalar(values) => {
                let v = values.first().copied().unwrap_or(f64::NAN);
                Value::Scalar(vec![v; grid.n])
            }
            Value::Text(text) => Value::Text(text),
            Value::Vector(frame) => Value::Vector(frame.broadcast(grid.n, &self.budget)?),
        })
    }

    fn negate(&self, inner: &Node, grid: Grid) -> Result<Value, QueryError> {
        Ok(match self.eval(inner, grid)? {
            Value::Scalar(values) => Value::Scalar(values.into_iter().map(|v| -v).collect()),
            Value::Text(text) => Value::Text(text),
            Value::Vector(mut frame) => {
                for values in frame.values_mut().chunks_mut(CELLS_BETWEEN_CHECKS) {
                    self.budget.check()?;
                    values.iter_mut().for_each(|v| *v = -*v);
                }
                if frame.has_histograms() {
                    for i in 0..frame.len() {
                        self.budget.every(i)?;
                        frame.row_mut(i).map_cells(|_, cell| {
                            Some(match cell {
                                Cell::Float(v) => PointValue::Float(v),
                                Cell::Histogram(h) => PointValue::Histogram(Arc::new(h.negated())),
                            })
                        });
                    }
                }
                self.drop_names(&mut frame)?;
                Value::Vector(frame)
            }
        })
    }

    /// Marks every series to lose its name; takes it at once where removal is not delayed. Series that are the same then
    /// become one, unless both have a value at one step.
    pub(crate) fn drop_names(&self, frame: &mut Frame) -> Result<(), QueryError> {
        for head in frame.heads_mut() {
            head.drop_name = true;
        }
        if self.context.delayed_name_removal {
            return Ok(());
        }
        finish::remove_names(frame, &self.budget)?;
        let named = std::mem::replace(frame, Frame::new(frame.n_steps(), &self.budget));
        *frame = self.join_rows(named, |_, _| finish::SAME_LABELSET)?;
        Ok(())
    }

    /// Without delayed removal: takes the names of marked series and refuses equal label sets.
    pub(crate) fn settle_names(&self, frame: &mut Frame) -> Result<(), QueryError> {
        if self.context.delayed_name_removal {
            return Ok(());
        }
        finish::remove_names(frame, &self.budget)?;
        finish::refuse_same_labels(frame, &self.budget)
    }

    /// The same with samples counted apart.
    pub(crate) fn apart(&self, tally: Tally) -> Self {
        Self {
            tally: Arc::new(tally),
            ..self.clone()
        }
    }
}
