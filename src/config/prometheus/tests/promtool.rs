//! The same files before us and before `promtool check config`.

use std::process::Command;

use crate::config::prometheus::tests::load_text;

/// What we do with a file, and why Debian's promtool (2.42) may do otherwise.
enum Verdict {
    /// Both take it.
    Taken,
    /// Both refuse it.
    Refused,
    /// We take it; promtool does not.
    TakenHere(&'static str),
    /// We refuse it; promtool does not.
    RefusedHere(&'static str),
}

use Verdict::{Refused, RefusedHere, Taken, TakenHere};

const NEW_IN_3: &str = "the key or value is newer than 2.42";
const UTF8_NAMES: &str = "3.x allows any UTF-8 label name";

/// A job that has only a name so far.
const JOB: &str = "scrape_configs:\n- job_name: a\n";

#[rustfmt::skip]
const GLOBAL: &[(&str, Verdict)] = &[
    ("", Taken),
    ("global:\n", Taken),
    ("global: {}\n", Taken),
    ("global:\n  scrape_interval: 15s\n  evaluation_interval: 30s\n", Taken),
    ("global:\n  scrape_interval: 1m30s\n  scrape_timeout: 1m\n", Taken),
    ("global:\n  scrape_interval: 5s\n", Taken),
    ("global:\n  scrape_interval: 5s\n  scrape_timeout: 10s\n", Refused),
    ("global:\n  scrape_interval: 15\n", Refused),
    ("global:\n  scrape_interval: -5s\n", Refused),
    ("global:\n  scrape_interval: fast\n", Refused),
    ("global:\n  scrape_interval: [15s]\n", Refused),
    ("global:\n  scrape_intervall: 15s\n", Refused),
    ("global: text\n", Refused),
    ("global:\n  external_labels:\n    region: eu\n    n: 1\n    b: true\n", Taken),
    ("global:\n  external_labels:\n    'a b': x\n", TakenHere(UTF8_NAMES)),
    ("global:\n  external_labels:\n    '': x\n", Refused),
    ("global:\n  external_labels: [a]\n", Refused),
    ("global:\n  external_labels:\n    a: {b: c}\n", Refused),
    ("global:\n  query_log_file: q.log\n", Taken),
    ("global:\n  sample_limit: 5\n", TakenHere(NEW_IN_3)),
    ("global:\n  metric_name_validation_scheme: legacy\n", TakenHere(NEW_IN_3)),
    ("global:\n  scrape_protocols: [PrometheusText0.0.4]\n", TakenHere(NEW_IN_3)),
    ("globals:\n", Refused),
    ("a: 1\na: 2\n", Refused),
    ("- a\n", Refused),
    ("global: [\n", Refused),
];

#[rustfmt::skip]
const JOBS: &[(&str, Verdict)] = &[
    ("", Taken),
    ("  scrape_interval: 10s\n", Taken),
    ("  scrape_interval: 10s\n  scrape_timeout: 11s\n", Refused),
    ("  scrape_timeout: 2m\n", Refused),
    ("  scheme: https\n  metrics_path: /m\n  params:\n    a: [b, c]\n", Taken),
    ("  scheme: ftp\n", RefusedHere("a scheme that nobody can scrape is refused before it fails every scrape")),
    ("  params:\n    a: b\n", Refused),
    ("  honor_labels: yes\n  honor_timestamps: off\n", Taken),
    ("  honor_labels: maybe\n", Refused),
    ("  honor_labels: \"true\"\n", Refused),
    ("  sample_limit: 10\n  label_limit: 5\n  label_name_length_limit: 5\n  label_value_length_limit: 5\n  target_limit: 3\n", Taken),
    ("  sample_limit: -1\n", Refused),
    ("  sample_limit: many\n", Refused),
    ("  body_size_limit: 10MB\n", Taken),
    ("  body_size_limit: 10\n", Refused),
    ("  body_size_limit: 10XB\n", Refused),
    ("  job_nam: b\n", Refused),
    ("- job_name: a\n", Refused),
    ("- job_name: b\n", Taken),
    ("- job_name: ''\n", Refused),
    ("- scheme: http\n", Refused),
    ("-\n", Refused),
    ("  basic_auth:\n    username: u\n    password: p\n", Taken),
    ("  basic_auth:\n    username: u\n    password: p\n    password_file: f\n", Refused),
    ("  basic_auth:\n    user: u\n", Refused),
    ("  basic_auth:\n    username_file: u\n", TakenHere(NEW_IN_3)),
    ("  bearer_token: t\n", Taken),
    ("  bearer_token: t\n  bearer_token_file: f\n", Refused),
    ("  bearer_token: t\n  basic_auth: {username: u}\n", Refused),
    ("  authorization:\n    credentials: c\n", Taken),
    ("  authorization:\n    type: Basic\n    credentials: c\n", Refused),
    ("  authorization: {credentials: c}\n  basic_auth: {username: u}\n", Refused),
    ("  authorization: {credentials: c}\n  bearer_token: t\n", Refused),
    ("  authorization: {credentials: c, credentials_file: f}\n", Refused),
    ("  tls_config:\n    insecure_skip_verify: true\n    server_name: x\n    min_version: TLS12\n", Taken),
    ("  tls_config:\n    min_version: SSL3\n", Refused),
    ("  tls_config:\n    cert_file: c\n", Refused),
    ("  tls_config:\n    ca: |\n      -----BEGIN CERTIFICATE-----\n", TakenHere(NEW_IN_3)),
    ("  proxy_url: http://proxy:3128\n  follow_redirects: false\n  enable_http2: false\n", Taken),
    ("  proxy_url: ':'\n", Refused),
    ("  no_proxy: a\n", Refused),
    ("  http_headers:\n    X-Team:\n      values: [a]\n", TakenHere(NEW_IN_3)),
    ("  enable_compression: false\n", TakenHere(NEW_IN_3)),
    ("  fallback_scrape_protocol: PrometheusText0.0.4\n", TakenHere(NEW_IN_3)),
    ("  track_timestamps_staleness: true\n", TakenHere(NEW_IN_3)),
    ("  keep_dropped_targets: 5\n", TakenHere(NEW_IN_3)),
    ("  oauth2:\n    client_id: a\n    client_secret: b\n    token_url: http://x\n", Taken),
    ("  static_configs:\n  - targets: ['h:1', 'h:2']\n    labels: {a: b}\n", Taken),
    ("  static_configs:\n  - targets: ['http://h:1']\n", Refused),
    ("  static_configs:\n  - targets: ['h/m']\n  relabel_configs:\n  - {regex: '(.*)'}\n", Refused),
    ("  static_configs:\n  - targets: h\n", Refused),
    ("  static_configs:\n  - target: [h]\n", Refused),
    ("  static_configs:\n  -\n", Refused),
    ("  static_configs:\n  - targets: [h]\n    labels: {'a-b': c}\n", TakenHere(UTF8_NAMES)),
    ("  file_sd_configs:\n  - files: ['t/*.json']\n    refresh_interval: 1m\n", Taken),
    ("  file_sd_configs:\n  - files: []\n", Refused),
    ("  file_sd_configs:\n  - files: ['t/*/a.json']\n", Refused),
    ("  file_sd_configs:\n  - files: ['a.txt']\n", Refused),
    ("  http_sd_configs:\n  - url: http://sd/targets\n    refresh_interval: 30s\n    basic_auth: {username: u}\n", Taken),
    ("  http_sd_configs:\n  - url: ''\n", Refused),
    ("  http_sd_configs:\n  - url: ftp://sd/\n", Refused),
    ("  http_sd_configs:\n  - url: 'http://'\n", Refused),
    ("  dns_sd_configs:\n  - names: [a.example]\n", Taken),
    ("  kubernetes_sd_configs:\n  - role: pod\n", TakenHere("Debian builds Prometheus without Kubernetes")),
    ("  myown_sd_configs:\n  - a: b\n", Refused),
];

#[rustfmt::skip]
const RULES: &[(&str, Verdict)] = &[
    ("{source_labels: [a], target_label: b}", Taken),
    ("{source_labels: [a], regex: '(.+):(\\d+)', target_label: b, replacement: '${1}x$2'}", Taken),
    ("{source_labels: [a], regex: '(', target_label: b}", Refused),
    ("{source_labels: [a], regex: x, action: KEEP}", Taken),
    ("{source_labels: [a], action: hold}", Refused),
    ("{source_labels: [a]}", Refused),
    ("{source_labels: [a], action: hashmod, target_label: b}", Refused),
    ("{source_labels: [a], action: hashmod, target_label: b, modulus: 4}", Taken),
    ("{action: labeldrop, regex: 'a.*'}", Taken),
    ("{action: labeldrop, regex: a, source_labels: [b]}", Refused),
    ("{action: labelmap, regex: 'meta_(.+)'}", Taken),
    ("{action: keepequal, source_labels: [a], target_label: b}", Taken),
    ("{action: keepequal, source_labels: [a], target_label: b, regex: x}", Refused),
    ("{action: lowercase, source_labels: [a], target_label: b}", Taken),
    ("{action: lowercase, source_labels: [a], target_label: b, replacement: c}", Refused),
    ("{source_labels: [a], target_label: 'b-c'}", TakenHere(UTF8_NAMES)),
    ("{source_label: [a], target_label: b}", Refused),
    ("", Refused),
];

#[rustfmt::skip]
const SECTIONS: &[(&str, Verdict)] = &[
    ("rule_files:\n- rules/*.yml\n", Taken),
    ("rule_files:\n- '*/rules.yml'\n", Refused),
    ("scrape_config_files:\n- '*/jobs.yml'\n", Refused),
    ("scrape_config_files:\n- jobs/*.yml\n", TakenHere(NEW_IN_3)),
    ("alerting:\n  alertmanagers:\n  - static_configs:\n    - targets:\n      # - alertmanager:9093\n", Taken),
    ("alerting:\n  alertmanager: []\n", Refused),
    ("remote_write:\n- url: http://x/write\n", Taken),
    ("remote_write:\n- name: x\n", Refused),
    ("remote_read:\n- url: http://x/read\n", Taken),
    ("storage:\n  exemplars:\n    max_exemplars: 5\n", Taken),
    ("storage:\n  exemplars:\n    max_exemplars: -1\n", Taken),
    ("storage:\n  exemplars:\n    max_exemplars: many\n", Refused),
    ("storage:\n  exemplars:\n    exemplars: 5\n", Refused),
    ("storage:\n  tsdb:\n    out_of_order_time_window: 30m\n", Taken),
    ("storage:\n  tsdb:\n    out_of_order_time_window: 30\n", Refused),
    ("storage:\n  tsdb:\n    out_of_order_window: 30m\n", Refused),
    ("storage:\n  tsdb:\n    retention:\n      time: 3d\n", TakenHere(NEW_IN_3)),
    ("storage:\n  blocks: 1\n", Refused),
    ("tracing:\n  endpoint: x:4317\n", Taken),
    ("otlp:\n  promote_resource_attributes: [a]\n", TakenHere(NEW_IN_3)),
    ("runtime:\n  gogc: 50\n", TakenHere(NEW_IN_3)),
];

fn cases() -> Vec<(String, &'static Verdict)> {
    let mut cases = Vec::new();
    for (text, verdict) in GLOBAL.iter().chain(SECTIONS) {
        cases.push(((*text).to_owned(), verdict));
    }
    for (text, verdict) in JOBS {
        cases.push((format!("{JOB}{text}"), verdict));
    }
    for key in ["relabel_configs", "metric_relabel_configs"] {
        for (text, verdict) in RULES {
            cases.push((format!("{JOB}  {key}:\n  - {text}\n"), verdict));
        }
    }
    cases
}

#[test]
fn every_file_of_the_table_is_taken_or_refused_as_it_says() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let dir = tempfile::tempdir().unwrap();
    for (text, verdict) in &cases {
        let loaded = load_text(dir.path(), text);
        let expect_taken = matches!(verdict, Taken | TakenHere(_));
        assert_eq!(loaded.is_ok(), expect_taken, "{text}\n{loaded:?}");
        for complaint in loaded.err().unwrap_or_default() {
            assert!(complaint.line > 0, "{text}\n{complaint}");
        }
    }
}

#[test]
fn promtool_says_the_same_but_for_the_listed_differences() {
    if Command::new("promtool").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("CI").is_none(),
            "promtool is not installed"
        );
        let mut stderr = std::io::stderr();
        std::io::Write::write_all(&mut stderr, b"SKIPPED: promtool is not installed\n").unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut differences = Vec::new();
    for (text, verdict) in cases() {
        let path = dir.path().join("prometheus.yml");
        crate::foundation::durable::replace_file(&path, text.as_bytes()).unwrap();
        let mut promtool = Command::new("promtool");
        let output = promtool
            .args(["check", "config"])
            .arg(&path)
            .output()
            .unwrap();
        let expect_taken = match verdict {
            Taken => true,
            Refused => false,
            TakenHere(reason) => {
                assert!(!reason.is_empty());
                false
            }
            RefusedHere(reason) => {
                assert!(!reason.is_empty());
                true
            }
        };
        if output.status.success() != expect_taken {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            differences.push(format!("{text}---\n{said}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n====\n"));
}
