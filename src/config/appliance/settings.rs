//! What is meant: the appliance's settings, valid by construction.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::bucket::Prices;
use crate::config::appliance::compactor::{CompactorKeys, read_compactor};
use crate::config::appliance::complaint::Complaint;
use crate::config::appliance::gateway::{GatewayKeys, read_gateway};
use crate::config::appliance::keys::{Keys, duration};
use crate::config::appliance::layers::{Given, merged, shipped_keys};
use crate::config::tuning::HeadTuning;
use crate::head::HeadSettings;
use crate::model::{ExternalLabels, Labels};
use crate::scrape::StartTimes;
use crate::storage::ResolutionWish;
use crate::tsdb::{RetentionSettings, TsdbSettings};
use crate::wal::{Compression, WalSettings};

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[http]`
    pub http: HttpKeys,
    /// `[grpc]`
    pub grpc: GrpcKeys,
    /// `storage.data_dir`
    pub data_dir: PathBuf,
    /// `scrape.config_file`; `None` scrapes the appliance itself and a node exporter that answers.
    pub scrape_config_file: Option<PathBuf>,
    /// `scrape.start_timestamps`.
    pub start_times: StartTimes,
    /// `[labels]`; empty when none are set there.
    pub labels: ExternalLabels,
    /// `[head]` and `[retention]`
    pub tsdb: TsdbSettings,
    /// What `prometheus.yml` may say of the head too.
    pub tuning: HeadTuning,
    /// `head.wal_sync`
    pub wal_sync: WalSync,
    /// `[bucket]`
    pub bucket: BucketKeys,
    /// `[gateway]`
    pub gateway: GatewayKeys,
    /// `[compactor]`
    pub compactor: CompactorKeys,
    /// `[query]`
    pub query: QueryKeys,
    /// `[pools]`
    pub pools: PoolKeys,
    /// `[log]`
    pub log: LogKeys,
    /// `shutdown.deadline`: for each stage.
    pub shutdown_deadline: Duration,
    /// Every key with the value in force, sorted, for the status page.
    pub flags: Vec<(String, String)>,
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpKeys {
    /// Where to listen.
    pub address: SocketAddr,
    /// The operator knows that other machines reach it.
    pub allow_public: bool,
    /// Anchored pattern of origins.
    pub cors_origin: String,
    /// `/-/reload` works.
    pub has_lifecycle: bool,
    /// `/api/v1/admin/tsdb/` works.
    pub has_admin: bool,
    /// Largest form body.
    pub form_bytes_max: u64,
    /// Largest remote write body as sent.
    pub write_bytes_max: u64,
    /// Largest remote write body decompressed.
    pub write_decoded_bytes_max: u64,
    /// How far ahead of the clock written samples may be.
    pub write_ahead_max: Duration,
    /// Remote write requests at once.
    pub write_concurrency: usize,
}

/// `[grpc]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcKeys {
    /// Where to listen.
    pub address: SocketAddr,
    /// The operator knows that other machines reach it.
    pub allow_public: bool,
    /// Series requests at once.
    pub series_concurrency: usize,
    /// Series in one answer.
    pub series_max: Option<NonZeroU64>,
    /// Samples in one answer.
    pub samples_max: Option<NonZeroU64>,
}

/// When the log reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalSync {
    /// That often.
    Every(Duration),
    /// Before a write is acknowledged.
    Always,
    /// When the operating system likes.
    Off,
}

/// `[bucket]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketKeys {
    /// Thanos' YAML; `None` is a directory below the data directory.
    pub config_file: Option<PathBuf>,
    /// Local blocks are uploaded.
    pub is_shipping: bool,
    /// Blocks that were compacted here are uploaded too.
    pub ships_compacted: bool,
    /// How often what is new of the log is uploaded; `None` does not.
    pub log_interval: Option<Duration>,
    /// Logs of others go when nothing was added to them for so long; `None` lets them stay.
    pub log_abandoned_after: Option<Duration>,
    /// The data directory of another Prometheus whose blocks are uploaded, and the labels that name it.
    pub attached: Option<(PathBuf, ExternalLabels)>,
    /// How often the gateway looks at the bucket.
    pub sync_interval: Duration,
    /// What the store charges.
    pub prices: Prices,
    /// Requests an hour that listing the bucket may take.
    pub list_requests_per_hour: usize,
}

/// `[query]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryKeys {
    /// Queries worked on at once.
    pub concurrent_max: usize,
    /// Queries waiting.
    pub queue_max: usize,
    /// Longest time of one.
    pub timeout: Duration,
    /// Samples one may hold.
    pub samples_max: u64,
    /// Bytes one may hold; `None` takes half of what all may.
    pub memory_per_query_max: Option<NonZeroU64>,
    /// Bytes all together may hold; `None` takes half of the machine's.
    pub memory_max: Option<NonZeroU64>,
    /// Age of the oldest sample an instant vector takes.
    pub lookback: Duration,
    /// How coarse samples may be for queries that do not say.
    pub resolution: ResolutionWish,
}

/// `[pools]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolKeys {
    /// `None` takes one for every core.
    pub query_threads: Option<NonZeroU64>,
    /// Threads of the `bulk` pool.
    pub bulk_threads: usize,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeys {
    /// A filter as tracing writes it.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Reads all layers; everything that is wrong at once.
pub fn load(given: &Given) -> Result<Settings, Vec<Complaint>> {
    let (values, complaints) = merged(given);
    let mut keys = Keys::new(values, complaints);
    keys.refuse_unknown(&shipped_keys(), |key| key.starts_with("labels."));
    let settings = read(&mut keys);
    if keys.complaints.is_empty() {
        return Ok(settings);
    }
    let mut complaints = keys.complaints;
    complaints.sort_by(|left, right| (&left.origin, &left.key).cmp(&(&right.origin, &right.key)));
    complaints.dedup();
    Err(complaints)
}

fn read(keys: &mut Keys) -> Settings {
    Settings {
        http: read_http(keys),
        grpc: read_grpc(keys),
        data_dir: keys.path("storage.data_dir").unwrap_or_else(|| {
            keys.complain("storage.data_dir", "expected the path of a directory");
            PathBuf::new()
        }),
        scrape_config_file: keys.path("scrape.config_file"),
        start_times: read_start_times(keys),
        labels: read_labels(keys),
        tsdb: read_tsdb(keys),
        tuning: read_tuning(keys),
        wal_sync: read_wal_sync(keys),
        bucket: BucketKeys {
            config_file: keys.path("bucket.config_file"),
            is_shipping: keys.flag("bucket.ship"),
            ships_compacted: keys.flag("bucket.upload_compacted"),
            log_interval: keys.duration_or_none("bucket.wal_interval"),
            log_abandoned_after: keys.duration_or_none("bucket.wal_abandoned_after"),
            attached: read_attached(keys),
            sync_interval: keys.duration("bucket.sync_interval"),
            prices: Prices {
                thousand_writes: keys.price("bucket.price_thousand_writes"),
                thousand_reads: keys.price("bucket.price_thousand_reads"),
                gib_out: keys.price("bucket.price_gib_out"),
            },
            list_requests_per_hour: keys.count("bucket.list_requests_per_hour"),
        },
        gateway: read_gateway(keys),
        compactor: read_compactor(keys),
        query: QueryKeys {
            concurrent_max: keys.count("query.max_concurrent"),
            queue_max: keys.count("query.queue"),
            timeout: keys.duration("query.timeout"),
            samples_max: keys.count("query.max_samples") as u64,
            memory_per_query_max: keys.size_or_none("query.memory_max_per_query"),
            memory_max: keys.size_or_none("query.memory_max"),
            lookback: keys.duration("query.lookback"),
            resolution: keys.resolution("query.max_source_resolution"),
        },
        pools: PoolKeys {
            query_threads: keys.count_or_none("pools.query_threads"),
            bulk_threads: keys.count("pools.bulk_threads"),
        },
        log: read_log(keys),
        shutdown_deadline: keys.duration("shutdown.deadline"),
        flags: keys.all(),
    }
}

fn read_attached(keys: &mut Keys) -> Option<(PathBuf, ExternalLabels)> {
    let text = keys.text("bucket.prometheus_labels");
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let pairs: Option<Vec<(&str, &str)>> = pairs.map(|pair| pair.split_once('=')).collect();
    let labels = pairs.and_then(|pairs| Labels::new(&pairs).ok());
    let dir = keys.path("bucket.prometheus_dir")?;
    match labels {
        Some(labels) if !labels.is_empty() => Some((dir, ExternalLabels(labels))),
        Some(_) | None => {
            let problem = "expected name=value, separated by commas: the external labels of the Prometheus whose blocks are uploaded, different from ours";
            keys.complain("bucket.prometheus_labels", problem);
            None
        }
    }
}

fn read_start_times(keys: &mut Keys) -> StartTimes {
    let choices = [
        ("ignore", StartTimes::Ignore),
        ("store", StartTimes::Store),
        ("zero", StartTimes::Zero),
    ];
    keys.choice("scrape.start_timestamps", &choices)
        .unwrap_or_default()
}

fn read_http(keys: &mut Keys) -> HttpKeys {
    let http = HttpKeys {
        address: keys.address("http.address"),
        allow_public: keys.flag("http.allow_public"),
        cors_origin: keys.text("http.cors_origin"),
        has_lifecycle: keys.flag("http.lifecycle"),
        has_admin: keys.flag("http.admin_api"),
        form_bytes_max: keys.size("http.form_size_max"),
        write_bytes_max: keys.size("http.write_size_max"),
        write_decoded_bytes_max: keys.size("http.write_decoded_size_max"),
        write_ahead_max: keys.duration("http.write_ahead_max"),
        write_concurrency: keys.count("http.write_concurrency"),
    };
    if let Err(error) = regex::Regex::new(&http.cors_origin) {
        let problem = format!("expected a regular expression: {error}");
        keys.complain("http.cors_origin", &problem);
    }
    check_public(keys, "http", http.address, http.allow_public);
    http
}

fn read_grpc(keys: &mut Keys) -> GrpcKeys {
    let grpc = GrpcKeys {
        address: keys.address("grpc.address"),
        allow_public: keys.flag("grpc.allow_public"),
        series_concurrency: keys.count("grpc.series_concurrency"),
        series_max: keys.count_or_none("grpc.series_max"),
        samples_max: keys.count_or_none("grpc.samples_max"),
    };
    check_public(keys, "grpc", grpc.address, grpc.allow_public);
    grpc
}

fn check_public(keys: &mut Keys, section: &str, address: SocketAddr, is_meant: bool) {
    if !address.ip().is_loopback() && !is_meant {
        let problem = format!(
            "other machines reach this address and nothing asks them for credentials; \
             set {section}.allow_public = true if that is meant, or use a loopback address"
        );
        keys.complain(&format!("{section}.address"), &problem);
    }
}

fn read_labels(keys: &mut Keys) -> ExternalLabels {
    let pairs = keys.section("labels");
    for (name, _) in &pairs {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        let is_name =
            name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
        if !is_name {
            let problem = "expected a label name: letters, digits and _, no digit first";
            keys.complain(&format!("labels.{name}"), problem);
        }
    }
    let pairs: Vec<(&str, &str)> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    match Labels::new(&pairs) {
        Ok(labels) => ExternalLabels(labels),
        Err(error) => {
            keys.complain("labels", &error.to_string());
            ExternalLabels::default()
        }
    }
}

fn read_tuning(keys: &mut Keys) -> HeadTuning {
    let window = keys.duration_if_given("head.out_of_order_window");
    let exemplars_max = keys.count_if_given("head.exemplars_max");
    HeadTuning {
        out_of_order_window_ms: window.map(millis),
        exemplars_max: exemplars_max.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
    }
}

fn read_tsdb(keys: &mut Keys) -> TsdbSettings {
    let compressions = [
        ("snappy", Compression::Snappy),
        ("zstd", Compression::Zstd),
        ("none", Compression::None),
    ];
    let wal = WalSettings {
        segment_bytes_max: keys.size("head.wal_segment_size"),
        compression: keys
            .choice("head.wal_compression", &compressions)
            .unwrap_or_default(),
    };
    let chunk_range_ms = millis(keys.duration("head.block_range"));
    TsdbSettings {
        head: HeadSettings {
            chunk_range_ms,
            wal,
            writes_xor2: keys
                .choice("head.float_chunks", &[("xor", false), ("xor2", true)])
                .unwrap_or_default(),
            reserve_bytes: keys
                .size_or_none("head.disk_reserve")
                .map_or(0, NonZeroU64::get),
            keeps_start_times: keys.flag("head.start_timestamps"),
            ..HeadSettings::default()
        },
        retention: RetentionSettings {
            time_ms: keys.duration_or_none("retention.time").map(millis),
            bytes: keys.size_or_none("retention.size").map(NonZeroU64::get),
            percent: keys.percent_or_none("retention.percent"),
        },
        stale_percent: keys.percent_or_none("head.stale_series"),
    }
}

fn read_wal_sync(keys: &mut Keys) -> WalSync {
    let text = keys.text("head.wal_sync");
    match (text.as_str(), duration(&text)) {
        ("always", _) => WalSync::Always,
        ("off", _) => WalSync::Off,
        (_, Some(every)) if !every.is_zero() => WalSync::Every(every),
        _ => {
            let problem = "expected a duration longer than 0, always, or off";
            keys.complain("head.wal_sync", problem);
            WalSync::Off
        }
    }
}

fn read_log(keys: &mut Keys) -> LogKeys {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = keys.text("log.level");
    // A filter takes a bare word for a module at its most talkative; here it is a level or a mistake.
    let is_level = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        level.trim().parse::<LevelFilter>().is_ok()
    };
    if !level.split(',').all(is_level) || level.parse::<Targets>().is_err() {
        let problem = "expected error, warn, info, debug or trace, or a filter such as info,gauntlet::scrape=debug";
        keys.complain("log.level", problem);
    }
    LogKeys {
        level,
        format: keys
            .choice("log.format", &formats)
            .unwrap_or(LogFormat::Text),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
