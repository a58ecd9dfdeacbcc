//! `gauntlet query`

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::Output;
use crate::cli::exit::{Failure, note, print};
use crate::cli::http::{escaped, get};
use crate::foundation::{Clock, SystemClock};

/// Questions to a running server.
#[derive(Debug, Args)]
pub(super) struct Query {
    #[command(subcommand)]
    question: Question,
    /// The server; any that speaks the Prometheus API over plain HTTP.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "http://127.0.0.1:10902"
    )]
    url: String,
    /// How to print the answer; json prints the server's `data` as it is.
    #[arg(long, global = true, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// The value of an expression at one time.
    Instant {
        /// PromQL.
        expression: String,
        /// Unix seconds or RFC 3339; the server's clock without.
        #[arg(long)]
        time: Option<String>,
        #[command(flatten)]
        plan: PlanOptions,
    },
    /// The values of an expression at every step.
    Range {
        /// PromQL.
        expression: String,
        /// Unix seconds or RFC 3339; an hour before the end without.
        #[arg(long)]
        start: Option<String>,
        /// Unix seconds or RFC 3339; now without.
        #[arg(long)]
        end: Option<String>,
        /// Seconds or a duration.
        #[arg(long, default_value = "15s")]
        step: String,
        #[command(flatten)]
        plan: PlanOptions,
    },
    /// Label sets of series.
    Series {
        /// Selectors; series that match any of them.
        #[arg(required = true)]
        selectors: Vec<String>,
        #[command(flatten)]
        times: Times,
    },
    /// Names of labels, or the values of one.
    Labels {
        /// The label whose values are wanted.
        name: Option<String>,
        /// Only of series that match; may be repeated.
        #[arg(long = "match", value_name = "SELECTOR")]
        selectors: Vec<String>,
        #[command(flatten)]
        times: Times,
    },
}

/// The tree of operators instead of the answer.
#[derive(Debug, Clone, Copy, Args)]
struct PlanOptions {
    /// How it would be evaluated, without evaluating it.
    #[arg(long)]
    explain: bool,
    /// What every operator did: time, series, samples, memory.
    #[arg(long, conflicts_with = "explain")]
    analyze: bool,
}

impl PlanOptions {
    /// The path of the endpoint, given the one that answers.
    fn path(self, answers: &str) -> String {
        format!("{answers}{}", if self.explain { "_explain" } else { "" })
    }

    fn parameters(self) -> impl Iterator<Item = (&'static str, String)> {
        self.analyze
            .then(|| ("analyze", "true".to_owned()))
            .into_iter()
    }
}

#[derive(Debug, Args)]
struct Times {
    /// Unix seconds or RFC 3339.
    #[arg(long)]
    start: Option<String>,
    /// Unix seconds or RFC 3339.
    #[arg(long)]
    end: Option<String>,
}

impl Query {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (path, parameters) = self.question.request();
        let parameters: Vec<(&str, &str)> = parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let answer = get(&self.url, &path, &parameters)?;
        let json: Value = serde_json::from_str(&answer.body).map_err(|_not_json| {
            let status = answer.status;
            Failure::failed(format!("{} answered {status} and no JSON", self.url))
        })?;
        if field(&json, "status") != "success" {
            let problem = format!(
                "{}: {}",
                text(field(&json, "errorType")),
                text(field(&json, "error"))
            );
            return Err(Failure::failed(problem));
        }
        for warning in field(&json, "warnings").as_array().into_iter().flatten() {
            note(&format!("warning: {}", text(warning)));
        }
        match self.output {
            Output::Json => print(&field(&json, "data").to_string()),
            Output::Text => {
                let lines = lines(field(&json, "data"));
                if lines.is_empty() {
                    return Ok(());
                }
                print(&lines.join("\n"))
            }
        }
    }
}

impl Question {
    fn request(&self) -> (String, Vec<(&'static str, String)>) {
        match self {
            Self::Instant {
                expression,
                time,
                plan,
            } => {
                let mut parameters = vec![("query", expression.clone())];
                parameters.extend(time.clone().map(|time| ("time", time)));
                parameters.extend(plan.parameters());
                (plan.path("/api/v1/query"), parameters)
            }
            Self::Range {
                expression,
                start,
                end,
                step,
                plan,
            } => {
                let now = SystemClock.now_ms() / 1000;
                let end = end.clone().unwrap_or_else(|| now.to_string());
                let start = start.clone().unwrap_or_else(|| (now - 3600).to_string());
                let mut parameters = vec![
                    ("query", expression.clone()),
                    ("start", start),
                    ("end", end),
                    ("step", step.clone()),
                ];
                parameters.extend(plan.parameters());
                (plan.path("/api/v1/query_range"), parameters)
            }
            Self::Series { selectors, times } => {
                ("/api/v1/series".to_owned(), times.with(selectors))
            }
            Self::Labels {
                name,
                selectors,
                times,
            } => {
                let path = match name {
                    Some(name) => format!("/api/v1/label/{}/values", escaped(name)),
                    None => "/api/v1/labels".to_owned(),
                };
                (path, times.with(selectors))
            }
        }
    }
}

impl Times {
    fn with(&self, selectors: &[String]) -> Vec<(&'static str, String)> {
        let matches = selectors
            .iter()
            .map(|selector| ("match[]", selector.clone()));
        let start = self.start.clone().map(|start| ("start", start));
        let end = self.end.clone().map(|end| ("end", end));
        matches.chain(start).chain(end).collect()
    }
}

/// The answer as promtool prints it.
fn lines(data: &Value) -> Vec<String> {
    for tree in [data, field(data, "analysis")] {
        if tree.get("name").is_some_and(Value::is_string) {
            let mut lines = Vec::new();
            operator(tree, 0, &mut lines);
            return lines;
        }
    }
    if let Some(list) = data.as_array() {
        return list
            .iter()
            .map(|item| {
                if item.is_object() {
                    series(item)
                } else {
                    text(item)
                }
            })
            .collect();
    }
    let result = field(data, "result");
    match field(data, "resultType").as_str() {
        Some("vector") => items(result)
            .map(|item| {
                format!(
                    "{} => {}",
                    series(field(item, "metric")),
                    sample(field(item, "value"))
                )
            })
            .collect(),
        Some("matrix") => items(result)
            .flat_map(|item| {
                let head = format!("{} =>", series(field(item, "metric")));
                let values: Vec<String> = items(field(item, "values")).map(sample).collect();
                std::iter::once(head).chain(values)
            })
            .collect(),
        Some("string") => vec![text(nth(result, 1))],
        _ => vec![sample(result)],
    }
}

/// An operator with what is known of it, and below it, indented, what it reads.
fn operator(tree: &Value, depth: usize, lines: &mut Vec<String>) {
    let number = |key| field(tree, key).as_u64();
    let size = |key| number(key).map(bytes);
    let count = |key, what: &str| number(key).map(|n| format!("{n} {what}"));
    let mut facts = Vec::new();
    facts.extend(count("estimatedSeries", "series match"));
    facts.extend(count("estimatedSamples", "samples or so"));
    if number("calls") == Some(0) && field(tree, "executionTime") == "0s" {
        facts.push("done by the operator above".to_owned());
    } else if tree.get("executionTime").is_some() {
        let time = text(field(tree, "executionTime"));
        facts.push(format!("{time}, {} itself", text(field(tree, "selfTime"))));
        facts.extend(count("samples", "values"));
        facts.extend(size("bytes"));
    }
    facts.extend(count("series", "series"));
    facts.extend(count("chunks", "chunks"));
    facts.extend(size("chunkBytes").map(|size| format!("{size} encoded")));
    facts.extend(count("samplesRead", "samples decoded"));
    let indent = " ".repeat(2 * depth);
    let facts = if facts.is_empty() {
        String::new()
    } else {
        format!("  [{}]", facts.join(", "))
    };
    lines.push(format!("{indent}{}{facts}", text(field(tree, "name"))));
    for child in items(field(tree, "children")) {
        operator(child, depth + 1, lines);
    }
}

/// Bytes in powers of 1024.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut scaled, mut rest, mut unit) = (n, 0, 0);
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        (scaled, rest, unit) = (scaled / 1024, scaled % 1024, unit + 1);
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        return format!("{scaled} {name}");
    }
    format!("{scaled}.{} {name}", rest * 10 / 1024)
}

/// What stands under `key`; null when nothing does.
fn field<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

/// What stands in place `n`; null when nothing does.
fn nth(value: &Value, n: usize) -> &Value {
    value.get(n).unwrap_or(&Value::Null)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `value @[timestamp]`
fn sample(pair: &Value) -> String {
    format!("{} @[{}]", text(nth(pair, 1)), nth(pair, 0))
}

/// `name{label="value"}`
fn series(labels: &Value) -> String {
    let mut name = String::new();
    let mut pairs = Vec::new();
    for (label, value) in labels.as_object().into_iter().flatten() {
        if label == "__name__" {
            name = text(value);
        } else {
            pairs.push(format!("{label}={value}"));
        }
    }
    if pairs.is_empty() && !name.is_empty() {
        return name;
    }
    format!("{name}{{{}}}", pairs.join(", "))
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data: &str, expect: &[&str]) {
        assert_eq!(lines(&serde_json::from_str(data).unwrap()), expect);
    }

    #[test]
    fn a_vector_is_one_line_a_series() {
        let data = r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1.5,"1"]}]}"#;
        check(data, &[r#"up{job="a"} => 1 @[1.5]"#]);
    }

    #[test]
    fn a_matrix_is_one_line_a_sample_under_its_series() {
        let data =
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"NaN"]]}]}"#;
        check(data, &["{} =>", "1 @[1]", "NaN @[2]"]);
    }

    #[test]
    fn a_plan_is_a_tree_of_operators_with_units() {
        check(
            r#"{"name":"call rate","children":[{"name":"range 5m of #0 m[5m]","estimatedSeries":3,"estimatedSamples":360}]}"#,
            &[
                "call rate",
                "  range 5m of #0 m[5m]  [3 series match, 360 samples or so]",
            ],
        );
        check(
            r#"{"resultType":"vector","result":[],"analysis":{"name":"call rate","calls":1,"executionTime":"2.5ms",
            "selfTime":"2.5ms","selectTime":"0s","series":4,"samples":8,"bytes":2048,"children":[{"name":"range #0 m",
            "calls":0,"executionTime":"0s","selfTime":"0s","series":4,"samples":0,"bytes":0,"samplesRead":99,"chunks":5,
            "chunkBytes":1536}]}}"#,
            &[
                "call rate  [2.5ms, 2.5ms itself, 8 values, 2.0 KiB, 4 series]",
                "  range #0 m  [done by the operator above, 4 series, 5 chunks, 1.5 KiB encoded, 99 samples decoded]",
            ],
        );
    }

    #[test]
    fn scalars_strings_series_and_labels_are_printed_plainly() {
        check(r#"{"resultType":"scalar","result":[1,"2"]}"#, &["2 @[1]"]);
        check(r#"{"resultType":"string","result":[1,"a b"]}"#, &["a b"]);
        check(r#"[{"__name__":"up"},{"a":"b"}]"#, &["up", r#"{a="b"}"#]);
        check(r#"["job","instance"]"#, &["job", "instance"]);
    }
}
