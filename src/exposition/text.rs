//! The Prometheus text format, 0.0.4 and 1.0.0.
//!
//! Takes exactly what Prometheus takes, oddities included: blanks and blank lines anywhere, a zero byte at the start
//! of a line as the end, newlines inside label values, blanks before a name as a part of it.

use crate::exposition::entry::{Entry, LabelBuffer, ParseError, SeriesLine};
use crate::exposition::scan::{
    Scanner, SeriesSpans, is_label_byte, is_label_start, is_metric_byte, is_metric_start, unescaped,
};
use crate::model::{MetricType, TimestampMs};

/// Pulls entries out of a text exposition.
#[derive(Debug, Clone)]
pub struct TextParser<'a> {
    scanner: Scanner<'a>,
    spans: SeriesSpans,
    metric_type: MetricType,
    /// The line of a series whose spans were not looked for: its start, and that of its name.
    unread: Option<(usize, usize)>,
}

impl<'a> TextParser<'a> {
    /// Starts at the first line.
    pub fn new(input: &'a [u8]) -> Self {
        Self {
            scanner: Scanner::new(input),
            spans: SeriesSpans::default(),
            metric_type: MetricType::Unknown,
            unread: None,
        }
    }

    /// The next entry; `None` at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.next_entry_like("")
    }

    /// The same, faster if it is a series that is written as `known`, which this format has yielded before.
    pub fn next_entry_like(&mut self, known: &str) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            if self.scanner.is_at_end() {
                return Ok(None);
            }
            let start = self.scanner.at;
            self.scanner.skip_blanks();
            match self.scanner.peek() {
                None | Some(0) => return Ok(None),
                Some(b'\n') => self.scanner.at += 1,
                Some(b'#') => return self.comment(),
                Some(b'{') => return self.series(start, known).map(Some),
                Some(b) if is_metric_start(b) => return self.series(start, known).map(Some),
                Some(_) => return Err(self.scanner.unexpected("expected a valid start token")),
            }
        }
    }

    /// Writes the labels of the series that was yielded last.
    pub fn labels(&self, out: &mut LabelBuffer) {
        let Some((start, name)) = self.unread else {
            return self.spans.fill(&self.scanner, self.metric_type, out);
        };
        let mut again = self.clone();
        again.scanner.at = name;
        if again.series(start, "").is_ok() {
            again.labels(out);
        }
    }

    fn comment(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.scanner.at += 1;
        let is_spaced = matches!(self.scanner.peek(), Some(b' ' | b'\t'));
        if is_spaced {
            self.scanner.skip_blanks();
            let before = self.scanner.at;
            if self.scanner.skip(b"HELP") && self.has_blank() {
                return self.metadata("HELP").map(Some);
            }
            self.scanner.at = before;
            if self.scanner.skip(b"TYPE") && self.has_blank() {
                return self.metadata("TYPE").map(Some);
            }
        }
        let line = self.scanner.skip_line();
        if !is_spaced && self.scanner.bytes(line).contains(&0) {
            return Ok(None);
        }
        self.scanner.at += 1;
        Ok(Some(Entry::Comment))
    }

    fn has_blank(&self) -> bool {
        matches!(self.scanner.peek(), Some(b' ' | b'\t'))
    }

    /// The name and the rest of a `# HELP` or `# TYPE` line.
    fn metadata(&mut self, keyword: &str) -> Result<Entry<'a>, ParseError> {
        self.scanner.skip_blanks();
        let name = self.scanner.metric_name_after(keyword)?;
        let line = self.scanner.skip_line();
        self.scanner.at += 1;
        // Blanks up to the end of the line are no text; of a text the first byte, a blank, is not part of it.
        let all = self.scanner.bytes(line.clone());
        let is_blank = all.iter().all(|b| matches!(b, b' ' | b'\t'));
        let start = if is_blank { line.end } else { line.start + 1 };
        let range = start.min(line.end)..line.end;
        if keyword == "HELP" {
            let help = unescaped(self.scanner.text(range, "help text")?, false);
            return Ok(Entry::Help { name, help });
        }
        self.metric_type = match self.scanner.bytes(range.clone()) {
            b"counter" => MetricType::Counter,
            b"gauge" => MetricType::Gauge,
            b"histogram" => MetricType::Histogram,
            b"summary" => MetricType::Summary,
            b"untyped" => MetricType::Unknown,
            other => {
                let message = format!("invalid metric type \"{}\"", other.escape_ascii());
                return Err(self.scanner.error(range.start, message));
            }
        };
        Ok(Entry::Type {
            name,
            metric_type: self.metric_type,
        })
    }

    fn series(&mut self, start: usize, known: &str) -> Result<Entry<'a>, ParseError> {
        self.spans.clear();
        let name = self.scanner.at;
        let text = match self.scanner.skip_known(start, known) {
            Some(text) => {
                self.unread = Some((start, name));
                text
            }
            None => {
                self.unread = None;
                self.series_text(start)?
            }
        };
        self.scanner.skip_blanks();
        let value = self
            .scanner
            .skip_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n' | 0));
        if value.is_empty() {
            return Err(self.scanner.unexpected("expected value after metric"));
        }
        let v = self.scanner.float(value)?;
        let t = self.timestamp()?;
        Ok(Entry::Series(SeriesLine { text, v, t }))
    }

    /// Name and labels.
    fn series_text(&mut self, start: usize) -> Result<&'a str, ParseError> {
        let mut end = start;
        if self.scanner.peek() != Some(b'{') {
            end = self.scanner.skip_while(is_metric_byte).end;
            self.spans.name = Some(start..end);
            self.scanner.skip_blanks();
        }
        if self.scanner.skip(b"{") {
            self.label_pairs()?;
            end = self.scanner.at;
        }
        let text = self.scanner.text(start..end, "series")?;
        if self.spans.name.is_none() {
            let message = "metric name not set".to_owned();
            return Err(self.scanner.error(start, message));
        }
        Ok(text)
    }

    /// What is between the braces, and the closing one.
    fn label_pairs(&mut self) -> Result<(), ParseError> {
        loop {
            self.scanner.skip_blanks();
            let place = self.scanner.at;
            let is_quoted = self.scanner.peek() == Some(b'"');
            let name = match self.scanner.peek() {
                Some(b'}') => {
                    self.scanner.at += 1;
                    return Ok(());
                }
                Some(b'"') => self.scanner.quoted(true),
                Some(b) if is_label_start(b) => Some(self.scanner.skip_while(is_label_byte)),
                _ => None,
            };
            let Some(name) = name else {
                return Err(self.scanner.unexpected("expected label name"));
            };
            self.scanner.skip_blanks();
            if is_quoted && matches!(self.scanner.peek(), Some(b',' | b'}')) {
                if self.spans.name.is_some() {
                    let message = "metric name already set".to_owned();
                    return Err(self.scanner.error(place, message));
                }
                self.spans.name = Some(name);
                self.scanner.skip(b",");
                continue;
            }
            if !self.scanner.skip(b"=") {
                return Err(self.scanner.unexpected("expected equal"));
            }
            self.scanner.skip_blanks();
            let Some(value) = self.scanner.quoted(true) else {
                return Err(self.scanner.unexpected("expected label value"));
            };
            self.spans.labels.push((name, value));
            self.scanner.skip_blanks();
            self.scanner.skip(b",");
        }
    }

    /// The optional timestamp and the end of the line.
    fn timestamp(&mut self) -> Result<Option<TimestampMs>, ParseError> {
        self.scanner.skip_blanks();
        let digits = self.scanner.skip_while(|b| b.is_ascii_digit());
        let expected = if digits.is_empty() {
            "expected timestamp or new record"
        } else {
            "expected next entry after timestamp"
        };
        let mut t = None;
        if !digits.is_empty() {
            let text = self.scanner.text(digits.clone(), "timestamp")?;
            let parsed: Result<TimestampMs, _> = text.parse();
            t = Some(parsed.map_err(|_too_long| {
                let message = format!("parsing timestamp {text:?}: value out of range");
                self.scanner.error(digits.start, message)
            })?);
            self.scanner.skip_blanks();
        }
        match self.scanner.peek() {
            None | Some(b'\n') => {
                self.scanner.at += 1;
                Ok(t)
            }
            Some(_) => Err(self.scanner.unexpected(expected)),
        }
    }
}
