//! What the rim asks of the appliance: the ports, and what goes through them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::actors::duty::Duty;
use crate::api::http::error::ApiError;
use crate::compactor::DutyProgress;
use crate::foundation::pool::Pool;
use crate::foundation::{Cancel, Clock};
use crate::model::{BlockId, Interval, Labels, Matcher, Metadata, TimestampMs};
use crate::promql::QueryOutput;
use crate::promql::explain::Operator;
use crate::remote::{WriteError, WriteReport, WriteVersion};
use crate::storage::{LabelAnswer, ResolutionWish, SeriesExemplars};

/// Everything a handler can reach; built by the appliance, shared by all workers.
#[derive(Clone)]
pub struct HttpState {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Bounds and switches.
    pub settings: HttpSettings,
    /// Queries and label lookups.
    pub query: Arc<dyn QueryPort>,
    /// Samples that are sent here.
    pub write: Arc<dyn WritePort>,
    /// What is scraped.
    pub targets: Arc<dyn TargetsPort>,
    /// What operators ask for.
    pub admin: Arc<dyn AdminPort>,
    /// Whose idle threads help to write long answers.
    pub helpers: Option<Pool>,
    /// What the appliance says about itself.
    pub status: Arc<dyn StatusPort>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Bounds of what a client may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Largest form body.
    pub form_bytes_max: usize,
    /// Largest remote write body as it is sent.
    pub write_bytes_max: usize,
    /// Largest remote write request once it is decompressed.
    pub write_decoded_bytes_max: usize,
    /// How far ahead of the clock written samples may be.
    pub write_ahead_ms_max: i64,
    /// Anchored pattern of origins that browsers may call from; `.*` for any.
    pub cors_origin: String,
    /// `/-/reload` works.
    pub has_lifecycle: bool,
    /// `/api/v1/admin/tsdb/` works.
    pub has_admin: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            form_bytes_max: 10 << 20,
            write_bytes_max: 32 << 20,
            write_decoded_bytes_max: 32 << 20,
            write_ahead_ms_max: 10 * 60 * 1000,
            cors_origin: ".*".to_owned(),
            has_lifecycle: true,
            has_admin: false,
        }
    }
}

/// A future that a worker can hold across its own awaits.
pub type Answer<T> = BoxFuture<'static, T>;

/// Who answers queries. Dropping an answer's future is not enough to stop the work: the rim raises `cancel`.
pub trait QueryPort: Send + Sync {
    /// The value of an expression at one time.
    fn instant(&self, query: InstantQuery) -> Answer<Result<QueryOutput, ApiError>>;

    /// The values of an expression at every step.
    fn range(&self, query: RangeQuery) -> Answer<Result<QueryOutput, ApiError>>;

    /// How a query would be evaluated, as a tree of operators.
    fn explain(&self, query: ExplainQuery) -> Answer<Result<Operator, ApiError>>;

    /// Label sets of series that match any of the sets, in label order, each once.
    fn series(&self, request: LabelRequest) -> Answer<Result<SeriesAnswer, ApiError>>;

    /// Names of labels of matching series.
    fn label_names(&self, request: LabelRequest) -> Answer<Result<LabelAnswer, ApiError>>;

    /// Values of one label of matching series.
    fn label_values(
        &self,
        name: String,
        request: LabelRequest,
    ) -> Answer<Result<LabelAnswer, ApiError>>;

    /// Exemplars in `interval` of series that match all matchers of any set, in label order.
    fn exemplars(
        &self,
        matcher_sets: Vec<Vec<Matcher>>,
        interval: Interval,
    ) -> Answer<Result<Vec<SeriesExemplars>, ApiError>>;
}

/// How much a query is asked to say about its own cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StatsDetail {
    /// Nothing.
    #[default]
    None,
    /// Totals.
    Totals,
    /// Totals and samples per step.
    PerStep,
}

/// What queries of both kinds may carry.
#[derive(Debug, Clone, Default)]
pub struct QueryParams {
    /// Shorter than the configured timeout.
    pub timeout_ms: Option<i64>,
    /// Instead of the configured lookback.
    pub lookback_ms: Option<i64>,
    /// What to measure.
    pub stats: StatsDetail,
    /// Thanos' `analyze`: tell what every operator did.
    pub analyze: bool,
    /// Thanos' `dedup`: merge twins; the default is the appliance's.
    pub dedup: Option<bool>,
    /// Thanos' `partial_response`: answer with warnings when a source fails; the default is the appliance's.
    pub partial_response: Option<bool>,
    /// Thanos' `max_source_resolution`; the default is the appliance's.
    pub resolution: Option<ResolutionWish>,
    /// Thanos' `replicaLabels[]`, replacing the configured ones when there are any.
    pub replica_labels: Vec<String>,
    /// Raised when the client is gone.
    pub cancel: Cancel,
}

/// `/api/v1/query`
#[derive(Debug, Clone)]
pub struct InstantQuery {
    /// As sent.
    pub text: String,
    /// Evaluation time.
    pub t: TimestampMs,
    /// Everything else.
    pub params: QueryParams,
}

/// `/api/v1/query_range`
#[derive(Debug, Clone)]
pub struct RangeQuery {
    /// As sent.
    pub text: String,
    /// First evaluation.
    pub start: TimestampMs,
    /// Last evaluation at the latest.
    pub end: TimestampMs,
    /// Distance of evaluations, positive.
    pub step_ms: i64,
    /// Everything else.
    pub params: QueryParams,
}

/// `/api/v1/query_explain`, `/api/v1/query_range_explain`
#[derive(Debug, Clone)]
pub enum ExplainQuery {
    /// Once.
    Instant(InstantQuery),
    /// At every step.
    Range(RangeQuery),
}

/// `/api/v1/series`, `/api/v1/labels`, `/api/v1/label/…/values`
#[derive(Debug, Clone)]
pub struct LabelRequest {
    /// Series that match all matchers of any set; without sets, all series.
    pub matcher_sets: Vec<Vec<Matcher>>,
    /// Times wanted.
    pub interval: Interval,
    /// At most this many; zero means all.
    pub limit: usize,
    /// As for queries.
    pub params: QueryParams,
}

/// Label sets and what could not be asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesAnswer {
    /// In label order, each once.
    pub series: Vec<Labels>,
    /// Sources that failed while others answered.
    pub warnings: Vec<String>,
}

/// Who deletes, cleans and copies.
pub trait AdminPort: Send + Sync {
    /// Deletes the samples in `interval` of series that match all matchers of any set.
    fn delete_series(
        &self,
        matcher_sets: Vec<Vec<Matcher>>,
        interval: Interval,
    ) -> Answer<Result<(), ApiError>>;

    /// Takes deleted samples off the disk.
    fn clean_tombstones(&self) -> Answer<Result<(), ApiError>>;

    /// Makes a snapshot and names it.
    fn snapshot(&self, skip_head: bool) -> Answer<Result<String, ApiError>>;

    /// Marks a block of the bucket.
    fn mark_block(&self, mark: BlockMark) -> Answer<Result<(), ApiError>>;
}

/// What a block of the bucket is marked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkAction {
    /// Its deletion.
    Deletion,
    /// Staying as it is.
    NoCompaction,
}

/// A wish to mark a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMark {
    /// The block.
    pub block: BlockId,
    /// What for.
    pub action: MarkAction,
    /// Who wants it, and why.
    pub details: String,
}

/// Blocks for the block viewer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlocksView {
    /// Label by which the viewer groups them; empty groups by all.
    pub label: String,
    /// Their `meta.json`, in one line each.
    pub metas: Vec<Vec<u8>>,
    /// When the bucket was last listed.
    pub refreshed_ms: Option<TimestampMs>,
    /// Why that failed; the view is older then.
    pub error: Option<String>,
}

/// Who takes samples.
pub trait WritePort: Send + Sync {
    /// Takes a remote write request into the head, as [`crate::remote::append_write_request`] does.
    fn write(&self, request: WriteRequest) -> Answer<Result<WriteReport, WriteFailure>>;
}

/// The body of a remote write request.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// Snappy block around protobuf, as sent.
    pub body: Bytes,
    /// What the protobuf is.
    pub version: WriteVersion,
    /// Decompressed, at most this many bytes.
    pub decoded_bytes_max: usize,
    /// How far ahead of the clock samples may be.
    pub ahead_ms_max: i64,
    /// `THANOS-TENANT`, if the client named one.
    pub tenant: Option<String>,
}

/// Why a request was not written.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteFailure {
    /// The request or the storage, as the room found it.
    Write(WriteError),
    /// No room now; come back.
    Busy {
        /// Which limit.
        text: String,
        /// When to come back.
        retry_after_s: u64,
    },
    /// The database takes nothing: starting, stopping, or poisoned.
    Unavailable(String),
}

/// Who scrapes.
pub trait TargetsPort: Send + Sync {
    /// All targets as they stand.
    fn targets(&self) -> Answer<TargetsView>;

    /// What the targets say about their metrics.
    fn metadata(&self) -> Answer<Vec<TargetMetadata>>;
}

/// All targets of all pools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetsView {
    /// Names of pools, sorted.
    pub pools: Vec<String>,
    /// In pool order.
    pub active: Vec<ActiveTarget>,
    /// In pool order; at most as many as are kept.
    pub dropped: Vec<DroppedTarget>,
    /// Dropped targets by pool, kept or not, in pool order.
    pub dropped_counts: Vec<(String, u64)>,
}

/// How the last scrape went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetHealth {
    /// There was none.
    #[default]
    Unknown,
    /// Well.
    Up,
    /// It failed.
    Down,
}

impl TargetHealth {
    /// As the HTTP API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A target that is scraped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActiveTarget {
    /// Before relabelling.
    pub discovered_labels: Labels,
    /// After relabelling.
    pub labels: Labels,
    /// Its pool.
    pub scrape_pool: String,
    /// What is fetched.
    pub scrape_url: String,
    /// The same as others reach it.
    pub global_url: String,
    /// Empty when the last scrape went well.
    pub last_error: String,
    /// `None` before the first.
    pub last_scrape_ms: Option<TimestampMs>,
    /// How long it took.
    pub last_scrape_duration_seconds: f64,
    /// How it went.
    pub health: TargetHealth,
    /// As a Prometheus duration.
    pub scrape_interval: String,
    /// As a Prometheus duration.
    pub scrape_timeout: String,
}

/// A target that relabelling dropped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DroppedTarget {
    /// Before relabelling.
    pub discovered_labels: Labels,
    /// Its pool.
    pub scrape_pool: String,
}

/// What one target says about one metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetMetadata {
    /// The target's labels.
    pub target: Labels,
    /// The metric family.
    pub metric: String,
    /// Type, unit, help.
    pub metadata: Metadata,
}

/// May requests be served?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Starting.
    Starting,
    /// Yes, with what came since the start; the log is still being replayed.
    Replaying,
    /// Yes.
    Ready,
    /// Shutting down.
    Stopping,
}

/// What the appliance says about itself.
pub trait StatusPort: Send + Sync {
    /// Can it serve?
    fn readiness(&self) -> Readiness;

    /// The loaded configuration as YAML.
    fn config_yaml(&self) -> String;

    /// Settings by name, sorted.
    fn flags(&self) -> Vec<(String, String)>;

    /// Facts of this process.
    fn runtime(&self) -> RuntimeInfo;

    /// Facts of this binary.
    fn build(&self) -> BuildInfo;

    /// Largest series groups of the head, `limit` of each kind.
    fn tsdb(&self, limit: usize) -> Answer<Result<TsdbStatus, ApiError>>;

    /// Blocks of the bucket, all or those that are served.
    fn blocks(&self, is_loaded: bool) -> Answer<Result<BlocksView, ApiError>>;

    /// How every background job stands; those of the bucket's blocks say how far they are.
    fn duties(&self) -> Vec<(Duty, Option<DutyProgress>)>;

    /// How far the replay is.
    fn wal_replay(&self) -> WalReplay;

    /// What is switched on: category, feature, on or off; sorted.
    fn features(&self) -> Vec<(String, Vec<(String, bool)>)>;

    /// Own metrics as an exposition the `Accept` header asks for, and its content type.
    fn metrics(&self, accept: &str) -> (String, String);

    /// Reads the configuration again, all or nothing; the error says what is wrong.
    fn reload(&self) -> Answer<Result<(), String>>;
}

/// `/api/v1/status/runtimeinfo`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// When the process started.
    pub start_ms: TimestampMs,
    /// Working directory.
    pub cwd: String,
    /// This host.
    pub hostname: String,
    /// Did the last reload succeed?
    pub reload_succeeded: bool,
    /// When the configuration was read last.
    pub last_config_ms: TimestampMs,
    /// Corruptions found in the WAL.
    pub corruption_count: u64,
    /// Actors alive; where Prometheus counts goroutines.
    pub n_actors: u64,
    /// Threads that compute.
    pub n_threads: u64,
    /// Memory limit in bytes; zero for none.
    pub memory_limit_bytes: u64,
    /// As configured, in words.
    pub storage_retention: String,
}

/// `/api/v1/status/buildinfo` and `/version`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Of the Prometheus API this answers like, so that clients switch their features on.
    pub version: String,
    /// Commit.
    pub revision: String,
    /// Branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When.
    pub build_date: String,
    /// With which compiler.
    pub compiler_version: String,
}

/// A name and how often or how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCount {
    /// A metric, a label or a pair.
    pub name: String,
    /// Series, values or bytes.
    pub value: u64,
}

/// `/api/v1/status/tsdb`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TsdbStatus {
    /// Series of the head.
    pub n_series: u64,
    /// Distinct label pairs of the head.
    pub n_label_pairs: u64,
    /// Chunks of the head.
    pub n_chunks: u64,
    /// First sample of the head.
    pub min_t: TimestampMs,
    /// Last sample of the head.
    pub max_t: TimestampMs,
    /// Metrics with the most series.
    pub series_by_metric: Vec<NamedCount>,
    /// Labels with the most values.
    pub values_by_label: Vec<NamedCount>,
    /// Labels with the most memory.
    pub memory_by_label: Vec<NamedCount>,
    /// Pairs with the most series, as `name=value`.
    pub series_by_pair: Vec<NamedCount>,
}

/// `/api/v1/status/walreplay`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalReplay {
    /// First segment.
    pub min: u64,
    /// Last segment.
    pub max: u64,
    /// The one that was read last.
    pub current: u64,
    /// So many were read, those of the checkpoint and of the out-of-order log included.
    pub n_read: u64,
    /// So many there are.
    pub n_segments: u64,
    /// Whether that is all.
    pub state: ReplayState,
}

/// How a replay stands, in the words of Prometheus' documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReplayState {
    /// It is not known yet how much there is.
    #[default]
    Waiting,
    /// It runs.
    InProgress,
    /// Everything is there.
    Done,
}

impl ReplayState {
    /// As in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::InProgress => "in progress",
            Self::Done => "done",
        }
    }
}
