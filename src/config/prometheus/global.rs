//! The `global` section: what jobs fall back on.

use std::num::{NonZeroU64, NonZeroUsize};

use crate::config::prometheus::reader::MapReader;
use crate::config::prometheus::values::expand_env;
use crate::exposition::{Escaping, HistogramOptions, PROTOBUF_FIRST_PROTOCOLS, ScrapeProtocol};
use crate::model::labels::is_legacy_label_name;
use crate::model::{ExternalLabels, Labels};
use crate::scrape::Limits;

const SCRAPE_INTERVAL_MS: i64 = 60_000;
const SCRAPE_TIMEOUT_MS: i64 = 10_000;

/// The settings of `global`, defaults filled in.
#[derive(Debug, Clone)]
pub(super) struct Global {
    pub(super) interval_ms: i64,
    pub(super) timeout_ms: i64,
    /// `None` leaves it to whether a job wants native histograms.
    pub(super) protocols: Option<Vec<ScrapeProtocol>>,
    pub(super) external_labels: ExternalLabels,
    pub(super) body_bytes_max: Option<NonZeroU64>,
    pub(super) limits: Limits,
    pub(super) target_limit: Option<NonZeroUsize>,
    pub(super) keep_dropped_targets: Option<NonZeroUsize>,
    pub(super) names: Names,
    pub(super) extra_metrics: bool,
    pub(super) histograms: HistogramOptions,
}

/// Which names are allowed and how foreign ones are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) legacy: bool,
    /// `None` follows the validation scheme.
    pub(super) escaping: Option<Escaping>,
}

impl Names {
    /// The escaping that is asked for.
    pub(super) fn effective_escaping(self) -> Escaping {
        self.escaping.unwrap_or(if self.legacy {
            Escaping::Underscores
        } else {
            Escaping::AllowUtf8
        })
    }

    /// Reads the two keys; `self` is what holds where they are absent.
    pub(super) fn read(self, map: &mut MapReader<'_>) -> Self {
        let legacy = map.choice(
            "metric_name_validation_scheme",
            &[("", None), ("legacy", Some(true)), ("utf8", Some(false))],
        );
        let escaping = map.choice(
            "metric_name_escaping_scheme",
            &[
                ("", None),
                ("allow-utf-8", Some(Escaping::AllowUtf8)),
                ("underscores", Some(Escaping::Underscores)),
                ("dots", Some(Escaping::Dots)),
                ("values", Some(Escaping::Values)),
            ],
        );
        let legacy = legacy.flatten();
        let names = Self {
            legacy: legacy.unwrap_or(self.legacy),
            // Who chooses a validation scheme of its own has nothing to do with another scheme's escaping.
            escaping: escaping
                .flatten()
                .or(self.escaping.filter(|_| legacy.is_none())),
        };
        if names.legacy && names.escaping == Some(Escaping::AllowUtf8) {
            let problem = "UTF-8 names are asked for but the validation scheme is legacy; \
                           expected underscores, dots or values";
            map.complain("metric_name_escaping_scheme", Some("allow-utf-8"), problem);
        }
        names
    }
}

impl Global {
    /// Reads the section and leaves what it does not mention at Prometheus' defaults.
    pub(super) fn read(mut map: MapReader<'_>) -> Self {
        let interval_ms = map
            .duration_ms("scrape_interval")
            .filter(|ms| *ms > 0)
            .unwrap_or(SCRAPE_INTERVAL_MS);
        let timeout = map.duration_ms("scrape_timeout").filter(|ms| *ms > 0);
        if timeout.is_some_and(|timeout_ms| interval_ms < timeout_ms) {
            map.complain(
                "scrape_timeout",
                None,
                "global scrape timeout greater than scrape interval",
            );
        }
        let names = Names {
            legacy: false,
            escaping: None,
        }
        .read(&mut map);
        let global = Self {
            interval_ms,
            timeout_ms: timeout.unwrap_or_else(|| SCRAPE_TIMEOUT_MS.min(interval_ms)),
            protocols: read_protocols(&mut map),
            external_labels: read_external_labels(&mut map, names.legacy),
            body_bytes_max: map.bytes("body_size_limit").and_then(NonZeroU64::new),
            limits: read_limits(&mut map, Limits::default()),
            target_limit: map.limit("target_limit").flatten(),
            keep_dropped_targets: map.limit("keep_dropped_targets").flatten(),
            names,
            extra_metrics: map.bool("extra_scrape_metrics").unwrap_or(false),
            histograms: read_histograms(&mut map, HistogramOptions::default()),
        };
        // Checked though nobody here acts on them: a typo in them is a typo all the same.
        for key in ["evaluation_interval", "rule_query_offset"] {
            if map.duration_ms(key).is_some() {
                map.warn(key, None, "not supported, ignored");
            }
        }
        map.ignore(&["query_log_file", "scrape_failure_log_file"]);
        map.finish();
        global
    }
}

/// What is taken of histograms; `defaults` holds where a key is absent.
pub(super) fn read_histograms(
    map: &mut MapReader<'_>,
    defaults: HistogramOptions,
) -> HistogramOptions {
    HistogramOptions {
        native: map
            .bool("scrape_native_histograms")
            .unwrap_or(defaults.native),
        keeps_classic: map
            .bool("always_scrape_classic_histograms")
            .unwrap_or(defaults.keeps_classic),
        converts_classic: map
            .bool("convert_classic_histograms_to_nhcb")
            .unwrap_or(defaults.converts_classic),
    }
}

/// The four limits on samples and labels; `defaults` holds where a key is absent or zero.
pub(super) fn read_limits(map: &mut MapReader<'_>, defaults: Limits) -> Limits {
    let Limits {
        samples,
        labels,
        label_name_bytes,
        label_value_bytes,
    } = defaults;
    let mut limit = |key, default| map.limit(key).flatten().or(default);
    Limits {
        samples: limit("sample_limit", samples),
        labels: limit("label_limit", labels),
        label_name_bytes: limit("label_name_length_limit", label_name_bytes),
        label_value_bytes: limit("label_value_length_limit", label_value_bytes),
    }
}

/// `scrape_protocols`: known, not empty, none twice.
pub(super) fn read_protocols(map: &mut MapReader<'_>) -> Option<Vec<ScrapeProtocol>> {
    const KEY: &str = "scrape_protocols";
    let items = map.items(KEY)?;
    let mut seen = Vec::new();
    let mut protocols = Vec::new();
    for item in &items {
        let Some(text) = item.node.as_text() else {
            map.wrong_value(item, "expected the name of a protocol");
            continue;
        };
        if seen.contains(&text) {
            map.wrong_value(item, "duplicated protocol in scrape_protocols");
            continue;
        }
        seen.push(text);
        match text.parse() {
            Ok(protocol) => protocols.push(protocol),
            Err(_unknown) => map.wrong_value(item, &unknown_protocol()),
        }
    }
    if items.is_empty() {
        map.complain(KEY, None, "scrape_protocols cannot be empty");
    }
    (!protocols.is_empty()).then_some(protocols)
}

/// What to say about a protocol nobody knows.
pub(super) fn unknown_protocol() -> String {
    let known: Vec<_> = PROTOBUF_FIRST_PROTOCOLS
        .iter()
        .map(|protocol| protocol.as_str())
        .collect();
    format!(
        "unknown scrape protocol, expected one of {}",
        known.join(", ")
    )
}

fn read_external_labels(map: &mut MapReader<'_>, legacy: bool) -> ExternalLabels {
    const KEY: &str = "external_labels";
    let mut pairs = Vec::new();
    for (entry, item) in map.entries(KEY).unwrap_or_default() {
        let Some(text) = text_or_null(map, &item) else {
            continue;
        };
        if entry.key.is_empty() || (legacy && !is_legacy_label_name(&entry.key)) {
            let problem = format!("{:?} is not a valid label name", entry.key);
            map.report.complain(entry.line, &item.key, None, &problem);
        }
        let value = expand_env(text, &mut |name| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                let problem = format!("environment variable {name} is not set, taken as empty");
                map.report.warn(entry.line, &item.key, Some(text), &problem);
            }
            value
        });
        pairs.push((entry.key.clone(), value));
    }
    match Labels::new(&pairs) {
        Ok(labels) => ExternalLabels(labels),
        Err(error) => {
            map.complain(KEY, None, &error.to_string());
            ExternalLabels::default()
        }
    }
}

/// A label value: text, or null for the empty one.
pub(super) fn text_or_null<'a>(
    map: &MapReader<'a>,
    item: &crate::config::prometheus::reader::Item<'a>,
) -> Option<&'a str> {
    if item.node.value == crate::config::yaml::Value::Null {
        return Some("");
    }
    let text = item.node.as_text();
    if text.is_none() {
        map.wrong_value(item, "expected a plain value");
    }
    text
}
