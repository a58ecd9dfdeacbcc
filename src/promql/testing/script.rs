//! The script language: `clear`, `load`, `eval`, and what an `eval` expects.
//!
//! Strict: a line that is not understood is an error, never skipped.

use std::fmt;

use regex::Regex;

use crate::model::duration::parse_duration_ms;
use crate::model::{Labels, TimestampMs};
use crate::promql::parse::unquote;
use crate::promql::testing::series::{SequenceValue, parse_number, parse_series, split_metric};
use crate::promql::testing::start_time::parse_start_offsets;

/// A line of a script that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ScriptError {
    /// From one.
    pub line: usize,
    /// Why.
    pub reason: String,
}

/// One step of a script.
#[derive(Debug, Clone)]
pub enum Command {
    /// Forget all series.
    Clear,
    /// Add series.
    Load(Load),
    /// Ask and compare.
    Eval(Box<EvalCase>),
}

/// Series to add; value `i` stands at `i * step_ms`.
#[derive(Debug, Clone)]
pub struct Load {
    /// Line of the command.
    pub line: usize,
    /// Distance of values.
    pub step_ms: i64,
    /// Classic histograms come as native ones, too.
    pub with_native_histograms: bool,
    /// What to add.
    pub series: Vec<LoadSeries>,
}

/// One series to add.
#[derive(Debug, Clone)]
pub struct LoadSeries {
    /// Who.
    pub labels: Labels,
    /// What.
    pub values: Vec<SequenceValue>,
    /// For each value, when its counter began, relative to the value's time.
    pub start_offsets: Option<Vec<Option<i64>>>,
}

/// When to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EvalTime {
    /// At one time.
    Instant(TimestampMs),
    /// At many.
    Range(Times),
}

/// `start`, `start + step_ms`, … up to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// First.
    pub start: TimestampMs,
    /// Last, at most.
    pub end: TimestampMs,
    /// Distance.
    pub step_ms: i64,
}

/// What a message has to be.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Anything.
    Any,
    /// Exactly this.
    Text(String),
    /// Something that matches.
    Pattern(Regex),
}

impl Wanted {
    /// Is `message` what was wanted?
    pub fn accepts(&self, message: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(text) => text == message,
            Self::Pattern(pattern) => pattern.is_match(message),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Pattern(pattern) => write!(f, "what matches {pattern}"),
        }
    }
}

/// What is said about warnings, or about infos.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    /// Each has to be met by one message, and each message has to meet one.
    pub wanted: Vec<Wanted>,
    /// There have to be none.
    pub forbidden: bool,
}

/// The result an `eval` expects.
#[derive(Debug, Clone)]
pub enum Expected {
    /// One number.
    Scalar(f64),
    /// One text.
    Text(String),
    /// Series in the order written; values from `start` on, `step_ms` apart.
    Series(Vec<(Labels, Vec<SequenceValue>)>),
}

/// One question with its answer.
#[derive(Debug, Clone)]
pub struct EvalCase {
    /// Line of the command.
    pub line: usize,
    /// The query.
    pub expr: String,
    /// When.
    pub time: EvalTime,
    /// The order of the result counts.
    pub ordered: bool,
    /// The query has to fail, this way.
    pub fail: Option<Wanted>,
    /// About warnings.
    pub warnings: Annotations,
    /// About infos.
    pub infos: Annotations,
    /// The result is a range vector over these times.
    pub range_vector: Option<Times>,
    /// The result.
    pub expected: Expected,
}

/// Reads a whole script.
pub fn parse_script(text: &str) -> Result<Vec<Command>, ScriptError> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .map(|line| if line.starts_with('#') { "" } else { line })
        .collect();
    let mut commands = Vec::new();
    let mut rest = lines.iter().copied().enumerate().peekable();
    while let Some((number, head)) = rest.next() {
        if head.is_empty() {
            continue;
        }
        let mut block = Vec::new();
        let is_block = !head.eq_ignore_ascii_case("clear");
        while let Some((number, line)) = rest.next_if(|(_, line)| {
            // A blank line ends a block, and so does what can only be the next command.
            is_block && !line.is_empty() && !is_command(line)
        }) {
            block.push((number + 1, line));
        }
        commands.push(parse_command(number + 1, head, &block)?);
    }
    Ok(commands)
}

/// No series has these words for its values.
fn is_command(line: &str) -> bool {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("load" | "load_with_nhcb") => words
            .next()
            .is_some_and(|step| parse_duration_ms(step).is_ok_and(|ms| ms > 0)),
        Some(word) if word.starts_with("eval") => matches!(words.next(), Some("instant" | "range")),
        Some(_) | None => false,
    }
}

type Block<'a> = [(usize, &'a str)];

fn parse_command(line: usize, head: &str, block: &Block<'_>) -> Result<Command, ScriptError> {
    let word = head.split_whitespace().next().unwrap_or_default();
    let lower = word.to_ascii_lowercase();
    if lower == "clear" {
        return Ok(Command::Clear);
    }
    if lower.starts_with("load") {
        return parse_load(line, head, block).map(Command::Load);
    }
    if lower.starts_with("eval") {
        return parse_eval(line, head, block).map(|case| Command::Eval(Box::new(case)));
    }
    fail(line, format!("invalid command {head:?}"))
}

fn fail<T>(line: usize, reason: impl Into<String>) -> Result<T, ScriptError> {
    Err(ScriptError {
        line,
        reason: reason.into(),
    })
}

fn duration(line: usize, text: &str) -> Result<i64, ScriptError> {
    parse_duration_ms(text).map_err(|error| ScriptError {
        line,
        reason: error.to_string(),
    })
}

fn parse_load(line: usize, head: &str, block: &Block<'_>) -> Result<Load, ScriptError> {
    let words: Vec<&str> = head.split_whitespace().collect();
    let (with_native_histograms, step) = match words.as_slice() {
        ["load", step] => (false, *step),
        ["load_with_nhcb", step] => (true, *step),
        _ => return fail(line, "a load is `load <step>` or `load_with_nhcb <step>`"),
    };
    let step_ms = duration(line, step)?;
    let mut series = Vec::new();
    let mut pending: Option<(usize, Labels, Vec<Option<i64>>)> = None;
    for (line, text) in block {
        let wrong = |reason: String| ScriptError {
            line: *line,
            reason,
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        if let Some(metric) = first.strip_suffix("@st") {
            if pending.is_some() {
                return fail(*line, "two @st lines in a row");
            }
            let (labels, _) = split_metric(metric).map_err(wrong)?;
            let offsets = text.get(first.len()..).unwrap_or_default();
            let offsets = parse_start_offsets(offsets).map_err(wrong)?;
            pending = Some((*line, labels, offsets));
            continue;
        }
        let (labels, values) = parse_series(text).map_err(wrong)?;
        let start_offsets = match pending.take() {
            None => None,
            Some((at, for_labels, offsets)) => {
                if for_labels != labels || offsets.len() != values.len() {
                    return fail(at, "@st line does not fit the series behind it");
                }
                Some(offsets)
            }
        };
        series.push(LoadSeries {
            labels,
            values,
            start_offsets,
        });
    }
    if let Some((at, ..)) = pending {
        return fail(at, "@st line without a series behind it");
    }
    Ok(Load {
        line,
        step_ms,
        with_native_histograms,
        series,
    })
}

/// Takes the first word off `text`.
fn word<'a>(text: &mut &'a str) -> &'a str {
    let trimmed = text.trim_start();
    let end = trimmed.find(char::is_whitespace).unwrap_or(trimmed.len());
    let (first, rest) = trimmed.split_at_checked(end).unwrap_or((trimmed, ""));
    *text = rest.trim_start();
    first
}

fn parse_eval(line: usize, head: &str, block: &Block<'_>) -> Result<EvalCase, ScriptError> {
    let mut rest = head;
    let command = word(&mut rest);
    let time = eval_time(line, &mut rest)?;
    if rest.is_empty() {
        return fail(line, "eval without a query");
    }
    let mut case = EvalCase {
        line,
        expr: rest.to_owned(),
        time,
        ordered: false,
        fail: None,
        warnings: Annotations::default(),
        infos: Annotations::default(),
        range_vector: None,
        expected: Expected::Series(Vec::new()),
    };
    let is_instant = matches!(time, EvalTime::Instant(_));
    match command {
        "eval" => (),
        "eval_fail" => case.fail = Some(Wanted::Any),
        "eval_warn" => case.warnings.wanted.push(Wanted::Any),
        "eval_info" => case.infos.wanted.push(Wanted::Any),
        "eval_ordered" if is_instant => case.ordered = true,
        _ => return fail(line, format!("invalid command {command:?}")),
    }
    let is_legacy_fail = case.fail.is_some();
    for (number, text) in block {
        expectation(&mut case, *number, text, is_legacy_fail)?;
    }
    if case.ordered && !is_instant {
        return fail(
            line,
            "the order of a range query's result is always by labels",
        );
    }
    Ok(case)
}

fn eval_time(line: usize, rest: &mut &str) -> Result<EvalTime, ScriptError> {
    let expect = |rest: &mut &str, wanted: &str| match word(rest) {
        found if found == wanted => Ok(()),
        found => fail(line, format!("expected `{wanted}`, found {found:?}")),
    };
    match word(rest) {
        "instant" => {
            expect(rest, "at")?;
            Ok(EvalTime::Instant(duration(line, word(rest))?))
        }
        "range" => {
            expect(rest, "from")?;
            let start = duration(line, word(rest))?;
            expect(rest, "to")?;
            let end = duration(line, word(rest))?;
            expect(rest, "step")?;
            let step_ms = duration(line, word(rest))?;
            if end < start {
                return fail(line, "the range ends before it starts");
            }
            Ok(EvalTime::Range(Times {
                start,
                end,
                step_ms,
            }))
        }
        found => fail(
            line,
            format!("expected `instant` or `range`, found {found:?}"),
        ),
    }
}

fn expectation(
    case: &mut EvalCase,
    line: usize,
    text: &str,
    is_legacy_fail: bool,
) -> Result<(), ScriptError> {
    if let Some(message) = text
        .strip_prefix("expected_fail_message")
        .filter(|_| is_legacy_fail)
    {
        case.fail = Some(Wanted::Text(message.trim().to_owned()));
        return Ok(());
    }
    if let Some(pattern) = text
        .strip_prefix("expected_fail_regexp")
        .filter(|_| is_legacy_fail)
    {
        case.fail = Some(pattern_of(line, pattern)?);
        return Ok(());
    }
    let mut rest = text;
    if word(&mut rest) == "expect" {
        return expect_line(case, line, rest);
    }
    let Expected::Series(series) = &mut case.expected else {
        return fail(line, "nothing may follow a scalar or a string");
    };
    if let Some(value) = parse_number(text) {
        if !series.is_empty() {
            return fail(line, "a scalar among series");
        }
        case.expected = Expected::Scalar(value);
        return Ok(());
    }
    let (labels, values) = parse_series(text).map_err(|reason| ScriptError { line, reason })?;
    let is_instant = matches!(case.time, EvalTime::Instant(_));
    if is_instant && case.range_vector.is_none() && values.len() != 1 {
        return fail(line, "an instant query's series has one value");
    }
    if series.iter().any(|(known, _)| *known == labels) {
        return fail(line, format!("series {labels} is expected twice"));
    }
    series.push((labels, values));
    Ok(())
}

fn pattern_of(line: usize, pattern: &str) -> Result<Wanted, ScriptError> {
    Regex::new(pattern.trim())
        .map(Wanted::Pattern)
        .map_err(|error| ScriptError {
            line,
            reason: error.to_string(),
        })
}

/// What follows `expect`.
fn expect_line(case: &mut EvalCase, line: usize, text: &str) -> Result<(), ScriptError> {
    let mut rest = text;
    let what = word(&mut rest);
    if what == "string" {
        let value = unquote(rest).filter(|_| rest.len() >= 2 && !rest.starts_with('\''));
        let Some(value) = value else {
            return fail(line, "expected a quoted string");
        };
        case.expected = Expected::Text(value);
        return Ok(());
    }
    if what == "range" {
        if word(&mut rest) != "vector" {
            return fail(line, "expected `range vector`");
        }
        let mut as_eval = format!("range {rest}");
        as_eval.push(' ');
        let EvalTime::Range(times) = eval_time(line, &mut as_eval.as_str())? else {
            return fail(line, "expected a range");
        };
        case.range_vector = Some(times);
        return Ok(());
    }
    let wanted = if rest.is_empty() {
        Wanted::Any
    } else if let Some(message) = rest.strip_prefix("msg:") {
        Wanted::Text(message.trim().to_owned())
    } else if let Some(pattern) = rest.strip_prefix("regex:") {
        pattern_of(line, pattern)?
    } else {
        return fail(line, format!("expected `msg:` or `regex:`, found {rest:?}"));
    };
    match what {
        "ordered" => case.ordered = true,
        "fail" if case.fail.is_some() => return fail(line, "a query fails once"),
        "fail" => case.fail = Some(wanted),
        "warn" => case.warnings.wanted.push(wanted),
        "info" => case.infos.wanted.push(wanted),
        "no_warn" => case.warnings.forbidden = true,
        "no_info" => case.infos.forbidden = true,
        _ => return fail(line, format!("nothing is called {what:?} here")),
    }
    let is_contradiction = |said: &Annotations| said.forbidden && !said.wanted.is_empty();
    if is_contradiction(&case.warnings) || is_contradiction(&case.infos) {
        return fail(line, "wanted and forbidden at once");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "
clear
load 1m
  a{b=\"c\"}@st _ -30s
  a{b=\"c\"}    1 2

# said first
eval instant at 1m a # not a comment of the script
  expect ordered
  expect warn msg: said
  expect no_info
  a{b=\"c\"} 2
load 5m
  d 1x3
eval range from 0 to 10m step 5m d
  d 1 1 1
eval_fail instant at 0 e
  expected_fail_message no

eval instant at 1m 1
  1
";

    #[test]
    fn a_script_is_read_command_by_command() {
        let commands = parse_script(SCRIPT).unwrap();
        let shown: Vec<String> = commands
            .iter()
            .map(|command| match command {
                Command::Clear => "clear".to_owned(),
                Command::Load(load) => format!("load {} {}", load.line, load.series.len()),
                Command::Eval(case) => format!("eval {} {}", case.line, case.expr),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "clear",
                "load 3 1",
                "eval 8 a # not a comment of the script",
                "load 13 1",
                "eval 15 d",
                "eval 17 e",
                "eval 20 1"
            ]
        );
        let Command::Eval(case) = &commands[2] else {
            panic!("{commands:?}");
        };
        assert!(case.ordered && case.infos.forbidden);
        assert!(case.warnings.wanted[0].accepts("said"));
        assert!(!case.warnings.wanted[0].accepts("said so"));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        for (text, line) in [
            ("nonsense", 1),
            ("\nload", 2),
            ("load 1m 2m", 1),
            ("load x\n a 1", 1),
            ("load 1m\n a 1\n b one", 3),
            ("load 1m\n a@st _\n b 1", 2),
            ("load 1m\n a@st _", 2),
            ("eval instant 1m a", 1),
            ("eval instant at 1m", 1),
            ("eval at 1m a", 1),
            ("eval range from 1m to 0s step 1m a", 1),
            ("eval instant at 0 a\n expect", 2),
            ("eval instant at 0 a\n expect warnings", 2),
            ("eval instant at 0 a\n expect warn text: x", 2),
            ("eval instant at 0 a\n expect warn\n expect no_warn", 3),
            ("eval instant at 0 a\n expect fail\n expect fail", 3),
            ("eval instant at 0 a\n expect warn regex: (", 2),
            ("eval instant at 0 a\n expect string a", 2),
            ("eval instant at 0 a\n expect range vector from 1 to", 2),
            ("eval instant at 0 a\n {} 1 2", 2),
            ("eval instant at 0 a\n {} 1\n {} 2", 3),
            ("eval instant at 0 a\n {} 1\n 2", 3),
            ("eval instant at 0 a\n 1\n 2", 3),
            ("eval range from 0 to 1m step 1m a\n expect ordered", 1),
            ("eval_odd instant at 0 a", 1),
        ] {
            match parse_script(text) {
                Ok(commands) => panic!("{text}: {commands:?}"),
                Err(error) => assert_eq!(error.line, line, "{text}: {error}"),
            }
        }
    }
}
