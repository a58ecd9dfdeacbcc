//! What both text formats are made of: quoted strings, names, numbers, escapes.

use std::borrow::Cow;
use std::ops::Range;

use crate::exposition::entry::{LabelBuffer, ParseError};
use crate::model::number::{format_openmetrics, parse_go_float};
use crate::model::{METRIC_NAME, MetricType, NORMAL_NAN_BITS};

/// Bytes of the input that an error message repeats.
const QUOTED_BYTES_MAX: usize = 80;

/// A place in the input and the way forward.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    input: &'a [u8],
    /// Next byte.
    pub(super) at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// The next byte, `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// Nothing left?
    pub(super) fn is_at_end(&self) -> bool {
        self.input.len() <= self.at
    }

    /// Skips `text` if it is next.
    pub(super) fn skip(&mut self, text: &[u8]) -> bool {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let found = rest.starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Skips a series that stands at `start` exactly as `known`, which was read as a series before, if a value follows.
    ///
    /// What ends a series stands in it, but for a bare name: labels may follow that behind blanks.
    pub(super) fn skip_known(&mut self, start: usize, known: &str) -> Option<&'a str> {
        let rest = self.input.get(start..)?;
        let (series, rest) = rest.split_at_checked(known.len())?;
        if known.is_empty() || series != known.as_bytes() {
            return None;
        }
        let [b' ', first, ..] = rest else {
            return None;
        };
        if matches!(first, b'{' | b' ' | b'\t') {
            return None;
        }
        self.at = start + known.len();
        str::from_utf8(series).ok()
    }

    /// Skips while `wanted` holds and tells from where to where.
    pub(super) fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) -> Range<usize> {
        let start = self.at;
        let rest = self.input.get(start..).unwrap_or_default();
        self.at += rest.iter().position(|b| !wanted(*b)).unwrap_or(rest.len());
        start..self.at
    }

    /// Skips spaces and tabs.
    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Skips to the newline or the end and tells from where to where.
    pub(super) fn skip_line(&mut self) -> Range<usize> {
        let start = self.at;
        let rest = self.input.get(start..).unwrap_or_default();
        self.at += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        start..self.at
    }

    /// Skips a string in double quotes and gives what is between them; `None` when there is none here.
    pub(super) fn quoted(&mut self, may_hold_newlines: bool) -> Option<Range<usize>> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at + 1;
        let mut at = start;
        loop {
            let rest = self.input.get(at..)?;
            let found = memchr::memchr2(b'"', b'\\', rest)?;
            let here = at + found;
            if !may_hold_newlines && memchr::memchr(b'\n', rest.get(..found)?).is_some() {
                return None;
            }
            if self.input.get(here) == Some(&b'"') {
                self.at = here + 1;
                return Some(start..here);
            }
            if matches!(self.input.get(here + 1), None | Some(b'\n')) {
                return None;
            }
            at = here + 2;
        }
    }

    /// The name that a line of metadata is about, bare or in quotes.
    pub(super) fn metric_name_after(&mut self, keyword: &str) -> Result<&'a str, ParseError> {
        let name = match self.peek() {
            Some(b'"') => self.quoted(true),
            Some(b) if is_metric_start(b) => Some(self.skip_while(is_metric_byte)),
            _ => None,
        };
        match name {
            Some(name) => self.text(name, "metric name"),
            None => Err(self.unexpected(&format!("expected metric name after {keyword}"))),
        }
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &'a [u8] {
        self.input.get(range).unwrap_or_default()
    }

    /// The text of `range`, or an error that names the first byte that is not UTF-8.
    pub(super) fn text(&self, range: Range<usize>, what: &str) -> Result<&'a str, ParseError> {
        let start = range.start;
        str::from_utf8(self.bytes(range)).map_err(|error| {
            let place = start + error.valid_up_to();
            ParseError::at(self.input, place, format!("{what} is not valid UTF-8"))
        })
    }

    /// An error at the next byte, which it shows.
    pub(super) fn unexpected(&self, expected: &str) -> ParseError {
        let got = match self.peek() {
            None => "end of input".to_owned(),
            Some(b'\n') => "end of line".to_owned(),
            Some(byte) => format!("\"{}\"", byte.escape_ascii()),
        };
        self.error(self.at, format!("{expected}, got {got}"))
    }

    pub(super) fn error(&self, offset: usize, message: String) -> ParseError {
        ParseError::at(self.input, offset, message)
    }

    /// The value written in `range`.
    pub(super) fn float(&self, range: Range<usize>) -> Result<f64, ParseError> {
        let start = range.start;
        let bytes = self.bytes(range);
        parse_float(bytes).map_err(|reason| {
            let shown = bytes.get(..QUOTED_BYTES_MAX).unwrap_or(bytes);
            self.error(
                start,
                format!("parsing \"{}\": {reason}", shown.escape_ascii()),
            )
        })
    }
}

/// Go's float syntax without the parts that came with Go 1.13 (`p` exponents, underscores); any NaN is the normal one.
fn parse_float(bytes: &[u8]) -> Result<f64, &'static str> {
    const INVALID: &str = "invalid syntax";
    if bytes.iter().any(|b| matches!(b, b'p' | b'P' | b'_')) {
        return Err("unsupported character in float");
    }
    let text = str::from_utf8(bytes).map_err(|_not_utf8| INVALID)?;
    let v = match bytes {
        // The short way for nearly every sample; what Go reads otherwise does not start like this.
        [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => text.parse().ok(),
        _ => parse_go_float(text),
    }
    .ok_or(INVALID)?;
    if v.is_nan() {
        return Ok(f64::from_bits(NORMAL_NAN_BITS));
    }
    if v.is_infinite() && bytes.iter().any(u8::is_ascii_digit) {
        return Err("value out of range");
    }
    Ok(v)
}

/// May `b` start a label name?
pub(super) fn is_label_start(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphabetic()
}

/// May `b` stand inside a label name?
pub(super) fn is_label_byte(b: u8) -> bool {
    is_label_start(b) || b.is_ascii_digit()
}

/// May `b` start a metric name?
pub(super) fn is_metric_start(b: u8) -> bool {
    b == b':' || is_label_start(b)
}

/// May `b` stand inside a metric name?
pub(super) fn is_metric_byte(b: u8) -> bool {
    b == b':' || is_label_byte(b)
}

/// Where the parts of one series stand in the input.
#[derive(Debug, Clone, Default)]
pub(super) struct SeriesSpans {
    /// The metric name without quotes.
    pub(super) name: Option<Range<usize>>,
    /// Names and values without quotes.
    pub(super) labels: Vec<(Range<usize>, Range<usize>)>,
}

impl SeriesSpans {
    pub(super) fn clear(&mut self) {
        self.name = None;
        self.labels.clear();
    }

    /// Writes the labels, unescaped and sorted; bounds of buckets and quantiles as OpenMetrics writes them.
    pub(super) fn fill(
        &self,
        scanner: &Scanner<'_>,
        metric_type: MetricType,
        out: &mut LabelBuffer,
    ) {
        // The series was checked to be UTF-8 when it was yielded.
        let text =
            |range: &Range<usize>| str::from_utf8(scanner.bytes(range.clone())).unwrap_or_default();
        out.clear();
        if let Some(name) = &self.name {
            out.push_with(
                |arena| arena.push_str(METRIC_NAME),
                |arena| push_unescaped(arena, text(name), true),
            );
        }
        for (name, value) in &self.labels {
            let (name, value) = (text(name), text(value));
            let is_bound = matches!(
                (metric_type, name),
                (MetricType::Histogram, "le") | (MetricType::Summary, "quantile")
            );
            let bound = is_bound
                .then(|| parse_go_float(value))
                .flatten()
                .map(format_openmetrics);
            out.push_with(
                |arena| push_unescaped(arena, name, true),
                |arena| match &bound {
                    Some(bound) => arena.push_str(bound),
                    None => push_unescaped(arena, value, true),
                },
            );
        }
        out.sort();
    }
}

/// Resolves `\\` and `\n`, and `\"` where quotes are escaped; any other backslash stays.
pub(super) fn push_unescaped(out: &mut String, text: &str, has_quotes: bool) {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        rest = match after.as_bytes() {
            [b'\\', ..] => {
                out.push('\\');
                after.get(1..).unwrap_or_default()
            }
            [b'n', ..] => {
                out.push('\n');
                after.get(1..).unwrap_or_default()
            }
            [b'"', ..] if has_quotes => {
                out.push('"');
                after.get(1..).unwrap_or_default()
            }
            _ => {
                out.push('\\');
                after
            }
        };
    }
    out.push_str(rest);
}

/// The same for text that mostly has nothing to resolve.
pub(super) fn unescaped(text: &str, has_quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    push_unescaped(&mut out, text, has_quotes);
    Cow::Owned(out)
}
