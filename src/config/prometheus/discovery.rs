//! Where targets come from, as a job says it.

use std::path::Path;

use crate::config::prometheus::global::text_or_null;
use crate::config::prometheus::http::read_http;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::yaml::Value;
use crate::model::Labels;
use crate::scrape::{DiscoverySettings, HttpDiscovery, TargetGroup, is_target_file_pattern};

const FILE_REFRESH_MS: i64 = 300_000;
const HTTP_REFRESH_MS: i64 = 60_000;

/// Kinds of discovery that Prometheus has and we do not; their targets can be supplied by file or HTTP.
const FOREIGN_KINDS: [&str; 32] = [
    "aws_sd_configs",
    "azure_sd_configs",
    "consul_sd_configs",
    "digitalocean_sd_configs",
    "dns_sd_configs",
    "docker_sd_configs",
    "dockerswarm_sd_configs",
    "ec2_sd_configs",
    "eureka_sd_configs",
    "gce_sd_configs",
    "hetzner_sd_configs",
    "ionos_sd_configs",
    "kubernetes_sd_configs",
    "kuma_sd_configs",
    "lightsail_sd_configs",
    "linode_sd_configs",
    "marathon_sd_configs",
    "nerve_sd_configs",
    "nomad_sd_configs",
    "oci_sd_configs",
    "openstack_sd_configs",
    "outscale_sd_configs",
    "ovhcloud_sd_configs",
    "puppetdb_sd_configs",
    "scaleway_sd_configs",
    "serverset_sd_configs",
    "stackit_sd_configs",
    "triton_sd_configs",
    "uyuni_sd_configs",
    "vultr_sd_configs",
    "msk_sd_configs",
    "ecs_sd_configs",
];

/// Reads every `*_sd_configs` and `static_configs` of a job.
pub(super) fn read_discovery(map: &mut MapReader<'_>, dir: &Path) -> Vec<DiscoverySettings> {
    let mut discovery = Vec::new();
    for item in map.items("file_sd_configs").unwrap_or_default() {
        discovery.extend(present(map, &item).map(|file| read_file(file, dir)));
    }
    for item in map.items("http_sd_configs").unwrap_or_default() {
        if let Some(http) = present(map, &item) {
            discovery.extend(read_http_discovery(http, dir));
        }
    }
    let groups = map.items("static_configs").unwrap_or_default();
    let groups: Vec<_> = groups
        .iter()
        .filter_map(|item| present(map, item))
        .map(read_group)
        .collect();
    if !groups.is_empty() {
        discovery.push(DiscoverySettings::Static(groups));
    }
    map.ignore(&FOREIGN_KINDS);
    discovery
}

/// Null entries of a list are refused, as Prometheus does.
fn present<'a>(map: &MapReader<'a>, item: &Item<'a>) -> Option<MapReader<'a>> {
    if item.node.value == Value::Null {
        let problem = "empty or null section in a list of discovery configurations";
        map.wrong_value(item, problem);
        return None;
    }
    Some(MapReader::new(map.report, item))
}

fn read_group(mut map: MapReader<'_>) -> TargetGroup {
    let addresses = map.texts("targets").unwrap_or_default();
    let labels = read_labels(&mut map);
    let group = TargetGroup {
        addresses: addresses.into_iter().map(str::to_owned).collect(),
        labels,
    };
    map.finish();
    group
}

fn read_labels(map: &mut MapReader<'_>) -> Labels {
    const KEY: &str = "labels";
    let mut pairs = Vec::new();
    for (entry, item) in map.entries(KEY).unwrap_or_default() {
        if entry.key.is_empty() {
            let problem = "\"\" is not a valid label name";
            map.report.complain(entry.line, &item.key, None, problem);
        }
        pairs.extend(text_or_null(map, &item).map(|value| (entry.key.as_str(), value)));
    }
    Labels::new(&pairs).unwrap_or_else(|error| {
        map.complain(KEY, None, &error.to_string());
        Labels::empty()
    })
}

fn read_file(mut map: MapReader<'_>, dir: &Path) -> DiscoverySettings {
    let items = map.items("files").unwrap_or_default();
    if items.is_empty() {
        map.complain_here("file service discovery config must contain at least one path name");
    }
    for item in &items {
        if item
            .node
            .as_text()
            .is_some_and(|text| !is_target_file_pattern(text))
        {
            let problem = "path name is not valid for file discovery, expected one that ends in \
                           .json, .yml or .yaml, with * in its last element at most";
            map.wrong_value(item, problem);
        }
    }
    let patterns = map.texts_of(&items);
    let refresh_ms = positive(&mut map, "refresh_interval", FILE_REFRESH_MS);
    map.finish();
    DiscoverySettings::File {
        patterns: patterns
            .into_iter()
            .map(|pattern| dir.join(pattern))
            .collect(),
        refresh_ms,
    }
}

fn read_http_discovery(mut map: MapReader<'_>, dir: &Path) -> Option<DiscoverySettings> {
    let url = map.text("url").unwrap_or_default();
    let problem = match url::Url::parse(url) {
        _ if url.is_empty() => Some("URL is missing"),
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => {
            Some("URL scheme must be 'http' or 'https'")
        }
        Ok(parsed) if parsed.host_str().is_none_or(str::is_empty) => Some("host is missing in URL"),
        Ok(_) => None,
        Err(_) => Some("not a URL, expected one such as http://sd.example/targets"),
    };
    if let Some(problem) = problem {
        map.complain("url", Some(url), problem);
    }
    let http = read_http(&mut map, dir);
    let refresh_ms = positive(&mut map, "refresh_interval", HTTP_REFRESH_MS);
    map.finish();
    problem.is_none().then(|| {
        DiscoverySettings::Http(Box::new(HttpDiscovery {
            url: url.to_owned(),
            refresh_ms,
            http,
        }))
    })
}

fn positive(map: &mut MapReader<'_>, key: &'static str, default: i64) -> i64 {
    match map.duration_ms(key) {
        Some(0) => {
            map.complain(key, Some("0"), "must be greater than zero");
            default
        }
        Some(ms) => ms,
        None => default,
    }
}
