//! Which blocks of a bucket a command is about: by time and by external labels.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::block::BlockMeta;
use crate::cli::bucket::open::{OpenBucket, bucket_failed, content};
use crate::cli::exit::Failure;
use crate::config::prometheus::Complaint;
use crate::config::relabel::parse_relabel;
use crate::foundation::{Clock, SystemClock};
use crate::inventory::Inventory;
use crate::model::duration::parse_duration_ms;
use crate::model::{LabelsBuilder, TimestampMs};
use crate::relabel::{RelabelAction, RelabelRule, apply};

/// The label that rules find a block's name under, as in Thanos.
const BLOCK_ID_LABEL: &str = "__block_id";

/// Metas that are read at once.
const CONCURRENCY: usize = 32;

/// Blocks by time.
#[derive(Debug, Args)]
pub(super) struct ChosenTimes {
    /// Leave out blocks that end before: RFC 3339, or a duration before now such as -2d.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    min_time: Option<Moment>,
    /// Leave out blocks that begin after: RFC 3339, or a duration before now such as -2h.
    #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
    max_time: Option<Moment>,
}

/// Blocks by external labels.
#[derive(Debug, Args)]
pub(super) struct ChosenLabels {
    /// Relabelling rules over external labels and __block_id: keep, drop and hashmod choose blocks.
    #[arg(
        long = "selector.relabel-config-file",
        value_name = "FILE",
        conflicts_with = "selector_relabel"
    )]
    selector_relabel_file: Option<PathBuf>,
    /// The same, as text.
    #[arg(
        long = "selector.relabel-config",
        value_name = "YAML",
        allow_hyphen_values = true
    )]
    selector_relabel: Option<String>,
}

/// Blocks by both, and how long to wait for the list of them.
#[derive(Debug, Args)]
pub(super) struct ChosenBlocks {
    #[command(flatten)]
    times: ChosenTimes,
    #[command(flatten)]
    labels: ChosenLabels,
    /// Longest time that reading all metas may take.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

/// The choice, made.
#[derive(Debug)]
pub(super) struct Choice {
    min: TimestampMs,
    max: TimestampMs,
    rules: Vec<RelabelRule>,
    timeout: Duration,
}

/// A time, or one relative to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    At(TimestampMs),
    FromNow(i64),
}

impl Moment {
    fn at(self, now_ms: TimestampMs) -> TimestampMs {
        match self {
            Self::At(t) => t,
            Self::FromNow(ms) => now_ms.saturating_add(ms),
        }
    }
}

impl ChosenTimes {
    /// First and last time, the whole of time where none is given.
    pub(super) fn bounds(&self) -> Result<(TimestampMs, TimestampMs), Failure> {
        let now_ms = SystemClock.now_ms();
        let min = self.min_time.map_or(i64::MIN, |moment| moment.at(now_ms));
        let max = self.max_time.map_or(i64::MAX, |moment| moment.at(now_ms));
        if max < min {
            return Err(Failure::wrong("--max-time is before --min-time"));
        }
        Ok((min, max))
    }
}

impl ChosenLabels {
    /// The rules, if there are any.
    pub(super) fn rules(&self) -> Result<Vec<RelabelRule>, Failure> {
        let file = self.selector_relabel_file.as_deref();
        let text = self.selector_relabel.as_deref();
        let Some((name, rules)) = relabel_rules(file, text, "--selector.relabel-config")? else {
            return Ok(Vec::new());
        };
        for rule in &rules {
            let action = rule.settings().action.unwrap_or_default();
            if !matches!(
                action,
                RelabelAction::Keep | RelabelAction::Drop | RelabelAction::HashMod
            ) {
                return Err(Failure::wrong(format!(
                    "{name}: action {} does not choose blocks, expected keep, drop or hashmod",
                    action.as_str()
                )));
            }
        }
        Ok(rules)
    }
}

impl ChosenBlocks {
    pub(super) fn choose(&self) -> Result<Choice, Failure> {
        let (min, max) = self.times.bounds()?;
        Ok(Choice {
            min,
            max,
            rules: self.labels.rules()?,
            timeout: self.timeout,
        })
    }
}

impl Choice {
    /// Metas and marks of all blocks, in time.
    pub(super) fn inventory(&self, open: &OpenBucket) -> Result<Inventory, Failure> {
        inventory_within(open, self.timeout)
    }

    /// Is the block meant?
    pub(super) fn has(&self, meta: &BlockMeta) -> bool {
        self.min <= meta.max_time && meta.min_time <= self.max && is_kept(&self.rules, meta)
    }
}

/// Metas and marks of all blocks, unless that takes longer than `timeout`.
pub(super) fn inventory_within(open: &OpenBucket, timeout: Duration) -> Result<Inventory, Failure> {
    let fetched = async { tokio::time::timeout(timeout, open.fetch(CONCURRENCY)).await };
    match open.wait(fetched) {
        Ok(Ok(inventory)) => Ok(inventory),
        Ok(Err(error)) => Err(bucket_failed(&error)),
        Err(_elapsed) => Err(Failure::failed(format!(
            "reading the metas took longer than {} s; --timeout sets another limit",
            timeout.as_secs()
        ))),
    }
}

/// Relabelling rules from a file or as text, and what complaints call them.
pub(super) fn relabel_rules(
    file: Option<&Path>,
    text: Option<&str>,
    flag: &str,
) -> Result<Option<(String, Vec<RelabelRule>)>, Failure> {
    let Some((name, text)) = content(file, text, flag)? else {
        return Ok(None);
    };
    let rules = parse_relabel(&name, &text).map_err(|complaints| wrong(&complaints))?;
    Ok(Some((name, rules)))
}

/// All that is wrong with a file.
pub(super) fn wrong(complaints: &[Complaint]) -> Failure {
    Failure::Wrong(complaints.iter().map(ToString::to_string).collect())
}

/// Do the rules keep the block?
pub(super) fn is_kept(rules: &[RelabelRule], meta: &BlockMeta) -> bool {
    if rules.is_empty() {
        return true;
    }
    let mut labels = LabelsBuilder::new();
    for (name, value) in meta.thanos.iter().flat_map(|thanos| &thanos.labels) {
        labels.set(name, value);
    }
    labels.set(BLOCK_ID_LABEL, &meta.ulid.to_string());
    apply(rules, &mut labels)
}

/// `30m`
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text).map_err(|error| error.to_string())?;
    Ok(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

/// RFC 3339, or a duration with an optional minus.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Moment::At(time.as_millisecond()));
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    match parse_duration_ms(digits) {
        Ok(ms) => Ok(Moment::FromNow(sign * ms)),
        Err(_neither) => Err(
            "expected a time such as 2026-01-02T15:04:05Z or a duration before now such as -2d"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_so_long_ago() {
        assert_eq!(
            moment("2023-11-14T22:13:20Z"),
            Ok(Moment::At(1_700_000_000_000))
        );
        assert_eq!(
            moment("-1d").map(|moment| moment.at(90_000_000)),
            Ok(3_600_000)
        );
        assert!(moment("yesterday").is_err());
    }

    #[test]
    fn rules_see_external_labels_and_the_name_of_the_block() {
        let meta = r#"{"ulid":"01M7XZVM2PTT4FW31RYPH3TCEP","minTime":0,"maxTime":9,"version":1,"thanos":{"labels":{"shard":"a"}}}"#;
        let meta = BlockMeta::decode(meta.as_bytes()).unwrap();
        let kept = |text: &str| is_kept(&parse_relabel("rules", text).unwrap(), &meta);
        assert!(kept("- {action: keep, source_labels: [shard], regex: a}"));
        assert!(!kept("- {action: drop, source_labels: [shard], regex: a}"));
        assert!(kept(
            "- {action: keep, source_labels: [__block_id], regex: 01M7.*}"
        ));
        assert!(!kept(
            "- {action: keep, source_labels: [__block_id], regex: 02.*}"
        ));
    }
}
