//! What `gauntlet bucket rewrite` is to delete, as Thanos writes it down.

use std::path::PathBuf;

use crate::config::prometheus::Complaint;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::prometheus::report::Report;
use crate::config::yaml::{Node, Value, parse};
use crate::maintenance::Deletion;
use crate::model::Interval;
use crate::promql::parse::parse_selector_matchers;

/// Reads `- matchers: '{job="x"}'` with `intervals` of `mint` and `maxt`; complaints name the text `name`.
pub fn parse_deletions(name: &str, text: &str) -> Result<Vec<Deletion>, Vec<Complaint>> {
    let report = Report::new(PathBuf::from(name));
    let mut deletions = Vec::new();
    match parse(text) {
        Err(error) => report.complain(error.line, "", None, &error.problem),
        Ok(Node {
            value: Value::Seq(nodes),
            ..
        }) => {
            for (position, node) in nodes.iter().enumerate() {
                let key = format!("[{position}]");
                let map = MapReader::new(&report, &Item { node, key });
                deletions.extend(read(map));
            }
        }
        Ok(node) => {
            let problem = format!("expected a list, found {}", node.kind());
            report.complain(node.line, "", None, &problem);
        }
    }
    let (complaints, _warnings) = report.into_parts();
    if complaints.is_empty() {
        Ok(deletions)
    } else {
        Err(complaints)
    }
}

fn read(mut map: MapReader<'_>) -> Option<Deletion> {
    let text = map.text("matchers");
    let request_id = map.text("request_id").unwrap_or_default().to_owned();
    let mut intervals = Vec::new();
    for item in map.items("intervals").unwrap_or_default() {
        let mut times = MapReader::new(map.report, &item);
        let (min, max) = (time(&mut times, "mint"), time(&mut times, "maxt"));
        times.finish();
        match (min, max) {
            (Some(min), Some(max)) if min <= max => intervals.push(Interval { min, max }),
            (Some(_), Some(_)) => map.wrong_value(&item, "maxt is before mint"),
            _ => (),
        }
    }
    let matchers = match text.map(parse_selector_matchers) {
        Some(Ok(matchers)) => Some(matchers),
        Some(Err(error)) => {
            map.complain("matchers", text, &error.to_string());
            None
        }
        None => {
            map.complain_here("matchers is missing");
            None
        }
    };
    map.finish();
    Some(Deletion {
        matchers: matchers?,
        intervals,
        request_id,
    })
}

/// Milliseconds since the Unix epoch.
fn time(map: &mut MapReader<'_>, key: &'static str) -> Option<i64> {
    let text = map.text(key);
    let parsed = text.and_then(|text| text.parse().ok());
    if parsed.is_none() {
        map.complain(key, text, "expected milliseconds since the Unix epoch");
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletions_are_read_as_thanos_documents_them() {
        let text = "- matchers: '{__name__=\"up\", job=~\"a.*\"}'\n- matchers: '{x=\"y\"}'\n  intervals: [{mint: 5, maxt: 9}]\n  request_id: r\n";
        let deletions = parse_deletions("given", text).unwrap();
        assert_eq!(deletions.len(), 2);
        assert_eq!(deletions[0].matchers.len(), 2);
        assert!(deletions[0].intervals.is_empty());
        assert_eq!(deletions[1].intervals, [Interval { min: 5, max: 9 }]);
        assert_eq!(deletions[1].request_id, "r");
    }

    #[test]
    fn what_is_wrong_has_its_line_and_key() {
        let text = "- matchers: '{x='\n- intervals: [{mint: 9, maxt: 5}, {mint: x}]\n";
        let complaints = parse_deletions("given", text).unwrap_err();
        let texts: Vec<_> = complaints.iter().map(ToString::to_string).collect();
        for start in [
            "given:1: [0].matchers",
            "given:2: [1]: matchers is missing",
            "given:2: [1].intervals[0]: maxt is before mint",
            "given:2: [1].intervals[1].mint",
        ] {
            assert!(
                texts.iter().any(|text| text.starts_with(start)),
                "{texts:?}"
            );
        }
        assert!(parse_deletions("given", "a: b").is_err());
    }
}
