//! A complaint names file, line, key, value and what is allowed; all of them come at once.

use crate::config::prometheus::tests::load_text;

#[track_caller]
fn check(text: &str, expect: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let complaints = load_text(dir.path(), text).unwrap_err();
    let prefix = format!("{}/", dir.path().display());
    let said: Vec<_> = complaints
        .iter()
        .map(|complaint| complaint.to_string().replace(&prefix, ""))
        .collect();
    assert_eq!(said, expect);
}

#[test]
fn everything_wrong_is_said_at_once() {
    check(
        "global:\n  scrape_intervall: 15s\n  scrape_timeout: 10x\nscrape_configs:\n- job_name: a\n  scheme: ftp\n  sample_limit: many\n- job_name: a\n",
        &[
            "prometheus.yml:2: global.scrape_intervall: unknown key, did you mean scrape_interval?",
            "prometheus.yml:3: global.scrape_timeout = \"10x\": unknown unit \"x\" in duration \"10x\"; \
             expected one such as 15s or 1m30s",
            "prometheus.yml:6: scrape_configs[0].scheme = \"ftp\": expected one of \"http\", \"https\", \"\"",
            "prometheus.yml:7: scrape_configs[0].sample_limit = \"many\": expected a whole number, 0 for no limit",
            "prometheus.yml:8: scrape_configs[1].job_name = \"a\": found multiple scrape configs with job \
             name \"a\", the first in prometheus.yml:5",
        ],
    );
}

#[test]
fn a_secret_is_never_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let text = "scrape_configs:\n- job_name: a\n  bearer_token: [hunter2]\n  basic_auth:\n    password: hunter2\n    password_file: x\n  authorization:\n    type: basic\n    credentials: hunter2\n";
    let complaints = load_text(dir.path(), text).unwrap_err();
    assert!(complaints.len() >= 3, "{complaints:?}");
    for complaint in complaints {
        assert!(!complaint.to_string().contains("hunter2"), "{complaint}");
    }
}

#[test]
fn a_bad_pattern_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = "scrape_configs:\n- job_name: a\n  relabel_configs:\n  - source_labels: [x]\n    action: keep\n    regex: '('\n";
    let complaints = load_text(dir.path(), text).unwrap_err();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert_eq!(complaints[0].line, 6);
    assert_eq!(
        complaints[0].key,
        "scrape_configs[0].relabel_configs[0].regex"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let complaints = crate::config::prometheus::load(std::path::Path::new("gone/prometheus.yml"));
    let complaints = complaints.unwrap_err();
    assert!(
        complaints[0]
            .to_string()
            .starts_with("gone/prometheus.yml: read the file: No such file"),
        "{complaints:?}"
    );
}

#[test]
fn broken_yaml_is_one_complaint_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let complaints = load_text(dir.path(), "global:\n  a: [1, 2\nb: c\n").unwrap_err();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!((2..=3).contains(&complaints[0].line), "{complaints:?}");
}
