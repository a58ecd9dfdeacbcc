//! An object store as Thanos describes it: `type`, `config` and `prefix` in YAML.
//!
//! As in Thanos an unknown key is an error. A key that cannot be honoured is refused with the reason; one that has
//! nothing to do here, because what it is against does not happen, says so where it is read.

mod azure;
mod gcs;
mod http;
mod s3;
mod similar;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::bucket::{BucketKind, BucketSettings, HedgeSettings};
use crate::config::prometheus::Complaint;
use crate::config::prometheus::reader::{Item, MapReader};
use crate::config::prometheus::report::Report;
use crate::config::yaml::parse;

/// Longest file that is read; a bucket takes some twenty lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What Thanos hedges by when only `enabled` is said.
const HEDGE_UP_TO: u32 = 3;
const HEDGE_QUANTILE: f64 = 0.9;

/// Which kind of store the file names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Filesystem,
    S3,
    Gcs,
    Azure,
    Cos,
    Oss,
    Obs,
    Bos,
    Oci,
}

const KINDS: [(&str, Kind); 9] = [
    ("FILESYSTEM", Kind::Filesystem),
    ("S3", Kind::S3),
    ("GCS", Kind::Gcs),
    ("AZURE", Kind::Azure),
    ("COS", Kind::Cos),
    ("ALIYUNOSS", Kind::Oss),
    ("OBS", Kind::Obs),
    ("BOS", Kind::Bos),
    ("OCI", Kind::Oci),
];

/// Reads a bucket file: the settings and what was ignored, or everything that is wrong with it.
pub fn load_bucket(path: &Path) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    let report = Report::new(path.to_owned());
    let mut text = String::new();
    let read = File::open(path).and_then(|file| {
        let mut limited = file.take(FILE_BYTES_MAX + 1);
        limited.read_to_string(&mut text)
    });
    match read {
        Err(error) => {
            let problem = format!("read the configuration of the bucket: {error}");
            report.complain(0, "", None, &problem);
            Err(report.into_parts().0)
        }
        Ok(n_bytes) if FILE_BYTES_MAX < n_bytes as u64 => {
            let problem = format!("longer than {FILE_BYTES_MAX} bytes");
            report.complain(0, "", None, &problem);
            Err(report.into_parts().0)
        }
        Ok(_) => read_bucket(report, &text),
    }
}

/// Reads the text of such a file; complaints name it `name`.
pub fn parse_bucket(
    name: &str,
    text: &str,
) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    read_bucket(Report::new(PathBuf::from(name)), text)
}

fn read_bucket(
    report: Report,
    text: &str,
) -> Result<(BucketSettings, Vec<Complaint>), Vec<Complaint>> {
    let settings = match parse(text) {
        Ok(node) => {
            let key = String::new();
            settings(MapReader::new(&report, &Item { node: &node, key }))
        }
        Err(error) => {
            report.complain(error.line, "", None, &error.problem);
            None
        }
    };
    let (complaints, warnings) = report.into_parts();
    match settings {
        Some(settings) if complaints.is_empty() => Ok((settings, warnings)),
        _ => Err(complaints),
    }
}

fn settings(mut map: MapReader<'_>) -> Option<BucketSettings> {
    let kind = kind(&mut map);
    let prefix = map.text("prefix").unwrap_or_default().trim_matches('/');
    if prefix.split('/').any(|part| part == "." || part == "..") {
        map.complain("prefix", Some(prefix), "must not contain . or .. as a part");
    }
    let hedging = map.map("hedging_config").and_then(hedging);
    let config = map.map("config");
    if config.is_none() && kind.is_some() {
        map.complain_here("config is missing");
    }
    let mut store = match (kind, config) {
        (Some(kind), Some(config)) => store(kind, config),
        _ => None,
    };
    match &mut store {
        Some(BucketKind::S3(s3)) => s3.http.hedging = hedging,
        Some(BucketKind::Gcs(gcs)) => gcs.http.hedging = hedging,
        Some(BucketKind::Azure(azure)) => azure.http.hedging = hedging,
        Some(BucketKind::Filesystem { .. }) if hedging.is_some() => {
            let problem = "a directory of this machine is not asked twice";
            map.complain("hedging_config", None, problem);
        }
        Some(BucketKind::Filesystem { .. }) | None => (),
    }
    let prefix = prefix.to_owned();
    map.finish();
    Some(BucketSettings {
        kind: store?,
        prefix,
    })
}

fn store(kind: Kind, config: MapReader<'_>) -> Option<BucketKind> {
    match kind {
        Kind::Filesystem => filesystem(config),
        Kind::S3 => s3::read(config),
        Kind::Gcs => gcs::read(config),
        Kind::Azure => azure::read(config),
        Kind::Cos => similar::cos(config),
        Kind::Oss => similar::oss(config),
        Kind::Obs => similar::obs(config),
        Kind::Bos => similar::bos(config),
        Kind::Oci => similar::oci(config),
    }
}

fn kind(map: &mut MapReader<'_>) -> Option<Kind> {
    let expected = format!("expected one of {}", KINDS.map(|(name, _)| name).join(", "));
    let Some(text) = map.text("type") else {
        map.complain_here(&format!("type is missing, {expected}"));
        return None;
    };
    let upper = text.to_ascii_uppercase();
    let kind = KINDS
        .iter()
        .find_map(|(name, kind)| (*name == upper).then_some(*kind));
    if kind.is_none() {
        let problem = match upper.as_str() {
            "SWIFT" => {
                "Swift's own protocol is not spoken; use type S3 with the endpoint of its S3 API"
                    .to_owned()
            }
            _ => expected,
        };
        map.complain("type", Some(text), &problem);
    }
    kind
}

fn filesystem(mut map: MapReader<'_>) -> Option<BucketKind> {
    let directory = required(&mut map, "directory");
    map.finish();
    Some(BucketKind::Filesystem {
        directory: PathBuf::from(directory?),
    })
}

fn hedging(mut map: MapReader<'_>) -> Option<HedgeSettings> {
    let is_enabled = map.bool("enabled").unwrap_or(false);
    let up_to = match map.limit("up_to") {
        Some(Some(n)) => u32::try_from(n.get()).unwrap_or(u32::MAX),
        Some(None) => {
            map.complain("up_to", Some("0"), "expected at least 1");
            HEDGE_UP_TO
        }
        None => HEDGE_UP_TO,
    };
    let quantile = map.float("quantile").unwrap_or(HEDGE_QUANTILE);
    if !(0.0..=1.0).contains(&quantile) {
        let text = quantile.to_string();
        map.complain("quantile", Some(&text), "expected a number from 0 to 1");
    }
    map.finish();
    is_enabled.then_some(HedgeSettings { up_to, quantile })
}

/// A text that must be there.
fn required<'a>(map: &mut MapReader<'a>, key: &'static str) -> Option<&'a str> {
    let text = map.text(key).filter(|text| !text.is_empty());
    if text.is_none() {
        map.complain_here(&format!("{key} is missing"));
    }
    text
}

/// A text; an empty one is none.
fn optional(map: &mut MapReader<'_>, key: &'static str) -> Option<String> {
    map.text(key)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// Repetitions of a request; zero and less leave that to the client.
fn retries(map: &mut MapReader<'_>, key: &'static str) -> Option<usize> {
    map.count_or_negative(key).filter(|n| *n != 0)
}
