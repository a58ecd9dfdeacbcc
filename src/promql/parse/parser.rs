//! Tokens to syntax tree, by precedence.
//!
//! The first error ends the parse. A token that fits nowhere is reported by the innermost construct that has a name
//! for what it expected; see [`Fail`]. What the lexer has to say comes when its token would be used: a construct that is
//! complete without it goes first.

use crate::promql::parse::ast::{
    AtModifier, BinaryExpr, BinaryOp, Call, Expr, ExprKind, Extend, NumberLiteral, Span, UnaryOp,
};
use crate::promql::parse::error::ParseError;
use crate::promql::parse::functions::function;
use crate::promql::parse::lexer::Lexer;
use crate::promql::parse::literal::{duration_seconds, number_value, unquote};
use crate::promql::parse::token::{Keyword, Preprocessor, Token, TokenKind};

/// A tree higher than this is refused, so that whoever walks it may recurse. Chains of operators grow the tree too.
pub const EXPR_HEIGHT_MAX: usize = 500;

/// Parentheses, arguments, signs and right sides inside one another; the parser itself recurses through these.
pub const EXPR_NESTING_MAX: usize = 150;

/// How tightly the sign before an expression binds: as `*`, so that only `^` goes first.
const UNARY_OPERAND_BINDING: u8 = 6;

/// Why a construct could not be read.
#[derive(Debug)]
pub(super) enum Fail {
    /// The next token fits nowhere; no construct around it has said yet what it expected.
    Unexpected,
    /// Final.
    Error(ParseError),
}

pub(super) type Parse<T> = Result<T, Fail>;

/// A tree and its height.
pub(super) struct Sub {
    pub(super) expr: Expr,
    pub(super) height: usize,
}

/// One token of look-ahead over the lexer.
pub(super) struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    next: Token,
    /// What is wrong with the next token, when it is broken.
    broken: Option<ParseError>,
    /// End of the last token taken.
    last_end: usize,
    /// How many constructs are open around the next token.
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Reads the first token.
    pub(super) fn new(text: &'a str) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text);
        let next = lexer.next_token()?;
        Ok(Self {
            text,
            lexer,
            next,
            broken: None,
            last_end: 0,
            depth: 0,
        })
    }

    /// A whole expression and nothing behind it.
    pub(super) fn whole_expr(&mut self) -> Result<Expr, ParseError> {
        if self.kind() == TokenKind::Eof {
            let message = "no expression found in input".to_owned();
            return Err(ParseError::at(self.text, Span::default(), message));
        }
        let parsed = self.expr(0).and_then(|sub| self.end().map(|()| sub.expr));
        self.settle(parsed)
    }

    /// A whole vector selector and nothing behind it.
    pub(super) fn whole_selector(&mut self) -> Result<Expr, ParseError> {
        let kind = self.kind();
        let parsed = if kind == TokenKind::LeftBrace || kind.is_metric_name() {
            self.selector()
                .and_then(|sub| self.end().map(|()| sub.expr))
        } else {
            Err(Fail::Unexpected)
        };
        self.settle(parsed)
    }

    fn end(&self) -> Parse<()> {
        if self.kind() == TokenKind::Eof {
            Ok(())
        } else {
            Err(Fail::Unexpected)
        }
    }

    fn settle<T>(&self, parsed: Parse<T>) -> Result<T, ParseError> {
        parsed.map_err(|fail| match fail {
            Fail::Unexpected => self.unexpected("", ""),
            Fail::Error(error) => error,
        })
    }

    /// Names the construct for a token that nothing inside it has complained about.
    pub(super) fn within<T>(&self, parsed: Parse<T>, context: &str, expected: &str) -> Parse<T> {
        parsed.map_err(|fail| match fail {
            Fail::Unexpected => Fail::Error(self.unexpected(context, expected)),
            Fail::Error(error) => Fail::Error(error),
        })
    }

    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        if let Some(error) = &self.broken {
            return error.clone();
        }
        let mut message = format!("unexpected {}", self.next.describe(self.text_of(self.next)));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        ParseError::at(self.text, self.next.span, message)
    }

    pub(super) fn fail<T>(&self, span: Span, message: impl Into<String>) -> Parse<T> {
        Err(Fail::Error(ParseError::at(self.text, span, message.into())))
    }

    /// Fails when the next token is broken: for constructs that are complete only when it is known what follows.
    pub(super) fn look(&self) -> Parse<()> {
        if self.broken.is_some() {
            return Err(Fail::Unexpected);
        }
        Ok(())
    }

    pub(super) fn kind(&self) -> TokenKind {
        self.next.kind
    }

    pub(super) fn last_end(&self) -> usize {
        self.last_end
    }

    pub(super) fn span(&self) -> Span {
        self.next.span
    }

    pub(super) fn text_of(&self, token: Token) -> &'a str {
        self.text
            .get(token.span.start..token.span.end)
            .unwrap_or_default()
    }

    /// Takes the next token and reads the one after it.
    pub(super) fn take(&mut self) -> Parse<Token> {
        let token = self.next;
        self.last_end = token.span.end;
        self.next = self.lexer.next_token().unwrap_or_else(|error| {
            let span = error.span;
            self.broken = Some(error);
            let kind = TokenKind::Broken;
            Token { kind, span }
        });
        Ok(token)
    }

    /// Takes the next token if it is `kind`.
    pub(super) fn accept(&mut self, kind: TokenKind) -> Parse<bool> {
        let hit = self.kind() == kind;
        if hit {
            self.take()?;
        }
        Ok(hit)
    }

    /// Takes the next token, which has to be `kind`.
    pub(super) fn expect(&mut self, kind: TokenKind) -> Parse<Token> {
        if self.kind() == kind {
            self.take()
        } else {
            Err(Fail::Unexpected)
        }
    }

    /// One more level around `inner`, if there is still room.
    pub(super) fn grow(&self, height: usize, span: Span) -> Parse<usize> {
        if EXPR_HEIGHT_MAX <= height {
            return self.fail(
                span,
                format!("expression tree is higher than {EXPR_HEIGHT_MAX} levels"),
            );
        }
        Ok(height + 1)
    }

    /// An expression whose operators all bind at least as tightly as `binding`.
    pub(super) fn expr(&mut self, binding: u8) -> Parse<Sub> {
        if EXPR_NESTING_MAX <= self.depth {
            return self.fail(
                self.span(),
                format!("expression is nested deeper than {EXPR_NESTING_MAX} levels"),
            );
        }
        self.depth += 1;
        let mut lhs = self.operand()?;
        while let TokenKind::Op(op) = self.kind() {
            let op_binding = binding_of(op);
            if op_binding < binding {
                break;
            }
            lhs = self.binary(lhs, op, op_binding)?;
        }
        self.depth -= 1;
        Ok(lhs)
    }

    fn binary(&mut self, lhs: Sub, op: BinaryOp, op_binding: u8) -> Parse<Sub> {
        let op_span = self.take()?.span;
        let (return_bool, matching) = self.binary_modifiers()?;
        let is_right_associative = op == BinaryOp::Pow;
        let rhs = self.expr(op_binding + u8::from(!is_right_associative))?;
        let span = Span {
            start: lhs.expr.span.start,
            end: rhs.expr.span.end,
        };
        let height = self.grow(lhs.height.max(rhs.height), op_span)?;
        let binary = BinaryExpr {
            op,
            lhs: lhs.expr,
            rhs: rhs.expr,
            return_bool,
            matching: Some(matching),
        };
        Ok(Sub {
            expr: Expr {
                kind: ExprKind::Binary(Box::new(binary)),
                span,
            },
            height,
        })
    }

    /// A sign, or a primary expression with what follows it: `offset`, `@`, brackets, `anchored`, `smoothed`.
    fn operand(&mut self) -> Parse<Sub> {
        match sign(self.kind()) {
            Some(op) => self.signed(op),
            None => {
                let primary = self.primary()?;
                self.suffixes(primary)
            }
        }
    }

    fn signed(&mut self, op: UnaryOp) -> Parse<Sub> {
        let start = self.take()?.span.start;
        let Sub { expr, height } = self.expr(UNARY_OPERAND_BINDING)?;
        let span = Span {
            start,
            end: expr.span.end,
        };
        if let ExprKind::Number(mut number) = expr.kind {
            if op == UnaryOp::Minus {
                number.value = -number.value;
            }
            let kind = ExprKind::Number(number);
            return Ok(Sub {
                expr: Expr { kind, span },
                height,
            });
        }
        let height = self.grow(height, span)?;
        let kind = ExprKind::Unary(op, Box::new(expr));
        Ok(Sub {
            expr: Expr { kind, span },
            height,
        })
    }

    fn primary(&mut self) -> Parse<Sub> {
        let kind = self.kind();
        if matches!(kind, TokenKind::Number | TokenKind::Duration) {
            let span = self.span();
            let number = self.number()?;
            return Ok(leaf(ExprKind::Number(number), span));
        }
        if kind == TokenKind::String {
            let token = self.take()?;
            let value = self.string_value(token)?;
            return Ok(leaf(ExprKind::String(value), token.span));
        }
        if kind == TokenKind::LeftParen {
            let start = self.take()?.span.start;
            let inner = self.expr(0)?;
            let end = self.expect(TokenKind::RightParen)?.span.end;
            let span = Span { start, end };
            let height = self.grow(inner.height, span)?;
            let kind = ExprKind::Paren(Box::new(inner.expr));
            return Ok(Sub {
                expr: Expr { kind, span },
                height,
            });
        }
        if kind == TokenKind::LeftBrace {
            return self.selector();
        }
        self.named(kind)
    }

    /// What starts with a word: a call, an aggregation or a metric.
    fn named(&mut self, kind: TokenKind) -> Parse<Sub> {
        if !kind.is_metric_name() {
            return Err(Fail::Unexpected);
        }
        let word = self.take()?;
        if let TokenKind::Aggregate(op) = kind
            && matches!(
                self.kind(),
                TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without)
            )
        {
            let parsed = self.aggregation(op, word);
            return self.within(parsed, "aggregation", "");
        }
        let is_callable = matches!(kind, TokenKind::Identifier | TokenKind::Preprocessor(_));
        if is_callable && self.kind() == TokenKind::LeftParen {
            return self.call(word);
        }
        self.named_selector(word)
    }

    fn call(&mut self, word: Token) -> Parse<Sub> {
        let (args, height) = self.arguments()?;
        let name = self.text_of(word);
        let Some(func) = function(name) else {
            let quoted = crate::model::labels::go_quote(name);
            return self.fail(word.span, format!("unknown function with name {quoted}"));
        };
        let span = Span {
            start: word.span.start,
            end: self.last_end,
        };
        let height = self.grow(height, span)?;
        let kind = ExprKind::Call(Call { func, args });
        Ok(Sub {
            expr: Expr { kind, span },
            height,
        })
    }

    /// `(expr, expr)`; also tells the greatest height.
    pub(super) fn arguments(&mut self) -> Parse<(Vec<Expr>, usize)> {
        self.expect(TokenKind::LeftParen)?;
        let mut args = Vec::new();
        let mut height = 0;
        if self.accept(TokenKind::RightParen)? {
            return Ok((args, height));
        }
        loop {
            let Sub { expr, height: here } = self.expr(0)?;
            args.push(expr);
            height = height.max(here);
            let separator = self.span();
            if self.accept(TokenKind::RightParen)? {
                return Ok((args, height));
            }
            self.expect(TokenKind::Comma)?;
            self.look()?;
            if !self.kind().starts_expr() {
                return self.fail(
                    separator,
                    "trailing commas not allowed in function call args",
                );
            }
        }
    }

    /// Everything that may follow a primary expression and binds tighter than any operator.
    fn suffixes(&mut self, mut sub: Sub) -> Parse<Sub> {
        loop {
            let kind = self.kind();
            if kind == TokenKind::LeftBracket {
                sub = self.brackets(sub)?;
            } else if kind == TokenKind::At {
                self.take()?;
                let at = self.at_value(&sub.expr);
                let at = self.within(at, "@", "timestamp")?;
                self.set_at(&mut sub.expr, at)?;
            } else if kind == TokenKind::Keyword(Keyword::Offset) {
                self.take()?;
                let offset = self.offset_duration();
                let expected = "number, duration, step(), or range()";
                let offset = self.within(offset, "offset", expected)?;
                self.set_offset(&mut sub.expr, offset)?;
            } else if kind == TokenKind::Keyword(Keyword::Anchored) {
                self.take()?;
                self.set_extend(&mut sub.expr, Extend::Anchored)?;
            } else if kind == TokenKind::Keyword(Keyword::Smoothed) {
                self.take()?;
                self.set_extend(&mut sub.expr, Extend::Smoothed)?;
            } else {
                return Ok(sub);
            }
        }
    }

    /// `[range]`, `[range:]` or `[range:step]`.
    fn brackets(&mut self, sub: Sub) -> Parse<Sub> {
        let open = self.take()?.span;
        let range = self.positive_duration();
        let range = self.within(
            range,
            "subquery or range selector",
            "number, duration, step(), or range()",
        )?;
        if self.accept(TokenKind::RightBracket)? {
            return self.matrix(sub, open, range);
        }
        let colon = self.expect(TokenKind::Colon);
        self.within(colon, "subquery or range", "\":\" or \"]\"")?;
        let step = if self.kind() == TokenKind::RightBracket {
            None
        } else {
            let step = self.positive_duration();
            let expected = "number, duration, step(), range(), or \"]\"";
            Some(self.within(step, "subquery selector", expected)?)
        };
        let close = self.expect(TokenKind::RightBracket);
        self.within(close, "subquery selector", "\"]\"")?;
        self.subquery(sub, range, step)
    }

    /// What stands behind `@`.
    fn at_value(&mut self, target: &Expr) -> Parse<AtModifier> {
        let kind = self.kind();
        let bound = if kind == TokenKind::Preprocessor(Preprocessor::Start) {
            Some(AtModifier::Start)
        } else if kind == TokenKind::Preprocessor(Preprocessor::End) {
            Some(AtModifier::End)
        } else {
            None
        };
        if let Some(bound) = bound {
            self.take()?;
            self.expect(TokenKind::LeftParen)?;
            self.expect(TokenKind::RightParen)?;
            return Ok(bound);
        }
        let seconds = self.signed_number()?.value;
        self.timestamp(target, seconds)
    }

    /// A number with or without a sign.
    pub(super) fn signed_number(&mut self) -> Parse<NumberLiteral> {
        let sign = sign(self.kind());
        if sign.is_some() {
            self.take()?;
        }
        let mut number = self.number()?;
        if sign == Some(UnaryOp::Minus) {
            number.value = -number.value;
        }
        Ok(number)
    }

    /// A number or a duration, without a sign.
    pub(super) fn number(&mut self) -> Parse<NumberLiteral> {
        let is_duration = self.kind() == TokenKind::Duration;
        if !is_duration && self.kind() != TokenKind::Number {
            return Err(Fail::Unexpected);
        }
        let span = self.span();
        let text = self.text_of(self.next);
        let value = if is_duration {
            duration_seconds(text)
        } else {
            number_value(text)
        };
        match value {
            Ok(value) => {
                self.take()?;
                Ok(NumberLiteral { value, is_duration })
            }
            Err(message) => self.fail(span, message),
        }
    }

    /// The value of a string token.
    pub(super) fn string_value(&self, token: Token) -> Parse<String> {
        let text = self.text_of(token);
        match unquote(text) {
            Some(value) => Ok(value),
            None => self.fail(
                token.span,
                format!(
                    "error unquoting string {}: invalid syntax",
                    crate::model::labels::go_quote(text)
                ),
            ),
        }
    }
}

/// `+` or `-`.
pub(super) fn sign(kind: TokenKind) -> Option<UnaryOp> {
    if kind == TokenKind::Op(BinaryOp::Add) {
        Some(UnaryOp::Plus)
    } else if kind == TokenKind::Op(BinaryOp::Sub) {
        Some(UnaryOp::Minus)
    } else {
        None
    }
}

/// An expression without parts.
pub(super) fn leaf(kind: ExprKind, span: Span) -> Sub {
    Sub {
        expr: Expr { kind, span },
        height: 1,
    }
}

/// Greater binds tighter.
pub(super) fn binding_of(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Eq
        | BinaryOp::Ne
        | BinaryOp::Gt
        | BinaryOp::Lt
        | BinaryOp::Ge
        | BinaryOp::Le
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        BinaryOp::Pow => 6,
    }
}
