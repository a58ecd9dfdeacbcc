//! Scrape bytes to samples.
//!
//! Owns: the text formats 0.0.4 and 1.0.0, OpenMetrics 1.0, and which of them a target speaks.
//! Never: opens a socket, reads a clock, or keeps a series.
//! Tested by: golden expositions, malformed ones and every truncation beside each parser.
mod entry;
mod negotiation;
mod openmetrics;
mod parser;
mod scan;
mod text;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Exemplar, LabelBuffer, ParseError, SeriesLine};
pub use negotiation::{
    DEFAULT_SCRAPE_PROTOCOLS, Escaping, MediaType, NegotiationError, ScrapeProtocol, accept_header,
    choose_media_type,
};
pub use openmetrics::OpenMetricsParser;
pub use parser::Parser;
pub use text::TextParser;
