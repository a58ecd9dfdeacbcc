//! One entry of `scrape_configs`.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;

use crate::config::prometheus::discovery::read_discovery;
use crate::config::prometheus::global::{
    Global, read_histograms, read_limits, read_protocols, unknown_protocol,
};
use crate::config::prometheus::http::read_http;
use crate::config::prometheus::reader::MapReader;
use crate::config::prometheus::rules::read_rules;
use crate::config::yaml::Value;
use crate::exposition::{
    DEFAULT_SCRAPE_PROTOCOLS, HistogramOptions, PROTOBUF_FIRST_PROTOCOLS, ScrapeProtocol,
};
use crate::model::histogram::{EXPONENTIAL_SCHEMA_MAX, EXPONENTIAL_SCHEMA_MIN};
use crate::scrape::{
    DiscoverySettings, HistogramSettings, Honor, IngestSettings, JobSettings, RequestSettings,
    StartTimes,
};

/// Reads `scrape_configs`; `seen` knows the job names of all files so far.
pub(super) fn read_jobs(
    map: &mut MapReader<'_>,
    global: &Global,
    dir: &Path,
    seen: &mut BTreeMap<String, String>,
) -> Vec<JobSettings> {
    let mut jobs = Vec::new();
    for item in map.items("scrape_configs").unwrap_or_default() {
        if item.node.value == Value::Null {
            map.wrong_value(&item, "empty or null scrape config section");
            continue;
        }
        let job = read_job(MapReader::new(map.report, &item), global, dir);
        let place = format!("{}:{}", map.report.file().display(), item.node.line);
        if job.job_name.is_empty() {
            continue;
        }
        if let Some(first) = seen.get(&job.job_name) {
            let problem = format!(
                "found multiple scrape configs with job name {:?}, the first in {first}",
                job.job_name
            );
            let key = format!("{}.job_name", item.key);
            map.report
                .complain(item.node.line, &key, Some(&job.job_name), &problem);
            continue;
        }
        seen.insert(job.job_name.clone(), place);
        jobs.push(job);
    }
    jobs
}

fn read_job(mut map: MapReader<'_>, global: &Global, dir: &Path) -> JobSettings {
    let job_name = map.text("job_name").unwrap_or_default().to_owned();
    if job_name.is_empty() {
        map.complain_here("job_name is empty");
    }
    let names = global.names.read(&mut map);
    let relabel = read_rules(&mut map, "relabel_configs", names.legacy);
    let metric_relabel = read_rules(&mut map, "metric_relabel_configs", names.legacy);
    let mut request = read_request(&mut map, global, &job_name);
    request.escaping = names.effective_escaping();
    let ingest = IngestSettings {
        honor: Honor {
            labels: map.bool("honor_labels").unwrap_or(false),
            timestamps: map.bool("honor_timestamps").unwrap_or(true),
            track_timestamps_staleness: map.bool("track_timestamps_staleness").unwrap_or(false),
        },
        metric_relabel,
        limits: read_limits(&mut map, global.limits),
        extra_metrics: map
            .bool("extra_scrape_metrics")
            .unwrap_or(global.extra_metrics),
        legacy_names: names.legacy,
        histograms: read_histogram_settings(&mut map, global),
        start_times: StartTimes::Ignore,
    };
    request.protocols = read_protocols(&mut map)
        .or_else(|| global.protocols.clone())
        .unwrap_or_else(|| default_protocols(ingest.histograms.options).to_vec());
    let discovery = read_discovery(&mut map, dir);
    if relabel.is_empty() {
        check_static_addresses(&map, &discovery);
    }
    let job = JobSettings {
        job_name,
        discovery,
        relabel,
        request,
        http: read_http(&mut map, dir),
        ingest,
        target_limit: map.limit("target_limit").flatten().or(global.target_limit),
        keep_dropped_targets: map
            .limit("keep_dropped_targets")
            .flatten()
            .or(global.keep_dropped_targets),
        only_while_it_answers: false,
    };
    map.ignore(&["scrape_failure_log_file"]);
    map.finish();
    job
}

fn read_request(map: &mut MapReader<'_>, global: &Global, job_name: &str) -> RequestSettings {
    let interval_ms = map
        .duration_ms("scrape_interval")
        .filter(|ms| *ms > 0)
        .unwrap_or(global.interval_ms);
    let timeout = map.duration_ms("scrape_timeout").filter(|ms| *ms > 0);
    if timeout.is_some_and(|timeout_ms| interval_ms < timeout_ms) {
        let problem = format!(
            "scrape timeout greater than scrape interval for scrape config with job name {job_name:?}"
        );
        map.complain("scrape_timeout", None, &problem);
    }
    let scheme = map.choice("scheme", &[("http", "http"), ("https", "https"), ("", "")]);
    let body_bytes_max = match map.bytes("body_size_limit") {
        Some(bytes) if bytes > 0 => NonZeroU64::new(bytes),
        Some(_) | None => global.body_bytes_max,
    };
    RequestSettings {
        interval_ms,
        timeout_ms: timeout.unwrap_or_else(|| global.timeout_ms.min(interval_ms)),
        scheme: scheme.unwrap_or("http").to_owned(),
        metrics_path: map.text("metrics_path").unwrap_or("/metrics").to_owned(),
        params: read_params(map),
        protocols: Vec::new(),
        fallback_protocol: read_fallback(map),
        escaping: global.names.effective_escaping(),
        compression: map.bool("enable_compression").unwrap_or(true),
        body_bytes_max,
    }
}

/// Only the protobuf format can carry native histograms.
fn default_protocols(histograms: HistogramOptions) -> &'static [ScrapeProtocol] {
    if histograms.native {
        &PROTOBUF_FIRST_PROTOCOLS
    } else {
        &DEFAULT_SCRAPE_PROTOCOLS
    }
}

fn read_fallback(map: &mut MapReader<'_>) -> Option<ScrapeProtocol> {
    const KEY: &str = "fallback_scrape_protocol";
    let text = map.text(KEY).filter(|text| !text.is_empty())?;
    let protocol = text.parse().ok();
    if protocol.is_none() {
        map.complain(KEY, Some(text), &unknown_protocol());
    }
    protocol
}

fn read_params(map: &mut MapReader<'_>) -> Vec<(String, Vec<String>)> {
    let mut params = Vec::new();
    for (entry, item) in map.entries("params").unwrap_or_default() {
        let items = map.items_of(&item);
        let values = map.texts_of(&items);
        params.push((
            entry.key.clone(),
            values.into_iter().map(str::to_owned).collect(),
        ));
    }
    params.sort();
    params
}

/// Without relabelling, an address with a slash can only be a mistake.
fn check_static_addresses(map: &MapReader<'_>, discovery: &[DiscoverySettings]) {
    for source in discovery {
        let DiscoverySettings::Static(groups) = source else {
            continue;
        };
        for address in groups.iter().flat_map(|group| &group.addresses) {
            if address.contains('/') {
                let problem = "is not a valid hostname, expected host:port";
                map.complain("static_configs", Some(address), problem);
            }
        }
    }
}

/// Which representations of histograms are taken, and how fine the native ones may be.
fn read_histogram_settings(map: &mut MapReader<'_>, global: &Global) -> HistogramSettings {
    let mut options = read_histograms(map, global.histograms);
    // The name of 2.x.
    if let Some(keeps_classic) = map.bool("scrape_classic_histograms") {
        options.keeps_classic |= keeps_classic;
    }
    HistogramSettings {
        options,
        buckets_max: map.limit("native_histogram_bucket_limit").flatten(),
        schema_max: map
            .float("native_histogram_min_bucket_factor")
            .map_or(EXPONENTIAL_SCHEMA_MAX, schema_of_factor),
    }
}

/// The finest schema whose buckets grow by at least `factor`.
fn schema_of_factor(factor: f64) -> i32 {
    if factor.is_nan() || factor <= 1.0 {
        return EXPONENTIAL_SCHEMA_MAX;
    }
    let finest = -factor.log2().log2();
    (EXPONENTIAL_SCHEMA_MIN..=EXPONENTIAL_SCHEMA_MAX)
        .rev()
        .find(|schema| f64::from(*schema) <= finest)
        .unwrap_or(EXPONENTIAL_SCHEMA_MIN)
}
