//! Scrape bytes to samples.
//!
//! Owns: the text formats 0.0.4 and 1.0.0, OpenMetrics 1.0, the protobuf format, which of them a target speaks, and
//! what classic histograms look like as native ones.
//! Never: opens a socket, reads a clock, or keeps a series.
//! Tested by: golden expositions, malformed ones and every truncation beside each parser.
mod classic;
mod converter;
mod entry;
mod negotiation;
mod openmetrics;
mod options;
mod parser;
mod protobuf;
mod scan;
mod text;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use classic::HistogramSample;
pub use entry::{Entry, Exemplar, HistogramLine, LabelBuffer, ParseError, Place, SeriesLine};
pub use negotiation::{
    DEFAULT_SCRAPE_PROTOCOLS, Escaping, MediaType, NegotiationError, PROTOBUF_FIRST_PROTOCOLS,
    ScrapeProtocol, accept_header, choose_media_type,
};
pub use openmetrics::OpenMetricsParser;
pub use options::{HistogramOptions, ParserOptions};
pub use parser::Parser;
pub use text::TextParser;
