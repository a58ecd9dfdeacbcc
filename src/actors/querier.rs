//! Admission of queries; the engine and the timeline behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::actors::Observe;
use crate::actors::brief::Begun;
use crate::actors::panics_on_demand;
use crate::foundation::Cancel;
use crate::foundation::cancel::CancelReason;
use crate::foundation::permit::{Full, Gate, Permit};
use crate::foundation::pool::{Pool, PoolBusy, PoolPanic};
use crate::gateway::Gateway;
use crate::model::{Interval, Labels, Matcher, TimestampMs};
use crate::promql::explain::Operator;
use crate::promql::{Engine, QueryError, QueryOptions, QueryOutput};
use crate::storage::{
    Fanout, LabelAnswer, LabelHints, Queryable, ResolutionBounds, SelectHints, StorageError,
    merge_label_lists, merge_series_sets,
};
use crate::tsdb::Tsdb;

/// When a query is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Once.
    Instant(TimestampMs),
    /// From start to end, both inclusive, every step.
    Range {
        /// First evaluation.
        start_ms: TimestampMs,
        /// Last evaluation at the latest.
        end_ms: TimestampMs,
        /// Distance, positive.
        step_ms: i64,
    },
}

/// A query to be evaluated over everything the appliance holds.
#[derive(Debug, Clone)]
pub struct Evaluate {
    /// As sent.
    pub text: String,
    /// When.
    pub when: When,
    /// Limits, and the flag the asker raises when it is gone.
    pub options: QueryOptions,
}

/// How a query would be evaluated; it is not.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Operator, AskError>")]
pub struct Explain(pub Evaluate);

/// What is asked of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelQuestion {
    /// Names of labels.
    Names,
    /// Values of one label.
    Values(String),
}

/// Label names or values of series that match any of the sets; without sets, of all series.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<LabelAnswer, AskError>")]
pub struct ListLabels {
    /// What.
    pub question: LabelQuestion,
    /// Each set is met by a series that matches all of it.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Times wanted.
    pub interval: Interval,
    /// At most this many; zero means all.
    pub limit: usize,
    /// Raised when the asker is gone.
    pub cancel: Cancel,
}

/// Label sets of series that match any of the sets.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<SeriesList, AskError>")]
pub struct ListSeries {
    /// Each set is met by a series that matches all of it.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Times wanted.
    pub interval: Interval,
    /// At most this many; zero means all.
    pub limit: usize,
    /// Raised when the asker is gone.
    pub cancel: Cancel,
}

/// Label sets, in order, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesList {
    /// Who.
    pub series: Vec<Labels>,
    /// Sources that failed while others answered.
    pub warnings: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum AskError {
    /// Too many are asking.
    #[error(transparent)]
    Full(#[from] Full),
    /// The turn did not come before the timeout.
    #[error("query timed out in query queue")]
    NoTurn,
    /// The query itself.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A source of series.
    #[error("{0}")]
    Storage(String),
    /// The asker is gone.
    #[error("query was canceled")]
    Canceled,
    /// The pool is stopping.
    #[error(transparent)]
    Stopping(#[from] PoolBusy),
    /// A fault of ours.
    #[error(transparent)]
    Panicked(#[from] PoolPanic),
}

impl From<StorageError> for AskError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Canceled => Self::Canceled,
            StorageError::Limit(text)
            | StorageError::Corrupt(text)
            | StorageError::Unavailable(text) => Self::Storage(text),
        }
    }
}

/// Whom the querier works with.
#[derive(Debug, Clone)]
pub struct QuerierPorts {
    /// Whose timeline is read.
    pub tsdb: Tsdb,
    /// Whose blocks of other producers are read beside it.
    pub gateway: Arc<Gateway>,
    /// What evaluates.
    pub engine: Engine,
    /// Where evaluation runs.
    pub pool: Pool,
    /// How many at once; shared with whoever else reads.
    pub gate: Gate,
    /// How long a query may take, its wait in the queue included.
    pub timeout: Duration,
}

/// How the querier is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuerierState {
    /// Questions taken since the start.
    pub n_asked: u64,
    /// Questions being worked on.
    pub n_running: usize,
    /// Questions waiting for their turn.
    pub n_waiting: usize,
    /// Questions refused since the start.
    pub n_refused: u64,
}

/// Where questions are admitted and handed to the pool, on whatever thread asks: a message to an actor and back is two
/// wake-ups, which a small query would mostly consist of. Clones are the same desk.
#[derive(Debug, Clone)]
pub struct QueryDesk {
    ports: Arc<QuerierPorts>,
    n_asked: Arc<AtomicU64>,
}

impl QueryDesk {
    /// Nothing asked yet.
    pub fn new(ports: QuerierPorts) -> Self {
        Self {
            ports: Arc::new(ports),
            n_asked: Arc::default(),
        }
    }

    /// The value of a query. What is brief is computed on the thread that asks: handing it over and back would take longer.
    pub fn evaluate(&self, query: Evaluate) -> BoxFuture<'static, Result<QueryOutput, AskError>> {
        let Evaluate {
            text,
            when,
            mut options,
        } = query;
        let asking = self.asking(options.cancel.clone(), options.timeout_ms);
        Box::pin(async move {
            let admission = asking.admission().await?;
            options.queued_ms = admission.queued_ms();
            let timeline = timeline(&asking.ports);
            let mut begun = Begun::Text(text, when, options);
            if begun.may_be_brief() {
                let (pool, engine) = (&asking.ports.pool, &asking.ports.engine);
                begun = pool.run_here(|| begun.while_brief(&timeline, engine))??;
            }
            if let Begun::Done(output) = begun {
                return Ok(*output);
            }
            let work = move |ports: &QuerierPorts| begun.finish(&timeline, &ports.engine);
            asking.in_pool(admission, work).await
        })
    }

    /// Admits, then computes `work` in the pool over a timeline taken at that moment. `work` is told how many milliseconds
    /// it waited, which count for its timeout. Who is gone leaves the queue.
    fn ask<T: Send + 'static>(
        &self,
        cancel: Cancel,
        timeout_ms: Option<i64>,
        work: impl FnOnce(Arc<dyn Queryable>, &Engine, i64) -> Result<T, AskError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, AskError>> {
        let asking = self.asking(cancel, timeout_ms);
        Box::pin(async move {
            let admission = asking.admission().await?;
            let queued_ms = admission.queued_ms();
            let work = move |ports: &QuerierPorts| work(timeline(ports), &ports.engine, queued_ms);
            asking.in_pool(admission, work).await
        })
    }

    fn asking(&self, cancel: Cancel, timeout_ms: Option<i64>) -> Asking {
        self.n_asked.fetch_add(1, Ordering::Relaxed);
        let ports = Arc::clone(&self.ports);
        let asked_for = timeout_ms.and_then(|ms| u64::try_from(ms).ok());
        let timeout = asked_for.map_or(ports.timeout, |ms| {
            ports.timeout.min(Duration::from_millis(ms))
        });
        let asked = Instant::now();
        Asking {
            ports,
            cancel,
            asked,
            deadline: asked + timeout,
        }
    }
}

/// Everything there is, as of now.
fn timeline(ports: &QuerierPorts) -> Arc<dyn Queryable> {
    let mut sources: Vec<Arc<dyn Queryable>> = vec![ports.tsdb.timeline()];
    sources.extend(ports.gateway.snapshot().others());
    Arc::new(Fanout::new(sources))
}

/// Somebody with a question.
struct Asking {
    ports: Arc<QuerierPorts>,
    cancel: Cancel,
    asked: Instant,
    deadline: Instant,
}

/// Whose turn it is.
struct Admission {
    permit: Permit,
    queued: Duration,
}

impl Admission {
    fn queued_ms(&self) -> i64 {
        i64::try_from(self.queued.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Asking {
    async fn admission(&self) -> Result<Admission, AskError> {
        // Without a timer, where there is room at once.
        let permit = match self.ports.gate.admit().now_or_never() {
            Some(admitted) => admitted?,
            None => self.turn().await?,
        };
        Ok(Admission {
            permit,
            queued: self.asked.elapsed(),
        })
    }

    async fn turn(&self) -> Result<Permit, AskError> {
        let admission = timeout_at(self.deadline, self.ports.gate.admit());
        tokio::select! {
            admitted = admission => match admitted {
                Ok(admitted) => Ok(admitted?),
                Err(_elapsed) => Err(AskError::NoTurn),
            },
            () = self.cancel.raised() => Err(AskError::Canceled),
        }
    }

    /// `work` in the pool; the permit goes back when the work is done, not when the asker is gone.
    async fn in_pool<T: Send + 'static>(
        self,
        admission: Admission,
        work: impl FnOnce(&QuerierPorts) -> Result<T, AskError> + Send + 'static,
    ) -> Result<T, AskError> {
        let (ports, pool) = (Arc::clone(&self.ports), self.ports.pool.clone());
        let answer = pool.run(move || {
            let answer = work(&ports);
            drop(admission.permit);
            answer
        })?;
        match timeout_at(self.deadline, answer).await {
            Ok(answer) => answer?,
            Err(_elapsed) => {
                self.cancel.cancel(CancelReason::TimedOut);
                Err(AskError::Query(QueryError::Timeout(
                    "expression evaluation",
                )))
            }
        }
    }
}

/// Asks what takes no hurry, and tells how the desk is doing.
#[derive(Debug)]
pub struct Querier {
    desk: QueryDesk,
}

impl Querier {
    /// Ready to be kept.
    pub fn new(desk: QueryDesk) -> Self {
        Self { desk }
    }
}

impl Actor for Querier {
    type Context = Context<Self>;
}

impl Supervised for Querier {}

impl Handler<Explain> for Querier {
    type Result = ResponseFuture<Result<Operator, AskError>>;

    fn handle(&mut self, query: Explain, _: &mut Context<Self>) -> Self::Result {
        let Explain(Evaluate {
            text,
            when,
            mut options,
        }) = query;
        let (cancel, timeout_ms) = (options.cancel.clone(), options.timeout_ms);
        self.desk
            .ask(cancel, timeout_ms, move |timeline, engine, queued_ms| {
                options.queued_ms = queued_ms;
                let times = match when {
                    When::Instant(t_ms) => (t_ms, t_ms, 0),
                    When::Range {
                        start_ms,
                        end_ms,
                        step_ms,
                    } => (start_ms, end_ms, step_ms),
                };
                Ok(engine.explain(&*timeline, &text, times, &options)?)
            })
    }
}

impl Handler<ListLabels> for Querier {
    type Result = ResponseFuture<Result<LabelAnswer, AskError>>;

    fn handle(&mut self, list: ListLabels, _: &mut Context<Self>) -> Self::Result {
        self.desk
            .ask(list.cancel.clone(), None, move |timeline, _, _| {
                list_labels(timeline.as_ref(), list)
            })
    }
}

impl Handler<ListSeries> for Querier {
    type Result = ResponseFuture<Result<SeriesList, AskError>>;

    fn handle(&mut self, list: ListSeries, _: &mut Context<Self>) -> Self::Result {
        self.desk
            .ask(list.cancel.clone(), None, move |timeline, _, _| {
                list_series(timeline.as_ref(), &list)
            })
    }
}

fn list_labels(timeline: &dyn Queryable, mut list: ListLabels) -> Result<LabelAnswer, AskError> {
    if list.matcher_sets.is_empty() {
        list.matcher_sets.push(Vec::new());
    }
    let hints = LabelHints {
        cancel: list.cancel,
        limit: list.limit,
        ..LabelHints::new(list.interval)
    };
    let mut answers = Vec::with_capacity(list.matcher_sets.len());
    for matchers in &list.matcher_sets {
        answers.push(match &list.question {
            LabelQuestion::Names => timeline.label_names(matchers, &hints)?,
            LabelQuestion::Values(name) => timeline.label_values(name, matchers, &hints)?,
        });
    }
    Ok(merge_label_lists(answers, list.limit))
}

fn list_series(timeline: &dyn Queryable, list: &ListSeries) -> Result<SeriesList, AskError> {
    let mut hints = SelectHints::new(list.interval);
    hints.skip_chunks = true;
    hints.resolutions = ResolutionBounds::RAW_FIRST;
    hints.func = "series".to_owned();
    hints.limit = list.limit;
    hints.cancel = list.cancel.clone();
    let mut sets = Vec::with_capacity(list.matcher_sets.len());
    for matchers in &list.matcher_sets {
        sets.push(timeline.select(matchers, &hints)?);
    }
    let mut merged = merge_series_sets(sets, list.limit);
    let mut answer = SeriesList::default();
    while let Some(series) = merged.next() {
        answer.series.push(series?.labels);
    }
    answer.warnings = merged.warnings();
    Ok(answer)
}

impl Handler<Observe<QuerierState>> for Querier {
    type Result = MessageResult<Observe<QuerierState>>;

    fn handle(&mut self, _: Observe<QuerierState>, _: &mut Context<Self>) -> Self::Result {
        MessageResult(QuerierState {
            n_asked: self.desk.n_asked.load(Ordering::Relaxed),
            n_running: self.desk.ports.gate.n_used(),
            n_waiting: self.desk.ports.gate.n_waiting(),
            n_refused: self.desk.ports.gate.n_refused(),
        })
    }
}

panics_on_demand!(Querier);
