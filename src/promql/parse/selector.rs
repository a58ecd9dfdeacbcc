//! `name{label="value"}` and what may stand between braces.

use std::sync::Arc;

use crate::model::labels::go_quote;
use crate::model::{METRIC_NAME, MatchType, Matcher, MatcherError};
use crate::promql::parse::ast::{BinaryOp, ExprKind, Span, VectorSelector};
use crate::promql::parse::parser::{Fail, Parse, Parser, Sub, leaf};
use crate::promql::parse::token::{Token, TokenKind};

impl Parser<'_> {
    /// A selector whose first token is next.
    pub(super) fn selector(&mut self) -> Parse<Sub> {
        if self.kind() == TokenKind::LeftBrace {
            let start = self.span().start;
            let matchers = self.braces()?;
            return Ok(self.finish_selector(start, None, matchers));
        }
        let word = self.take()?;
        self.named_selector(word)
    }

    /// A selector whose name has been taken.
    pub(super) fn named_selector(&mut self, word: Token) -> Parse<Sub> {
        let name = self.text_of(word).to_owned();
        let mut matchers = if self.kind() == TokenKind::LeftBrace {
            self.braces()?
        } else {
            Vec::new()
        };
        matchers.push(Arc::new(Matcher::equal(METRIC_NAME, &name)));
        Ok(self.finish_selector(word.span.start, Some(name), matchers))
    }

    fn finish_selector(
        &self,
        start: usize,
        name: Option<String>,
        matchers: Vec<Arc<Matcher>>,
    ) -> Sub {
        let span = Span {
            start,
            end: self.last_end(),
        };
        let selector = VectorSelector {
            name,
            matchers,
            offset: None,
            at: None,
            extend: None,
        };
        leaf(ExprKind::Vector(selector), span)
    }

    /// `{…}`; a comma may stand before the closing brace.
    fn braces(&mut self) -> Parse<Vec<Arc<Matcher>>> {
        self.expect(TokenKind::LeftBrace)?;
        let mut matchers = Vec::new();
        while !self.accept(TokenKind::RightBrace)? {
            matchers.push(Arc::new(self.matcher()?));
            if self.kind() != TokenKind::RightBrace {
                let comma = self.expect(TokenKind::Comma);
                self.within(comma, "label matching", "\",\" or \"}\"")?;
            }
        }
        Ok(matchers)
    }

    fn matcher(&mut self) -> Parse<Matcher> {
        let context = "label matching";
        let kind = self.kind();
        if !matches!(kind, TokenKind::Identifier | TokenKind::String) {
            return self.within(Err(Fail::Unexpected), context, "identifier or \"}\"");
        }
        let label = self.take()?;
        let is_quoted = kind == TokenKind::String;
        let name = if is_quoted {
            self.string_value(label)?
        } else {
            self.text_of(label).to_owned()
        };
        let Some(match_type) = match_type(self.kind()) else {
            if is_quoted {
                return Ok(Matcher::equal(METRIC_NAME, &name));
            }
            return self.within(Err(Fail::Unexpected), context, "label matching operator");
        };
        self.take()?;
        let value = self.expect(TokenKind::String);
        let value = self.within(value, context, "string")?;
        let text = self.string_value(value)?;
        Matcher::new(match_type, &name, &text).or_else(|error| {
            let span = Span {
                start: label.span.start,
                end: value.span.end,
            };
            self.fail(span, describe_pattern_error(&error))
        })
    }

    /// `(label, "other label")`; a comma may stand before the closing parenthesis.
    pub(super) fn grouping_labels(&mut self) -> Parse<Vec<String>> {
        let context = "grouping opts";
        let open = self.expect(TokenKind::LeftParen);
        self.within(open, context, "\"(\"")?;
        let mut labels = Vec::new();
        while !self.accept(TokenKind::RightParen)? {
            let label = self.grouping_label();
            labels.push(self.within(label, context, "label")?);
            if self.kind() != TokenKind::RightParen {
                let comma = self.expect(TokenKind::Comma);
                self.within(comma, context, "\",\" or \")\"")?;
            }
        }
        Ok(labels)
    }

    fn grouping_label(&mut self) -> Parse<String> {
        let kind = self.kind();
        if kind == TokenKind::String {
            let token = self.take()?;
            let label = self.string_value(token)?;
            if label.is_empty() {
                let message = format!("invalid label name for grouping: {}", go_quote(&label));
                return self.fail(token.span, message);
            }
            return Ok(label);
        }
        if !kind.is_grouping_label() {
            return Err(Fail::Unexpected);
        }
        let token = self.take()?;
        Ok(self.text_of(token).to_owned())
    }
}

fn match_type(kind: TokenKind) -> Option<MatchType> {
    if kind == TokenKind::Assign {
        Some(MatchType::Equal)
    } else if kind == TokenKind::Op(BinaryOp::Ne) {
        Some(MatchType::NotEqual)
    } else if kind == TokenKind::RegexMatch {
        Some(MatchType::Regex)
    } else if kind == TokenKind::RegexNotMatch {
        Some(MatchType::NotRegex)
    } else {
        None
    }
}

/// Ends inside a character class, right behind a dash.
fn is_open_range(pattern: &str) -> bool {
    let class = pattern.rfind('[').and_then(|at| pattern.get(at..));
    class.is_some_and(|class| class.ends_with('-') && !class.contains(']'))
}

/// Says the common faults of patterns in the words of Go's `regexp`, which clients know.
fn describe_pattern_error(error: &MatcherError) -> String {
    let MatcherError { pattern, reason } = error;
    let said = if reason.ends_with('`') {
        // Found by the rules of Go itself.
        reason.clone()
    } else if reason.contains("repetition operator missing expression") {
        let operator = pattern
            .chars()
            .find(|c| matches!(c, '*' | '+' | '?'))
            .unwrap_or('*');
        format!("missing argument to repetition operator: `{operator}`")
    } else if reason.contains("unclosed group") {
        format!("missing closing ): `{pattern}`")
    } else if reason.contains("unopened group") {
        format!("unexpected ): `{pattern}`")
    } else if reason.contains("unclosed character class") || is_open_range(pattern) {
        let class = pattern.find('[').and_then(|at| pattern.get(at..));
        format!("missing closing ]: `{}`", class.unwrap_or_default())
    } else {
        format!("{reason}: `{pattern}`")
    };
    format!("error parsing regexp: {said}")
}
