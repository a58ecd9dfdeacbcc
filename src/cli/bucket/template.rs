//! A line of text with fields of a `meta.json` in it: `{{.ULID}} {{.Thanos.Labels}}`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::block::BlockMeta;

/// Fields as Go's structures call them.
const FIELDS: [&str; 19] = [
    "ULID",
    "MinTime",
    "MaxTime",
    "Version",
    "Stats.NumSamples",
    "Stats.NumFloatSamples",
    "Stats.NumHistogramSamples",
    "Stats.NumSeries",
    "Stats.NumChunks",
    "Stats.NumTombstones",
    "Compaction.Level",
    "Compaction.Sources",
    "Compaction.Deletable",
    "Compaction.Failed",
    "Compaction.Hints",
    "Thanos.Labels",
    "Thanos.Downsample.Resolution",
    "Thanos.Source",
    "Thanos.SegmentFiles",
];

/// One label of a block.
const LABEL: &str = "Thanos.Labels.";

/// Text and fields in turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Takes a template apart; anything but fields between the braces is refused.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((field, after)) = behind.split_once("}}") else {
                return Err(format!("template {text:?}: {{{{ without }}}}"));
            };
            let field = field.trim();
            let name = field.strip_prefix('.').filter(|name| is_known(name));
            let Some(name) = name else {
                return Err(format!(
                    "template {text:?}: {field:?} is not a field, expected one of .{}, .{LABEL}<name>",
                    FIELDS.join(", .")
                ));
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(name.to_owned()));
            rest = after;
        }
        if parts.is_empty() {
            return Err(format!(
                "output {text:?}: expected wide, json or a template such as '{{{{.ULID}}}}'"
            ));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The line of a block.
    pub(super) fn line(&self, meta: &BlockMeta) -> String {
        let mut line = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field(name) => line.push_str(&value(meta, name)),
            }
        }
        line
    }
}

fn is_known(name: &str) -> bool {
    FIELDS.contains(&name)
        || name
            .strip_prefix(LABEL)
            .is_some_and(|label| !label.is_empty())
}

fn value(meta: &BlockMeta, name: &str) -> String {
    let thanos = meta.thanos.clone().unwrap_or_default();
    match name {
        "ULID" => meta.ulid.to_string(),
        "MinTime" => meta.min_time.to_string(),
        "MaxTime" => meta.max_time.to_string(),
        "Version" => meta.version.to_string(),
        "Stats.NumSamples" => meta.stats.num_samples.to_string(),
        "Stats.NumFloatSamples" => meta.stats.num_float_samples.to_string(),
        "Stats.NumHistogramSamples" => meta.stats.num_histogram_samples.to_string(),
        "Stats.NumSeries" => meta.stats.num_series.to_string(),
        "Stats.NumChunks" => meta.stats.num_chunks.to_string(),
        "Stats.NumTombstones" => meta.stats.num_tombstones.to_string(),
        "Compaction.Level" => meta.compaction.level.to_string(),
        "Compaction.Sources" => list(&meta.compaction.sources),
        "Compaction.Deletable" => meta.compaction.deletable.to_string(),
        "Compaction.Failed" => meta.compaction.failed.to_string(),
        "Compaction.Hints" => list(&meta.compaction.hints),
        "Thanos.Labels" => map(&thanos.labels),
        "Thanos.Downsample.Resolution" => thanos.downsample.resolution.to_string(),
        "Thanos.Source" => thanos.source,
        "Thanos.SegmentFiles" => list(&thanos.segment_files),
        label => {
            let label = label.strip_prefix(LABEL).unwrap_or_default();
            thanos.labels.get(label).cloned().unwrap_or_default()
        }
    }
}

/// `[a b]`
fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    format!("[{}]", items.join(" "))
}

/// `map[a:1 b:2]`
fn map(labels: &BTreeMap<String, String>) -> String {
    let mut out = String::from("map[");
    for (position, (name, value)) in labels.iter().enumerate() {
        let space = if position == 0 { "" } else { " " };
        write!(out, "{space}{name}:{value}").ok();
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = r#"{"ulid":"01M7XZVM2PTT4FW31RYPH3TCEP","minTime":5,"maxTime":9,"version":1,
        "stats":{"numSeries":3},"compaction":{"level":2,"sources":["01M7XZVM2PTT4FW31RYPH3TCEP"]},
        "thanos":{"labels":{"a":"1","b":"2"},"downsample":{"resolution":300000},"source":"compactor"}}"#;

    #[test]
    fn fields_are_printed_as_go_prints_them() {
        let meta = BlockMeta::decode(META.as_bytes()).unwrap();
        let text = "{{.ULID}}: {{ .Stats.NumSeries }} {{.Stats.NumChunks}} {{.Thanos.Labels}}{{.Thanos.Labels.b}} {{.Compaction.Sources}}.";
        assert_eq!(
            Template::parse(text).unwrap().line(&meta),
            "01M7XZVM2PTT4FW31RYPH3TCEP: 3 0 map[a:1 b:2]2 [01M7XZVM2PTT4FW31RYPH3TCEP]."
        );
        for field in FIELDS {
            let line = Template::parse(&format!("{{{{.{field}}}}}"))
                .unwrap()
                .line(&meta);
            let is_empty = line.is_empty();
            assert!(!is_empty, "{field}");
        }
    }

    #[test]
    fn what_is_no_field_is_refused_by_name() {
        for (text, expect) in [
            ("{{.Ulid}}", "\".Ulid\" is not a field"),
            ("{{range .X}}", "\"range .X\" is not a field"),
            ("{{.ULID", "{{ without }}"),
            ("yaml", "expected wide, json or a template"),
        ] {
            let problem = Template::parse(text).unwrap_err();
            assert!(problem.contains(expect), "{problem}");
        }
    }
}
