//! What scraping needs to know, already checked.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use crate::exposition::{Escaping, HistogramOptions, ScrapeProtocol};
use crate::model::histogram::EXPONENTIAL_SCHEMA_MAX;
use crate::model::{ExternalLabels, Labels};
use crate::relabel::RelabelRule;

/// Everything that is scraped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// Names this appliance; not added to local series.
    pub external_labels: ExternalLabels,
    /// The jobs, each with its own pool of targets; names are unique.
    pub jobs: Vec<JobSettings>,
}

impl Settings {
    /// Does with the start timestamps of all jobs what is said here.
    pub fn set_start_times(&mut self, start_times: StartTimes) {
        for job in &mut self.jobs {
            job.ingest.start_times = start_times;
        }
    }
}

/// One job: where its targets come from and how they are scraped.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSettings {
    /// Value of the `job` label unless relabelling says otherwise.
    pub job_name: String,
    /// Where targets come from.
    pub discovery: Vec<DiscoverySettings>,
    /// Rules over target labels.
    pub relabel: Vec<RelabelRule>,
    /// What a request looks like.
    pub request: RequestSettings,
    /// How the HTTP client connects and proves who it is.
    pub http: HttpSettings,
    /// What becomes of the samples.
    pub ingest: IngestSettings,
    /// At most this many targets; more and every scrape of the job fails.
    pub target_limit: Option<NonZeroUsize>,
    /// At most this many dropped targets are kept to be shown; `None` keeps all.
    pub keep_dropped_targets: Option<NonZeroUsize>,
    /// Targets of this job exist only while they answer: one that does not makes no `up` series.
    pub only_while_it_answers: bool,
}

/// What a scrape request looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestSettings {
    /// From one scrape to the next.
    pub interval_ms: i64,
    /// A scrape takes at most this long; not above the interval.
    pub timeout_ms: i64,
    /// `http` or `https`; empty leaves it to relabelling.
    pub scheme: String,
    /// Path of the URL.
    pub metrics_path: String,
    /// Parameters of the URL, in name order.
    pub params: Vec<(String, Vec<String>)>,
    /// Formats in order of preference; never empty.
    pub protocols: Vec<ScrapeProtocol>,
    /// Format of an answer that does not name one we know.
    pub fallback_protocol: Option<ScrapeProtocol>,
    /// How names that are not in the old alphabet are to be written by the target.
    pub escaping: Escaping,
    /// Ask for gzip.
    pub compression: bool,
    /// At most this many bytes, decompressed.
    pub body_bytes_max: Option<NonZeroU64>,
}

/// What becomes of scraped samples.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestSettings {
    /// What the target says counts more than what we know.
    pub honor: Honor,
    /// Rules over the labels of samples.
    pub metric_relabel: Vec<RelabelRule>,
    /// Limits; exceeding one fails the scrape.
    pub limits: Limits,
    /// Write `scrape_timeout_seconds` and its two companions.
    pub extra_metrics: bool,
    /// Metric and label names are in the old alphabet.
    pub legacy_names: bool,
    /// What histograms become.
    pub histograms: HistogramSettings,
    /// What becomes of start timestamps.
    pub start_times: StartTimes,
}

/// What becomes of it when a target says since when a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartTimes {
    /// Nothing.
    #[default]
    Ignore,
    /// It is stored with every sample.
    Store,
    /// A sample of zero is stored at that time.
    Zero,
}

/// What histograms become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramSettings {
    /// What is taken of them; labels of a target may say otherwise.
    pub options: HistogramOptions,
    /// At most this many buckets in a native histogram; finer ones are merged, and what cannot be merged enough fails
    /// the scrape.
    pub buckets_max: Option<NonZeroUsize>,
    /// Native histograms of a finer schema are made coarser.
    pub schema_max: i32,
}

impl Default for HistogramSettings {
    fn default() -> Self {
        Self {
            options: HistogramOptions::default(),
            buckets_max: None,
            schema_max: EXPONENTIAL_SCHEMA_MAX,
        }
    }
}

/// In what the target is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Honor {
    /// Its labels win over target labels; otherwise they are renamed to `exported_…`.
    pub labels: bool,
    /// Its timestamps are taken.
    pub timestamps: bool,
    /// Series with timestamps of their own get stale markers too.
    pub track_timestamps_staleness: bool,
}

/// Limits of one scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Samples after relabelling.
    pub samples: Option<NonZeroUsize>,
    /// Labels of one series.
    pub labels: Option<NonZeroUsize>,
    /// Bytes of a label name.
    pub label_name_bytes: Option<NonZeroUsize>,
    /// Bytes of a label value.
    pub label_value_bytes: Option<NonZeroUsize>,
}

/// A source of target groups.
#[derive(Debug, Clone, PartialEq)]
pub enum DiscoverySettings {
    /// Written in the configuration.
    Static(Vec<TargetGroup>),
    /// Files that others write.
    File {
        /// Absolute; the last element may hold `*`.
        patterns: Vec<PathBuf>,
        /// Read again at least this often.
        refresh_ms: i64,
    },
    /// An HTTP service that answers with a JSON list.
    Http(Box<HttpDiscovery>),
}

/// An HTTP service that answers with a list of target groups.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpDiscovery {
    /// Where to ask.
    pub url: String,
    /// How often.
    pub refresh_ms: i64,
    /// How to connect.
    pub http: HttpSettings,
}

/// Addresses that share labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetGroup {
    /// Values of `__address__`.
    pub addresses: Vec<String>,
    /// Labels of all of them.
    pub labels: Labels,
}

/// How an HTTP client connects and proves who it is.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// Credentials.
    pub auth: Auth,
    /// Certificates.
    pub tls: TlsSettings,
    /// Headers of every request.
    pub headers: Vec<(String, HeaderValues)>,
    /// The proxy to use.
    pub proxy: ProxySettings,
    /// Go where a redirect points.
    pub follow_redirects: bool,
    /// Offer HTTP/2 over TLS.
    pub http2: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            tls: TlsSettings::default(),
            headers: Vec::new(),
            proxy: ProxySettings::None,
            follow_redirects: true,
            http2: true,
        }
    }
}

/// Values of one header; files are read for every request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderValues {
    /// Shown as they are.
    pub values: Vec<String>,
    /// Never shown.
    pub secrets: Vec<Secret>,
    /// Files that hold values.
    pub files: Vec<PathBuf>,
}

/// Credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// None are sent.
    None,
    /// User name and password.
    Basic {
        /// Who.
        user: SecretSource,
        /// The password.
        password: SecretSource,
    },
    /// `Authorization: <scheme> <credentials>`.
    Header {
        /// Usually `Bearer`.
        scheme: String,
        /// What follows it.
        credentials: SecretSource,
    },
}

/// A value that is given, or read from a file for every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Given in the configuration.
    Inline(Secret),
    /// Content of a file, without surrounding blanks.
    File(PathBuf),
}

/// The proxy of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxySettings {
    /// Connect directly, whatever the environment says.
    None,
    /// What `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    Environment,
    /// This one.
    Url {
        /// May hold credentials.
        url: Secret,
        /// Hosts that are reached directly, comma-separated.
        no_proxy: String,
    },
}

/// Certificates and how to check them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Whom to trust instead of the system's authorities.
    pub ca: Option<PemSource>,
    /// Our certificate and its key.
    pub identity: Option<(PemSource, PemSource)>,
    /// The name to ask for and to check, instead of the target's.
    pub server_name: Option<String>,
    /// Trust anybody.
    pub insecure_skip_verify: bool,
    /// Refuse what is older.
    pub min_version: Option<TlsVersion>,
    /// Refuse what is newer.
    pub max_version: Option<TlsVersion>,
}

/// Versions of TLS that can be asked for; the ones before 1.2 are never spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.0
    V10,
    /// 1.1
    V11,
    /// 1.2
    V12,
    /// 1.3
    V13,
}

/// PEM text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PemSource {
    /// Given in the configuration.
    Inline(Secret),
    /// In a file, read again when it changes.
    File(PathBuf),
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}
