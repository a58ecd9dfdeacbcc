//! The same faults in the words of a real `promtool`, where one is installed.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use crate::promql::parse::tests::invalid::INVALID;

/// The edition the list below is about.
const EDITION: &str = "version 2.42";

/// Inputs whose meaning or message is newer than that edition.
#[rustfmt::skip]
const NEWER: &[&str] = &[
    "foo[step():1m]",
    "foo[1:1:1]",
    "foo + fill (1) fill_left (2) bar",
    "foo[",
    "foo[5",
    "foo[5m:1",
    "foo offset",
    "foo offset bar",
    "foo offset -bar",
    "foo[a]",
    "foo[5m a]",
    "foo[5m:a]",
    "foo[5m:5m a]",
    "1e",
    "1_",
    "1__0",
    "1.2.3",
    "1h1h",
    "5m5h",
    r#"foo{a=~"("}"#,
    r#"foo{a=~")"}"#,
    r#"foo{a=~"["}"#,
    r#"foo{a=~"[a-"}"#,
    "START()",
    "min_of(1)",
    "foo[5m] anchored smoothed",
    "foo[5m:] anchored",
    "foo[0]",
    "foo[-5m]",
    "foo[5m/0]",
    "foo[5m%0]",
    "foo[1e20]",
    "info(foo, bar)",
    "info(foo, 1)",
    "info(foo, (bar))",
    r#"histogram_quantiles(foo,"a")"#,
    "foo and fill(1) bar",
    "1 + fill(1) 2",
    "fill(1)",
    r#"sum by ("") (foo)"#,
    "foo[inf]",
    "foo[5m offset 3m]",
    r#"foo["a"]"#,
    "foo[#]",
];

/// What `promtool` says of a rule with this expression, by the rule's number.
fn complaints(output: &str) -> Vec<(usize, &str)> {
    output
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(", \"r")?;
            let (number, message) = rest.split_once("\": could not parse expression: ")?;
            Some((number.parse().ok()?, message))
        })
        .collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn faults_are_named_as_promtool_names_them() {
    let version = Command::new("promtool").arg("--version").output();
    let is_known = version.is_ok_and(|version| {
        [version.stdout, version.stderr]
            .iter()
            .any(|text| String::from_utf8_lossy(text).contains(EDITION))
    });
    if !is_known {
        eprintln!("SKIPPED: promtool {EDITION} is not installed, error texts are not compared");
        return;
    }
    let rules: Vec<serde_json::Value> = INVALID
        .iter()
        .enumerate()
        .map(|(number, (input, _))| {
            serde_json::json!({"record": format!("r{number}"), "expr": input})
        })
        .collect();
    let content = serde_json::json!({"groups": [{"name": "g", "rules": rules}]});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yml");
    let mut file = File::create(&path).unwrap();
    file.write_all(content.to_string().as_bytes()).unwrap();
    let output = Command::new("promtool")
        .args(["check", "rules"])
        .arg(&path)
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let found = complaints(&text);
    let mut n_same = 0;
    for (number, (input, message)) in INVALID.iter().enumerate() {
        if NEWER.contains(input) {
            continue;
        }
        let said = found.iter().find(|(at, _)| *at == number);
        assert_eq!(said.map(|(_, said)| *said), Some(*message), "{input}");
        n_same += 1;
    }
    assert_eq!(n_same, INVALID.len() - NEWER.len());
}
