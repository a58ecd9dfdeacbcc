//! Lists of target groups as files and HTTP services write them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::model::Labels;
use crate::scrape::settings::TargetGroup;

/// `[{"targets": ["host:port"], "labels": {"name": "value"}}]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    targets: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<BTreeMap<String, Option<String>>>,
}

/// Reads JSON; every group gets the label `meta`.
pub(super) fn parse_json(text: &[u8], meta: (&str, &str)) -> Result<Vec<TargetGroup>, String> {
    let written: Vec<Option<Written>> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    groups_of(written, meta)
}

/// Reads YAML; every group gets the label `meta`. An empty document is an empty list.
pub(super) fn parse_yaml(text: &str, meta: (&str, &str)) -> Result<Vec<TargetGroup>, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let written: Option<Vec<Option<Written>>> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    groups_of(written.unwrap_or_default(), meta)
}

fn groups_of(
    written: Vec<Option<Written>>,
    (meta_name, meta_value): (&str, &str),
) -> Result<Vec<TargetGroup>, String> {
    let mut groups = Vec::with_capacity(written.len());
    for (position, group) in written.into_iter().enumerate() {
        let Written { targets, labels } =
            group.ok_or_else(|| format!("nil target group item found (index {position})"))?;
        let mut pairs: Vec<(String, String)> = labels
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .filter(|(name, _)| name != meta_name)
            .collect();
        pairs.push((meta_name.to_owned(), meta_value.to_owned()));
        let labels =
            Labels::new(&pairs).map_err(|error| format!("target group {position}: {error}"))?;
        groups.push(TargetGroup {
            addresses: targets.unwrap_or_default(),
            labels,
        });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: (&str, &str) = ("__meta_url", "x");

    #[test]
    fn both_languages_say_the_same() {
        let json =
            br#"[{"targets":["a:1","b"],"labels":{"env":"prod","n":"1"}},{"targets":["c"]}]"#;
        let yaml = "- targets: ['a:1', b]\n  labels:\n    env: prod\n    n: 1\n- targets: [c]\n";
        let groups = parse_json(json, META).unwrap();
        assert_eq!(groups, parse_yaml(yaml, META).unwrap());
        assert_eq!(groups[0].addresses, ["a:1", "b"]);
        let expect = [("__meta_url", "x"), ("env", "prod"), ("n", "1")];
        assert_eq!(groups[0].labels, Labels::new(&expect).unwrap());
    }

    #[test]
    fn what_is_no_list_of_groups_is_refused() {
        for text in [
            "{}",
            "[1]",
            "[null]",
            r#"[{"target":["a"]}]"#,
            r#"[{"targets":"a"}]"#,
            "[",
        ] {
            assert!(parse_json(text.as_bytes(), META).is_err(), "{text}");
            assert!(parse_yaml(text, META).is_err(), "{text}");
        }
        assert_eq!(parse_yaml("", META), Ok(vec![]));
        assert_eq!(parse_json(b"[]", META), Ok(vec![]));
    }
}
