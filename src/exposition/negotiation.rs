//! Which format to ask a target for, and which one it answered in.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A format a target may be asked for, by the name it has in `scrape_protocols`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScrapeProtocol {
    /// `OpenMetricsText1.0.0`
    OpenMetricsText1_0_0,
    /// `OpenMetricsText0.0.1`
    OpenMetricsText0_0_1,
    /// `PrometheusText1.0.0`
    PrometheusText1_0_0,
    /// `PrometheusText0.0.4`
    PrometheusText0_0_4,
    /// `PrometheusProto`
    PrometheusProto,
}

/// What is asked for when nothing is configured, the best first.
pub const DEFAULT_SCRAPE_PROTOCOLS: [ScrapeProtocol; 4] = [
    ScrapeProtocol::OpenMetricsText1_0_0,
    ScrapeProtocol::OpenMetricsText0_0_1,
    ScrapeProtocol::PrometheusText1_0_0,
    ScrapeProtocol::PrometheusText0_0_4,
];

/// What is asked for when native histograms are wanted and nothing is configured: only the first can carry them.
pub const PROTOBUF_FIRST_PROTOCOLS: [ScrapeProtocol; 5] = [
    ScrapeProtocol::PrometheusProto,
    ScrapeProtocol::OpenMetricsText1_0_0,
    ScrapeProtocol::OpenMetricsText0_0_1,
    ScrapeProtocol::PrometheusText1_0_0,
    ScrapeProtocol::PrometheusText0_0_4,
];

/// Protocols that exist, for which Prometheus' weights leave room: the first of any list weighs 0.6.
const N_KNOWN_PROTOCOLS: usize = 5;

impl ScrapeProtocol {
    /// As in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenMetricsText1_0_0 => "OpenMetricsText1.0.0",
            Self::OpenMetricsText0_0_1 => "OpenMetricsText0.0.1",
            Self::PrometheusText1_0_0 => "PrometheusText1.0.0",
            Self::PrometheusText0_0_4 => "PrometheusText0.0.4",
            Self::PrometheusProto => "PrometheusProto",
        }
    }

    /// The parser of what it asks for.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::OpenMetricsText1_0_0 | Self::OpenMetricsText0_0_1 => MediaType::OpenMetrics,
            Self::PrometheusText1_0_0 | Self::PrometheusText0_0_4 => MediaType::Text,
            Self::PrometheusProto => MediaType::Protobuf,
        }
    }

    fn accept(self) -> &'static str {
        match self {
            Self::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0",
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0",
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Self::PrometheusProto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
        }
    }

    fn knows_escaping(self) -> bool {
        matches!(self, Self::OpenMetricsText1_0_0 | Self::PrometheusText1_0_0)
    }
}

impl fmt::Display for ScrapeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ScrapeProtocol {
    type Err = NegotiationError;

    fn from_str(text: &str) -> Result<Self, NegotiationError> {
        PROTOBUF_FIRST_PROTOCOLS
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| NegotiationError::UnknownProtocol(text.to_owned()))
    }
}

/// How a target is asked to write names that are not in the old alphabet (`metric_name_escaping_scheme`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaping {
    /// As they are, in quotes.
    #[default]
    AllowUtf8,
    /// Every foreign character as `_`.
    Underscores,
    /// Dots as `_dot_`, other foreign characters as `__`.
    Dots,
    /// `U__` and code points.
    Values,
}

impl Escaping {
    /// As in a configuration and in an `Accept` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }
}

/// The `Accept` header for `protocols`, the best first.
pub fn accept_header(protocols: &[ScrapeProtocol], escaping: Escaping) -> String {
    let mut out = String::new();
    let mut weight = N_KNOWN_PROTOCOLS + 1;
    for protocol in protocols {
        out.push_str(protocol.accept());
        if protocol.knows_escaping() {
            out.push_str(";escaping=");
            out.push_str(escaping.as_str());
        }
        out.push_str(&format!(";q=0.{weight},"));
        weight = weight.saturating_sub(1);
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}

/// Which parser reads an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// `text/plain`
    Text,
    /// `application/openmetrics-text`
    OpenMetrics,
    /// `application/vnd.google.protobuf`
    Protobuf,
}

impl MediaType {
    /// Without parameters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::OpenMetrics => "application/openmetrics-text",
            Self::Protobuf => "application/vnd.google.protobuf",
        }
    }
}

/// Why an exposition cannot be read, or why the fallback was taken. The texts are Prometheus' where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// No `Content-Type`.
    #[error(
        "non-compliant scrape target sending blank Content-Type{}",
        fallback_text(*.fallback, " and no fallback_scrape_protocol specified for target")
    )]
    Blank {
        /// What is configured.
        fallback: Option<MediaType>,
    },
    /// A `Content-Type` that is none.
    #[error(
        "{} Content-Type {content_type:?}{}",
        if .fallback.is_some() { "could not parse received" } else { "cannot parse" },
        fallback_text(*.fallback, " and no fallback_scrape_protocol for target")
    )]
    Malformed {
        /// As received.
        content_type: String,
        /// What is configured.
        fallback: Option<MediaType>,
    },
    /// A format that is not read.
    #[error(
        "received unsupported Content-Type {content_type:?}{}",
        fallback_text(*.fallback, " and no fallback_scrape_protocol specified for target")
    )]
    Unsupported {
        /// As received.
        content_type: String,
        /// What is configured.
        fallback: Option<MediaType>,
    },
    /// A name that stands for no protocol that can be asked for.
    #[error(
        "unknown scrape protocol {0:?}, supported: [OpenMetricsText0.0.1 OpenMetricsText1.0.0 PrometheusProto \
         PrometheusText0.0.4 PrometheusText1.0.0]"
    )]
    UnknownProtocol(String),
}

fn fallback_text(fallback: Option<MediaType>, without: &str) -> String {
    match fallback {
        Some(media_type) => {
            format!(", using fallback_scrape_protocol {:?}", media_type.as_str())
        }
        None => without.to_owned(),
    }
}

/// The parser for an answer with `content_type`: the one it names, or the fallback together with a warning, or the
/// error that fails the scrape.
pub fn choose_media_type(
    content_type: &str,
    fallback: Option<ScrapeProtocol>,
) -> Result<(MediaType, Option<NegotiationError>), NegotiationError> {
    let fallback = fallback.map(ScrapeProtocol::media_type);
    let content_type = content_type.trim();
    let problem = if content_type.is_empty() {
        NegotiationError::Blank { fallback }
    } else {
        let content_type = content_type.to_owned();
        match bare_media_type(&content_type).as_deref() {
            None => NegotiationError::Malformed {
                content_type,
                fallback,
            },
            Some("text/plain") => return Ok((MediaType::Text, None)),
            Some("application/openmetrics-text") => return Ok((MediaType::OpenMetrics, None)),
            Some("application/vnd.google.protobuf") => return Ok((MediaType::Protobuf, None)),
            Some(_) => NegotiationError::Unsupported {
                content_type,
                fallback,
            },
        }
    };
    match fallback {
        Some(media_type) => Ok((media_type, Some(problem))),
        None => Err(problem),
    }
}

/// The type in lower case, if type and parameters are well formed: `type[/subtype]` of token characters, then
/// `;name=value` pairs whose values are tokens or quoted strings, no name twice.
fn bare_media_type(content_type: &str) -> Option<String> {
    let (media_type, mut rest) = match content_type.split_once(';') {
        Some((media_type, rest)) => (media_type.trim(), rest),
        None => (content_type, ""),
    };
    let (kind, subtype) = media_type.split_once('/').unwrap_or((media_type, "x"));
    if !is_token(kind) || !is_token(subtype) {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return Some(media_type.to_ascii_lowercase());
        }
        let (name, tail) = rest.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        if !is_token(&name) || names.contains(&name) {
            return None;
        }
        names.push(name);
        let tail = tail.trim_start();
        rest = match tail.strip_prefix('"') {
            Some(quoted) => after_quoted(quoted)?,
            None => {
                let end = tail.find([';', ' ', '\t']).unwrap_or(tail.len());
                let (value, tail) = tail.split_at_checked(end)?;
                if !is_token(value) {
                    return None;
                }
                tail
            }
        };
        let next = rest.trim_start();
        if !next.is_empty() && !next.starts_with(';') {
            return None;
        }
    }
}

fn after_quoted(text: &str) -> Option<&str> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return text.get(at + 1..),
            '\\' => {
                chars.next()?;
            }
            _ => (),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_is_the_one_prometheus_sends() {
        assert_eq!(
            accept_header(&DEFAULT_SCRAPE_PROTOCOLS, Escaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        assert_eq!(
            accept_header(&[ScrapeProtocol::PrometheusText0_0_4], Escaping::Dots),
            "text/plain;version=0.0.4;q=0.6,*/*;q=0.5"
        );
        assert_eq!(
            accept_header(&[ScrapeProtocol::PrometheusText1_0_0], Escaping::Values),
            "text/plain;version=1.0.0;escaping=values;q=0.6,*/*;q=0.5"
        );
    }

    #[test]
    fn the_content_type_names_the_parser_whatever_its_parameters() {
        for (content_type, expect) in [
            ("text/plain", MediaType::Text),
            ("text/plain; version=0.0.4; charset=utf-8", MediaType::Text),
            (
                "TEXT/Plain;version=\"1.0.0\";escaping=dots",
                MediaType::Text,
            ),
            ("text/plain;", MediaType::Text),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                MediaType::OpenMetrics,
            ),
        ] {
            assert_eq!(
                choose_media_type(content_type, Some(ScrapeProtocol::PrometheusText0_0_4)),
                Ok((expect, None)),
                "{content_type}"
            );
        }
    }

    #[test]
    fn without_a_known_content_type_the_fallback_decides_or_the_scrape_fails() {
        let fallback = Some(ScrapeProtocol::OpenMetricsText1_0_0);
        let text_of = |content_type: &str, fallback| match choose_media_type(content_type, fallback)
        {
            Ok((media_type, warning)) => format!("{media_type:?}: {}", warning.unwrap()),
            Err(error) => error.to_string(),
        };
        for (content_type, with, without) in [
            (
                "",
                "OpenMetrics: non-compliant scrape target sending blank Content-Type, using \
                 fallback_scrape_protocol \"application/openmetrics-text\"",
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for \
                 target",
            ),
            (
                "text/html",
                "OpenMetrics: received unsupported Content-Type \"text/html\", using fallback_scrape_protocol \
                 \"application/openmetrics-text\"",
                "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target",
            ),
            (
                "text plain",
                "OpenMetrics: could not parse received Content-Type \"text plain\", using fallback_scrape_protocol \
                 \"application/openmetrics-text\"",
                "cannot parse Content-Type \"text plain\" and no fallback_scrape_protocol for target",
            ),
        ] {
            assert_eq!(text_of(content_type, fallback), with);
            assert_eq!(text_of(content_type, None), without);
        }
        for malformed in [
            "text/plain; a",
            "text/plain; a=\"b",
            "text/plain; a=b; A=c",
            "text/plain; a=b c",
            "/",
        ] {
            assert!(
                matches!(
                    choose_media_type(malformed, None),
                    Err(NegotiationError::Malformed { .. })
                ),
                "{malformed}"
            );
        }
    }

    #[test]
    fn protocols_are_known_by_their_configured_names() {
        for protocol in DEFAULT_SCRAPE_PROTOCOLS {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        assert!("OpenMetricsText".parse::<ScrapeProtocol>().is_err());
    }
}
