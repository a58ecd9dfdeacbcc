//! Sections that exist in Prometheus beside the jobs; of the storage it is read what a reload changes there.

use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::tuning::HeadTuning;
use crate::config::yaml::Value;

/// Recognises every top-level key besides `global`, `scrape_configs` and `scrape_config_files`.
pub(super) fn read_sections(map: &mut MapReader<'_>) {
    for item in map.items("rule_files").unwrap_or_default() {
        check_glob(map, &item, "invalid rule file path");
    }
    for key in [
        "rule_files",
        "remote_write",
        "remote_read",
        "otlp",
        "tracing",
        "runtime",
    ] {
        map.ignore(&[key]);
    }
    read_alerting(map);
    check_remotes(map, "remote_write");
    check_remotes(map, "remote_read");
}

/// Only the last element of a path may hold `*`, and nothing may follow it but the rest of that element.
pub(super) fn check_glob(map: &MapReader<'_>, item: &Item<'_>, problem: &str) {
    let Some(text) = item.node.as_text() else {
        map.wrong_value(item, problem);
        return;
    };
    if text
        .split_once('*')
        .is_some_and(|(_, after)| after.contains('/'))
    {
        let problem = format!("{problem}: only the last element may hold *");
        map.wrong_value(item, &problem);
    }
}

/// What the `storage` section says of the head.
pub(super) fn read_storage(map: &mut MapReader<'_>) -> HeadTuning {
    let mut tuning = HeadTuning::default();
    let Some(mut storage) = map.map("storage") else {
        return tuning;
    };
    if let Some(mut tsdb) = storage.map("tsdb") {
        tuning.out_of_order_window_ms = tsdb.duration_ms("out_of_order_time_window");
        for (key, ours) in [
            ("retention", "retention.* of appliance.toml"),
            (
                "stale_series_compaction_threshold",
                "head.stale_series of appliance.toml",
            ),
            ("chunk_encoding", "head.float_chunks of appliance.toml"),
        ] {
            if tsdb.has(key) {
                tsdb.warn(key, None, &format!("ignored, {ours} says it here"));
            }
        }
        tsdb.finish();
    }
    if let Some(mut exemplars) = storage.map("exemplars") {
        tuning.exemplars_max = exemplars.count_or_negative("max_exemplars");
        exemplars.finish();
    }
    storage.finish();
    tuning
}

fn read_alerting(map: &mut MapReader<'_>) {
    let Some(mut alerting) = map.map("alerting") else {
        return;
    };
    for item in alerting.items("alertmanagers").unwrap_or_default() {
        if item.node.value == Value::Null {
            alerting.wrong_value(&item, "empty or null section in a list of alertmanagers");
        }
    }
    // Debian and upstream ship the section with an empty target list: that needs no remark.
    if alerting
        .items("alertmanagers")
        .is_some_and(|items| items.iter().any(|item| has_targets(item)))
    {
        alerting.warn("alertmanagers", None, "not supported, ignored");
    }
    alerting.ignore(&["alert_relabel_configs"]);
    alerting.finish();
}

/// Anything but a static configuration without addresses.
fn has_targets(item: &Item<'_>) -> bool {
    let Value::Map(entries) = &item.node.value else {
        return false;
    };
    let all_empty = entries.iter().all(|entry| {
        let Value::Seq(groups) = &entry.value.value else {
            return entry.value.is_empty() || !entry.key.ends_with("_configs");
        };
        groups.iter().all(|group| match &group.value {
            Value::Map(keys) => keys.iter().all(|key| key.value.is_empty()),
            Value::Null => true,
            Value::Scalar { .. } | Value::Seq(_) => false,
        })
    });
    !all_empty
}

/// A remote endpoint without an address is a mistake that Prometheus refuses too.
fn check_remotes(map: &mut MapReader<'_>, key: &'static str) {
    for item in map.items(key).unwrap_or_default() {
        let Value::Map(entries) = &item.node.value else {
            map.wrong_value(&item, "expected a mapping with a url");
            continue;
        };
        let has_url = entries
            .iter()
            .any(|entry| entry.key == "url" && !entry.value.is_empty());
        if !has_url {
            let problem = format!("url for {key} is empty");
            map.report
                .complain(item.node.line, &item.key, None, &problem);
        }
    }
}
