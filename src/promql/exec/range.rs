//! Functions over ranges: a window slides over the samples of each series.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the arms name what is treated here; everything else is one case"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "window positions are searched within the samples; rows have a value per step"
)]

use crate::model::{Interval, Labels, METRIC_NAME};
use crate::promql::exec::Evaluator;
use crate::promql::exec::frame::{Frame, Head, RowMut, ones};
use crate::promql::exec::histogram_stats::without_buckets;
use crate::promql::exec::parallel::{SeriesWork, Sink};
use crate::promql::exec::range_rate::Counter;
use crate::promql::exec::slide::{KeptWindows, Slide};
use crate::promql::exec::source::Samples;
use crate::promql::functions::kernel::{extreme, simple};
use crate::promql::functions::sliding::Extremes;
use crate::promql::functions::window::Window;
use crate::promql::functions::xrate::Extended;
use crate::promql::functions::{Func, RangeFn, extended, over_time, quantile, regression, xrate};
use crate::promql::limits::{Budget, QueryError};
use crate::promql::parse::ast::{Extend, Span};
use crate::promql::plan::{Call, Grid, Leaf, Node, Range, RangeSource, Reading};
use crate::storage::Windows;

/// Windows of fewer samples are not booked: what they lie in is decoded anyway, and threads that book wait for each other.
const WIDE_WINDOW: usize = 1 << 10;

/// What a metric is, where somebody wrote it beside its name.
const TYPE_LABEL: &str = "__type__";

/// A range function with its scalar arguments.
pub(crate) struct Job {
    pub(crate) func: RangeFn,
    pub(crate) slide: Slide,
    params: [Vec<f64>; 2],
    /// Where remarks stand.
    pub(crate) span: Span,
    /// Of native histograms only count and sum matter.
    only_stats: bool,
    reading: Reading,
    /// It reads samples itself; those of a subquery were read for that.
    reads: bool,
}

/// Memory that is used again from series to series.
#[derive(Default)]
pub(crate) struct Scratch {
    living: Samples,
    counter: Counter,
    extremes: Extremes,
    kept: KeptWindows,
    t: Vec<i64>,
    v: Vec<f64>,
}

impl Evaluator {
    /// A call of a range function.
    pub(crate) fn range_call(
        &self,
        call: &Call,
        func: RangeFn,
        grid: Grid,
    ) -> Result<Frame, QueryError> {
        let (range, job) = self.range_job(call, func, grid)?;
        let mut frame = self.run(range, grid, job)?;
        self.settle_names(&mut frame)?;
        Ok(frame)
    }

    /// A call of a range function over stored series, handed over a few series at a time, names not settled; see
    /// [`Evaluator::over_series_into`].
    pub(crate) fn range_call_into<T, S>(
        &self,
        call: &Call,
        grid: Grid,
        (prepare, sink): (impl Fn(Frame) -> T + Send + Sync + 'static, S),
    ) -> Result<S, QueryError>
    where
        T: Send + 'static,
        S: Sink<T>,
    {
        let Func::Range(func) = call.func else {
            return Err(QueryError::execution("expected a range function"));
        };
        let (range, job) = self.range_job(call, func, grid)?;
        let RangeSource::Samples(leaf) = &range.source else {
            return Err(QueryError::execution("expected stored series"));
        };
        match self.selected.get(leaf.selector) {
            Some(selected) => self.over_series_into(selected, job, grid.n, (prepare, sink)),
            None => Ok(sink),
        }
    }

    fn range_job<'a>(
        &self,
        call: &'a Call,
        func: RangeFn,
        grid: Grid,
    ) -> Result<(&'a Range, Job), QueryError> {
        let mut scalars = Vec::new();
        let mut found = None;
        for (arg, span) in call.args.iter().zip(&call.arg_spans) {
            match arg {
                Node::Range(range) => found = Some((range, *span)),
                other => scalars.push((self.scalar(other, grid)?, *span)),
            }
        }
        let Some((range, range_span)) = found else {
            return Err(QueryError::execution(format!(
                "{} needs a range vector",
                call.name
            )));
        };
        // What is evaluated at no step is no error.
        if let RangeSource::Samples(leaf) = &range.source
            && let Some(extend) = leaf.extend
            && 0 < grid.n
        {
            extended::check(extend, call.name)?;
        }
        let (span, only_stats, reading) = match &range.source {
            RangeSource::Samples(leaf) => (range_span, leaf.only_stats, leaf.reading),
            // The points of a subquery are nowhere in the text: remarks about them stand at its start, as Prometheus has
            // it, and still come after those about what is inside.
            RangeSource::Subquery(_) => {
                let start = 0;
                (
                    Span {
                        start,
                        ..range_span
                    },
                    false,
                    Reading::default(),
                )
            }
        };
        let span = match scalars.first() {
            // Its remarks stand at the quantile, which comes first.
            Some((_, span)) if func == RangeFn::QuantileOverTime => *span,
            _ => span,
        };
        let mut scalars = scalars.into_iter().map(|(values, _)| values);
        let job = Job {
            func,
            slide: self.slide(range, grid, func),
            params: [0, 1].map(|_| scalars.next().unwrap_or_default()),
            span,
            only_stats,
            reading,
            reads: matches!(range.source, RangeSource::Samples(_)),
        };
        Ok((range, job))
    }

    pub(crate) fn slide(&self, range: &Range, grid: Grid, func: RangeFn) -> Slide {
        let (offset_ms, at) = range.shift();
        let (extend, window_ms) = match &range.source {
            RangeSource::Samples(leaf) => (leaf.extend, self.window_ms(leaf)),
            RangeSource::Subquery(_) => (None, 0),
        };
        let reach_ms = self.context.lookback_ms;
        let lookback = reach_ms + window_ms;
        Slide {
            grid,
            range_ms: range.range_ms,
            offset_ms,
            at,
            extend,
            before_ms: if extend.is_some() || func.reaches_back() {
                lookback
            } else {
                0
            },
            after_ms: if extend == Some(Extend::Smoothed) {
                lookback
            } else {
                0
            },
            is_last_before: func.reaches_back(),
            raw_reach_ms: (0 < window_ms && (extend.is_some() || func.reaches_back()))
                .then_some(reach_ms),
        }
    }

    /// How long the longest windows are that the storage has for a selector; zero where it has samples.
    pub(crate) fn window_ms(&self, leaf: &Leaf) -> i64 {
        let selected = self.selected.get(leaf.selector);
        let coarsest = selected.and_then(|selected| selected.resolutions.last());
        coarsest.map_or(0, |resolution| resolution.as_ms())
    }

    /// Evaluates `job` at every step over every series.
    fn run(&self, range: &Range, grid: Grid, job: Job) -> Result<Frame, QueryError> {
        match &range.source {
            RangeSource::Samples(leaf) => match self.selected.get(leaf.selector) {
                Some(selected) => self.over_series(selected, job, grid.n),
                None => Ok(Frame::new(grid.n, &self.budget)),
            },
            RangeSource::Subquery(subquery) => {
                let mut frame = Frame::new(grid.n, &self.budget);
                let mut scratch = Scratch::default();
                self.over_subquery(range, subquery, grid, |head, samples| {
                    job.row(self, (head, samples), &mut scratch, &mut frame)
                })?;
                Ok(frame)
            }
        }
    }

    fn note_counter(&self, labels: &Labels, span: Span) {
        let (mut name, mut type_label) = ("", "");
        // These two come early.
        for (label, value) in labels {
            match label {
                METRIC_NAME => name = value,
                TYPE_LABEL => type_label = value,
                later if TYPE_LABEL < later => break,
                _ => (),
            }
        }
        if name.is_empty() {
            return;
        }
        // Series without the label were written by those who do not know it.
        if self.context.type_and_unit_labels && !type_label.is_empty() {
            if type_label != "counter" && type_label != "histogram" {
                self.notes.possible_non_counter_type(name, type_label, span);
            }
        } else if !["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
        {
            self.notes.possible_non_counter(name, span);
        }
    }
}

impl SeriesWork for Job {
    type State = Scratch;
    type Out = Frame;

    fn reading(&self) -> Reading {
        self.reading
    }

    fn windows(&self) -> Windows {
        if self.func.reaches_back() {
            // Where a series begins matters to these.
            return Windows::of(Interval::ALL);
        }
        self.slide.windows()
    }

    fn begin(&self, mut frame: Frame, n_series: usize) -> Frame {
        frame.expect_rows(n_series);
        frame
    }

    fn series(
        &self,
        evaluator: &Evaluator,
        (labels, stored): (&Labels, &Samples),
        scratch: &mut Scratch,
        out: &mut Frame,
    ) -> Result<(), QueryError> {
        let head = Head::new(labels.clone());
        self.row(evaluator, (head, stored), scratch, out)
    }
}

impl Job {
    /// One row more.
    fn row(
        &self,
        evaluator: &Evaluator,
        (head, stored): (Head, &Samples),
        scratch: &mut Scratch,
        out: &mut Frame,
    ) -> Result<(), QueryError> {
        let stripped;
        let stored = if self.only_stats && !stored.ht.is_empty() {
            stripped = without_buckets(stored, self.slide.seeks());
            &stripped
        } else {
            stored
        };
        let mut living = std::mem::take(&mut scratch.living);
        let samples = if stored.has_stale() {
            stored.copy_without_stale(&mut living);
            &living
        } else {
            stored
        };
        let is_plain = self.adds_up_windows(samples) || samples.has_only_floats();
        let labels_of_mixed = (!is_plain).then(|| head.labels.clone());
        let mut row = out.push(Head {
            drop_name: head.drop_name || !self.func.keeps_name(),
            ..head
        });
        let filled = if let Some(labels) = labels_of_mixed {
            self.fill_mixed(samples, evaluator, (&labels, scratch), &mut row)
        } else if self.adds_up_windows(samples) {
            self.fill_from_windows(samples, &evaluator.budget, scratch, &mut row)
        } else {
            self.fill(samples, &evaluator.budget, scratch, &mut row)
        };
        if self.func == RangeFn::QuantileOverTime {
            self.note_quantiles(evaluator, row.present);
        }
        let is_rate = matches!(self.func, RangeFn::Rate | RangeFn::Increase) && row.has_floats();
        let (n, widest) = filled?;
        let slide = &self.slide;
        evaluator.tally.add(
            n,
            if self.reads {
                slide.n_read(samples, n)
            } else {
                0
            },
        );
        if evaluator.tally.is_per_step() {
            let edges = |step| slide.edges(step);
            evaluator
                .tally
                .windows(samples, slide.grid, edges, self.reads);
        }
        scratch.living = living;
        if widest >= WIDE_WINDOW {
            evaluator.budget.take(widest)?;
            evaluator.budget.give(widest);
        }
        out.settle_last()?;
        if is_rate && let Some(head) = out.heads().last() {
            evaluator.note_counter(&head.labels, self.span);
        }
        Ok(())
    }

    /// Is it about the samples behind the windows, rather than about the windows?
    fn adds_up_windows(&self, samples: &Samples) -> bool {
        match self.func {
            RangeFn::CountOverTime => self.reading == Reading::Count && !samples.coarse.is_empty(),
            RangeFn::AvgOverTime => !samples.weights.is_empty(),
            _ => false,
        }
    }

    /// Number or average of the raw samples behind each window's values.
    fn fill_from_windows(
        &self,
        samples: &Samples,
        budget: &Budget,
        scratch: &mut Scratch,
        row: &mut RowMut<'_>,
    ) -> Result<(u64, usize), QueryError> {
        let mut widest = 0;
        let kept = &mut scratch.kept;
        let n = self.slide.each(samples, budget, kept, |i, w| {
            widest = widest.max(w.t.len());
            let total = over_time::sum(w);
            let weights = samples.weights.get(w.offset..w.offset + w.v.len());
            let n_samples = weights.map_or(1.0, |weights| weights.iter().sum());
            if let Some(total) = total {
                row.set(i, total / n_samples);
            }
        })?;
        Ok((n, widest))
    }

    /// A quantile that is none is remarkable where there are floats.
    fn note_quantiles(&self, evaluator: &Evaluator, present: &[u64]) {
        for i in ones(present) {
            let q = self.params[0].get(i).copied().unwrap_or_default();
            if !(0.0..=1.0).contains(&q) {
                evaluator.notes.invalid_quantile(q, self.span);
            }
        }
    }

    /// Evaluates every window; returns samples seen and the most in one window.
    fn fill(
        &self,
        samples: &Samples,
        budget: &Budget,
        scratch: &mut Scratch,
        row: &mut RowMut<'_>,
    ) -> Result<(u64, usize), QueryError> {
        let mut widest = 0;
        let slide = self.slide;
        if matches!(self.func, RangeFn::Rate | RangeFn::Increase) && slide.extend.is_none() {
            let is_rate = self.func == RangeFn::Rate;
            return slide.rates(samples, (&mut scratch.counter, is_rate), row, budget);
        }
        if let Some(extreme) = extreme(self.func)
            && slide.extend.is_none()
        {
            let Scratch { extremes, kept, .. } = scratch;
            extremes.clear();
            let mut floats = row.floats();
            let n = slide.each(samples, budget, kept, |i, w| {
                widest = widest.max(w.t.len());
                floats.set(i, extremes.of(extreme, &samples.v, w));
            })?;
            return Ok((n, widest));
        }
        if let Some(simple) = simple(self.func)
            && slide.extend.is_none()
        {
            let mut floats = row.floats();
            let n = slide.each(samples, budget, &mut scratch.kept, |i, w| {
                widest = widest.max(w.t.len());
                if let Some(v) = simple(w) {
                    floats.set(i, v);
                }
            })?;
            return Ok((n, widest));
        }
        let appeared_t = samples.t.first().copied().unwrap_or_default();
        let mut refused = None;
        let mut kept = std::mem::take(&mut scratch.kept);
        let n = slide.each(samples, budget, &mut kept, |i, w| {
            refused = refused.take().or_else(|| self.refusal(i));
            widest = widest.max(w.t.len());
            let v = match slide.extend {
                Some(extend) => self.extended(w, extend, scratch),
                None => self.general(i, (w, appeared_t), scratch),
            };
            if let Some(v) = v {
                row.set(i, v);
            }
        });
        scratch.kept = kept;
        let n = n?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        Ok((n, widest))
    }

    /// Factors of a smoothing lie between 0 and 1, at least where there is anything to smooth.
    pub(crate) fn refusal(&self, i: usize) -> Option<QueryError> {
        if self.func != RangeFn::DoubleExponentialSmoothing {
            return None;
        }
        [("smoothing", "sf"), ("trend", "tf")]
            .into_iter()
            .zip(&self.params)
            .find_map(|((kind, sign), values)| {
                let factor = values
                    .get(i)
                    .filter(|factor| **factor <= 0.0 || **factor >= 1.0)?;
                Some(QueryError::execution(format!(
                    "invalid {kind} factor. Expected: 0 < {sign} < 1, got: {factor:.6}"
                )))
            })
    }

    pub(crate) fn general(
        &self,
        i: usize,
        (w, appeared_t): (&Window<'_>, i64),
        scratch: &mut Scratch,
    ) -> Option<f64> {
        let param = |which: usize| self.params[which].get(i).copied();
        match self.func {
            RangeFn::PredictLinear => regression::predict_linear(w, param(0)?),
            RangeFn::DoubleExponentialSmoothing => {
                over_time::double_exponential_smoothing(w, param(0)?, param(1)?)
            }
            RangeFn::QuantileOverTime => {
                let q = param(0)?;
                scratch.v.clear();
                scratch.v.extend_from_slice(w.v);
                (!w.v.is_empty()).then(|| quantile::quantile(q, &mut scratch.v))
            }
            RangeFn::MadOverTime => {
                scratch.v.clear();
                scratch.v.extend_from_slice(w.v);
                (!w.v.is_empty()).then(|| quantile::median_absolute_deviation(&mut scratch.v))
            }
            RangeFn::Xrate => xrate::change(w, Extended::Rate, appeared_t),
            RangeFn::Xincrease => xrate::change(w, Extended::Increase, appeared_t),
            RangeFn::Xdelta => xrate::change(w, Extended::Delta, appeared_t),
            other => simple(other)?(w),
        }
    }

    pub(crate) fn extended(
        &self,
        w: &Window<'_>,
        extend: Extend,
        scratch: &mut Scratch,
    ) -> Option<f64> {
        let is_smoothed = extend == Extend::Smoothed;
        match self.func {
            RangeFn::Rate => extended::change(w, is_smoothed, true, true),
            RangeFn::Increase => extended::change(w, is_smoothed, true, false),
            RangeFn::Delta => extended::change(w, is_smoothed, false, false),
            other => {
                extended::anchor(w, is_smoothed, &mut scratch.t, &mut scratch.v);
                let anchored = Window {
                    t: &scratch.t,
                    v: &scratch.v,
                    ..*w
                };
                simple(other)?(&anchored)
            }
        }
    }
}
