//! Calls: which function goes where, and the functions of one vector.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "scalars have a value per step, as rows have"
)]

use crate::promql::exec::finish::sorted;
use crate::promql::exec::frame::{Cell, Frame, Head};
use crate::promql::exec::select::{Show, seconds};
use crate::promql::exec::{Evaluator, Value};
use crate::promql::functions::date::DateFn;
use crate::promql::functions::math::{clamp, go_max, go_min, round};
use crate::promql::functions::native;
use crate::promql::functions::sort::{ascending, by_labels, descending};
use crate::promql::functions::{Func, NativeFn};
use crate::promql::limits::QueryError;
use crate::promql::plan::{Call, Grid, Leaf, Node};
use crate::promql::value::PointValue;

impl Evaluator {
    /// A call at every step.
    pub(crate) fn call(&self, call: &Call, grid: Grid) -> Result<Value, QueryError> {
        let grid_seconds = |ms: i64| Value::Scalar(vec![seconds(ms); grid.n]);
        Ok(match call.func {
            Func::Time => Value::Scalar(grid.times().map(seconds).collect()),
            Func::Pi => Value::Scalar(vec![std::f64::consts::PI; grid.n]),
            Func::Start => grid_seconds(self.context.grid.start),
            Func::End => grid_seconds(self.context.end_ms),
            Func::Step => grid_seconds(self.context.step_ms),
            Func::RangeSeconds => grid_seconds(self.context.end_ms - self.context.grid.start),
            Func::MinOf => self.extreme_of(call, grid, f64::min)?,
            Func::MaxOf => self.extreme_of(call, grid, f64::max)?,
            Func::Scalar => Value::Scalar(self.to_scalar(arg(call, 0)?, grid)?),
            _ => Value::Vector(self.vector_call(call, grid)?),
        })
    }

    fn vector_call(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        match call.func {
            Func::Range(func) => self.range_call(call, func, grid),
            Func::Math(math) => {
                let kernel = math.kernel();
                self.map(call, grid, |_, v| kernel(v))
            }
            Func::Round => {
                let to = self.optional_scalar(call, 1, grid, 1.0)?;
                self.map(call, grid, |step, v| round(v, to[step]))
            }
            Func::Clamp => self.clamp_between(call, grid),
            Func::ClampMin => {
                let min = self.scalar(arg(call, 1)?, grid)?;
                self.map(call, grid, |step, v| go_max(min[step], v))
            }
            Func::ClampMax => {
                let max = self.scalar(arg(call, 1)?, grid)?;
                self.map(call, grid, |step, v| go_min(max[step], v))
            }
            Func::Date(date) => self.date(call, date, grid),
            Func::Vector => {
                let values = self.scalar(arg(call, 0)?, grid)?;
                self.nameless(&values)
            }
            Func::Timestamp => self.timestamp(call, grid),
            Func::Sort | Func::SortDesc | Func::SortByLabel | Func::SortByLabelDesc => {
                self.sort(call, grid)
            }
            Func::LabelReplace => self.label_replace(call, grid),
            Func::LabelJoin => self.label_join(call, grid),
            Func::HistogramQuantile => self.histogram_quantile(call, grid),
            Func::HistogramQuantiles => self.histogram_quantiles(call, grid),
            Func::HistogramFraction => self.histogram_fraction(call, grid),
            Func::Absent => self.absent(call, grid),
            Func::AbsentOverTime => self.absent_over_time(call, grid),
            Func::Info => self.info(call, grid),
            Func::Native(func) => self.native(call, func, grid),
            Func::StartTimestamp => self.start_timestamp(call, grid),
            Func::Time
            | Func::Pi
            | Func::Start
            | Func::End
            | Func::Step
            | Func::RangeSeconds
            | Func::MinOf
            | Func::MaxOf
            | Func::Scalar => Err(QueryError::execution("expected an instant vector")),
        }
    }

    /// Every float through `f`; names and histograms go.
    fn map(
        &self,
        call: &Call,
        grid: Grid,
        f: impl Fn(usize, f64) -> f64,
    ) -> Result<Frame, QueryError> {
        let mut frame = self.vector(arg(call, 0)?, grid)?;
        self.keep_floats(&mut frame)?;
        for i in 0..frame.len() {
            self.budget.every(i)?;
            for (step, v) in frame.row_mut(i).values.iter_mut().enumerate() {
                *v = f(step, *v);
            }
        }
        self.drop_names(&mut frame)?;
        Ok(frame)
    }

    /// Takes every histogram away, and series that had nothing else.
    pub(crate) fn keep_floats(&self, frame: &mut Frame) -> Result<(), QueryError> {
        if !frame.has_histograms() {
            return Ok(());
        }
        frame.drop_histograms();
        frame.settle(&self.budget)
    }

    fn clamp_between(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let min = self.scalar(arg(call, 1)?, grid)?;
        let max = self.scalar(arg(call, 2)?, grid)?;
        let mut frame = self.vector(arg(call, 0)?, grid)?;
        frame.drop_histograms();
        for i in 0..frame.len() {
            self.budget.every(i)?;
            let mut row = frame.row_mut(i);
            for step in 0..grid.n {
                row.values[step] = clamp(row.values[step], min[step], max[step]);
                if max[step] < min[step] {
                    row.unset(step);
                }
            }
        }
        // Nothing has a name where nothing is left.
        frame.settle(&self.budget)?;
        self.drop_names(&mut frame)?;
        Ok(frame)
    }

    fn extreme_of(
        &self,
        call: &Call,
        grid: Grid,
        f: fn(f64, f64) -> f64,
    ) -> Result<Value, QueryError> {
        let mut args = call.args.iter();
        let Some(first) = args.next() else {
            return Err(missing(call, 0));
        };
        let mut values = self.scalar(first, grid)?;
        for other in args {
            for (v, other) in values.iter_mut().zip(self.scalar(other, grid)?) {
                *v = if v.is_nan() || other.is_nan() {
                    f64::NAN
                } else {
                    f(*v, other)
                };
            }
        }
        Ok(Value::Scalar(values))
    }

    /// The value at steps where there is exactly one.
    fn to_scalar(&self, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
        let frame = self.vector(node, grid)?;
        let mut counts = vec![0_u32; grid.n];
        let mut values = vec![f64::NAN; grid.n];
        for (i, (_, row)) in frame.rows().enumerate() {
            self.budget.every(i)?;
            for (step, v) in row.iter() {
                counts[step] = counts[step].saturating_add(1);
                values[step] = if counts[step] == 1 { v } else { f64::NAN };
            }
        }
        Ok(values)
    }

    /// A series without labels.
    fn nameless(&self, values: &[f64]) -> Result<Frame, QueryError> {
        let mut frame = Frame::new(values.len(), &self.budget);
        let mut row = frame.push(Head::new(crate::model::Labels::empty()));
        for (step, v) in values.iter().enumerate() {
            row.set(step, *v);
        }
        frame.settle_last()?;
        Ok(frame)
    }

    fn date(&self, call: &Call, date: DateFn, grid: Grid) -> Result<Frame, QueryError> {
        if call.args.is_empty() {
            let values: Vec<f64> = grid.times().map(|t| date.apply(seconds(t))).collect();
            return self.nameless(&values);
        }
        self.map(call, grid, |_, v| date.apply(v))
    }

    /// A float of every histogram; floats go.
    fn native(&self, call: &Call, func: NativeFn, grid: Grid) -> Result<Frame, QueryError> {
        let mut frame = self.vector(arg(call, 0)?, grid)?;
        for i in 0..frame.len() {
            self.budget.every(i)?;
            frame.row_mut(i).map_cells(|_, cell| match cell {
                Cell::Histogram(histogram) => Some(PointValue::Float(match func {
                    NativeFn::Count => histogram.count,
                    NativeFn::Sum => histogram.sum,
                    NativeFn::Avg => native::avg(histogram),
                    NativeFn::Stddev => native::stddev(histogram),
                    NativeFn::Stdvar => native::stdvar(histogram),
                })),
                Cell::Float(_) => None,
            });
        }
        frame.settle(&self.budget)?;
        self.drop_names(&mut frame)?;
        Ok(frame)
    }

    /// When the counter behind each sample of a selector began to count; anything else has no such time.
    fn start_timestamp(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let Some(leaf) = selector(arg(call, 0)?) else {
            self.vector(arg(call, 0)?, grid)?;
            return Ok(Frame::new(grid.n, &self.budget));
        };
        let mut frame = self.select(leaf, grid, Show::StartSeconds)?;
        self.drop_names(&mut frame)?;
        Ok(frame)
    }

    /// When the sample was taken for a selector, when it is evaluated for anything else.
    fn timestamp(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let mut frame = match selector(arg(call, 0)?) {
            Some(leaf) => self.select(leaf, grid, Show::Seconds)?,
            None => {
                let mut frame = self.vector(arg(call, 0)?, grid)?;
                for i in 0..frame.len() {
                    self.budget.every(i)?;
                    let mut row = frame.row_mut(i);
                    row.forget_histograms();
                    for (step, v) in row.values.iter_mut().enumerate() {
                        *v = seconds(grid.time(step));
                    }
                }
                frame
            }
        };
        self.drop_names(&mut frame)?;
        Ok(frame)
    }

    fn sort(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let mut frame = self.vector(arg(call, 0)?, grid)?;
        if matches!(call.func, Func::Sort | Func::SortDesc) {
            self.keep_floats(&mut frame)?;
        }
        if self.context.is_range {
            self.notes.ineffective_sort(call.span);
            return Ok(frame);
        }
        let mut names = Vec::new();
        for name in call.args.iter().skip(1) {
            names.push(self.text(name, grid)?);
        }
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        let order: Vec<usize> = (0..frame.len()).collect();
        let budget = &*self.budget;
        let value = |i: usize| frame.row(i).get(0).unwrap_or(f64::NAN);
        let labels = |i: usize| &frame.head(i).labels;
        let order = match call.func {
            Func::Sort => sorted(order, budget, |a, b| ascending(value(*a), value(*b)))?,
            Func::SortDesc => sorted(order, budget, |a, b| descending(value(*a), value(*b)))?,
            Func::SortByLabelDesc => sorted(order, budget, |a, b| {
                by_labels(labels(*b), labels(*a), &names)
            })?,
            _ => sorted(order, budget, |a, b| {
                by_labels(labels(*a), labels(*b), &names)
            })?,
        };
        let mut sorted = Frame::new(grid.n, &self.budget);
        for i in order {
            self.budget.every(i)?;
            sorted.push_row(frame.head(i).clone(), frame.row(i));
        }
        sorted.settle(&self.budget)?;
        Ok(sorted)
    }

    /// Argument `i` at every step, `default` where it was left out.
    pub(crate) fn optional_scalar(
        &self,
        call: &Call,
        i: usize,
        grid: Grid,
        default: f64,
    ) -> Result<Vec<f64>, QueryError> {
        match call.args.get(i) {
            Some(node) => self.scalar(node, grid),
            None => Ok(vec![default; grid.n]),
        }
    }
}

/// The selector that `node` is; times are those of stored samples, which are never smoothed.
fn selector(node: &Node) -> Option<Leaf> {
    match node {
        Node::Select(leaf) => Some(Leaf {
            extend: None,
            ..*leaf
        }),
        Node::Pinned(inner) => selector(inner),
        _ => None,
    }
}

/// Argument `i`, which the parser has checked to be there.
pub(crate) fn arg(call: &Call, i: usize) -> Result<&Node, QueryError> {
    call.args.get(i).ok_or_else(|| missing(call, i))
}

fn missing(call: &Call, i: usize) -> QueryError {
    QueryError::Execution(format!("{} lacks argument {}", call.name, i + 1))
}
