//! One face for both formats.

use crate::exposition::entry::{Entry, Exemplar, LabelBuffer, ParseError};
use crate::exposition::negotiation::MediaType;
use crate::exposition::openmetrics::OpenMetricsParser;
use crate::exposition::text::TextParser;
use crate::model::TimestampMs;

/// Pulls entries out of an exposition in whichever format it is.
#[derive(Debug, Clone)]
pub enum Parser<'a> {
    /// `text/plain`
    Text(TextParser<'a>),
    /// `application/openmetrics-text`
    OpenMetrics(OpenMetricsParser<'a>),
}

impl<'a> Parser<'a> {
    /// The parser for `media_type`; `_created` series are ordinary ones.
    pub fn new(input: &'a [u8], media_type: MediaType) -> Self {
        match media_type {
            MediaType::Text => Self::Text(TextParser::new(input)),
            MediaType::OpenMetrics => Self::OpenMetrics(OpenMetricsParser::new(input, false)),
        }
    }

    /// The next entry; `None` at the end. After an error the exposition is over.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match self {
            Self::Text(parser) => parser.next_entry(),
            Self::OpenMetrics(parser) => parser.next_entry(),
        }
    }

    /// Writes the labels of the series that was yielded last.
    pub fn labels(&self, out: &mut LabelBuffer) {
        match self {
            Self::Text(parser) => parser.labels(out),
            Self::OpenMetrics(parser) => parser.labels(out),
        }
    }

    /// Writes the exemplar of the series that was yielded last; tells whether there is one.
    pub fn exemplar(&self, out: &mut Exemplar) -> bool {
        match self {
            Self::Text(_) => false,
            Self::OpenMetrics(parser) => parser.exemplar(out),
        }
    }

    /// When the counting began, where the exposition says so.
    pub fn start_timestamp(&mut self) -> Option<TimestampMs> {
        match self {
            Self::Text(_) => None,
            Self::OpenMetrics(parser) => parser.start_timestamp(),
        }
    }
}
