//! Why a text is not PromQL, and where.

use std::fmt;

use crate::promql::parse::ast::Span;

/// The first thing that is wrong with a query; the text and its place are Prometheus'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the query.
    pub span: Span,
    /// Line of `span.start`, from one; zero when the query is empty.
    pub line: usize,
    /// Byte column of `span.start`, from one; zero when the query is empty.
    pub col: usize,
}

impl ParseError {
    /// An error in `query` at `span`.
    pub(super) fn at(query: &str, span: Span, message: String) -> Self {
        let (line, col) = position(query, span.start).unwrap_or_default();
        Self {
            message,
            span,
            line,
            col,
        }
    }
}

/// Line and byte column of a byte offset, both from one, as messages and annotations write them; `None` when the query is
/// empty or the offset is not in it.
pub fn position(query: &str, offset: usize) -> Option<(usize, usize)> {
    if query.is_empty() {
        return None;
    }
    let before = query.as_bytes().get(..offset)?;
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let line_start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    Some((line, offset - line_start + 1))
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str("unknown position")?;
        } else {
            write!(f, "{}:{}", self.line, self.col)?;
        }
        write!(f, ": parse error: {}", self.message)
    }
}

impl std::error::Error for ParseError {}
