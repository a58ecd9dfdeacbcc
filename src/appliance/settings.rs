//! What the appliance is built from.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::actors::head_keeper::HeadKeeperSettings;
use crate::api::grpc::GrpcSettings;
use crate::api::http::HttpSettings;
use crate::bucket::{BucketKind, BucketSettings, Prices};
use crate::config::HeadTuning;
use crate::config::appliance as typed;
use crate::config::appliance::{
    CompactorKeys, GatewayKeys, GrpcKeys, HttpKeys, PoolKeys, QueryKeys, WalSync,
};
use crate::foundation::process::memory_bytes;
use crate::model::duration::format_duration;
use crate::model::{ExternalLabels, TimestampMs};
use crate::promql::{EngineSettings, MemoryPool};
use crate::scrape::StartTimes;
use crate::storage::ResolutionWish;
use crate::tsdb::{RetentionSettings, TsdbSettings};

/// Every room's settings, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where HTTP is served; port 0 takes any.
    pub http: SocketAddr,
    /// Bounds of HTTP requests.
    pub http_settings: HttpSettings,
    /// Where and how gRPC is served; port 0 takes any.
    pub grpc: GrpcSettings,
    /// Threads that parse HTTP.
    pub http_workers: usize,
    /// The data directory.
    pub data_dir: PathBuf,
    /// A stock `prometheus.yml`; without one the appliance scrapes itself.
    pub scrape_config: Option<PathBuf>,
    /// What becomes of start timestamps of targets.
    pub start_times: StartTimes,
    /// The local database.
    pub tsdb: TsdbSettings,
    /// What is said of the head here; the scrape configuration may say the rest.
    pub tuning: HeadTuning,
    /// When blocks are cut and the log is synced.
    pub head_keeper: HeadKeeperSettings,
    /// Labels that name this appliance; empty takes those of the scrape configuration, or the host's name.
    pub external: ExternalLabels,
    /// Every commit is on the disk before it is acknowledged.
    pub syncs_commits: bool,
    /// How coarse samples may be for queries that do not say.
    pub resolution: ResolutionWish,
    /// Where blocks are shipped.
    pub bucket: BucketSettings,
    /// What its store charges.
    pub prices: Prices,
    /// How often the shipper looks, beside every cut; `None` ships nothing.
    pub ship_every: Option<Duration>,
    /// How often the log is shipped; `None` where it is not.
    pub ship_log_every: Option<Duration>,
    /// Logs of other hosts go when nothing was added to them for so long; `None` lets them stay.
    pub log_abandoned_after: Option<Duration>,
    /// Blocks that were compacted here are shipped too.
    pub ships_compacted: bool,
    /// The data directory of another Prometheus whose blocks are shipped, and the labels that name it.
    pub attached: Option<(PathBuf, ExternalLabels)>,
    /// How often the bucket is listed, unless it is large.
    pub bucket_sync_every: Duration,
    /// Requests an hour that listing it may take.
    pub list_requests_per_hour_max: u32,
    /// What becomes of the bucket's blocks.
    pub compactor: CompactorKeys,
    /// How the bucket is served.
    pub gateway: GatewayKeys,
    /// Bounds of a query.
    pub engine: EngineSettings,
    /// Queries at once.
    pub queries_max: usize,
    /// Queries that wait for their turn.
    pub queries_waiting_max: usize,
    /// How long a query may take, its wait included.
    pub query_timeout: Duration,
    /// Remote write requests at once.
    pub writes_max: usize,
    /// Threads of the `query` pool.
    pub query_threads: usize,
    /// Threads of the `bulk` pool.
    pub bulk_threads: usize,
    /// How long each stage of the end may take.
    pub stop_deadline: Duration,
    /// Reads the layers of settings again, for a reload.
    pub reread: Reread,
    /// Every setting by name, for `/api/v1/status/flags`.
    pub flags: Vec<(String, String)>,
    /// Local retention in words, for `/api/v1/status/runtimeinfo`.
    pub retention_text: String,
    /// When the process started.
    pub started_ms: TimestampMs,
}

/// Reads all layers of settings again: the settings, or all that is wrong.
#[derive(Clone)]
pub struct Reread(Arc<dyn Fn() -> Result<typed::Settings, String> + Send + Sync>);

impl Reread {
    /// `read` is called from a thread that may wait.
    pub fn new(read: impl Fn() -> Result<typed::Settings, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn settings(&self) -> Result<typed::Settings, String> {
        (self.0)()
    }
}

impl fmt::Debug for Reread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reread")
    }
}

/// How often it is looked whether a block is due, for the usual block range; shorter ranges are looked at more often.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often the shipper looks by itself; every cut makes it look at once.
const SHIP_EVERY: Duration = Duration::from_secs(30);
/// Directory of the default bucket, below the data directory.
const BUCKET_DIR: &str = "bucket";

/// The bucket of an appliance that no file names one for: a directory beside its data.
pub fn local_bucket(data_dir: &Path) -> BucketSettings {
    BucketSettings {
        kind: BucketKind::Filesystem {
            directory: data_dir.join(BUCKET_DIR),
        },
        prefix: String::new(),
    }
}

impl Settings {
    /// What the configuration means; `bucket` is what its bucket file says, if there is one.
    pub fn new(
        config: typed::Settings,
        bucket: Option<BucketSettings>,
        started_ms: TimestampMs,
        reread: Reread,
    ) -> Self {
        // No `..`: a key added there does not compile until it means something here. Logs are the command line's.
        let typed::Settings {
            http,
            grpc,
            data_dir,
            scrape_config_file,
            start_times,
            labels,
            tsdb,
            tuning,
            wal_sync,
            bucket: bucket_keys,
            compactor,
            gateway,
            query,
            pools,
            log: _,
            shutdown_deadline,
            flags,
        } = config;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
        let ship_log_every = ship_log_every(&bucket_keys, bucket.as_ref());
        let bucket = bucket.unwrap_or_else(|| local_bucket(&data_dir));
        let engine = engine_settings(&query);
        Self {
            http: http.address,
            grpc: grpc_settings(&grpc),
            http_workers: cores,
            writes_max: http.write_concurrency,
            http_settings: http_settings(http),
            retention_text: retention_text(tsdb.retention),
            head_keeper: HeadKeeperSettings {
                compacts: !bucket_keys.is_shipping,
                look_every: look_every(tsdb.head.chunk_range_ms),
                sync_every: sync_every(wal_sync),
            },
            syncs_commits: wal_sync == WalSync::Always,
            resolution: query.resolution,
            tsdb,
            tuning,
            data_dir,
            scrape_config: scrape_config_file,
            start_times,
            external: labels,
            bucket,
            prices: bucket_keys.prices,
            ship_every: bucket_keys.is_shipping.then_some(SHIP_EVERY),
            ship_log_every,
            log_abandoned_after: bucket_keys.log_abandoned_after,
            ships_compacted: bucket_keys.ships_compacted,
            attached: bucket_keys.attached,
            bucket_sync_every: bucket_keys.sync_interval,
            list_requests_per_hour_max: u32::try_from(bucket_keys.list_requests_per_hour)
                .unwrap_or(u32::MAX),
            compactor,
            gateway,
            engine,
            queries_max: query.concurrent_max,
            queries_waiting_max: query.queue_max,
            query_timeout: query.timeout,
            query_threads: threads(&pools, cores),
            bulk_threads: pools.bulk_threads,
            stop_deadline: shutdown_deadline,
            flags,
            reread,
            started_ms,
        }
    }
}

fn engine_settings(query: &QueryKeys) -> EngineSettings {
    let (memory_max, memory_per_query_max) = memory_bounds(query, memory_bytes());
    EngineSettings {
        memory_per_query_max,
        memory: MemoryPool::new(memory_max),
        lookback_ms: millis(query.lookback),
        samples_max: query.samples_max,
        timeout_ms: millis(query.timeout),
        ..EngineSettings::default()
    }
}

/// Not into the directory beside the log, which would be lost together with it.
fn ship_log_every(keys: &typed::BucketKeys, bucket: Option<&BucketSettings>) -> Option<Duration> {
    keys.log_interval
        .filter(|_| bucket.is_some() && keys.is_shipping)
}

fn threads(pools: &PoolKeys, cores: usize) -> usize {
    let given = pools.query_threads.map(|n| usize::try_from(n.get()).ok());
    given.flatten().unwrap_or(cores)
}

/// Bytes that all queries may hold, and one.
fn memory_bounds(query: &QueryKeys, machine_bytes: u64) -> (u64, u64) {
    let all = query.memory_max.map_or(machine_bytes / 2, NonZeroU64::get);
    let one = query.memory_per_query_max.map_or(all / 2, NonZeroU64::get);
    (all, one.min(all))
}

fn grpc_settings(grpc: &GrpcKeys) -> GrpcSettings {
    let GrpcKeys {
        address,
        allow_public: _,
        series_concurrency,
        series_max,
        samples_max,
    } = *grpc;
    GrpcSettings {
        address,
        series_max: series_max.map(NonZeroU64::get),
        samples_max: samples_max.map(NonZeroU64::get),
        series_concurrency_max: series_concurrency,
        chunk_hashes: false,
    }
}

fn http_settings(http: HttpKeys) -> HttpSettings {
    let HttpKeys {
        address: _,
        allow_public: _,
        cors_origin,
        has_lifecycle,
        has_admin,
        form_bytes_max,
        write_bytes_max,
        write_decoded_bytes_max,
        write_ahead_max,
        write_concurrency: _,
    } = http;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    HttpSettings {
        form_bytes_max: size(form_bytes_max),
        write_bytes_max: size(write_bytes_max),
        write_decoded_bytes_max: size(write_decoded_bytes_max),
        write_ahead_ms_max: millis(write_ahead_max),
        cors_origin,
        has_lifecycle,
        has_admin,
    }
}

fn sync_every(wal_sync: WalSync) -> Option<Duration> {
    match wal_sync {
        WalSync::Every(every) => Some(every),
        WalSync::Always | WalSync::Off => None,
    }
}

/// A twentieth of the block range, between a quarter of a second and [`LOOK_EVERY`].
fn look_every(block_range_ms: i64) -> Duration {
    let part = Duration::from_millis(u64::try_from(block_range_ms / 20).unwrap_or(0));
    part.clamp(Duration::from_millis(250), LOOK_EVERY)
}

/// As Prometheus words it: `15d or 10GB`.
fn retention_text(retention: RetentionSettings) -> String {
    let time = retention.time_ms.map(format_duration);
    let size = match retention.percent {
        Some(percent) => Some(format!("{percent}%")),
        None => retention.bytes.map(|bytes| format!("{bytes}B")),
    };
    let parts: Vec<String> = time.into_iter().chain(size).collect();
    parts.join(" or ")
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
