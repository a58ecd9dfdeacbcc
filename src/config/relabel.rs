//! A list of relabelling rules that stands alone.

use std::path::PathBuf;

use crate::config::prometheus::Complaint;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::prometheus::report::Report;
use crate::config::prometheus::rules::read_rules;
use crate::config::yaml::{Entry, Node, Value, parse};
use crate::relabel::RelabelRule;

/// What complaints call the list.
const LIST: &str = "rules";

/// Reads `- action: keep …`; complaints name the text `name`.
pub fn parse_relabel(name: &str, text: &str) -> Result<Vec<RelabelRule>, Vec<Complaint>> {
    let report = Report::new(PathBuf::from(name));
    let mut rules = Vec::new();
    match parse(text) {
        Err(error) => report.complain(error.line, "", None, &error.problem),
        Ok(list) => {
            let line = list.line;
            let entry = Entry {
                line,
                key: LIST.to_owned(),
                value: list,
            };
            let node = Node {
                line,
                value: Value::Map(vec![entry]),
            };
            let key = String::new();
            let mut map = MapReader::new(&report, &Item { node: &node, key });
            rules = read_rules(&mut map, LIST, false);
        }
    }
    let (complaints, _warnings) = report.into_parts();
    if complaints.is_empty() {
        Ok(rules)
    } else {
        Err(complaints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_alone_is_read_and_complaints_have_lines() {
        let rules = parse_relabel(
            "given",
            "- {action: keep, source_labels: [a], regex: b}\n- action: labeldrop\n  regex: c\n",
        );
        assert_eq!(rules.unwrap().len(), 2);
        let complaints =
            parse_relabel("given", "- action: keep\n  regex: (\n  sources: [a]\n").unwrap_err();
        let texts: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        assert!(
            texts
                .iter()
                .any(|text| text.starts_with("given:2: rules[0].regex")),
            "{texts:?}"
        );
        assert!(
            texts
                .iter()
                .any(|text| text.starts_with("given:3: rules[0].sources: unknown key")),
            "{texts:?}"
        );
        assert!(parse_relabel("given", "a: b").is_err());
    }
}
