//! What the parsers yield.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use crate::exposition::classic::HistogramSample;
use crate::foundation::proto::ProtoError;
use crate::model::{Label, Labels, LabelsError, METRIC_NAME, MetricType, TimestampMs};

/// Why an exposition ends here. Everything before the place was yielded already.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} at {place}")]
pub struct ParseError {
    /// What was expected, and what was there.
    pub message: String,
    /// Where.
    pub place: Place,
}

/// A place in an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a text.
    Line {
        /// First line is 1.
        line: usize,
        /// Bytes from the start of the line; the first is 1.
        column: usize,
    },
    /// In what is not text: bytes from its start.
    Offset(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, column } => write!(f, "line {line}, column {column}"),
            Self::Offset(offset) => write!(f, "offset {offset}"),
        }
    }
}

impl From<ProtoError> for ParseError {
    fn from(error: ProtoError) -> Self {
        Self::at_offset(
            error.offset,
            format!("protobuf: {} in {}", error.message, error.what),
        )
    }
}

impl ParseError {
    /// Counts lines up to `offset`, which is cheap enough for something that happens once.
    pub(super) fn at(input: &[u8], offset: usize, message: String) -> Self {
        let before = input.get(..offset.min(input.len())).unwrap_or_default();
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            message,
            place: Place::Line {
                line: memchr::memchr_iter(b'\n', before).count() + 1,
                column: before.len() - line_start + 1,
            },
        }
    }

    /// In what is not text.
    pub(super) fn at_offset(offset: usize, message: String) -> Self {
        let place = Place::Offset(offset);
        Self { message, place }
    }
}

/// One line that means something.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// `# TYPE name type`
    Type {
        /// The metric family, without quotes, escapes as written.
        name: &'a str,
        /// What it is.
        metric_type: MetricType,
    },
    /// `# HELP name text`
    Help {
        /// The metric family, without quotes, escapes as written.
        name: &'a str,
        /// Unescaped.
        help: Cow<'a, str>,
    },
    /// `# UNIT name unit`
    Unit {
        /// The metric family, without quotes, escapes as written.
        name: &'a str,
        /// As written.
        unit: &'a str,
    },
    /// Any other line that starts with `#`.
    Comment,
    /// A sample.
    Series(SeriesLine<'a>),
    /// A native histogram.
    Histogram(HistogramLine),
}

/// A native histogram and when it was taken, its labels still as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramLine {
    /// The histogram.
    pub sample: Box<HistogramSample>,
    /// The timestamp, where the target gave one.
    pub t: Option<TimestampMs>,
}

/// A sample, its labels still as they were written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeriesLine<'a> {
    /// Name and labels exactly as written: equal texts in one exposition format mean equal series.
    pub text: &'a str,
    /// The value; any NaN is the normal NaN.
    pub v: f64,
    /// The timestamp, where the target gave one.
    pub t: Option<TimestampMs>,
}

/// A sample with a reference to a trace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exemplar {
    /// Usually one label, the trace's id.
    pub labels: LabelBuffer,
    /// The value that was observed.
    pub v: f64,
    /// When, if the target said so.
    pub t: Option<TimestampMs>,
}

/// Labels of one line, sorted by name; kept by the caller and filled again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelBuffer {
    arena: String,
    spans: Vec<Span>,
}

/// Where a name starts, where it ends and the value starts, and where the value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    middle: usize,
    end: usize,
}

impl LabelBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the labels and keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.spans.clear();
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// No labels at all?
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The labels in name order once the parser has filled the buffer.
    pub fn iter(&self) -> impl Iterator<Item = Label<'_>> {
        self.spans.iter().map(|span| self.pair(*span))
    }

    /// The value of `name`, empty where it is absent.
    pub fn value(&self, name: &str) -> &str {
        self.iter()
            .find(|(here, _)| *here == name)
            .map_or("", |(_, value)| value)
    }

    /// The value of `__name__`.
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }

    /// A name that is there twice, if there is one.
    pub fn duplicate(&self) -> Option<&str> {
        self.iter()
            .zip(self.iter().skip(1))
            .find(|((left, _), (right, _))| left == right)
            .map(|((name, _), _)| name)
    }

    /// The finished set.
    pub fn to_labels(&self) -> Result<Labels, LabelsError> {
        let pairs: Vec<Label<'_>> = self.iter().collect();
        Labels::from_sorted(&pairs)
    }

    /// Adds a label; `name` and `value` write themselves into the buffer.
    pub(super) fn push_with(
        &mut self,
        name: impl FnOnce(&mut String),
        value: impl FnOnce(&mut String),
    ) {
        let start = self.arena.len();
        name(&mut self.arena);
        let middle = self.arena.len();
        value(&mut self.arena);
        let end = self.arena.len();
        self.spans.push(Span { start, middle, end });
    }

    pub(super) fn sort(&mut self) {
        let arena = &self.arena;
        let name = |span: &Span| arena.get(span.start..span.middle).unwrap_or_default();
        self.spans
            .sort_by(|left, right| name(left).cmp(name(right)));
    }

    fn pair(&self, span: Span) -> Label<'_> {
        let name = self.arena.get(span.start..span.middle);
        let value = self.arena.get(span.middle..span.end);
        (name.unwrap_or_default(), value.unwrap_or_default())
    }
}

/// Appends `part` so that what follows can be no part of it: equal keys are made of equal parts.
pub(super) fn push_key(key: &mut String, part: &str) {
    const DIGITS: usize = 64;
    let mut rest = part.len();
    loop {
        // The last digit is marked, so a length ends where it ends.
        let (digit, is_last) = (rest % DIGITS, rest < DIGITS);
        let digit = u8::try_from(digit + if is_last { DIGITS } else { 0 }).unwrap_or(0);
        key.push(char::from(digit));
        rest /= DIGITS;
        if is_last {
            break;
        }
    }
    key.push_str(part);
}
