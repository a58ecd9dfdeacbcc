//! One face for all formats.

use crate::exposition::converter::{Converter, Details, Emitted};
use crate::exposition::entry::{Entry, Exemplar, LabelBuffer, ParseError};
use crate::exposition::negotiation::MediaType;
use crate::exposition::openmetrics::OpenMetricsParser;
use crate::exposition::options::ParserOptions;
use crate::exposition::protobuf::ProtobufParser;
use crate::exposition::text::TextParser;
use crate::model::TimestampMs;

/// Pulls entries out of an exposition in whichever format it is.
#[derive(Debug, Clone)]
pub struct Parser<'a> {
    format: Format<'a>,
    converting: Option<Box<Converting<'a>>>,
}

#[derive(Debug, Clone)]
enum Format<'a> {
    Lines(Box<Lines<'a>>),
    Protobuf(Box<ProtobufParser<'a>>),
}

/// Both text formats.
#[derive(Debug, Clone)]
struct Lines<'a> {
    format: LineFormat<'a>,
    /// The series that was yielded last, as written.
    text: &'a str,
    /// Its exemplar was not asked for yet.
    has_exemplar: bool,
}

#[derive(Debug, Clone)]
enum LineFormat<'a> {
    Text(TextParser<'a>),
    OpenMetrics(OpenMetricsParser<'a>),
}

/// Classic histograms of text formats on their way to native ones.
#[derive(Debug, Clone, Default)]
struct Converting<'a> {
    converter: Converter,
    keeps_classic: bool,
    labels: LabelBuffer,
    /// The histogram that was yielded last.
    emitted: Option<Emitted>,
    /// The entry behind it, which was read already.
    behind: Option<Entry<'a>>,
    /// All entries were read.
    is_over: bool,
}

impl<'a> Parser<'a> {
    /// The parser for `media_type`.
    pub fn new(input: &'a [u8], media_type: MediaType, options: ParserOptions) -> Self {
        let format = match media_type {
            MediaType::Text => LineFormat::Text(TextParser::new(input)),
            MediaType::OpenMetrics => {
                LineFormat::OpenMetrics(OpenMetricsParser::new(input, options.start_timestamps))
            }
            MediaType::Protobuf => {
                return Self {
                    format: Format::Protobuf(Box::new(ProtobufParser::new(input, options))),
                    converting: None,
                };
            }
        };
        let converting = options.histograms.converts_classic.then(|| {
            Box::new(Converting {
                keeps_classic: options.histograms.keeps_classic,
                ..Converting::default()
            })
        });
        Self {
            format: Format::Lines(Box::new(Lines {
                format,
                text: "",
                has_exemplar: false,
            })),
            converting,
        }
    }

    /// The next entry; `None` at the end. After an error the exposition is over.
    #[inline]
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, ParseError> {
        self.next_entry_like("")
    }

    /// The same, faster if it is a series whose text is `known`, which a parser of this format has yielded before.
    #[inline]
    pub fn next_entry_like(&mut self, known: &str) -> Result<Option<Entry<'_>>, ParseError> {
        match (&mut self.format, &mut self.converting) {
            (Format::Protobuf(parser), _) => parser.next_entry(),
            (Format::Lines(lines), None) => lines.next_entry(known),
            (Format::Lines(lines), Some(converting)) => converting.next_entry(lines),
        }
    }

    /// What identifies the series or histogram that was yielded last: equal texts in one format mean equal series.
    #[inline]
    pub fn text(&self) -> &str {
        match (&self.format, self.emitted()) {
            (_, Some(emitted)) => &emitted.text,
            (Format::Protobuf(parser), None) => parser.text(),
            (Format::Lines(lines), None) => lines.text,
        }
    }

    /// Writes the labels of the series or histogram that was yielded last.
    pub fn labels(&self, out: &mut LabelBuffer) {
        match (&self.format, self.emitted()) {
            (_, Some(emitted)) => emitted.labels.clone_into(out),
            (Format::Protobuf(parser), None) => parser.labels(out),
            (Format::Lines(lines), None) => lines.labels(out),
        }
    }

    /// Writes the next exemplar of the series or histogram that was yielded last; false when there is none left.
    #[inline]
    pub fn next_exemplar(&mut self, out: &mut Exemplar) -> bool {
        if let Some(converting) = &mut self.converting
            && let Some(emitted) = &mut converting.emitted
        {
            let next = emitted.exemplars.pop();
            let has_one = next.is_some();
            *out = next.unwrap_or_default();
            return has_one;
        }
        match &mut self.format {
            Format::Protobuf(parser) => parser.next_exemplar(out),
            Format::Lines(lines) => lines.next_exemplar(out),
        }
    }

    /// When the counting began, where the exposition says so and somebody wanted to know.
    pub fn start_timestamp(&mut self) -> Option<TimestampMs> {
        if let Some(emitted) = self.emitted() {
            return emitted.start;
        }
        match &mut self.format {
            Format::Protobuf(parser) => parser.start_timestamp(),
            Format::Lines(lines) => lines.start_timestamp(),
        }
    }

    fn emitted(&self) -> Option<&Emitted> {
        self.converting.as_ref()?.emitted.as_ref()
    }
}

impl<'a> Lines<'a> {
    #[inline]
    fn next_entry(&mut self, known: &str) -> Result<Option<Entry<'a>>, ParseError> {
        let entry = match &mut self.format {
            LineFormat::Text(parser) => parser.next_entry_like(known),
            LineFormat::OpenMetrics(parser) => parser.next_entry_like(known),
        }?;
        if let Some(Entry::Series(line)) = &entry {
            self.text = line.text;
            self.has_exemplar = true;
        }
        Ok(entry)
    }

    fn labels(&self, out: &mut LabelBuffer) {
        match &self.format {
            LineFormat::Text(parser) => parser.labels(out),
            LineFormat::OpenMetrics(parser) => parser.labels(out),
        }
    }
}

impl Details for Lines<'_> {
    fn start_timestamp(&mut self) -> Option<TimestampMs> {
        match &mut self.format {
            LineFormat::Text(_) => None,
            LineFormat::OpenMetrics(parser) => parser.start_timestamp(),
        }
    }

    fn next_exemplar(&mut self, out: &mut Exemplar) -> bool {
        match &self.format {
            LineFormat::Text(_) => false,
            LineFormat::OpenMetrics(parser) => {
                std::mem::take(&mut self.has_exemplar) && parser.exemplar(out)
            }
        }
    }
}

impl<'a> Converting<'a> {
    fn next_entry(&mut self, lines: &mut Lines<'a>) -> Result<Option<Entry<'a>>, ParseError> {
        self.emitted = None;
        loop {
            let (entry, was_held) = match self.behind.take() {
                Some(entry) => (entry, true),
                None if self.is_over => return Ok(None),
                None => match lines.next_entry("")? {
                    Some(entry) => (entry, false),
                    None => {
                        self.is_over = true;
                        return Ok(self.finish(None));
                    }
                },
            };
            let Entry::Series(line) = entry else {
                self.converter.note(&entry);
                if was_held {
                    return Ok(Some(entry));
                }
                match self.finish(Some(entry.clone())) {
                    Some(histogram) => return Ok(Some(histogram)),
                    None => return Ok(Some(entry)),
                }
            };
            lines.labels(&mut self.labels);
            if self.converter.ends_before(&self.labels)
                && let Some(histogram) = self.finish(Some(entry))
            {
                return Ok(Some(histogram));
            }
            let is_part = self.converter.take(&self.labels, (line.v, line.t), lines);
            if !is_part || self.keeps_classic {
                return Ok(Some(Entry::Series(line)));
            }
        }
    }

    /// Ends a histogram in front of `behind`.
    fn finish(&mut self, behind: Option<Entry<'a>>) -> Option<Entry<'a>> {
        let (histogram, emitted) = self.converter.finish()?;
        self.emitted = Some(emitted);
        self.behind = behind;
        Some(Entry::Histogram(histogram))
    }
}
