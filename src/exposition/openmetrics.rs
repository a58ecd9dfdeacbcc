//! OpenMetrics 1.0 (and 0.0.1, which reads the same): one space where a space belongs, `# EOF` at the end.

use crate::exposition::entry::{Entry, Exemplar, LabelBuffer, ParseError, SeriesLine};
use crate::exposition::scan::{
    Scanner, SeriesSpans, is_label_byte, is_label_start, is_metric_byte, is_metric_start, unescaped,
};
use crate::model::{METRIC_NAME, MetricType, SeriesKey, TimestampMs};

const NO_EOF: &str = "data does not end with # EOF";
const CREATED: &str = "_created";

/// Pulls entries out of an OpenMetrics exposition.
#[derive(Debug, Clone)]
pub struct OpenMetricsParser<'a> {
    scanner: Scanner<'a>,
    spans: SeriesSpans,
    /// The start of a series whose spans were not looked for.
    unread: Option<usize>,
    metric_type: MetricType,
    family: &'a str,
    exemplar: Option<ExemplarSpans>,
    hides_created: bool,
    last_start: Option<(SeriesKey, Option<TimestampMs>)>,
}

#[derive(Debug, Clone)]
struct ExemplarSpans {
    labels: SeriesSpans,
    v: f64,
    t: Option<TimestampMs>,
}

/// Whose labels are being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Series,
    Exemplar,
}

impl<'a> OpenMetricsParser<'a> {
    /// Starts at the first line. With `hides_created`, the `_created` series of counters, histograms and summaries are
    /// not yielded; they are what [`Self::start_timestamp`] then tells.
    pub fn new(input: &'a [u8], hides_created: bool) -> Self {
        Self {
            scanner: Scanner::new(input),
            spans: SeriesSpans::default(),
            unread: None,
            metric_type: MetricType::Unknown,
            family: "",
            exemplar: None,
            hides_created,
            last_start: None,
        }
    }

    /// The next entry; `None` after `# EOF`.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.next_entry_like("")
    }

    /// The same, faster if it is a series that is written as `known`, which this format has yielded before.
    pub fn next_entry_like(&mut self, known: &str) -> Result<Option<Entry<'a>>, ParseError> {
        // Who hides series looks at their names.
        let known = if self.hides_created { "" } else { known };
        loop {
            let entry = self.any_entry(known)?;
            let is_hidden = self.hides_created
                && matches!(entry, Some(Entry::Series(_)))
                && self.has_start()
                && self.name_ends_in_created();
            if !is_hidden {
                return Ok(entry);
            }
        }
    }

    /// Writes the labels of the series that was yielded last.
    pub fn labels(&self, out: &mut LabelBuffer) {
        let Some(start) = self.unread else {
            return self.spans.fill(&self.scanner, self.metric_type, out);
        };
        let mut again = self.clone();
        again.scanner.at = start;
        if again.series("").is_ok() {
            again.labels(out);
        }
    }

    /// Writes the exemplar of the series that was yielded last; tells whether there is one.
    pub fn exemplar(&self, out: &mut Exemplar) -> bool {
        let Some(exemplar) = &self.exemplar else {
            return false;
        };
        let labels = &exemplar.labels;
        labels.fill(&self.scanner, MetricType::Unknown, &mut out.labels);
        out.v = exemplar.v;
        out.t = exemplar.t;
        true
    }

    /// When the counter, histogram or summary of the series that was yielded last began, if a `_created` series of
    /// the same labels follows within its family.
    pub fn start_timestamp(&mut self) -> Option<TimestampMs> {
        if !self.has_start() {
            return None;
        }
        let mut labels = LabelBuffer::new();
        self.labels(&mut labels);
        let wanted = group_key(&labels);
        if let Some((key, start)) = self.last_start
            && key == wanted
        {
            return start;
        }
        let mut ahead = self.clone();
        let mut start = None;
        while let Ok(Some(Entry::Series(series))) = ahead.any_entry("") {
            ahead.labels(&mut labels);
            if !labels.metric_name().starts_with(self.family) {
                break;
            }
            if ahead.name_ends_in_created() && group_key(&labels) == wanted {
                start = Some(seconds_to_ms(series.v));
                break;
            }
        }
        self.last_start = Some((wanted, start));
        start
    }

    fn has_start(&self) -> bool {
        matches!(
            self.metric_type,
            MetricType::Counter | MetricType::Histogram | MetricType::Summary
        )
    }

    fn name_ends_in_created(&self) -> bool {
        let name = self.spans.name.clone().unwrap_or_default();
        self.scanner.bytes(name).ends_with(CREATED.as_bytes())
    }

    fn any_entry(&mut self, known: &str) -> Result<Option<Entry<'a>>, ParseError> {
        self.exemplar = None;
        let start = self.scanner.at;
        match self.scanner.peek() {
            None => Err(self.scanner.error(start, NO_EOF.to_owned())),
            Some(b'#') => self.comment(),
            Some(b'{') => self.series(known).map(Some),
            Some(b) if is_metric_start(b) => self.series(known).map(Some),
            Some(_) => Err(self.scanner.unexpected("expected a valid start token")),
        }
    }

    fn comment(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        let start = self.scanner.at;
        if self.scanner.skip(b"# EOF") {
            self.scanner.skip(b"\n");
            if self.scanner.is_at_end() {
                return Ok(None);
            }
            return Err(self.scanner.unexpected("unexpected data after # EOF"));
        }
        for keyword in ["HELP", "TYPE", "UNIT"] {
            if self.scanner.skip(b"# ")
                && self.scanner.skip(keyword.as_bytes())
                && self.scanner.skip(b" ")
            {
                return self.metadata(keyword).map(Some);
            }
            self.scanner.at = start;
        }
        Err(self
            .scanner
            .unexpected("expected HELP, TYPE, UNIT or EOF after # and one space"))
    }

    fn metadata(&mut self, keyword: &str) -> Result<Entry<'a>, ParseError> {
        let name = self.scanner.metric_name_after(keyword)?;
        if !self.scanner.skip(b" ") {
            let expected = format!("expected text in {keyword}");
            return Err(self.scanner.unexpected(&expected));
        }
        let line = self.scanner.skip_line();
        if !self.scanner.skip(b"\n") {
            return Err(self.scanner.error(line.end, NO_EOF.to_owned()));
        }
        self.family = name;
        let place = line.start;
        let text = self.scanner.text(line, "metadata text")?;
        match keyword {
            "HELP" => Ok(Entry::Help {
                name,
                help: unescaped(text, true),
            }),
            "TYPE" => {
                self.metric_type = metric_type(text).ok_or_else(|| {
                    let message = format!("invalid metric type {text:?}");
                    self.scanner.error(place, message)
                })?;
                Ok(Entry::Type {
                    name,
                    metric_type: self.metric_type,
                })
            }
            _ => {
                let stem = name.strip_suffix(text);
                if !text.is_empty() && !stem.is_some_and(|stem| stem.ends_with('_')) {
                    let message = format!("unit {text:?} not a suffix of metric {name:?}");
                    return Err(self.scanner.error(place, message));
                }
                Ok(Entry::Unit { name, unit: text })
            }
        }
    }

    fn series(&mut self, known: &str) -> Result<Entry<'a>, ParseError> {
        let start = self.scanner.at;
        let text = match self.scanner.skip_known(start, known) {
            Some(text) => {
                self.unread = Some(start);
                text
            }
            None => {
                self.unread = None;
                self.series_text(start)?
            }
        };
        let v = self.value("metric")?;
        let mut t = None;
        if !self.is_before_exemplar() && self.scanner.peek() == Some(b' ') {
            t = Some(self.timestamp()?);
        }
        if self.is_before_exemplar() {
            self.read_exemplar()?;
        } else {
            self.end_of_line("expected timestamp or # {exemplar}")?;
        }
        Ok(Entry::Series(SeriesLine { text, v, t }))
    }

    /// Name and labels.
    fn series_text(&mut self, start: usize) -> Result<&'a str, ParseError> {
        let mut spans = std::mem::take(&mut self.spans);
        spans.clear();
        if self.scanner.peek() != Some(b'{') {
            spans.name = Some(self.scanner.skip_while(is_metric_byte));
        }
        if self.scanner.skip(b"{") {
            self.label_pairs(&mut spans, Owner::Series)?;
        }
        self.spans = spans;
        let text = self.scanner.text(start..self.scanner.at, "series")?;
        if self.spans.name.is_none() {
            let message = "metric name not set".to_owned();
            return Err(self.scanner.error(start, message));
        }
        Ok(text)
    }

    fn is_before_exemplar(&self) -> bool {
        self.scanner.clone().skip(b" # {")
    }

    fn read_exemplar(&mut self) -> Result<(), ParseError> {
        self.scanner.skip(b" # {");
        let start = self.scanner.at;
        let mut labels = SeriesSpans::default();
        self.label_pairs(&mut labels, Owner::Exemplar)?;
        self.scanner
            .text(start..self.scanner.at, "exemplar labels")?;
        let v = self.value("exemplar labels")?;
        let mut t = None;
        if self.scanner.peek() == Some(b' ') {
            t = Some(self.timestamp()?);
        }
        self.end_of_line("expected next entry after exemplar timestamp")?;
        self.exemplar = Some(ExemplarSpans { labels, v, t });
        Ok(())
    }

    /// One space, then everything up to the next space or the end of the line.
    fn value(&mut self, after: &str) -> Result<f64, ParseError> {
        let expected = format!("expected value after {after}");
        if !self.scanner.skip(b" ") {
            return Err(self.scanner.unexpected(&expected));
        }
        let range = self.scanner.skip_while(|b| !matches!(b, b' ' | b'\n' | 0));
        if range.is_empty() {
            return Err(self.scanner.unexpected(&expected));
        }
        self.scanner.float(range)
    }

    /// Seconds as a float, cut to milliseconds.
    fn timestamp(&mut self) -> Result<TimestampMs, ParseError> {
        self.scanner.skip(b" ");
        let range = self.scanner.skip_while(|b| !matches!(b, b' ' | b'\n' | 0));
        if range.is_empty() {
            return Err(self.scanner.unexpected("expected timestamp"));
        }
        let seconds = self.scanner.float(range.clone())?;
        if !seconds.is_finite() {
            let message = format!("invalid timestamp {seconds}");
            return Err(self.scanner.error(range.start, message));
        }
        Ok(seconds_to_ms(seconds))
    }

    fn end_of_line(&mut self, expected: &str) -> Result<(), ParseError> {
        if self.scanner.skip(b"\n") {
            return Ok(());
        }
        if self.scanner.is_at_end() {
            return Err(self.scanner.error(self.scanner.at, NO_EOF.to_owned()));
        }
        Err(self.scanner.unexpected(expected))
    }

    /// What is between the braces, and the closing one.
    fn label_pairs(&mut self, spans: &mut SeriesSpans, owner: Owner) -> Result<(), ParseError> {
        loop {
            let place = self.scanner.at;
            let is_quoted = self.scanner.peek() == Some(b'"');
            let name = match self.scanner.peek() {
                Some(b'}') => {
                    self.scanner.at += 1;
                    return Ok(());
                }
                Some(b'"') => self.scanner.quoted(owner == Owner::Series),
                Some(b) if is_label_start(b) => Some(self.scanner.skip_while(is_label_byte)),
                _ => None,
            };
            let Some(name) = name else {
                return Err(self.scanner.unexpected("expected label name"));
            };
            let is_name = is_quoted && matches!(self.scanner.peek(), Some(b',' | b'}'));
            if is_name && owner == Owner::Series {
                if spans.name.is_some() {
                    let message = "metric name already set".to_owned();
                    return Err(self.scanner.error(place, message));
                }
                spans.name = Some(name);
                self.scanner.skip(b",");
                continue;
            }
            if !self.scanner.skip(b"=") {
                return Err(self.scanner.unexpected("expected equal"));
            }
            let Some(value) = self.scanner.quoted(false) else {
                return Err(self.scanner.unexpected("expected label value"));
            };
            spans.labels.push((name, value));
            match self.scanner.peek() {
                Some(b',') => self.scanner.at += 1,
                Some(b'}') => (),
                _ => return Err(self.scanner.unexpected("expected comma or brace close")),
            }
        }
    }
}

/// Labels that the series of one counter, histogram or summary share.
fn group_key(labels: &LabelBuffer) -> SeriesKey {
    SeriesKey::of(
        labels
            .iter()
            .filter(|(name, _)| !matches!(*name, METRIC_NAME | "le" | "quantile")),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "cutting the fraction is the format; what is beyond 64 bits saturates"
)]
fn seconds_to_ms(seconds: f64) -> TimestampMs {
    (seconds * 1000.0) as TimestampMs
}

fn metric_type(text: &str) -> Option<MetricType> {
    Some(match text {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "gaugehistogram" => MetricType::GaugeHistogram,
        "summary" => MetricType::Summary,
        "info" => MetricType::Info,
        "stateset" => MetricType::StateSet,
        "unknown" => MetricType::Unknown,
        _ => return None,
    })
}
