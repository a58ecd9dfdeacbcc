//! Quantiles and fractions of the classic histograms in a vector.

use std::collections::HashMap;

use crate::model::number::{format_openmetrics, parse_go_float};
use crate::model::{Labels, SeriesKey};
use crate::promql::annotations::Repair;
use crate::promql::exec::Evaluator;
use crate::promql::exec::call::arg;
use crate::promql::exec::frame::{Frame, Head};
use crate::promql::functions::histogram::{Bucket, Raised, fraction, quantile};
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::Span;
use crate::promql::plan::{Call, Grid};

/// The label that says how far a bucket reaches.
const BUCKET_LABEL: &str = "le";

/// The buckets of one histogram: upper bounds and rows.
struct Histogram {
    labels: Labels,
    buckets: Vec<(f64, usize)>,
}

impl Evaluator {
    /// `histogram_quantile(q, v)`.
    pub(crate) fn histogram_quantile(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let qs = self.scalar(arg(call, 0)?, grid)?;
        let input = self.vector(arg(call, 1)?, grid)?;
        let span = span_of(call, 1);
        let mut out = Frame::new(grid.n, &self.budget);
        if input.len() > 0 {
            self.note_quantiles(&qs, span_of(call, 0));
        }
        for histogram in self.histograms(&input, span) {
            self.quantile_row((&histogram, &input), &qs, (grid, span, None), &mut out)?;
        }
        self.settle_names(&mut out)?;
        Ok(out)
    }

    /// `histogram_quantiles(v, label, q…)`: one series per histogram and quantile.
    pub(crate) fn histogram_quantiles(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let input = self.vector(arg(call, 0)?, grid)?;
        let label = self.text(arg(call, 1)?, grid)?;
        let span = span_of(call, 0);
        let mut out = Frame::new(grid.n, &self.budget);
        let histograms = self.histograms(&input, span);
        for (position, node) in call.args.iter().enumerate().skip(2) {
            let qs = self.scalar(node, grid)?;
            self.note_quantiles(&qs, span_of(call, position));
            for histogram in &histograms {
                self.quantile_row(
                    (histogram, &input),
                    &qs,
                    (grid, span, Some(&label)),
                    &mut out,
                )?;
            }
        }
        let mut out = self.join_same_labels(out)?;
        self.settle_names(&mut out)?;
        Ok(out)
    }

    /// `histogram_fraction(lower, upper, v)`.
    pub(crate) fn histogram_fraction(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let lowers = self.scalar(arg(call, 0)?, grid)?;
        let uppers = self.scalar(arg(call, 1)?, grid)?;
        let input = self.vector(arg(call, 2)?, grid)?;
        let mut out = Frame::new(grid.n, &self.budget);
        let mut buckets = Vec::new();
        for histogram in self.histograms(&input, span_of(call, 2)) {
            let mut row = out.push(histogram.head());
            for (step, (lower, upper)) in lowers.iter().zip(&uppers).enumerate() {
                if histogram.at(step, &input, &mut buckets) {
                    row.set(step, fraction(*lower, *upper, &mut buckets));
                }
            }
            out.settle_last()?;
        }
        self.settle_names(&mut out)?;
        Ok(out)
    }

    fn note_quantiles(&self, qs: &[f64], span: Span) {
        for q in qs {
            if q.is_nan() || *q < 0.0 || *q > 1.0 {
                self.notes.invalid_quantile(*q, span);
            }
        }
    }

    /// The quantile of one histogram at every step; `label` gets the quantile's value.
    fn quantile_row(
        &self,
        (histogram, input): (&Histogram, &Frame),
        qs: &[f64],
        (grid, span, label): (Grid, Span, Option<&str>),
        out: &mut Frame,
    ) -> Result<(), QueryError> {
        self.budget.check()?;
        let mut buckets = Vec::new();
        let mut last: Option<(u64, usize)> = None;
        for (step, q) in qs.iter().enumerate() {
            if !histogram.at(step, input, &mut buckets) {
                continue;
            }
            let (v, raised) = quantile(*q, &mut buckets);
            if let Some(raised) = raised {
                self.note_raised(&histogram.labels, raised, grid.time(step), span);
            }
            let row = match last {
                Some((bits, row)) if bits == q.to_bits() || label.is_none() => row,
                _ => {
                    let mut head = histogram.head();
                    if let Some(label) = label {
                        let mut builder = head.labels.to_builder();
                        builder.set(label, &format_openmetrics(*q));
                        head.labels = builder
                            .build()
                            .map_err(|error| QueryError::Execution(error.to_string()))?;
                    }
                    out.push(head);
                    out.len() - 1
                }
            };
            last = Some((q.to_bits(), row));
            out.row_mut(row).set(step, v);
        }
        Ok(())
    }

    fn note_raised(&self, labels: &Labels, raised: Raised, t: i64, span: Span) {
        let repair = Repair {
            bound_min: raised.bound_min,
            bound_max: raised.bound_max,
            diff_max: raised.diff_max,
            t_min: t,
            t_max: t,
            count: 1,
        };
        let name = if self.context.delayed_name_removal {
            labels.metric_name()
        } else {
            ""
        };
        self.notes.forced_monotonicity(name, &repair, span);
    }

    /// The histograms of a vector: series that differ only in `le`.
    fn histograms(&self, input: &Frame, span: Span) -> Vec<Histogram> {
        let mut place_of: HashMap<SeriesKey, usize> = HashMap::new();
        let mut histograms: Vec<Histogram> = Vec::new();
        for (i, head) in input.heads().iter().enumerate() {
            let le = head.labels.value(BUCKET_LABEL);
            let Some(bound) = parse_go_float(le) else {
                let name = if self.context.delayed_name_removal {
                    head.labels.metric_name()
                } else {
                    ""
                };
                self.notes.bad_bucket_label(name, le, span);
                continue;
            };
            let others = head.labels.iter().filter(|(name, _)| *name != BUCKET_LABEL);
            let place = *place_of.entry(SeriesKey::of(others)).or_insert_with(|| {
                histograms.push(Histogram {
                    labels: head.labels.filtered(|name| name != BUCKET_LABEL),
                    buckets: Vec::new(),
                });
                histograms.len() - 1
            });
            if let Some(histogram) = histograms.get_mut(place) {
                histogram.buckets.push((bound, i));
            }
        }
        histograms
    }
}

impl Histogram {
    fn head(&self) -> Head {
        Head {
            labels: self.labels.clone(),
            drop_name: true,
        }
    }

    /// Lists the buckets that have a value at `step`; false when none has.
    fn at(&self, step: usize, input: &Frame, buckets: &mut Vec<Bucket>) -> bool {
        buckets.clear();
        for (bound, i) in &self.buckets {
            if let Some(count) = input.row(*i).get(step) {
                buckets.push(Bucket {
                    bound: *bound,
                    count,
                });
            }
        }
        !buckets.is_empty()
    }
}

fn span_of(call: &Call, i: usize) -> Span {
    call.arg_spans.get(i).copied().unwrap_or(call.span)
}
