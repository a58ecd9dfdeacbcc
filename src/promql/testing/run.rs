//! Runs a script: every question as it stands, pinned with `@` at other times, and as a range query.

use std::sync::Arc;

use crate::model::TimestampMs;
use crate::promql::engine::{Engine, EngineSettings, QueryOptions};
use crate::promql::testing::compare::compare;
use crate::promql::testing::script::{
    Annotations, Command, EvalCase, EvalTime, Expected, ScriptError, Times, parse_script,
};
use crate::promql::testing::series::SequenceValue;
use crate::promql::testing::store::{LoadedData, OpenStore};
use crate::promql::testing::variants::{names_its_bounds, pinned};
use crate::promql::value::{PointValue, QueryOutput, QueryValue, VectorSample};
use crate::storage::Queryable;

/// Half the range, and the step, of the range query an instant query is repeated as.
const RANGE_STEP_MS: i64 = 60_000;

/// What a query answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The result.
    pub value: QueryValue,
    /// With prefix and position, as the HTTP API shows them.
    pub warnings: Vec<String>,
    /// With prefix and position, as the HTTP API shows them.
    pub infos: Vec<String>,
}

/// Whoever evaluates queries. The settings scripts expect: look-back of five minutes, subqueries without a step at one
/// minute, at most 10 000 samples, names removed at the end.
pub trait Evaluator {
    /// At one time; the error is the text a user sees.
    fn instant(
        &self,
        store: &Arc<dyn Queryable>,
        query: &str,
        t: TimestampMs,
    ) -> Result<Answer, String>;

    /// At many times; the error is the text a user sees.
    fn range(
        &self,
        store: &Arc<dyn Queryable>,
        query: &str,
        times: Times,
    ) -> Result<Answer, String>;
}

/// The settings scripts expect, see [`Evaluator`].
pub fn script_settings() -> EngineSettings {
    EngineSettings {
        lookback_ms: 300_000,
        samples_max: 10_000,
        timeout_ms: 100_000,
        subquery_step_ms: 60_000,
        delayed_name_removal: true,
        ..EngineSettings::default()
    }
}

impl Evaluator for Engine {
    fn instant(
        &self,
        store: &Arc<dyn Queryable>,
        query: &str,
        t: TimestampMs,
    ) -> Result<Answer, String> {
        Self::instant(self, Arc::clone(store), query, t, &QueryOptions::default())
            .map(Answer::from)
            .map_err(|error| error.to_string())
    }

    fn range(
        &self,
        store: &Arc<dyn Queryable>,
        query: &str,
        times: Times,
    ) -> Result<Answer, String> {
        let (store, options) = (Arc::clone(store), QueryOptions::default());
        Self::range(
            self,
            store,
            query,
            times.start,
            times.end,
            times.step_ms,
            &options,
        )
        .map(Answer::from)
        .map_err(|error| error.to_string())
    }
}

impl From<QueryOutput> for Answer {
    fn from(output: QueryOutput) -> Self {
        Self {
            value: output.value.into_lists(),
            warnings: output.warnings,
            infos: output.infos,
        }
    }
}

/// How one question of a script fared.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// Line of the `eval`.
    pub line: usize,
    /// The query.
    pub expr: String,
    /// Native histograms are loaded or expected.
    pub has_histograms: bool,
    /// Start times are loaded.
    pub has_start_times: bool,
    /// What went wrong, if anything.
    pub outcome: Result<(), String>,
}

/// Runs all questions of a script, each to its own result.
pub fn run_script(
    text: &str,
    evaluator: &dyn Evaluator,
    open: &OpenStore,
) -> Result<Vec<CaseResult>, ScriptError> {
    let mut data = LoadedData::default();
    let mut store: Option<Arc<dyn Queryable>> = None;
    let mut results = Vec::new();
    for command in parse_script(text)? {
        match command {
            Command::Clear => {
                data = LoadedData::default();
                store = None;
            }
            Command::Load(load) => {
                data.add(&load).map_err(|reason| ScriptError {
                    line: load.line,
                    reason,
                })?;
                store = None;
            }
            Command::Eval(case) => {
                let opened = match &store {
                    Some(opened) => Arc::clone(opened),
                    None => open(&data).map_err(|reason| ScriptError {
                        line: case.line,
                        reason,
                    })?,
                };
                store = Some(Arc::clone(&opened));
                let run = CaseRun {
                    case: &case,
                    evaluator,
                    store: &opened,
                };
                results.push(CaseResult {
                    line: case.line,
                    expr: case.expr.clone(),
                    has_histograms: data.has_histograms() || expects_histograms(&case),
                    has_start_times: data.has_start_times(),
                    outcome: run.run(),
                });
            }
        }
    }
    Ok(results)
}

fn expects_histograms(case: &EvalCase) -> bool {
    match &case.expected {
        Expected::Series(series) => series
            .iter()
            .flat_map(|(_, values)| values)
            .any(|value| matches!(value, SequenceValue::Histogram(_))),
        Expected::Scalar(_) | Expected::Text(_) => false,
    }
}

struct CaseRun<'a> {
    case: &'a EvalCase,
    evaluator: &'a dyn Evaluator,
    store: &'a Arc<dyn Queryable>,
}

impl CaseRun<'_> {
    fn run(&self) -> Result<(), String> {
        let case = self.case;
        match case.time {
            EvalTime::Range(times) => {
                let answer = self.evaluator.range(self.store, &case.expr, times);
                self.check(answer, times).map(drop)
            }
            EvalTime::Instant(t) => {
                // A range vector's own end is the time it is asked at.
                let t = case.range_vector.map_or(t, |range| range.end);
                self.instant(&case.expr, t)?;
                let Some((query, times)) = pinned(&case.expr, t) else {
                    return Ok(());
                };
                for t in times {
                    self.instant(&query, t)
                        .map_err(|why| format!("as {query} at {t}: {why}"))?;
                }
                Ok(())
            }
        }
    }

    /// Checks failure, annotations and value; `None` when the query had to fail and did.
    fn check(
        &self,
        answer: Result<Answer, String>,
        times: Times,
    ) -> Result<Option<Answer>, String> {
        let case = self.case;
        let answer = match (answer, &case.fail) {
            (Err(error), Some(wanted)) if wanted.accepts(&error) => return Ok(None),
            (Err(error), Some(wanted)) => {
                return Err(format!("expected to fail with {wanted}, got {error:?}"));
            }
            (Err(error), None) => return Err(format!("failed: {error}")),
            (Ok(answer), Some(_)) => {
                return Err(format!("expected to fail, got {:?}", answer.value));
            }
            (Ok(answer), None) => answer,
        };
        check_annotations("warning", &case.warnings, &answer.warnings)?;
        check_annotations("info", &case.infos, &answer.infos)?;
        compare(case, &answer.value, times)?;
        Ok(Some(answer))
    }

    fn instant(&self, query: &str, t: TimestampMs) -> Result<(), String> {
        let case = self.case;
        let times = match case.range_vector {
            Some(times) => times,
            None => Times {
                start: t,
                end: t,
                step_ms: 1,
            },
        };
        let answer = self.evaluator.instant(self.store, query, t);
        let Some(answer) = self.check(answer, times)? else {
            return Ok(());
        };
        let is_text = matches!(case.expected, Expected::Text(_));
        if case.range_vector.is_some() || is_text || names_its_bounds(query) {
            return Ok(());
        }
        self.as_range(query, t, &answer.value)
            .map_err(|why| format!("as a range query: {why}"))
    }

    /// The middle step of a range query around `t` answers what the instant query did.
    fn as_range(&self, query: &str, t: TimestampMs, instant: &QueryValue) -> Result<(), String> {
        let times = Times {
            start: t - RANGE_STEP_MS,
            end: t + RANGE_STEP_MS,
            step_ms: RANGE_STEP_MS,
        };
        let answer = self.evaluator.range(self.store, query, times)?;
        if self.case.ordered {
            return Ok(());
        }
        let QueryValue::Matrix(matrix) = answer.value else {
            return Err(format!("got {:?}", answer.value));
        };
        if !matrix.is_sorted_by(|left, right| left.labels < right.labels) {
            return Err("the matrix is not sorted by labels".to_owned());
        }
        let vector: Vec<VectorSample> = matrix
            .into_iter()
            .filter_map(|series| {
                let float = series.floats.iter().find(|point| point.t == t);
                let histogram = series.histograms.iter().find(|point| point.t == t);
                let value = match (float, histogram) {
                    (Some(sample), _) => PointValue::Float(sample.v),
                    (None, Some(point)) => PointValue::Histogram(Arc::clone(&point.histogram)),
                    (None, None) => return None,
                };
                Some(VectorSample {
                    labels: series.labels,
                    t,
                    value,
                })
            })
            .collect();
        let times = Times {
            start: t,
            end: t,
            step_ms: 1,
        };
        let value = match (instant, vector.as_slice()) {
            (QueryValue::Scalar { .. }, [only]) => {
                let Some(v) = only.value.as_float() else {
                    return Err("got a histogram".to_owned());
                };
                QueryValue::Scalar { t, v }
            }
            (QueryValue::Scalar { .. }, _) => return Err("not one series".to_owned()),
            (_, _) => QueryValue::Vector(vector),
        };
        compare(self.case, &value, times)
    }
}

/// Each wanted message has to be met, each message has to be wanted, unless nothing is said.
fn check_annotations(kind: &str, said: &Annotations, found: &[String]) -> Result<(), String> {
    if said.forbidden && !found.is_empty() {
        return Err(format!("expected no {kind}, got {found:?}"));
    }
    if said.wanted.is_empty() {
        return Ok(());
    }
    for wanted in &said.wanted {
        if !found.iter().any(|message| wanted.accepts(message)) {
            return Err(format!("expected a {kind} that is {wanted}, got {found:?}"));
        }
    }
    match found
        .iter()
        .find(|message| !said.wanted.iter().any(|wanted| wanted.accepts(message)))
    {
        Some(message) => Err(format!("unexpected {kind} {message:?}")),
        None => Ok(()),
    }
}
