//! What a file means.

use std::num::{NonZeroU64, NonZeroUsize};

use crate::config::prometheus::tests::load_text;
use crate::exposition::{DEFAULT_SCRAPE_PROTOCOLS, Escaping, ScrapeProtocol};
use crate::foundation::durable::replace_file;
use crate::model::Labels;
use crate::scrape::{
    Auth, DiscoverySettings, HistogramSettings, PemSource, ProxySettings, SecretSource, TlsVersion,
};

#[test]
fn what_is_not_written_has_prometheus_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = load_text(
        dir.path(),
        "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['x:1']\n",
    )
    .unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let job = &loaded.settings.jobs[0];
    let request = &job.request;
    assert_eq!((request.interval_ms, request.timeout_ms), (60_000, 10_000));
    assert_eq!(
        (request.scheme.as_str(), request.metrics_path.as_str()),
        ("http", "/metrics")
    );
    assert_eq!(request.protocols, DEFAULT_SCRAPE_PROTOCOLS);
    assert_eq!(request.escaping, Escaping::AllowUtf8);
    assert!(request.compression && job.http.follow_redirects && job.http.http2);
    let honor = job.ingest.honor;
    assert!(!honor.labels && honor.timestamps && !honor.track_timestamps_staleness);
    assert_eq!(job.http.auth, Auth::None);
}

#[test]
fn jobs_fall_back_on_the_global_section() {
    let dir = tempfile::tempdir().unwrap();
    let text = "global:\n  scrape_interval: 5s\n  sample_limit: 10\n  body_size_limit: 1MB\n  target_limit: 7\n  metric_name_validation_scheme: legacy\n  metric_name_escaping_scheme: dots\n  scrape_protocols: [PrometheusText0.0.4, PrometheusProto]\nscrape_configs:\n- job_name: a\n- job_name: b\n  scrape_interval: 1m\n  sample_limit: 20\n  scrape_protocols: [OpenMetricsText1.0.0]\n  metric_name_validation_scheme: utf8\n";
    let loaded = load_text(dir.path(), text).unwrap();
    let [a, b] = loaded.settings.jobs.as_slice() else {
        panic!("{:?}", loaded.settings.jobs)
    };
    assert_eq!(
        (a.request.interval_ms, a.request.timeout_ms),
        (5_000, 5_000)
    );
    assert_eq!(
        (b.request.interval_ms, b.request.timeout_ms),
        (60_000, 5_000)
    );
    assert_eq!(a.ingest.limits.samples, NonZeroUsize::new(10));
    assert_eq!(b.ingest.limits.samples, NonZeroUsize::new(20));
    assert_eq!(a.request.body_bytes_max, NonZeroU64::new(1 << 20));
    assert_eq!(b.target_limit, NonZeroUsize::new(7));
    assert_eq!(
        a.request.protocols,
        [
            ScrapeProtocol::PrometheusText0_0_4,
            ScrapeProtocol::PrometheusProto
        ]
    );
    assert_eq!(b.request.protocols, [ScrapeProtocol::OpenMetricsText1_0_0]);
    assert!(a.ingest.legacy_names && !b.ingest.legacy_names);
    assert_eq!(a.request.escaping, Escaping::Dots);
    assert_eq!(b.request.escaping, Escaping::AllowUtf8);
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
}

#[test]
fn clients_are_described_completely() {
    let dir = tempfile::tempdir().unwrap();
    let text = "scrape_configs:\n- job_name: a\n  basic_auth:\n    username: me\n    password_file: pw\n  tls_config:\n    ca_file: /etc/ca.pem\n    cert: C\n    key: K\n    server_name: s\n    min_version: TLS13\n  http_headers:\n    X-A:\n      values: [v]\n      secrets: [s]\n      files: [f]\n  proxy_url: http://u:p@proxy:1\n  no_proxy: localhost\n- job_name: b\n  bearer_token_file: tok\n- job_name: c\n  authorization: {type: Token, credentials: x}\n";
    let loaded = load_text(dir.path(), text).unwrap();
    let [a, b, c] = loaded.settings.jobs.as_slice() else {
        panic!("{:?}", loaded.settings.jobs)
    };
    let Auth::Basic { user, password } = &a.http.auth else {
        panic!("{:?}", a.http.auth)
    };
    assert!(
        matches!(user, SecretSource::Inline(user) if user.reveal() == "me"),
        "{user:?}"
    );
    assert_eq!(*password, SecretSource::File(dir.path().join("pw")));
    assert_eq!(a.http.tls.ca, Some(PemSource::File("/etc/ca.pem".into())));
    assert_eq!(a.http.tls.server_name.as_deref(), Some("s"));
    assert_eq!(a.http.tls.min_version, Some(TlsVersion::V13));
    assert!(a.http.tls.identity.is_some());
    assert_eq!(a.http.headers[0].1.files, [dir.path().join("f")]);
    let ProxySettings::Url { url, no_proxy } = &a.http.proxy else {
        panic!("{:?}", a.http.proxy)
    };
    assert_eq!(
        (url.reveal(), no_proxy.as_str()),
        ("http://u:p@proxy:1", "localhost")
    );
    let token = Auth::Header {
        scheme: "Bearer".to_owned(),
        credentials: SecretSource::File(dir.path().join("tok")),
    };
    assert_eq!(b.http.auth, token);
    assert!(matches!(&c.http.auth, Auth::Header { scheme, .. } if scheme == "Token"));
    assert!(!format!("{:?}", loaded.settings).contains("u:p@"));
    assert!(
        loaded.text.contains("credentials: <secret>"),
        "{}",
        loaded.text
    );
}

#[test]
fn discovery_paths_count_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = "scrape_configs:\n- job_name: a\n  file_sd_configs:\n  - files: ['t/*.yml', /abs/x.json]\n  http_sd_configs:\n  - url: http://sd/x\n    refresh_interval: 5s\n  static_configs:\n  - targets: ['h:1']\n    labels: {env: prod}\n  dns_sd_configs:\n  - names: [x]\n";
    let loaded = load_text(dir.path(), text).unwrap();
    let [file, http, statics] = loaded.settings.jobs[0].discovery.as_slice() else {
        panic!("{:?}", loaded.settings.jobs[0].discovery)
    };
    let patterns = vec![dir.path().join("t/*.yml"), "/abs/x.json".into()];
    assert_eq!(
        *file,
        DiscoverySettings::File {
            patterns,
            refresh_ms: 300_000
        }
    );
    assert!(matches!(http, DiscoverySettings::Http(http) if http.refresh_ms == 5_000));
    let DiscoverySettings::Static(groups) = statics else {
        panic!("{statics:?}")
    };
    assert_eq!(groups[0].labels, Labels::new(&[("env", "prod")]).unwrap());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert_eq!(loaded.warnings[0].line, 11);
}

#[test]
fn further_files_hold_jobs_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        replace_file(&dir.path().join(name), text.as_bytes()).unwrap();
    };
    let main = "scrape_configs:\n- job_name: a\nscrape_config_files: ['*.jobs']\n";
    write("1.jobs", "scrape_configs:\n- job_name: b\n");
    write("2.jobs", "scrape_configs:\n- job_name: c\n");
    let loaded = load_text(dir.path(), main).unwrap();
    let names: Vec<_> = loaded
        .settings
        .jobs
        .iter()
        .map(|job| job.job_name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(loaded.files.len(), 3);
    write("2.jobs", "global: {}\nscrape_configs:\n- job_name: a\n");
    let complaints = load_text(dir.path(), main).unwrap_err();
    let places: Vec<_> = complaints
        .iter()
        .map(|complaint| {
            (
                complaint.file.ends_with("2.jobs"),
                complaint.line,
                complaint.key.as_str(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [(true, 1, "global"), (true, 3, "scrape_configs[0].job_name")]
    );
}

#[test]
fn an_unset_variable_is_empty_and_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let text = "global:\n  external_labels:\n    a: x$$y\n    b: ${GAUNTLET_TEST_SURELY_NOT_SET}z\n    c: 012\n";
    let loaded = load_text(dir.path(), text).unwrap();
    let expect = Labels::new(&[("a", "x$y"), ("b", "z"), ("c", "012")]).unwrap();
    assert_eq!(loaded.settings.external_labels.0, expect);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

#[test]
fn debians_own_file_is_taken_with_few_words() {
    let path = std::path::Path::new("/etc/prometheus/prometheus.yml");
    if !path.try_exists().unwrap_or(false) {
        assert!(
            std::env::var_os("CI").is_none(),
            "Debian's prometheus is not installed"
        );
        return;
    }
    let loaded = crate::config::prometheus::load(path).unwrap();
    assert_eq!(loaded.settings.jobs.len(), 2);
    assert!(loaded.warnings.len() <= 2, "{:?}", loaded.warnings);
}

#[test]
fn who_wants_native_histograms_asks_for_protobuf_first() {
    let dir = tempfile::tempdir().unwrap();
    let text = "global:\n  always_scrape_classic_histograms: true\nscrape_configs:\n\
                - job_name: a\n  scrape_native_histograms: true\n  always_scrape_classic_histograms: false\n  native_histogram_bucket_limit: 100\n  native_histogram_min_bucket_factor: 1.1\n\
                - job_name: b\n  convert_classic_histograms_to_nhcb: true\n\
                - job_name: c\n  scrape_native_histograms: true\n  scrape_protocols: [PrometheusText1.0.0]\n  native_histogram_min_bucket_factor: 0\n\
                - job_name: d\n  scrape_classic_histograms: true\n  native_histogram_min_bucket_factor: 1e6\n";
    let loaded = load_text(dir.path(), text).unwrap();
    let histograms: Vec<_> = loaded
        .settings
        .jobs
        .iter()
        .map(|job| {
            let HistogramSettings {
                options,
                buckets_max,
                schema_max,
            } = job.ingest.histograms;
            let flags = [
                options.native,
                options.keeps_classic,
                options.converts_classic,
            ];
            (flags, buckets_max.map(NonZeroUsize::get), schema_max)
        })
        .collect();
    assert_eq!(
        histograms,
        [
            ([true, false, false], Some(100), 2),
            ([false, true, true], None, 8),
            ([true, true, false], None, 8),
            ([false, true, false], None, -4),
        ]
    );
    let first = |at: usize| loaded.settings.jobs[at].request.protocols[0];
    assert_eq!(first(0), ScrapeProtocol::PrometheusProto);
    assert_eq!(first(1), ScrapeProtocol::OpenMetricsText1_0_0);
    assert_eq!(first(2), ScrapeProtocol::PrometheusText1_0_0);
    assert_eq!(loaded.warnings.len(), 0, "{:?}", loaded.warnings);
}

#[test]
fn the_storage_section_speaks_of_the_head_and_what_is_said_elsewhere_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = "storage:\n  tsdb:\n    out_of_order_time_window: 30m\n    retention: {time: 3d}\n  exemplars:\n    max_exemplars: -2\n";
    let loaded = load_text(dir.path(), text).unwrap();
    assert_eq!(loaded.tuning.out_of_order_window_ms, Some(1_800_000));
    assert_eq!(loaded.tuning.exemplars_max, Some(0));
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings)
    };
    assert_eq!(warning.line, 4);
    assert!(
        warning
            .to_string()
            .contains("retention.* of appliance.toml"),
        "{warning}"
    );
    let silent = load_text(dir.path(), "storage: {tsdb: {}}\n").unwrap();
    assert_eq!(silent.tuning, crate::config::HeadTuning::default());
}
