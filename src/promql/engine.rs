//! The engine: a query and a source in, an answer out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::foundation::pool::Pool;
use crate::foundation::{Cancel, Clock, SystemClock};
use crate::model::{Resolution, TimestampMs};
use crate::promql::annotations::Annotations;
use crate::promql::columns::Columns;
use crate::promql::exec::estimate::estimate_all;
use crate::promql::exec::frame::Frame;
use crate::promql::exec::profile::{Profile, Tree};
use crate::promql::exec::source::{Selected, select_all};
use crate::promql::exec::tally::Tally;
use crate::promql::exec::{EvalContext, Evaluator, Value, finish};
use crate::promql::explain::Operator;
use crate::promql::limits::{Budget, QueryError};
use crate::promql::memory::{Held, Hold, MemoryPool};
use crate::promql::parse::ast::{Expr, ValueType};
use crate::promql::parse::parse_expr;
use crate::promql::plan::{Grid, Node, Plan, PlanContext, plain_plan, plan};
use crate::promql::stages::{PlannedQuery, SelectedQuery, Times};
use crate::promql::value::{QueryOutput, QueryStats, QueryValue, VectorSample};
use crate::storage::{Queryable, ResolutionBounds};

/// What every query of an engine goes by.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How old the newest sample of a series may be, unless the query says otherwise.
    pub lookback_ms: i64,
    /// The most samples one query may hold.
    pub samples_max: u64,
    /// The most bytes one query may hold.
    pub memory_per_query_max: u64,
    /// What all queries may hold together.
    pub memory: MemoryPool,
    /// How long a query may take, unless it says less.
    pub timeout_ms: i64,
    /// Step of subqueries that name none.
    pub subquery_step_ms: i64,
    /// Names go when a query is done rather than when a function is, so that functions of labels still see them.
    pub delayed_name_removal: bool,
    /// `__type__`, where a series has it, says what a counter is, rather than the metric's name.
    pub type_and_unit_labels: bool,
    /// Where the deadline is read.
    pub clock: Arc<dyn Clock>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            samples_max: 50_000_000,
            memory_per_query_max: u64::MAX,
            memory: MemoryPool::default(),
            timeout_ms: 120_000,
            subquery_step_ms: 60_000,
            delayed_name_removal: true,
            type_and_unit_labels: true,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What one query goes by.
#[derive(Debug, Clone, Default)]
pub struct QueryOptions {
    /// Instead of the engine's lookback.
    pub lookback_ms: Option<i64>,
    /// Less time than the engine allows.
    pub timeout_ms: Option<i64>,
    /// Fewer samples than the engine allows.
    pub samples_max: Option<u64>,
    /// How coarse samples may be, before functions set narrower bounds of their own.
    pub resolutions: ResolutionBounds,
    /// Milliseconds the query waited before; they count for its timeout.
    pub queued_ms: i64,
    /// Count samples by step.
    pub per_step: bool,
    /// Observe what every operator does.
    pub analyze: bool,
    /// Evaluate the query as it is written, without any rewrite that makes it faster: the answer is the same.
    pub plain_plan: bool,
    /// Raised by whoever no longer waits for the answer.
    pub cancel: Cancel,
}

/// Answers queries. Cloning is cheap; calls compute on the thread that calls.
#[derive(Debug, Clone)]
pub struct Engine {
    settings: EngineSettings,
    pool: Option<Pool>,
}

impl Engine {
    /// An engine; big queries share their work with idle threads of `pool`, which may be the one they run in.
    pub fn new(settings: EngineSettings, pool: Option<Pool>) -> Self {
        Self { settings, pool }
    }

    /// What every query goes by.
    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    /// The value of `query` at `t_ms`.
    pub fn instant(
        &self,
        queryable: Arc<dyn Queryable>,
        query: &str,
        t_ms: TimestampMs,
        options: &QueryOptions,
    ) -> Result<QueryOutput, QueryError> {
        self.evaluate(self.select(queryable, self.plan_instant(query, t_ms, options)?)?)
    }

    /// The value of an expression that is read already; remarks carry no place.
    pub fn instant_expr(
        &self,
        queryable: Arc<dyn Queryable>,
        expr: &Expr,
        t_ms: TimestampMs,
        options: &QueryOptions,
    ) -> Result<QueryOutput, QueryError> {
        let times = Times::instant(t_ms, self.settings.clock.now_ns());
        self.evaluate(self.select(queryable, self.plan((expr, ""), times, options)?)?)
    }

    /// The values of `query` from `start_ms` to `end_ms`, both inclusive, every `step_ms`.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parameters of a range query, in the order the HTTP API names them"
    )]
    pub fn range(
        &self,
        queryable: Arc<dyn Queryable>,
        query: &str,
        start_ms: TimestampMs,
        end_ms: TimestampMs,
        step_ms: i64,
        options: &QueryOptions,
    ) -> Result<QueryOutput, QueryError> {
        let times = (start_ms, end_ms, step_ms);
        self.evaluate(self.select(queryable, self.plan_range(query, times, options)?)?)
    }

    /// Reads and plans what [`Self::instant`] answers.
    pub fn plan_instant(
        &self,
        query: &str,
        t_ms: TimestampMs,
        options: &QueryOptions,
    ) -> Result<PlannedQuery, QueryError> {
        let times = Times::instant(t_ms, self.settings.clock.now_ns());
        self.plan((&read(query)?, query), times, options)
    }

    /// Reads and plans what [`Self::range`] answers: start, end and step are its.
    pub fn plan_range(
        &self,
        query: &str,
        (start_ms, end_ms, step_ms): (TimestampMs, TimestampMs, i64),
        options: &QueryOptions,
    ) -> Result<PlannedQuery, QueryError> {
        let began_ns = self.settings.clock.now_ns();
        let expr = read(query)?;
        let value_type = expr.value_type();
        if !matches!(value_type, ValueType::Scalar | ValueType::Vector) {
            return Err(QueryError::BadData(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                value_type.documented()
            )));
        }
        if step_ms <= 0 {
            return Err(QueryError::BadData(
                "zero or negative query resolution step widths are not accepted. Try a positive integer".to_owned(),
            ));
        }
        let times = Times::range((start_ms, end_ms, step_ms), began_ns);
        self.plan((&expr, query), times, options)
    }

    fn plan(
        &self,
        (expr, text): (&Expr, &str),
        times: Times,
        options: &QueryOptions,
    ) -> Result<PlannedQuery, QueryError> {
        let make_plan = if options.plain_plan { plain_plan } else { plan };
        let plan = make_plan(
            expr,
            &PlanContext {
                grid: times.grid,
                end_ms: times.end_ms,
                step_ms: times.step_ms,
                lookback_ms: self.lookback_ms(options),
                subquery_step_ms: self.settings.subquery_step_ms,
                resolutions: options.resolutions,
            },
        )?;
        Ok(PlannedQuery {
            plan,
            text: text.to_owned(),
            times,
            options: options.clone(),
        })
    }

    fn lookback_ms(&self, options: &QueryOptions) -> i64 {
        let lookback_ms = options.lookback_ms.unwrap_or(self.settings.lookback_ms);
        lookback_ms.max(1)
    }

    fn budget(&self, options: &QueryOptions) -> Arc<Budget> {
        let settings = &self.settings;
        let timeout_ms = options
            .timeout_ms
            .map_or(settings.timeout_ms, |asked| asked.min(settings.timeout_ms));
        let began_ms = settings.clock.now_ms().saturating_sub(options.queued_ms);
        let samples_max = options.samples_max.map_or(settings.samples_max, |asked| {
            asked.min(settings.samples_max)
        });
        let budget = Budget::new(
            samples_max,
            options.cancel.clone(),
            Arc::clone(&settings.clock),
            began_ms.saturating_add(timeout_ms),
        );
        Arc::new(budget.with_memory(settings.memory.clone(), settings.memory_per_query_max))
    }

    /// Collects the series of a planned query.
    pub fn select(
        &self,
        queryable: Arc<dyn Queryable>,
        query: PlannedQuery,
    ) -> Result<SelectedQuery, QueryError> {
        let budget = self.budget(&query.options);
        let notes = Arc::new(Annotations::default());
        let (selected, cost) = select_all(
            &query.plan,
            &*queryable,
            (&query.text, query.times.step_ms, self.pool.as_ref()),
            &budget,
            &notes,
        )?;
        Ok(SelectedQuery {
            query,
            queryable,
            budget,
            notes,
            selected: selected.into(),
            cost,
            prepared_ns: self.settings.clock.now_ns(),
        })
    }

    /// The answer to a query whose series are collected.
    pub fn evaluate(&self, query: SelectedQuery) -> Result<QueryOutput, QueryError> {
        let settings = &self.settings;
        let SelectedQuery {
            query: question,
            queryable,
            budget,
            notes,
            selected,
            cost,
            prepared_ns,
        } = query;
        let PlannedQuery {
            plan,
            text,
            times,
            options,
        } = &question;
        let resolutions = resolutions_of(&selected);
        let evaluator = Evaluator {
            context: EvalContext {
                grid: times.grid,
                end_ms: times.end_ms,
                step_ms: times.step_ms,
                lookback_ms: self.lookback_ms(options),
                delayed_name_removal: settings.delayed_name_removal,
                type_and_unit_labels: settings.type_and_unit_labels,
                is_range: times.is_range,
                resolutions: options.resolutions,
            },
            selected,
            queryable,
            budget: Arc::clone(&budget),
            answer: Arc::new(Hold::new(&budget)),
            notes: Arc::clone(&notes),
            tally: Arc::new(Tally::new(times.grid, options.per_step)),
            profile: options
                .analyze
                .then(|| Arc::new(Profile::new(&settings.clock))),
            n_read: Arc::default(),
            sort_ns: Arc::default(),
            pool: self.pool.clone(),
        };
        let value = evaluate(&evaluator, plan, times)?;
        let done_ns = settings.clock.now_ns();
        let (warnings, infos) = notes.texts(text);
        let profile = evaluator.profile.as_ref();
        Ok(QueryOutput {
            value,
            warnings,
            infos,
            stats: QueryStats {
                queue_ns: u64::try_from(options.queued_ms).unwrap_or(0) * NS_PER_MS,
                preparation_ns: prepared_ns.saturating_sub(times.began_ns),
                inner_eval_ns: done_ns.saturating_sub(prepared_ns),
                sort_ns: evaluator.sort_ns.load(Ordering::Relaxed),
                series: cost.series,
                chunks: cost.chunks,
                chunk_bytes: cost.bytes,
                resolutions,
                total_queryable_samples: evaluator.tally.queried(),
                samples_per_step: evaluator.tally.queried_steps(),
                samples_read: evaluator.tally.read(),
                samples_read_per_step: evaluator.tally.read_steps(),
                samples_decoded: evaluator.n_read.load(Ordering::Relaxed),
                peak_samples: budget.peak(),
                peak_bytes: budget.memory().peak(),
            },
            analysis: profile.map(|profile| profile.tree(plan, &evaluator, text)),
            held: Held::new(evaluator.answer),
        })
    }

    /// The plan of `query` as a tree, and about how many series and samples its selectors find; nothing is evaluated. `grid` as
    /// for [`Self::instant`] and [`Self::range`]: start, end, and a step, which is zero for an instant.
    pub fn explain(
        &self,
        queryable: &dyn Queryable,
        query: &str,
        (start_ms, end_ms, step_ms): (TimestampMs, TimestampMs, i64),
        options: &QueryOptions,
    ) -> Result<Operator, QueryError> {
        let began_ns = self.settings.clock.now_ns();
        let times = if step_ms > 0 {
            Times::range((start_ms, end_ms, step_ms), began_ns)
        } else {
            Times::instant(end_ms, began_ns)
        };
        let plan = self.plan((&read(query)?, query), times, options)?.plan;
        let estimates = estimate_all(&plan, queryable, &self.budget(options))?;
        let tree = Tree {
            plan: &plan,
            query,
            actual: None,
        };
        let mut root = tree.operator(&plan.root);
        for leaf in root.leaves_mut() {
            let estimate = leaf
                .selector_position
                .and_then(|position| estimates.get(position));
            leaf.estimated_series = estimate.map(|(n_series, _)| *n_series);
            leaf.estimated_samples = estimate.map(|(_, n_samples)| *n_samples);
        }
        Ok(root)
    }
}

const NS_PER_MS: u64 = 1_000_000;

fn read(query: &str) -> Result<Expr, QueryError> {
    parse_expr(query).map_err(|error| QueryError::BadData(error.to_string()))
}

/// How coarse what was selected is, the finest first.
fn resolutions_of(selected: &[Arc<Selected>]) -> Vec<Resolution> {
    let all = selected.iter().flat_map(|selected| &selected.resolutions);
    let each_once: BTreeSet<Resolution> = all.copied().collect();
    each_once.into_iter().collect()
}

fn evaluate(evaluator: &Evaluator, plan: &Plan, times: &Times) -> Result<QueryValue, QueryError> {
    let grid = times.grid;
    if let Node::Range(range) = &plan.root {
        let matrix = evaluator.whole_range(range, grid)?;
        return Ok(QueryValue::Matrix(matrix));
    }
    if times.is_range {
        return evaluate_range(evaluator, plan, grid);
    }
    Ok(match evaluator.eval(&plan.root, grid)? {
        Value::Scalar(values) => QueryValue::Scalar {
            t: grid.start,
            v: values.first().copied().unwrap_or(f64::NAN),
        },
        Value::Text(text) => QueryValue::String {
            t: grid.start,
            text: text.as_ref().to_owned(),
        },
        Value::Vector(frame) => {
            let frame = evaluator.finish(frame)?;
            evaluator
                .answer
                .add(frame.len().saturating_mul(size_of::<VectorSample>()))?;
            QueryValue::Vector(finish::to_vector(&frame, grid.start, &evaluator.budget)?)
        }
    })
}

/// Cells of one column set: series times steps. Steps are computed in slices of about this size, so that many series
/// that live shortly do not take room for every step.
const CELLS_PER_SLICE: usize = 4 << 20;

/// Series that are folded into groups leave fewer cells than series: about so many times fewer.
const SERIES_PER_GROUP: usize = 16;

/// A slice has at least this many steps, for every slice decodes its chunks anew.
const STEPS_PER_SLICE_MIN: usize = 32;

fn evaluate_range(
    evaluator: &Evaluator,
    plan: &Plan,
    grid: Grid,
) -> Result<QueryValue, QueryError> {
    let n_series: usize = evaluator
        .selected
        .iter()
        .zip(&plan.selectors)
        .map(|(selected, selector)| match selector.is_folded {
            true => selected.series.len() / SERIES_PER_GROUP,
            false => selected.series.len(),
        })
        .sum();
    let steps = (CELLS_PER_SLICE / n_series.max(1)).max(STEPS_PER_SLICE_MIN);
    if (1..=steps).contains(&grid.n) {
        return whole(evaluator, plan, grid);
    }
    let mut matrix = finish::Matrix::new(&evaluator.budget, &evaluator.answer);
    for slice in grid.slices(steps) {
        match evaluator.eval(&plan.root, slice)? {
            Value::Scalar(values) => matrix.add_scalar(&values, slice)?,
            Value::Vector(frame) => matrix.add(evaluator.finish(frame)?, slice)?,
            Value::Text(_) => return Err(QueryError::execution("a string over a range")),
        }
    }
    let began_ns = evaluator.budget.now_ns();
    let sorted = matrix.into_sorted()?;
    let took_ns = evaluator.budget.now_ns().saturating_sub(began_ns);
    evaluator.sort_ns.store(took_ns, Ordering::Relaxed);
    Ok(QueryValue::Matrix(sorted))
}

/// All steps in one go: what is computed is the answer.
fn whole(evaluator: &Evaluator, plan: &Plan, grid: Grid) -> Result<QueryValue, QueryError> {
    let frame = match evaluator.eval(&plan.root, grid)? {
        Value::Scalar(values) => Frame::of_scalar(&values, &evaluator.budget)?,
        Value::Vector(frame) => frame,
        Value::Text(_) => return Err(QueryError::execution("a string over a range")),
    };
    let began_ns = evaluator.budget.now_ns();
    let (frame, order) = evaluator.finish_in_order(frame)?;
    let columns = Columns::new(frame, grid, order);
    let took_ns = evaluator.budget.now_ns().saturating_sub(began_ns);
    evaluator.sort_ns.store(took_ns, Ordering::Relaxed);
    Ok(QueryValue::Columns(columns))
}
