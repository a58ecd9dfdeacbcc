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
            Self::Instant { expression, time } => {
                let mut parameters = vec![("query", expression.clone())];
                parameters.extend(time.clone().map(|time| ("time", time)));
                ("/api/v1/query".to_owned(), parameters)
            }
            Self::Range {
                expression,
                start,
                end,
                step,
            } => {
                let now = SystemClock.now_ms() / 1000;
                let end = end.clone().unwrap_or_else(|| now.to_string());
                let start = start.clone().unwrap_or_else(|| (now - 3600).to_string());
                let parameters = vec![
                    ("query", expression.clone()),
                    ("start", start),
                    ("end", end),
                    ("step", step.clone()),
                ];
                ("/api/v1/query_range".to_owned(), parameters)
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
    fn scalars_strings_series_and_labels_are_printed_plainly() {
        check(r#"{"resultType":"scalar","result":[1,"2"]}"#, &["2 @[1]"]);
        check(r#"{"resultType":"string","result":[1,"a b"]}"#, &["a b"]);
        check(r#"[{"__name__":"up"},{"a":"b"}]"#, &["up", r#"{a="b"}"#]);
        check(r#"["job","instance"]"#, &["job", "instance"]);
    }
}
