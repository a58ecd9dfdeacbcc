//! Durations: between brackets and behind `offset`, as literals or arithmetic.

use crate::promql::parse::ast::{
    BinaryOp, DurationExpr, DurationSpec, NumberLiteral, Span, UnaryOp,
};
use crate::promql::parse::parser::{Fail, Parse, Parser, binding_of, sign};
use crate::promql::parse::token::{Preprocessor, Token, TokenKind};

/// Literals and operators in one duration; more is refused, so that whoever walks it may recurse.
const DURATION_TERMS_MAX: usize = 100;

/// What 63 bits of nanoseconds hold, in seconds.
const DURATION_SECONDS_MAX: f64 = 9_223_372_036.854_776;

/// The sign before a duration binds as `*`, so that only `^` goes first.
const UNARY_OPERAND_BINDING: u8 = 6;

impl DurationExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Number(_, span)
            | Self::Step(span)
            | Self::Range(span)
            | Self::Unary(_, _, span)
            | Self::Binary(_, _, _, span)
            | Self::MinMax(_, _, _, span)
            | Self::Paren(_, span) => *span,
        }
    }

    /// As it is kept: milliseconds when it is a literal.
    pub(super) fn into_spec(self) -> DurationSpec {
        match self {
            Self::Number(number, _) => DurationSpec::Ms(seconds_to_ms(number.value)),
            Self::Step(_)
            | Self::Range(_)
            | Self::Unary(..)
            | Self::Binary(..)
            | Self::MinMax(..)
            | Self::Paren(..) => DurationSpec::Expr(Box::new(self)),
        }
    }
}

/// Rounds to nanoseconds, then drops what is below a millisecond.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the caller has checked the range, and float casts saturate"
)]
fn seconds_to_ms(seconds: f64) -> i64 {
    if seconds.is_nan() {
        // What is not a number of seconds is as long ago as can be said, as it is in Prometheus.
        return i64::MIN / 1_000_000;
    }
    (seconds * 1e9).round() as i64 / 1_000_000
}

impl Parser<'_> {
    /// What stands between `[` and `]` or `:`; literals have to be above zero.
    pub(super) fn positive_duration(&mut self) -> Parse<DurationExpr> {
        let mut terms = 0;
        let duration = self.duration_expr(0, &mut terms)?;
        self.look()?;
        if let DurationExpr::Number(number, span) = &duration
            && (number.value <= 0.0 || number.value.is_nan())
        {
            return self.fail(*span, "duration must be greater than 0");
        }
        Ok(duration)
    }

    /// What stands behind `offset`: one term with at most a sign, so that `foo offset 5 + 2` is a sum; only a
    /// parenthesis without a sign goes on with the operators behind it.
    pub(super) fn offset_duration(&mut self) -> Parse<DurationExpr> {
        let mut terms = 0;
        let kind = self.kind();
        if kind == TokenKind::LeftParen {
            let duration = self.duration_expr(0, &mut terms)?;
            self.look()?;
            return Ok(duration);
        }
        let Some(op) = sign(kind) else {
            return self.duration_operand(&mut terms);
        };
        let start = self.take()?.span;
        let operand_kind = self.kind();
        if sign(operand_kind).is_some() {
            let inner = self.duration_expr(UNARY_OPERAND_BINDING, &mut terms)?;
            let signed = self.signed_duration(op, start, inner)?;
            return self.duration_operators(signed, 0, &mut terms);
        }
        let operand = if matches!(operand_kind, TokenKind::Number | TokenKind::Duration) {
            let span = self.span();
            DurationExpr::Number(self.number()?, span)
        } else {
            self.duration_operand(&mut terms)?
        };
        let is_function = matches!(operand_kind, TokenKind::Preprocessor(_));
        if is_function && op == UnaryOp::Plus {
            let span = Span {
                start: start.start,
                end: operand.span().end,
            };
            return Ok(DurationExpr::Unary(op, Box::new(operand), span));
        }
        self.signed_duration(op, start, operand)
    }

    /// Arithmetic whose operators all bind at least as tightly as `binding`.
    fn duration_expr(&mut self, binding: u8, terms: &mut usize) -> Parse<DurationExpr> {
        let lhs = if let Some(op) = sign(self.kind()) {
            let start = self.take()?.span;
            self.count_term(terms)?;
            let operand = self.duration_expr(UNARY_OPERAND_BINDING, terms)?;
            self.signed_duration(op, start, operand)?
        } else {
            self.duration_operand(terms)?
        };
        self.duration_operators(lhs, binding, terms)
    }

    fn duration_operators(
        &mut self,
        mut lhs: DurationExpr,
        binding: u8,
        terms: &mut usize,
    ) -> Parse<DurationExpr> {
        while let TokenKind::Op(op) = self.kind() {
            let op_binding = binding_of(op);
            if !is_arithmetic(op) || op_binding < binding {
                break;
            }
            let op_span = self.take()?.span;
            let is_right_associative = op == BinaryOp::Pow;
            let rhs = self.duration_expr(op_binding + u8::from(!is_right_associative), terms)?;
            self.look()?;
            if is_zero(&rhs) && op == BinaryOp::Div {
                return self.fail(op_span, "division by zero");
            }
            if is_zero(&rhs) && op == BinaryOp::Mod {
                return self.fail(op_span, "modulo by zero");
            }
            let span = Span {
                start: lhs.span().start,
                end: rhs.span().end,
            };
            lhs = DurationExpr::Binary(op, Box::new(lhs), Box::new(rhs), span);
        }
        Ok(lhs)
    }

    fn count_term(&self, terms: &mut usize) -> Parse<()> {
        *terms += 1;
        if DURATION_TERMS_MAX < *terms {
            return self.fail(
                self.span(),
                format!("duration expression has more than {DURATION_TERMS_MAX} terms"),
            );
        }
        Ok(())
    }

    /// A literal, a call or a parenthesis.
    fn duration_operand(&mut self, terms: &mut usize) -> Parse<DurationExpr> {
        self.count_term(terms)?;
        let kind = self.kind();
        let span = self.span();
        if matches!(kind, TokenKind::Number | TokenKind::Duration) {
            let number = self.number()?;
            return self.check_range(number, span, span);
        }
        if let TokenKind::Preprocessor(word) = kind {
            return self.duration_function(word, terms);
        }
        self.expect(TokenKind::LeftParen)?;
        let inner = self.duration_expr(0, terms)?;
        let end = self.expect(TokenKind::RightParen)?.span.end;
        let span = Span {
            start: span.start,
            end,
        };
        Ok(if let DurationExpr::Paren(inner, _) = inner {
            // One pair of parentheses says as much as two.
            DurationExpr::Paren(inner, span)
        } else {
            DurationExpr::Paren(Box::new(inner), span)
        })
    }

    /// `step()`, `range()`, `min_of(…)` or `max_of(…)`.
    fn duration_function(&mut self, word: Preprocessor, terms: &mut usize) -> Parse<DurationExpr> {
        if matches!(word, Preprocessor::Start | Preprocessor::End) {
            return Err(Fail::Unexpected);
        }
        let token = self.take()?;
        if matches!(word, Preprocessor::MinOf | Preprocessor::MaxOf) {
            return self.min_or_max(word, token, terms);
        }
        self.expect(TokenKind::LeftParen)?;
        let end = self.expect(TokenKind::RightParen)?.span.end;
        let span = Span {
            start: token.span.start,
            end,
        };
        Ok(if word == Preprocessor::Step {
            DurationExpr::Step(span)
        } else {
            DurationExpr::Range(span)
        })
    }

    fn min_or_max(
        &mut self,
        word: Preprocessor,
        token: Token,
        terms: &mut usize,
    ) -> Parse<DurationExpr> {
        self.expect(TokenKind::LeftParen)?;
        let left = self.duration_expr(0, terms)?;
        self.expect(TokenKind::Comma)?;
        let right = self.duration_expr(0, terms)?;
        let end = self.expect(TokenKind::RightParen)?.span.end;
        let span = Span {
            start: token.span.start,
            end,
        };
        let is_max = word == Preprocessor::MaxOf;
        Ok(DurationExpr::MinMax(
            is_max,
            Box::new(left),
            Box::new(right),
            span,
        ))
    }

    /// Puts a sign before an operand; literals take it up.
    fn signed_duration(
        &self,
        op: UnaryOp,
        sign: Span,
        operand: DurationExpr,
    ) -> Parse<DurationExpr> {
        let span = Span {
            start: sign.start,
            end: operand.span().end,
        };
        match (op, operand) {
            (_, DurationExpr::Number(mut number, _)) => {
                if op == UnaryOp::Minus {
                    number.value = -number.value;
                }
                self.check_range(number, span, sign)
            }
            (UnaryOp::Plus, operand) => Ok(operand),
            (UnaryOp::Minus, operand) => Ok(DurationExpr::Unary(op, Box::new(operand), span)),
        }
    }

    fn check_range(&self, number: NumberLiteral, span: Span, blame: Span) -> Parse<DurationExpr> {
        if DURATION_SECONDS_MAX < number.value.abs() {
            return self.fail(blame, "duration out of range");
        }
        Ok(DurationExpr::Number(number, span))
    }
}

fn is_arithmetic(op: BinaryOp) -> bool {
    matches!(
        op,
        BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::Mod
            | BinaryOp::Pow
    )
}

fn is_zero(duration: &DurationExpr) -> bool {
    matches!(duration, DurationExpr::Number(number, _) if number.value == 0.0)
}
