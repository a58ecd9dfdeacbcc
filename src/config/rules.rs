//! Rule files: their groups and recording rules, and what is wrong with them.

use std::path::Path;

use crate::config::prometheus::Complaint;
use crate::config::prometheus::read_tree;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::prometheus::report::Report;
use crate::promql::parse::parse_expr;

/// Rules that are evaluated together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleGroup {
    /// Unique within the file.
    pub name: String,
    /// The file, as it was named.
    pub file: String,
    /// Milliseconds between evaluations, if the group says so.
    pub interval_ms: Option<i64>,
    /// Those that record.
    pub rules: Vec<RecordingRule>,
    /// How many alert.
    pub n_alerts: usize,
}

/// A series that is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingRule {
    /// The metric's name.
    pub record: String,
    /// PromQL.
    pub expr: String,
    /// Set on every result, those of the group first.
    pub labels: Vec<(String, String)>,
}

/// The groups of one file, or everything that is wrong with it.
pub fn load_rules(path: &Path) -> Result<Vec<RuleGroup>, Vec<Complaint>> {
    let report = Report::new(path.to_owned());
    let mut groups: Vec<RuleGroup> = Vec::new();
    if let Some(root) = read_tree(&report) {
        let item = Item {
            node: &root,
            key: String::new(),
        };
        let mut map = MapReader::new(&report, &item);
        for item in map.items("groups").unwrap_or_default() {
            let group = read_group(&report, &item);
            if groups.iter().any(|other| other.name == group.name) {
                map.wrong_value(&item, "another group of this file has the same name");
            }
            groups.push(group);
        }
        map.finish();
    }
    let (complaints, _warnings) = report.into_parts();
    if complaints.is_empty() {
        Ok(groups)
    } else {
        Err(complaints)
    }
}

fn read_group(report: &Report, item: &Item<'_>) -> RuleGroup {
    let mut map = MapReader::new(report, item);
    let name = map.text("name").unwrap_or_default().to_owned();
    if name.is_empty() {
        map.complain("name", None, "a group needs a name");
    }
    let labels = read_labels(&mut map);
    let mut group = RuleGroup {
        name,
        file: report.file().display().to_string(),
        interval_ms: map.duration_ms("interval").filter(|ms| 0 < *ms),
        rules: Vec::new(),
        n_alerts: 0,
    };
    map.ignore(&["query_offset", "limit", "partial_response_strategy"]);
    for item in map.items("rules").unwrap_or_default() {
        match read_rule(report, &item, &labels) {
            Some(rule) => group.rules.push(rule),
            None => group.n_alerts += 1,
        }
    }
    map.finish();
    group
}

/// `None` for a rule that alerts.
fn read_rule(
    report: &Report,
    item: &Item<'_>,
    of_group: &[(String, String)],
) -> Option<RecordingRule> {
    let mut map = MapReader::new(report, item);
    let record = map.text("record").map(str::to_owned);
    let alert = map.text("alert");
    let expr = map.text("expr").unwrap_or_default().to_owned();
    let mut labels = of_group.to_vec();
    labels.extend(read_labels(&mut map));
    map.ignore(&["for", "keep_firing_for", "annotations"]);
    match (&record, alert) {
        (Some(_), Some(_)) | (None, None) => {
            map.complain_here("a rule has either record or alert");
        }
        (Some(name), None) if name.is_empty() => {
            map.complain("record", Some(name), "expected a metric name");
        }
        (Some(_), None) | (None, Some(_)) => (),
    }
    if let Err(error) = parse_expr(&expr) {
        map.complain("expr", Some(&expr), &error.to_string());
    }
    map.finish();
    Some(RecordingRule {
        record: record?,
        expr,
        labels,
    })
}

fn read_labels(map: &mut MapReader<'_>) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    for (entry, item) in map.entries("labels").unwrap_or_default() {
        match item.node.as_text() {
            Some(text) => labels.push((entry.key.clone(), text.to_owned())),
            None => map.wrong_value(&item, "expected a text"),
        }
    }
    labels
}
