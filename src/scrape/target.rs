//! From a discovered address to something that can be scraped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;

use crate::exposition::HistogramOptions;
use crate::model::duration::{DurationError, format_duration, parse_duration_ms};
use crate::model::labels::{is_legacy_label_name, is_legacy_metric_name};
use crate::model::{Labels, LabelsBuilder, LabelsError, METRIC_NAME};
use crate::relabel;
use crate::scrape::settings::{JobSettings, TargetGroup};

/// Label that holds host and port.
pub(super) const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const NATIVE: &str = "__scrape_native_histograms__";
const KEEPS_CLASSIC: &str = "__always_scrape_classic_histograms__";
const CONVERTS_CLASSIC: &str = "__convert_classic_histograms_to_nhcb__";
/// Labels that change how a target is scraped, not which target it is.
const MANNERS: [&str; 5] = [INTERVAL, TIMEOUT, NATIVE, KEEPS_CLASSIC, CONVERTS_CLASSIC];
const PARAM_PREFIX: &str = "__param_";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";

/// What Go's `url.QueryEscape` leaves alone, besides letters and digits.
const QUERY: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// What Go leaves alone in the path of a URL.
const PATH: AsciiSet = QUERY
    .remove(b'/')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@')
    .remove(b'%');

/// Why a discovered address is no target. The texts are Prometheus'.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Relabelling left no address.
    #[error("no address")]
    NoAddress,
    /// The address holds a path.
    #[error("{0:?} is not a valid hostname")]
    Hostname(String),
    /// `__scrape_interval__` is no duration.
    #[error("error parsing scrape interval: {0}")]
    Interval(DurationError),
    /// `__scrape_timeout__` is no duration.
    #[error("error parsing scrape timeout: {0}")]
    Timeout(DurationError),
    /// A duration of nothing.
    #[error("scrape {0} cannot be 0")]
    Zero(&'static str),
    /// The timeout is above the interval.
    #[error("scrape timeout cannot be greater than scrape interval ({timeout:?} > {interval:?})")]
    TimeoutAboveInterval {
        /// As labelled.
        timeout: String,
        /// As labelled.
        interval: String,
    },
    /// A label name that the job does not allow.
    #[error("invalid label name {0:?}")]
    LabelName(String),
    /// The labels are no label set.
    #[error(transparent)]
    Labels(#[from] LabelsError),
}

/// Something that is scraped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The labels of its series.
    pub labels: Labels,
    /// Before relabelling.
    pub discovered: Labels,
    /// Where to fetch, as it is shown.
    pub url: String,
    /// From one scrape to the next.
    pub interval_ms: i64,
    /// For one scrape.
    pub timeout_ms: i64,
    /// What is taken of its histograms.
    pub histograms: HistogramOptions,
    /// Prometheus' hash of labels and URL, which spreads targets over the interval.
    pub hash: u64,
    /// What makes it the same target after a reload: everything but how often it is scraped.
    pub identity: u64,
}

/// What became of a discovered address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Discovered {
    /// To be scraped.
    Kept(Target),
    /// A rule dropped it; these are the labels it came with.
    Dropped(Labels),
    /// It cannot be scraped.
    Refused(TargetError),
}

/// Makes the targets of one group.
pub(super) fn targets_of(group: &TargetGroup, job: &JobSettings) -> Vec<Discovered> {
    group
        .addresses
        .iter()
        .map(|address| populate(address, group, job).unwrap_or_else(Discovered::Refused))
        .collect()
}

fn populate(
    address: &str,
    group: &TargetGroup,
    job: &JobSettings,
) -> Result<Discovered, TargetError> {
    let mut builder = group.labels.to_builder();
    builder.set(ADDRESS, address);
    let interval = format_duration(job.request.interval_ms);
    let timeout = format_duration(job.request.timeout_ms);
    let histograms = job.ingest.histograms.options;
    for (name, value) in [
        ("job", job.job_name.as_str()),
        (INTERVAL, &interval),
        (TIMEOUT, &timeout),
        (METRICS_PATH, &job.request.metrics_path),
        (SCHEME, &job.request.scheme),
        (CONVERTS_CLASSIC, bool_text(histograms.converts_classic)),
        (KEEPS_CLASSIC, bool_text(histograms.keeps_classic)),
        (NATIVE, bool_text(histograms.native)),
    ] {
        if builder.get(name).is_empty() {
            builder.set(name, value);
        }
    }
    for (name, values) in &job.request.params {
        if let Some(first) = values.first() {
            builder.set(&format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    let discovered = builder.build()?;
    if !relabel::apply(&job.relabel, &mut builder) {
        return Ok(Discovered::Dropped(discovered));
    }
    finish(&mut builder, discovered, job).map(Discovered::Kept)
}

fn finish(
    builder: &mut LabelsBuilder,
    discovered: Labels,
    job: &JobSettings,
) -> Result<Target, TargetError> {
    let address = builder.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err(TargetError::NoAddress);
    }
    if address.contains('/') {
        return Err(TargetError::Hostname(address));
    }
    let (interval, timeout) = (
        builder.get(INTERVAL).to_owned(),
        builder.get(TIMEOUT).to_owned(),
    );
    let interval_ms = parse_duration_ms(&interval).map_err(TargetError::Interval)?;
    let timeout_ms = parse_duration_ms(&timeout).map_err(TargetError::Timeout)?;
    if interval_ms == 0 {
        return Err(TargetError::Zero("interval"));
    }
    if timeout_ms == 0 {
        return Err(TargetError::Zero("timeout"));
    }
    if interval_ms < timeout_ms {
        return Err(TargetError::TimeoutAboveInterval { timeout, interval });
    }
    if builder.get("instance").is_empty() {
        builder.set("instance", &address);
    }
    let all = builder
        .build()?
        .filtered(|name| !name.starts_with(META_PREFIX));
    check_names(&all, job.ingest.legacy_names)?;
    let url = url_of(&all, &address, job);
    let without_manners = all.filtered(|name| !MANNERS.contains(&name));
    let histograms = histogram_options(&all, job.ingest.histograms.options);
    Ok(Target {
        labels: all.filtered(|name| !name.starts_with(RESERVED_PREFIX)),
        discovered,
        hash: hash_of(&all, &url),
        identity: hash_of(&without_manners, &url),
        url,
        interval_ms,
        timeout_ms,
        histograms,
    })
}

fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// What labels say of histograms, and `job` where they say nothing.
fn histogram_options(labels: &Labels, job: HistogramOptions) -> HistogramOptions {
    let read = |name, default| match labels.value(name) {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => default,
    };
    HistogramOptions {
        native: read(NATIVE, job.native),
        keeps_classic: read(KEEPS_CLASSIC, job.keeps_classic),
        converts_classic: read(CONVERTS_CLASSIC, job.converts_classic),
    }
}

fn check_names(labels: &Labels, legacy: bool) -> Result<(), TargetError> {
    match labels
        .iter()
        .find(|(name, _)| legacy && !is_legacy_label_name(name))
    {
        Some((name, _)) => Err(TargetError::LabelName(name.to_owned())),
        None => Ok(()),
    }
}

/// `scheme://address/path?parameters`; labels win over the first value of a configured parameter.
fn url_of(labels: &Labels, address: &str, job: &JobSettings) -> String {
    let mut params = job.request.params.clone();
    for (label, value) in labels {
        let Some(name) = label.strip_prefix(PARAM_PREFIX) else {
            continue;
        };
        match params.iter_mut().find(|(here, _)| here == name) {
            Some((_, values)) => match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            },
            None => params.push((name.to_owned(), vec![value.to_owned()])),
        }
    }
    params.sort();
    let scheme = labels.value(SCHEME);
    let path = labels.value(METRICS_PATH);
    let mut url = format!("{scheme}://{address}");
    if !path.is_empty() && !path.starts_with('/') {
        url.push('/');
    }
    url.extend(utf8_percent_encode(path, &PATH));
    let mut separator = '?';
    for (name, values) in &params {
        for value in values {
            url.push(separator);
            push_query(&mut url, name);
            url.push('=');
            push_query(&mut url, value);
            separator = '&';
        }
    }
    url
}

fn push_query(url: &mut String, text: &str) {
    for (position, part) in text.split(' ').enumerate() {
        if position > 0 {
            url.push('+');
        }
        url.extend(utf8_percent_encode(part, &QUERY));
    }
}

/// FNV-1a over the decimal hash of the labels, at least 16 digits, and the URL.
fn hash_of(labels: &Labels, url: &str) -> u64 {
    let digits = format!("{:016}", labels.prometheus_hash());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in digits.bytes().chain(url.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Are all names of a scraped series allowed?
pub(super) fn has_valid_names<'a>(
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    legacy: bool,
) -> bool {
    labels.into_iter().all(|(name, value)| {
        if name.is_empty() {
            return false;
        }
        if !legacy {
            return true;
        }
        is_legacy_label_name(name) && (name != METRIC_NAME || is_legacy_metric_name(value))
    })
}

/// Milliseconds until the first scrape: a target is scraped at the same place of every interval, wherever the server
/// was started, and the places of many targets are spread evenly.
pub(super) fn first_scrape_in_ms(target: &Target, seed: u64, now_ms: i64) -> i64 {
    let interval = u64::try_from(target.interval_ms).unwrap_or(1).max(1);
    let offset = (target.hash ^ seed) % interval;
    let into = u64::try_from(now_ms.rem_euclid(target.interval_ms.max(1))).unwrap_or(0);
    i64::try_from((interval - into + offset) % interval).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relabel::{RelabelRule, RelabelSettings};
    use crate::scrape::testing::job;

    fn group(address: &str, labels: &[(&str, &str)]) -> TargetGroup {
        TargetGroup {
            addresses: vec![address.to_owned()],
            labels: Labels::new(labels).unwrap(),
        }
    }

    fn only(group: &TargetGroup, job: &JobSettings) -> Discovered {
        let [only] = <[Discovered; 1]>::try_from(targets_of(group, job)).unwrap();
        only
    }

    fn rule(source: &str, target: &str, replacement: &str) -> RelabelRule {
        RelabelRule::new(RelabelSettings {
            source_labels: Some(vec![source.to_owned()]),
            target_label: Some(target.to_owned()),
            replacement: Some(replacement.to_owned()),
            ..RelabelSettings::default()
        })
        .unwrap()
    }

    #[test]
    fn a_target_gets_job_instance_and_url() {
        let mut job = job("node");
        job.request.params = vec![("module".to_owned(), vec!["a b~".to_owned(), "c".to_owned()])];
        let Discovered::Kept(target) =
            only(&group("h:9100", &[("env", "x"), ("__meta_a", "b")]), &job)
        else {
            panic!("not kept")
        };
        let expect = [("env", "x"), ("instance", "h:9100"), ("job", "node")];
        assert_eq!(target.labels, Labels::new(&expect).unwrap());
        assert_eq!(target.url, "http://h:9100/metrics?module=a+b~&module=c");
        assert_eq!(target.discovered.value("__meta_a"), "b");
        assert_eq!(target.discovered.value(INTERVAL), "15s");
    }

    #[test]
    fn labels_of_a_target_choose_what_is_taken_of_its_histograms() {
        let mut job = job("a");
        job.ingest.histograms.options.keeps_classic = true;
        let kept = |labels| {
            let Discovered::Kept(target) = only(&group("h:1", labels), &job) else {
                panic!("not kept")
            };
            target
        };
        let target = kept(&[(NATIVE, "true"), (KEEPS_CLASSIC, "maybe")]);
        let expect = HistogramOptions {
            native: true,
            keeps_classic: true,
            converts_classic: false,
        };
        assert_eq!(target.histograms, expect);
        assert_eq!(target.discovered.value(CONVERTS_CLASSIC), "false");
        assert_eq!(target.identity, kept(&[]).identity);
    }

    #[test]
    fn rules_can_change_everything_about_the_request() {
        let mut job = job("probe");
        job.relabel = vec![
            rule(ADDRESS, "__param_target", "$1"),
            rule("__param_target", "instance", "$1"),
            rule("x", ADDRESS, "prober:9115"),
            rule("x", METRICS_PATH, "probe"),
            rule("x", SCHEME, "https"),
            rule("x", INTERVAL, "1m"),
        ];
        let Discovered::Kept(target) = only(&group("https://example.org/x", &[]), &job) else {
            panic!("not kept")
        };
        assert_eq!(
            target.url,
            "https://prober:9115/probe?target=https%3A%2F%2Fexample.org%2Fx"
        );
        assert_eq!(target.labels.value("instance"), "https://example.org/x");
        assert_eq!((target.interval_ms, target.timeout_ms), (60_000, 10_000));
    }

    #[test]
    fn what_cannot_be_scraped_is_refused_with_prometheus_words() {
        for (address, name, value, expect) in [
            ("", "a", "b", "no address"),
            ("http://h", "a", "b", "\"http://h\" is not a valid hostname"),
            ("h", INTERVAL, "0s", "scrape interval cannot be 0"),
            (
                "h",
                TIMEOUT,
                "20s",
                "scrape timeout cannot be greater than scrape interval (\"20s\" > \"15s\")",
            ),
        ] {
            match only(&group(address, &[(name, value)]), &job("a")) {
                Discovered::Refused(error) => assert_eq!(error.to_string(), expect),
                other @ (Discovered::Kept(_) | Discovered::Dropped(_)) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn another_interval_is_the_same_target_and_another_label_is_not() {
        let read = |labels: &[(&str, &str)]| match only(&group("h", labels), &job("a")) {
            Discovered::Kept(target) => target,
            other @ (Discovered::Refused(_) | Discovered::Dropped(_)) => panic!("{other:?}"),
        };
        let (plain, slow) = (read(&[]), read(&[(INTERVAL, "1m")]));
        assert_eq!(plain.identity, slow.identity);
        assert_ne!(plain.hash, slow.hash);
        assert_ne!(plain.identity, read(&[("a", "b")]).identity);
    }

    #[test]
    fn the_first_scrape_falls_on_the_targets_place_in_the_interval() {
        let Discovered::Kept(target) = only(&group("h", &[]), &job("a")) else {
            panic!("not kept")
        };
        let place = |now_ms: i64| (now_ms + first_scrape_in_ms(&target, 7, now_ms)) % 15_000;
        for t_ms in [0, 1, 14_999, 15_000, 1_700_000_012_345] {
            assert_eq!(place(t_ms), place(0));
            assert!((0..15_000).contains(&first_scrape_in_ms(&target, 7, t_ms)));
        }
    }
}
