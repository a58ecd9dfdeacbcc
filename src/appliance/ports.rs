//! What fills the ports of the rim: messages to actors, and snapshots.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use actix::{Addr, MailboxError};
use arc_swap::ArcSwap;

use crate::actors::head_keeper::Administer;
use crate::actors::querier::{
    AskError, Evaluate, Explain, LabelQuestion, ListLabels, ListSeries, Querier, When,
};
use crate::api::grpc::{Database, Source};
use crate::api::http::{
    AdminPort, Answer, ApiError, BlockMark, ErrorType, ExplainQuery, InstantQuery, LabelRequest,
    QueryParams, QueryPort, RangeQuery, SeriesAnswer, StatsDetail, WriteFailure, WritePort,
    WriteRequest,
};
use crate::appliance::error::StartError;
use crate::appliance::settings::Settings;
use crate::appliance::spawn::Actors;
use crate::compactor::Compactor;
use crate::foundation::Clock;
use crate::foundation::metrics::{Counter, Metrics};
use crate::foundation::permit::Gate;
use crate::gateway::Gateway;
use crate::model::{Interval, Labels, Matcher};
use crate::promql::explain::Operator;
use crate::promql::{ErrorKind, QueryError, QueryOptions, QueryOutput};
use crate::remote::{WriteLimits, WriteReport, append_write_request};
use crate::scrape::ScrapeManager;
use crate::storage::{Appendable, LabelAnswer, Queryable, SeriesExemplars};
use crate::tsdb::{ReplayProgress, SyncedTsdb, Tsdb, TsdbError};

thread_local! {
    /// Where a worker decompresses requests; as large as the largest one it has seen.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Seconds a refused writer is told to wait.
const RETRY_AFTER_S: u64 = 5;

/// Shared by every worker of the rim; its inside appears when the database is open.
pub(crate) struct Ports {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) replay: Arc<ReplayProgress>,
    pub(crate) writes: Gate,
    pub(crate) written: Counter,
    pub(crate) refused: Counter,
    pub(crate) opened: OnceLock<Opened>,
    pub(crate) is_stopping: AtomicBool,
    /// The scrape configuration that is applied, as text without secrets.
    pub(crate) config_text: ArcSwap<String>,
    pub(crate) last_config_ms: AtomicI64,
    pub(crate) reload_succeeded: AtomicBool,
}

/// What exists once the database is open.
pub(crate) struct Opened {
    pub(crate) external: Labels,
    pub(crate) tsdb: Tsdb,
    pub(crate) appendable: Arc<dyn Appendable>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) scrape: Arc<ScrapeManager>,
    pub(crate) compactor: Compactor,
    pub(crate) actors: Actors,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

impl Ports {
    /// Nothing is open yet.
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let metrics = Metrics::new();
        let written = "Samples taken by remote write.";
        let refused = "Remote write requests of which nothing was taken.";
        Self {
            replay: Arc::default(),
            writes: Gate::new("remote write requests", settings.writes_max, 0),
            written: metrics.counter("gauntlet_remote_samples_total", written),
            refused: metrics.counter("gauntlet_remote_requests_failed_total", refused),
            metrics,
            opened: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            config_text: ArcSwap::from_pointee(String::new()),
            last_config_ms: AtomicI64::new(clock.now_ms()),
            reload_succeeded: AtomicBool::new(true),
            clock,
            settings,
        }
    }

    /// Why the data directory does not open.
    pub(crate) fn cannot_open(&self, source: TsdbError) -> StartError {
        StartError::Database {
            directory: self.settings.data_dir.clone(),
            source: Box::new(source),
        }
    }

    /// What is open, unless the appliance starts or stops.
    pub(crate) fn opened(&self) -> Option<&Opened> {
        self.opened
            .get()
            .filter(|_| !self.is_stopping.load(Ordering::SeqCst))
    }

    fn querier(&self) -> Result<Addr<Querier>, ApiError> {
        match self.opened() {
            Some(opened) => Ok(opened.actors.querier.clone()),
            None => Err(not_ready()),
        }
    }

    fn evaluate(
        &self,
        text: String,
        when: When,
        params: QueryParams,
    ) -> Answer<Result<QueryOutput, ApiError>> {
        let asked = self.opened().map(|opened| {
            opened.actors.desk.evaluate(Evaluate {
                text,
                when,
                options: self.query_options(when, params),
            })
        });
        Box::pin(async move {
            match asked {
                Some(asked) => asked.await.map_err(|error| told(&error)),
                None => Err(not_ready()),
            }
        })
    }

    fn list(
        &self,
        question: LabelQuestion,
        request: LabelRequest,
    ) -> Answer<Result<LabelAnswer, ApiError>> {
        let querier = self.querier();
        Box::pin(async move {
            let LabelRequest {
                matcher_sets,
                interval,
                limit,
                params,
            } = request;
            let list = ListLabels {
                question,
                matcher_sets,
                interval,
                limit,
                cancel: params.cancel,
            };
            answered(querier?.send(list).await)
        })
    }
}

impl Ports {
    fn query_options(&self, when: When, params: QueryParams) -> QueryOptions {
        let step_ms = match when {
            When::Instant(_) => 0,
            When::Range { step_ms, .. } => step_ms,
        };
        let resolution = params.resolution.unwrap_or(self.settings.resolution);
        QueryOptions {
            lookback_ms: params.lookback_ms,
            timeout_ms: params.timeout_ms,
            per_step: params.stats == StatsDetail::PerStep,
            analyze: params.analyze,
            resolutions: resolution.bounds(step_ms),
            cancel: params.cancel,
            ..QueryOptions::default()
        }
    }
}

/// A lost message is our fault, and says so; everything else has its own class.
fn answered<T>(answer: Result<Result<T, AskError>, MailboxError>) -> Result<T, ApiError> {
    match answer {
        Ok(answer) => answer.map_err(|error| told(&error)),
        Err(_lost) => Err(ApiError::new(
            ErrorType::Internal,
            "the querier was restarted while it worked on this; ask again",
        )),
    }
}

fn told(error: &AskError) -> ApiError {
    ApiError::new(class(error), error.to_string())
}

pub(crate) fn not_ready() -> ApiError {
    ApiError::new(ErrorType::Unavailable, "TSDB not ready")
}

fn class(error: &AskError) -> ErrorType {
    match error {
        AskError::Query(query) => match QueryError::kind(query) {
            ErrorKind::BadData => ErrorType::BadData,
            ErrorKind::Execution => ErrorType::Execution,
            ErrorKind::Canceled => ErrorType::Canceled,
            ErrorKind::Timeout => ErrorType::Timeout,
            ErrorKind::Internal => ErrorType::Internal,
            ErrorKind::Unavailable => ErrorType::Unavailable,
        },
        // 503, which clients repeat: a full queue is a wait that would not have ended in time.
        AskError::NoTurn | AskError::Full(_) => ErrorType::Timeout,
        AskError::Stopping(_) => ErrorType::Unavailable,
        AskError::Storage(_) => ErrorType::Execution,
        AskError::Canceled => ErrorType::Canceled,
        AskError::Panicked(_) => ErrorType::Internal,
    }
}

impl QueryPort for Ports {
    fn instant(&self, query: InstantQuery) -> Answer<Result<QueryOutput, ApiError>> {
        self.evaluate(query.text, When::Instant(query.t), query.params)
    }

    fn range(&self, query: RangeQuery) -> Answer<Result<QueryOutput, ApiError>> {
        let when = When::Range {
            start_ms: query.start,
            end_ms: query.end,
            step_ms: query.step_ms,
        };
        self.evaluate(query.text, when, query.params)
    }

    fn explain(&self, query: ExplainQuery) -> Answer<Result<Operator, ApiError>> {
        let (text, when, params) = match query {
            ExplainQuery::Instant(query) => (query.text, When::Instant(query.t), query.params),
            ExplainQuery::Range(query) => {
                let when = When::Range {
                    start_ms: query.start,
                    end_ms: query.end,
                    step_ms: query.step_ms,
                };
                (query.text, when, query.params)
            }
        };
        let querier = self.querier();
        let question = Explain(Evaluate {
            text,
            when,
            options: self.query_options(when, params),
        });
        Box::pin(async move { answered(querier?.send(question).await) })
    }

    fn series(&self, request: LabelRequest) -> Answer<Result<SeriesAnswer, ApiError>> {
        let querier = self.querier();
        Box::pin(async move {
            let LabelRequest {
                matcher_sets,
                interval,
                limit,
                params,
            } = request;
            let list = ListSeries {
                matcher_sets,
                interval,
                limit,
                cancel: params.cancel,
            };
            let answer = answered(querier?.send(list).await)?;
            Ok(SeriesAnswer {
                series: answer.series,
                warnings: answer.warnings,
            })
        })
    }

    fn label_names(&self, request: LabelRequest) -> Answer<Result<LabelAnswer, ApiError>> {
        self.list(LabelQuestion::Names, request)
    }

    fn label_values(
        &self,
        name: String,
        request: LabelRequest,
    ) -> Answer<Result<LabelAnswer, ApiError>> {
        self.list(LabelQuestion::Values(name), request)
    }

    fn exemplars(
        &self,
        matcher_sets: Vec<Vec<Matcher>>,
        interval: Interval,
    ) -> Answer<Result<Vec<SeriesExemplars>, ApiError>> {
        let found = match self.opened() {
            Some(opened) => Ok(opened.tsdb.head().exemplars(&matcher_sets, interval)),
            None => Err(ApiError::new(ErrorType::Internal, "TSDB not ready")),
        };
        Box::pin(std::future::ready(found))
    }
}

impl AdminPort for Ports {
    fn delete_series(
        &self,
        matcher_sets: Vec<Vec<Matcher>>,
        interval: Interval,
    ) -> Answer<Result<(), ApiError>> {
        let done = self.administer(Administer::DeleteSeries {
            matcher_sets,
            interval,
        });
        Box::pin(async move { done.await.map(|_| ()) })
    }

    fn clean_tombstones(&self) -> Answer<Result<(), ApiError>> {
        let done = self.administer(Administer::CleanTombstones);
        Box::pin(async move { done.await.map(|_| ()) })
    }

    fn snapshot(&self, skip_head: bool) -> Answer<Result<String, ApiError>> {
        let done = self.administer(Administer::Snapshot { skip_head });
        Box::pin(async move { done.await.map(Option::unwrap_or_default) })
    }

    fn mark_block(&self, mark: BlockMark) -> Answer<Result<(), ApiError>> {
        self.mark(mark)
    }
}

impl Ports {
    fn administer(&self, wish: Administer) -> Answer<Result<Option<String>, ApiError>> {
        let opened = self.opened();
        let keeper = opened.map(|opened| opened.actors.head_keeper.clone());
        let is_replaying = opened.is_some_and(|opened| opened.tsdb.is_replaying());
        Box::pin(async move {
            if is_replaying {
                let reason = "the log is being replayed: nothing is deleted or copied before /-/ready says that it is done";
                return Err(ApiError::new(ErrorType::Unavailable, reason));
            }
            let done = keeper.ok_or_else(not_ready)?.send(wish).await;
            let done = done.unwrap_or_else(|lost| Err(lost.to_string()));
            done.map_err(|reason| ApiError::new(ErrorType::Internal, reason))
        })
    }
}

impl WritePort for Ports {
    /// Appends on the worker that read the body: decoding and appending a request take about a millisecond, and
    /// handing it to another thread would cost as much again.
    fn write(&self, request: WriteRequest) -> Answer<Result<WriteReport, WriteFailure>> {
        let written = self.write_now(&request);
        Box::pin(std::future::ready(written))
    }
}

impl Ports {
    /// Where samples go: a commit returns when it is in the log, or on the disk where that is configured.
    pub(crate) fn appendable(&self, tsdb: &Tsdb) -> Arc<dyn Appendable> {
        if self.settings.syncs_commits {
            Arc::new(SyncedTsdb::new(tsdb.clone()))
        } else {
            Arc::new(tsdb.clone())
        }
    }

    fn write_now(&self, request: &WriteRequest) -> Result<WriteReport, WriteFailure> {
        let Some(opened) = self.opened() else {
            return Err(WriteFailure::Unavailable(
                "the database is not open: starting or stopping".to_owned(),
            ));
        };
        let _permit = self
            .writes
            .try_admit(1)
            .map_err(|full| WriteFailure::Busy {
                text: full.to_string(),
                retry_after_s: RETRY_AFTER_S,
            })?;
        let limits = WriteLimits {
            decoded_bytes_max: request.decoded_bytes_max,
            now_ms: self.clock.now_ms(),
            ahead_ms_max: request.ahead_ms_max,
        };
        let written = SCRATCH.with_borrow_mut(|scratch| {
            let request = (&*request.body, request.version);
            append_write_request(request, limits, &*opened.appendable, scratch)
        });
        match &written {
            Ok(report) => {
                self.written.inc_by(report.n_samples + report.n_histograms);
            }
            Err(_) => {
                self.refused.inc();
            }
        }
        written.map_err(WriteFailure::Write)
    }
}

impl Source for Ports {
    fn is_ready(&self) -> bool {
        self.opened().is_some()
    }

    fn external_labels(&self) -> Labels {
        self.opened()
            .map(|opened| opened.external.clone())
            .unwrap_or_default()
    }

    fn own(&self) -> Arc<dyn Queryable> {
        match self.opened() {
            Some(opened) => opened.tsdb.timeline(),
            None => Arc::new(crate::storage::Fanout::default()),
        }
    }

    fn others(&self) -> Option<Arc<dyn Queryable>> {
        self.opened()?.gateway.snapshot().others()
    }

    fn databases(&self) -> Vec<Database> {
        let Some(opened) = self.opened() else {
            return Vec::new();
        };
        let snapshot = opened.gateway.snapshot();
        let oldest_here = opened.tsdb.stats().lowest_t;
        let oldest_there = snapshot.own_interval().map(|interval| interval.min);
        let oldest = oldest_here.into_iter().chain(oldest_there).min();
        // Without a sample there is nothing to ask for yet, and what comes will be new.
        let min = oldest.unwrap_or_else(|| self.clock.now_ms());
        let own = Database {
            external: opened.external.clone(),
            interval: Interval { min, max: i64::MAX },
        };
        let others = snapshot
            .producers()
            .into_iter()
            .map(|(external, interval)| Database { external, interval });
        std::iter::once(own).chain(others).collect()
    }
}
