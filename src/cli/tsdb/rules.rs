//! `gauntlet tsdb create-blocks-from rules`

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::cli::exit::Failure;
use crate::cli::http::get;
use crate::cli::progress::Progress;
use crate::cli::tsdb::create::{CreateOptions, Made, new_id, skipped};
use crate::config::rules::{RecordingRule, RuleGroup, load_rules};
use crate::foundation::{Clock, SystemClock};
use crate::model::duration::parse_duration_ms;
use crate::model::number::parse_go_float;
use crate::model::{Labels, METRIC_NAME, TimestampMs};
use crate::tsdb::BackfillBatch;

/// Without an end, rules are evaluated up to so long ago: what is newer may still be in somebody's head.
const END_BEFORE_NOW_MS: i64 = 3 * 3_600_000;

/// Recording rules, evaluated by a running server.
#[derive(Debug, Args)]
pub(super) struct FromRules {
    /// Files with recording rules; rules that alert are left out.
    #[arg(required = true)]
    rule_files: Vec<PathBuf>,
    /// The server that has the data; any that speaks the Prometheus API over plain HTTP.
    #[arg(long, value_name = "URL", default_value = "http://localhost:9090")]
    url: String,
    /// First evaluation: Unix seconds or RFC 3339.
    #[arg(long, value_parser = time)]
    start: TimestampMs,
    /// Last evaluation: Unix seconds or RFC 3339; three hours ago without.
    #[arg(long, value_parser = time)]
    end: Option<TimestampMs>,
    /// Where the blocks go.
    #[arg(long, value_name = "DIRECTORY", default_value = "gauntlet-data")]
    output_dir: PathBuf,
    /// Between evaluations of groups that do not say.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = interval)]
    eval_interval: TimestampMs,
}

/// One rule over the times of one block.
#[derive(Debug, PartialEq)]
struct Step<'a> {
    group: &'a str,
    rule: &'a RecordingRule,
    start_ms: TimestampMs,
    end_ms: TimestampMs,
    interval_ms: i64,
}

impl FromRules {
    pub(super) fn run(&self, options: &CreateOptions) -> Result<(), Failure> {
        let end = self
            .end
            .unwrap_or_else(|| SystemClock.now_ms() - END_BEFORE_NOW_MS);
        if end < self.start {
            return Err(Failure::wrong("the end is before the start"));
        }
        let groups = self.groups()?;
        let mut steps = Vec::new();
        for group in &groups {
            self.plan(group, end, options.range_ms(), &mut steps);
        }
        let mut made = Made::new(&self.output_dir, options)?;
        let mut progress = Progress::new("queries", steps.len() as u64);
        for (n_done, step) in (1..).zip(&steps) {
            let meta = self
                .evaluate(step)?
                .write(&self.output_dir, new_id())
                .map_err(|error| Failure::of(&error))?;
            progress.clear();
            if let Some(meta) = meta {
                made.list(meta)?;
            }
            progress.set(n_done);
        }
        Ok(())
    }

    fn groups(&self) -> Result<Vec<RuleGroup>, Failure> {
        let (mut groups, mut complaints) = (Vec::new(), Vec::new());
        for file in &self.rule_files {
            match load_rules(file) {
                Ok(loaded) => groups.extend(loaded),
                Err(wrong) => complaints.extend(wrong.iter().map(ToString::to_string)),
            }
        }
        if !complaints.is_empty() {
            return Err(Failure::Wrong(complaints));
        }
        for group in groups.iter().filter(|group| 0 < group.n_alerts) {
            skipped(&format!(
                "group {}: {} rules alert and are not evaluated",
                group.name, group.n_alerts
            ));
        }
        Ok(groups)
    }

    /// The queries of one group, each within one block.
    fn plan<'a>(
        &self,
        group: &'a RuleGroup,
        end: TimestampMs,
        range_ms: i64,
        steps: &mut Vec<Step<'a>>,
    ) {
        let interval_ms = group.interval_ms.unwrap_or(self.eval_interval).max(1);
        for rule in &group.rules {
            let mut block = self.start.div_euclid(range_ms).saturating_mul(range_ms);
            while block <= end {
                // To the last millisecond, and on where a block has no evaluation: promtool ends a block with its last
                // second, and everything where the interval is longer than a block.
                let end_ms = end.min(block.saturating_add(range_ms - 1));
                let start_ms = first_evaluation_ms(group, interval_ms, block.max(self.start));
                if start_ms <= end_ms {
                    steps.push(Step {
                        group: &group.name,
                        rule,
                        start_ms,
                        end_ms,
                        interval_ms,
                    });
                }
                block = block.saturating_add(range_ms);
            }
        }
    }

    fn evaluate(&self, step: &Step<'_>) -> Result<BackfillBatch, Failure> {
        let rule = step.rule;
        let what = format!("group {}, rule {}", step.group, rule.record);
        let start = seconds(i128::from(step.start_ms) * 1_000_000);
        let end = seconds(i128::from(step.end_ms) * 1_000_000);
        let interval = seconds(i128::from(step.interval_ms) * 1_000_000);
        let parameters = [
            ("query", rule.expr.as_str()),
            ("start", &start),
            ("end", &end),
            ("step", &interval),
        ];
        let answer = get(&self.url, "/api/v1/query_range", &parameters)?;
        let failed = |problem: &str| Failure::failed(format!("{what}: {problem}"));
        let json: Value = serde_json::from_str(&answer.body)
            .map_err(|error| failed(&format!("status {}: {error}", answer.status)))?;
        if json.get("status").and_then(Value::as_str) != Some("success") {
            let error = json.get("error").and_then(Value::as_str);
            return Err(failed(
                error.unwrap_or("the server did not answer the query"),
            ));
        }
        for warning in items(json.get("warnings")) {
            skipped(&format!("{what}: {warning}"));
        }
        let result = json.get("data").and_then(|data| data.get("result"));
        let mut batch = BackfillBatch::default();
        for series in items(result) {
            let labels = labels(rule, series).map_err(|problem| failed(&problem))?;
            let samples: Option<Vec<(TimestampMs, f64)>> =
                items(series.get("values")).map(sample).collect();
            let samples = samples.ok_or_else(|| failed("a sample is no time and value"))?;
            if series.get("histograms").is_some() {
                skipped(&format!(
                    "{what}: {labels} has native histograms, which are left out"
                ));
            }
            batch.add(labels, samples);
        }
        Ok(batch)
    }
}

/// The first evaluation of a group at or after `start`, in the millisecond its samples have: groups are spread over their
/// interval by their name and file.
fn first_evaluation_ms(group: &RuleGroup, interval_ms: i64, start: TimestampMs) -> TimestampMs {
    let interval = i128::from(interval_ms) * 1_000_000;
    let offset = i128::from(group_hash(&group.file, &group.name)) % interval;
    let start_ns = i128::from(start) * 1_000_000;
    let behind = (offset - start_ns).rem_euclid(interval) / 1_000_000;
    start.saturating_add(i64::try_from(behind).unwrap_or(i64::MAX))
}

/// What the evaluations of a group are moved by.
fn group_hash(file: &str, name: &str) -> u64 {
    // Two different names cannot be refused.
    let labels = Labels::new(&[("file", file), ("name", name)]);
    labels.map_or(0, |labels| labels.prometheus_hash())
}

/// Labels of the result, those of the rule over them, and the rule's name.
fn labels(rule: &RecordingRule, series: &Value) -> Result<Labels, String> {
    let mut builder = Labels::empty().to_builder();
    for (name, value) in series
        .get("metric")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        builder.set(name, value.as_str().unwrap_or_default());
    }
    for (name, value) in &rule.labels {
        builder.set(name, value);
    }
    builder.set(METRIC_NAME, &rule.record);
    builder.build().map_err(|error| error.to_string())
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// `[1435781430.781, "1"]`
fn sample(pair: &Value) -> Option<(TimestampMs, f64)> {
    let t = milliseconds(&pair.get(0)?.to_string())?;
    Some((t, parse_go_float(pair.get(1)?.as_str()?)?))
}

/// Seconds with at most three digits behind the point, as the API writes times.
fn milliseconds(text: &str) -> Option<TimestampMs> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if 3 < fraction.len() {
        return None;
    }
    format!("{whole}{fraction:0<3}").parse().ok()
}

/// Seconds of nanoseconds, without zeros at the end.
fn seconds(ns: i128) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, (ns % 1_000_000_000).abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn time(text: &str) -> Result<TimestampMs, String> {
    let wrong = || "expected Unix seconds or a time as RFC 3339 writes it".to_owned();
    if let Some(seconds) = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| seconds.abs() < 1e12)
    {
        #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
        return Ok((seconds * 1000.0).round() as TimestampMs);
    }
    let time: jiff::Timestamp = text.parse().map_err(|_malformed| wrong())?;
    Ok(time.as_millisecond())
}

fn interval(text: &str) -> Result<TimestampMs, String> {
    match parse_duration_ms(text) {
        Ok(ms) if 0 < ms => Ok(ms),
        Ok(_) => Err("expected a duration longer than 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_and_go_as_the_api_writes_them() {
        assert_eq!(milliseconds("1435781430.78"), Some(1_435_781_430_780));
        assert_eq!(milliseconds("-3"), Some(-3000));
        assert_eq!(milliseconds("1.2345"), None);
        assert_eq!(seconds(1_500_000_000), "1.5");
        assert_eq!(seconds(10_000_000_000), "10");
        assert_eq!(time("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(time("1.5"), Ok(1500));
        assert!(time("soon").is_err());
    }

    fn group(name: &str, interval_ms: i64) -> RuleGroup {
        RuleGroup {
            name: name.to_owned(),
            file: "f.yml".to_owned(),
            interval_ms: Some(interval_ms),
            rules: vec![RecordingRule {
                record: "r".to_owned(),
                expr: "up".to_owned(),
                labels: Vec::new(),
            }],
            n_alerts: 0,
        }
    }

    /// The evaluations of a group from 3,600.5 s to 30,000.7 s, in blocks of two hours.
    fn evaluations(group: &RuleGroup) -> Vec<i64> {
        let from = FromRules {
            rule_files: Vec::new(),
            url: String::new(),
            start: 3_600_500,
            end: None,
            output_dir: PathBuf::new(),
            eval_interval: 1,
        };
        let mut steps = Vec::new();
        from.plan(group, 30_000_700, 7_200_000, &mut steps);
        let mut all = Vec::new();
        for step in &steps {
            assert_eq!(step.start_ms / 7_200_000, step.end_ms / 7_200_000);
            let times = step.start_ms..=step.end_ms;
            all.extend(times.step_by(usize::try_from(step.interval_ms).unwrap()));
        }
        all
    }

    #[test]
    fn evaluations_are_those_of_the_group_and_none_is_lost_between_blocks() {
        for n in 0..200 {
            let group = group(&n.to_string(), 60_000);
            let offset = i64::try_from(group_hash("f.yml", &group.name) % 60_000_000_000).unwrap();
            let offset = offset / 1_000_000;
            let first = 3_600_500 + (offset - 3_600_500_i64).rem_euclid(60_000);
            let expect: Vec<i64> = (first..=30_000_700).step_by(60_000).collect();
            assert_eq!(evaluations(&group), expect, "{offset}");
        }
    }

    #[test]
    fn a_group_with_an_interval_longer_than_a_block_is_evaluated_in_some_blocks() {
        for n in 0..20 {
            let times = evaluations(&group(&n.to_string(), 10_000_000));
            assert!((2..=3).contains(&times.len()), "{times:?}");
        }
    }
}
