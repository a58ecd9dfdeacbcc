//! The words of the language.

use crate::model::labels::go_quote;
use crate::promql::parse::ast::{AggregateOp, BinaryOp, Span};

/// Longer tokens are cut in error messages.
const SHOWN_CHARS_MAX: usize = 10;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Eof,
    /// What is no token; it fits nowhere, and the lexer has said why.
    Broken,
    Comma,
    Colon,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `=`
    Assign,
    /// `=~`
    RegexMatch,
    /// `!~`
    RegexNotMatch,
    At,
    Identifier,
    /// An identifier with a colon.
    MetricIdentifier,
    String,
    Number,
    Duration,
    Op(BinaryOp),
    Aggregate(AggregateOp),
    Keyword(Keyword),
    Preprocessor(Preprocessor),
}

/// Words that modify what stands beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Bool,
    By,
    GroupLeft,
    GroupRight,
    Fill,
    FillLeft,
    FillRight,
    Ignoring,
    Offset,
    Smoothed,
    Anchored,
    On,
    Without,
}

/// Functions of the query's bounds that are also words of durations and of `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preprocessor {
    Start,
    End,
    Step,
    Range,
    MaxOf,
    MinOf,
}

/// A token and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

impl TokenKind {
    /// The keyword a word is, in any case; `None` for an identifier.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        let lower = word.to_ascii_lowercase();
        operator_word(&lower)
            .or_else(|| aggregate_word(&lower).map(Self::Aggregate))
            .or_else(|| keyword(&lower).map(Self::Keyword))
            .or_else(|| preprocessor(&lower).map(Self::Preprocessor))
    }

    /// A keyword that may also be the name of a metric.
    pub(super) fn is_metric_name(self) -> bool {
        match self {
            Self::Identifier
            | Self::MetricIdentifier
            | Self::Aggregate(_)
            | Self::Preprocessor(_)
            | Self::Op(BinaryOp::And | BinaryOp::Or | BinaryOp::Unless) => true,
            Self::Keyword(keyword) => !matches!(
                keyword,
                Keyword::Bool
                    | Keyword::GroupLeft
                    | Keyword::GroupRight
                    | Keyword::Ignoring
                    | Keyword::On
            ),
            Self::Op(_)
            | Self::Eof
            | Self::Broken
            | Self::Comma
            | Self::Colon
            | Self::LeftParen
            | Self::RightParen
            | Self::LeftBrace
            | Self::RightBrace
            | Self::LeftBracket
            | Self::RightBracket
            | Self::Assign
            | Self::RegexMatch
            | Self::RegexNotMatch
            | Self::At
            | Self::String
            | Self::Number
            | Self::Duration => false,
        }
    }

    /// A keyword that may also be a label in a grouping.
    pub(super) fn is_grouping_label(self) -> bool {
        match self {
            Self::Keyword(keyword) => keyword != Keyword::Without,
            Self::Op(BinaryOp::Atan2) => true,
            Self::Op(_)
            | Self::Identifier
            | Self::MetricIdentifier
            | Self::Aggregate(_)
            | Self::Preprocessor(_)
            | Self::Eof
            | Self::Broken
            | Self::Comma
            | Self::Colon
            | Self::LeftParen
            | Self::RightParen
            | Self::LeftBrace
            | Self::RightBrace
            | Self::LeftBracket
            | Self::RightBracket
            | Self::Assign
            | Self::RegexMatch
            | Self::RegexNotMatch
            | Self::At
            | Self::String
            | Self::Number
            | Self::Duration => self.is_metric_name(),
        }
    }

    /// May an expression start with it?
    pub(super) fn starts_expr(self) -> bool {
        self.is_metric_name()
            || matches!(
                self,
                Self::LeftParen
                    | Self::LeftBrace
                    | Self::Number
                    | Self::Duration
                    | Self::String
                    | Self::Op(BinaryOp::Add | BinaryOp::Sub)
            )
    }
}

impl Token {
    /// As an error message names it; `text` is the token as written.
    pub(super) fn describe(self, text: &str) -> String {
        match self.kind {
            TokenKind::Eof => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", go_quote(text)),
            TokenKind::MetricIdentifier => format!("metric identifier {}", go_quote(text)),
            TokenKind::String => format!("string {}", shorten(text)),
            TokenKind::Number => format!("number {}", shorten(text)),
            TokenKind::Duration => format!("duration {}", shorten(text)),
            TokenKind::Keyword(_) => format!("<{text}>"),
            TokenKind::Aggregate(_) => format!("<aggr:{text}>"),
            TokenKind::Op(_) | TokenKind::At | TokenKind::RegexMatch | TokenKind::RegexNotMatch => {
                format!("<op:{text}>")
            }
            TokenKind::Preprocessor(_)
            | TokenKind::Broken
            | TokenKind::Comma
            | TokenKind::Colon
            | TokenKind::LeftParen
            | TokenKind::RightParen
            | TokenKind::LeftBrace
            | TokenKind::RightBrace
            | TokenKind::LeftBracket
            | TokenKind::RightBracket
            | TokenKind::Assign => shorten(text),
        }
    }
}

/// Quoted; cut when it is long.
fn shorten(text: &str) -> String {
    if text.len() <= SHOWN_CHARS_MAX {
        return go_quote(text);
    }
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{}...", go_quote(&shown))
}

fn operator_word(lower: &str) -> Option<TokenKind> {
    Some(match lower {
        "and" => TokenKind::Op(BinaryOp::And),
        "or" => TokenKind::Op(BinaryOp::Or),
        "unless" => TokenKind::Op(BinaryOp::Unless),
        "atan2" => TokenKind::Op(BinaryOp::Atan2),
        "inf" | "nan" => TokenKind::Number,
        _ => return None,
    })
}

fn aggregate_word(lower: &str) -> Option<AggregateOp> {
    AggregateOp::ALL.into_iter().find(|op| op.as_str() == lower)
}

const KEYWORDS: [(&str, Keyword); 13] = [
    ("bool", Keyword::Bool),
    ("by", Keyword::By),
    ("group_left", Keyword::GroupLeft),
    ("group_right", Keyword::GroupRight),
    ("fill", Keyword::Fill),
    ("fill_left", Keyword::FillLeft),
    ("fill_right", Keyword::FillRight),
    ("ignoring", Keyword::Ignoring),
    ("offset", Keyword::Offset),
    ("smoothed", Keyword::Smoothed),
    ("anchored", Keyword::Anchored),
    ("on", Keyword::On),
    ("without", Keyword::Without),
];

fn keyword(lower: &str) -> Option<Keyword> {
    KEYWORDS
        .into_iter()
        .find(|(word, _)| *word == lower)
        .map(|(_, keyword)| keyword)
}

/// The words that modify what stands beside them.
pub fn keywords() -> impl Iterator<Item = &'static str> {
    KEYWORDS.into_iter().map(|(word, _)| word)
}

/// Operators of expressions and matchers, and aggregations.
pub fn operators() -> impl Iterator<Item = &'static str> {
    let binary = BinaryOp::ALL.map(BinaryOp::as_str);
    let aggregate = AggregateOp::ALL.map(AggregateOp::as_str);
    ["@", "=~", "!~"].into_iter().chain(binary).chain(aggregate)
}

/// `start`, `end`, `step`, `range`, `max_of` or `min_of`.
fn preprocessor(lower: &str) -> Option<Preprocessor> {
    duration_word(lower).or(match lower {
        "start" => Some(Preprocessor::Start),
        "end" => Some(Preprocessor::End),
        _ => None,
    })
}

/// The words that may stand between brackets.
pub(super) fn duration_word(lower: &str) -> Option<Preprocessor> {
    Some(match lower {
        "step" => Preprocessor::Step,
        "range" => Preprocessor::Range,
        "max_of" => Preprocessor::MaxOf,
        "min_of" => Preprocessor::MinOf,
        _ => return None,
    })
}
