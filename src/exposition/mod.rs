//! Scrape bytes to samples.
//!
//! Owns: the text formats 0.0.4 and 1.0.0, OpenMetrics 1.0, and which of them a target speaks.
//! Never: opens a socket, reads a clock, or keeps a series.
//! Tested by: golden expositions, malformed ones and every truncation beside each parser.
