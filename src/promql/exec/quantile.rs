//! Quantiles and fractions of the histograms in a vector, classic and native.
#![expect(
    clippy::indexing_slicing,
    reason = "positions of series and of steps come from walks over the same frame"
)]

use crate::foundation::HashedMap;
use crate::model::number::{format_openmetrics, parse_go_float};
use crate::model::{Histogram, Labels, SeriesKey};
use crate::promql::annotations::Repair;
use crate::promql::exec::Evaluator;
use crate::promql::exec::call::arg;
use crate::promql::exec::frame::{Cell, Frame, Head, Row, ones};
use crate::promql::functions::histogram::{Bucket, Raised, fraction, quantile};
use crate::promql::functions::native::{self, Nans};
use crate::promql::limits::QueryError;
use crate::promql::parse::ast::Span;
use crate::promql::plan::{Call, Grid};

/// The label that says how far a bucket reaches.
const BUCKET_LABEL: &str = "le";

/// A histogram in a vector.
struct Source {
    labels: Labels,
    kind: Kind,
    /// Steps at which the other kind has the same labels: neither counts.
    disputed: Vec<u64>,
}

enum Kind {
    /// Series that differ only in `le`: upper bounds and rows.
    Classic(Vec<(f64, usize)>),
    /// A row.
    Native(usize),
}

/// What a question is asked of.
struct Question<'a> {
    input: &'a Frame,
    sources: Vec<Source>,
    grid: Grid,
    /// Where the vector stands in the query.
    span: Span,
}

impl Evaluator {
    /// `histogram_quantile(q, v)`.
    pub(crate) fn histogram_quantile(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let qs = self.scalar(arg(call, 0)?, grid)?;
        let input = self.vector(arg(call, 1)?, grid)?;
        self.note_quantiles(&qs, span_of(call, 0));
        let question = self.question(&input, grid, span_of(call, 1))?;
        let mut out = Frame::new(grid.n, &self.budget);
        for source in &question.sources {
            self.quantile_row(&question, source, (&qs, None), &mut out)?;
        }
        self.answer(&input, out)
    }

    /// `histogram_quantiles(v, label, q…)`: one series per histogram and quantile.
    pub(crate) fn histogram_quantiles(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let input = self.vector(arg(call, 0)?, grid)?;
        let label = self.text(arg(call, 1)?, grid)?;
        let question = self.question(&input, grid, span_of(call, 0))?;
        let mut out = Frame::new(grid.n, &self.budget);
        for (position, node) in call.args.iter().enumerate().skip(2) {
            let qs = self.scalar(node, grid)?;
            self.note_quantiles(&qs, span_of(call, position));
            for source in &question.sources {
                self.quantile_row(&question, source, (&qs, Some(&label)), &mut out)?;
            }
        }
        let out = self.join_same_labels(out)?;
        self.answer(&input, out)
    }

    /// `histogram_fraction(lower, upper, v)`.
    pub(crate) fn histogram_fraction(&self, call: &Call, grid: Grid) -> Result<Frame, QueryError> {
        let lowers = self.scalar(arg(call, 0)?, grid)?;
        let uppers = self.scalar(arg(call, 1)?, grid)?;
        let input = self.vector(arg(call, 2)?, grid)?;
        let question = self.question(&input, grid, span_of(call, 2))?;
        let mut out = Frame::new(grid.n, &self.budget);
        let mut buckets = Vec::new();
        for source in &question.sources {
            self.budget.check()?;
            let mut row = out.push(source.head());
            let mut n_since_check = 0;
            for (step, (lower, upper)) in lowers.iter().zip(&uppers).enumerate() {
                self.note_buckets(buckets.len(), &mut n_since_check)?;
                match source.at(step, &input, &mut buckets) {
                    None => (),
                    Some(Found::Classic) => row.set(step, fraction(*lower, *upper, &mut buckets)),
                    Some(Found::Native(histogram)) => {
                        let (v, has_nan) = native::fraction(*lower, *upper, histogram);
                        if has_nan {
                            let name = self.name_of(&source.labels);
                            self.notes.fraction_without_nans(name, question.span);
                        }
                        row.set(step, v);
                    }
                }
            }
            out.settle_last()?;
        }
        self.answer(&input, out)
    }

    /// A classic and a native histogram may have become the same series, each at its own steps.
    fn answer(&self, input: &Frame, out: Frame) -> Result<Frame, QueryError> {
        let mut out = if input.has_histograms() {
            self.join_same_labels(out)?
        } else {
            out
        };
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

    /// The name that remarks give a series: where names go at once it is gone by now.
    fn name_of<'a>(&self, labels: &'a Labels) -> &'a str {
        if self.context.delayed_name_removal {
            labels.metric_name()
        } else {
            ""
        }
    }

    /// Asks every few thousand buckets whether to go on.
    fn note_buckets(&self, n: usize, since_check: &mut usize) -> Result<(), QueryError> {
        *since_check += n;
        if BUCKETS_BETWEEN_CHECKS < *since_check {
            *since_check = 0;
            self.budget.check()?;
        }
        Ok(())
    }

    /// The quantile of one histogram at every step; `label` gets the quantile's value.
    fn quantile_row(
        &self,
        question: &Question<'_>,
        source: &Source,
        (qs, label): (&[f64], Option<&str>),
        out: &mut Frame,
    ) -> Result<(), QueryError> {
        self.budget.check()?;
        let mut buckets = Vec::new();
        let mut last: Option<(u64, usize)> = None;
        let mut n_since_check = 0;
        for (step, q) in qs.iter().enumerate() {
            self.note_buckets(buckets.len(), &mut n_since_check)?;
            let v = match source.at(step, question.input, &mut buckets) {
                None => continue,
                Some(Found::Classic) => {
                    let (v, raised) = quantile(*q, &mut buckets);
                    if let Some(raised) = raised {
                        let t = question.grid.time(step);
                        self.note_raised(&source.labels, raised, t, question.span);
                    }
                    v
                }
                Some(Found::Native(histogram)) => {
                    self.native_quantile(*q, histogram, &source.labels, question.span)
                }
            };
            let row = match last {
                Some((bits, row)) if bits == q.to_bits() || label.is_none() => row,
                _ => {
                    let mut head = source.head();
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

    fn native_quantile(&self, q: f64, histogram: &Histogram, labels: &Labels, span: Span) -> f64 {
        let (v, nans) = native::quantile(q, histogram);
        match nans {
            None => (),
            Some(Nans::AreResult) => self.notes.quantile_is_nan(self.name_of(labels), span),
            Some(Nans::Skew) => self.notes.quantile_is_skewed(self.name_of(labels), span),
        }
        v
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
        self.notes
            .forced_monotonicity(self.name_of(labels), &repair, span);
    }

    /// Finds the histograms of a vector.
    fn question<'a>(
        &self,
        input: &'a Frame,
        grid: Grid,
        span: Span,
    ) -> Result<Question<'a>, QueryError> {
        let mut place_of: HashedMap<SeriesKey, usize> = HashedMap::default();
        let mut sources: Vec<Source> = Vec::new();
        for (i, (head, row)) in input.rows().enumerate() {
            self.budget.every(i)?;
            if row.has_histograms() && row.iter().next().is_none() {
                continue;
            }
            let le = head.labels.value(BUCKET_LABEL);
            let Some(bound) = parse_go_float(le) else {
                let name = self.name_of(&head.labels);
                self.notes.bad_bucket_label(name, le, span);
                continue;
            };
            let others = head.labels.iter().filter(|(name, _)| *name != BUCKET_LABEL);
            let place = *place_of.entry(SeriesKey::of(others)).or_insert_with(|| {
                sources.push(Source {
                    labels: head.labels.filtered(|name| name != BUCKET_LABEL),
                    kind: Kind::Classic(Vec::new()),
                    disputed: Vec::new(),
                });
                sources.len() - 1
            });
            if let Kind::Classic(buckets) = &mut sources[place].kind {
                buckets.push((bound, i));
            }
        }
        for (i, (head, row)) in input.rows().enumerate() {
            if row.histograms().next().is_none() {
                continue;
            }
            let mut disputed = Vec::new();
            if let Some(classic) = place_of.get(&head.labels.key()) {
                let classic = &mut sources[*classic];
                disputed = classic.disputes(row, input);
                if ones(&disputed).next().is_some() {
                    let name = self.name_of(&head.labels);
                    self.notes.mixed_classic_native_histograms(name, span);
                }
                classic.disputed.clone_from(&disputed);
            }
            sources.push(Source {
                labels: head.labels.clone(),
                kind: Kind::Native(i),
                disputed,
            });
        }
        Ok(Question {
            input,
            sources,
            grid,
            span,
        })
    }
}

/// Buckets sorted and walked before somebody asks whether to go on: a single histogram may have thousands at each step.
const BUCKETS_BETWEEN_CHECKS: usize = 8_192;

/// What a histogram is at a step.
enum Found<'a> {
    /// The buckets that were listed.
    Classic,
    /// This.
    Native(&'a Histogram),
}

impl Source {
    fn head(&self) -> Head {
        Head {
            labels: self.labels.clone(),
            drop_name: true,
        }
    }

    /// What there is at `step`; the buckets of a classic histogram are listed.
    fn at<'a>(
        &self,
        step: usize,
        input: &'a Frame,
        buckets: &mut Vec<Bucket>,
    ) -> Option<Found<'a>> {
        let word = self.disputed.get(step / 64).copied().unwrap_or(0);
        if word >> (step % 64) & 1 == 1 {
            return None;
        }
        match &self.kind {
            Kind::Native(row) => match input.row(*row).cell(step)? {
                Cell::Histogram(histogram) => Some(Found::Native(histogram)),
                Cell::Float(_) => None,
            },
            Kind::Classic(rows) => {
                buckets.clear();
                for (bound, i) in rows {
                    if let Some(count) = input.row(*i).get(step) {
                        buckets.push(Bucket {
                            bound: *bound,
                            count,
                        });
                    }
                }
                (!buckets.is_empty()).then_some(Found::Classic)
            }
        }
    }

    /// Steps at which both this classic histogram and the native one in `native` are there.
    fn disputes(&self, native: Row<'_>, input: &Frame) -> Vec<u64> {
        let mut disputed = vec![0_u64; native.present.len()];
        let Kind::Classic(rows) = &self.kind else {
            return disputed;
        };
        for (step, _) in native.histograms() {
            if rows.iter().any(|(_, i)| input.row(*i).get(step).is_some()) {
                disputed[step / 64] |= 1 << (step % 64);
            }
        }
        disputed
    }
}

fn span_of(call: &Call, i: usize) -> Span {
    call.arg_spans.get(i).copied().unwrap_or(call.span)
}
