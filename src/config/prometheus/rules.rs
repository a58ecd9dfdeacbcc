//! Relabel rules as a job writes them.

use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::yaml::Value;
use crate::model::labels::is_legacy_label_name;
use crate::relabel::{RelabelAction, RelabelError, RelabelRule, RelabelSettings};

/// Reads a list of rules; `legacy` holds target labels to the old alphabet.
pub(in crate::config) fn read_rules(
    map: &mut MapReader<'_>,
    key: &'static str,
    legacy: bool,
) -> Vec<RelabelRule> {
    let mut rules = Vec::new();
    for item in map.items(key).unwrap_or_default() {
        if item.node.value == Value::Null {
            map.wrong_value(&item, "empty or null relabeling rule in scrape config");
            continue;
        }
        rules.extend(read_rule(map, &item, legacy));
    }
    rules
}

fn read_rule(parent: &MapReader<'_>, item: &Item<'_>, legacy: bool) -> Option<RelabelRule> {
    let mut map = MapReader::new(parent.report, item);
    let owned = |text: &str| text.to_owned();
    let action = map.text("action").map(str::parse::<RelabelAction>);
    let action = match action.transpose() {
        Ok(action) => action,
        Err(error) => {
            map.complain("action", None, &error.to_string());
            return None;
        }
    };
    // A separator, a replacement or a pattern that is there and empty means the empty text.
    let settings = RelabelSettings {
        source_labels: map
            .texts("source_labels")
            .map(|names| names.into_iter().map(str::to_owned).collect()),
        separator: map.text("separator").map(owned),
        regex: map.text("regex").map(owned),
        modulus: map
            .limit("modulus")
            .map(|modulus| modulus.map_or(0, |n| u64::try_from(n.get()).unwrap_or(u64::MAX))),
        target_label: map.text("target_label").map(owned),
        replacement: map.text("replacement").map(owned),
        action,
    };
    map.finish();
    if legacy && let Some(problem) = foreign_target(&settings) {
        parent.wrong_value(item, &problem);
    }
    match RelabelRule::new(settings) {
        Ok(rule) => Some(rule),
        Err(error) => {
            if matches!(error, RelabelError::Regex(_)) {
                let key = format!("{}.regex", item.key);
                let line = line_of(item, "regex");
                parent.report.complain(line, &key, None, &error.to_string());
            } else {
                parent.wrong_value(item, &error.to_string());
            }
            None
        }
    }
}

fn line_of(item: &Item<'_>, key: &str) -> u64 {
    match &item.node.value {
        Value::Map(entries) => entries
            .iter()
            .find(|entry| entry.key == key)
            .map_or(item.node.line, |entry| entry.line),
        Value::Null | Value::Scalar { .. } | Value::Seq(_) => item.node.line,
    }
}

/// A target label outside of the old alphabet; references to groups may stand in the target of a replacement.
fn foreign_target(settings: &RelabelSettings) -> Option<String> {
    let target = settings
        .target_label
        .as_deref()
        .filter(|label| !label.is_empty())?;
    let action = settings.action.unwrap_or_default();
    let without_groups: String = match action {
        RelabelAction::Replace => target
            .chars()
            .filter(|c| !matches!(c, '$' | '{' | '}'))
            .collect(),
        RelabelAction::Keep
        | RelabelAction::Drop
        | RelabelAction::KeepEqual
        | RelabelAction::DropEqual
        | RelabelAction::HashMod
        | RelabelAction::LabelMap
        | RelabelAction::LabelDrop
        | RelabelAction::LabelKeep
        | RelabelAction::Lowercase
        | RelabelAction::Uppercase => target.to_owned(),
    };
    let is_fine = is_legacy_label_name(&without_groups)
        || (action == RelabelAction::Replace && target.starts_with('$'));
    (!is_fine).then(|| format!("{target:?} is invalid 'target_label' for {action} action"))
}
