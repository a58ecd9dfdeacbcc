//! Aggregations, and what stands between a binary operator and its right side.

use crate::promql::parse::ast::{
    AggregateExpr, AggregateOp, Cardinality, Expr, ExprKind, Span, VectorMatching,
};
use crate::promql::parse::parser::{Parse, Parser, Sub};
use crate::promql::parse::token::{Keyword, Token, TokenKind};

impl Parser<'_> {
    /// What follows the name of an aggregation; the grouping stands before or behind the arguments.
    pub(super) fn aggregation(&mut self, op: AggregateOp, word: Token) -> Parse<Sub> {
        let mut grouping = self.grouping()?;
        let (args, height) = self.arguments()?;
        let mut span = Span {
            start: word.span.start,
            end: self.last_end(),
        };
        if grouping.is_none() {
            self.look()?;
            grouping = self.grouping()?;
            span.end = self.last_end();
        }
        let (without, grouping) = grouping.unwrap_or_default();
        if args.is_empty() {
            return self.fail(span, "no arguments for aggregate expression provided");
        }
        let n_wanted = 1 + usize::from(op.takes_param());
        let n_given = args.len();
        let mut args = args.into_iter();
        let param = if op.takes_param() { args.next() } else { None };
        let (Some(expr), None) = (args.next(), args.next()) else {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {n_wanted}, got {n_given}"
            );
            return self.fail(span, message);
        };
        let height = self.grow(height, span)?;
        let aggregate = AggregateExpr {
            op,
            expr,
            param,
            grouping,
            without,
        };
        let kind = ExprKind::Aggregate(Box::new(aggregate));
        Ok(Sub {
            expr: Expr { kind, span },
            height,
        })
    }

    /// `by (…)` or `without (…)`, if one is next; the flag tells which.
    fn grouping(&mut self) -> Parse<Option<(bool, Vec<String>)>> {
        let without = self.accept(TokenKind::Keyword(Keyword::Without))?;
        if !without && !self.accept(TokenKind::Keyword(Keyword::By))? {
            return Ok(None);
        }
        Ok(Some((without, self.grouping_labels()?)))
    }

    /// `bool`, `on` or `ignoring`, `group_left` or `group_right`, and the fills, in this order.
    pub(super) fn binary_modifiers(&mut self) -> Parse<(bool, VectorMatching)> {
        let return_bool = self.accept(TokenKind::Keyword(Keyword::Bool))?;
        let mut matching = VectorMatching {
            card: Cardinality::OneToOne,
            labels: Vec::new(),
            on: false,
            include: Vec::new(),
            fill_left: None,
            fill_right: None,
        };
        matching.on = self.accept(TokenKind::Keyword(Keyword::On))?;
        if matching.on || self.accept(TokenKind::Keyword(Keyword::Ignoring))? {
            matching.labels = self.grouping_labels()?;
            if self.accept(TokenKind::Keyword(Keyword::GroupLeft))? {
                matching.card = Cardinality::ManyToOne;
            } else if self.accept(TokenKind::Keyword(Keyword::GroupRight))? {
                matching.card = Cardinality::OneToMany;
            }
            if matching.card != Cardinality::OneToOne && !self.is_behind_grouping() {
                matching.include = self.grouping_labels()?;
            }
        }
        self.fills(&mut matching)?;
        Ok((return_bool, matching))
    }

    /// Can the next token stand where the labels of `group_left` are left out?
    fn is_behind_grouping(&self) -> bool {
        let kind = self.kind();
        kind != TokenKind::LeftParen && kind.starts_expr()
    }

    /// `fill (x)`, or `fill_left (x)` and `fill_right (x)` in any order.
    fn fills(&mut self, matching: &mut VectorMatching) -> Parse<()> {
        let left = TokenKind::Keyword(Keyword::FillLeft);
        let right = TokenKind::Keyword(Keyword::FillRight);
        if self.accept(TokenKind::Keyword(Keyword::Fill))? {
            let value = self.fill_value()?;
            matching.fill_left = Some(value);
            matching.fill_right = Some(value);
        } else if self.accept(left)? {
            matching.fill_left = Some(self.fill_value()?);
            if self.accept(right)? {
                matching.fill_right = Some(self.fill_value()?);
            }
        } else if self.accept(right)? {
            matching.fill_right = Some(self.fill_value()?);
            if self.accept(left)? {
                matching.fill_left = Some(self.fill_value()?);
            }
        }
        Ok(())
    }

    fn fill_value(&mut self) -> Parse<f64> {
        self.expect(TokenKind::LeftParen)?;
        let number = self.signed_number()?;
        self.expect(TokenKind::RightParen)?;
        Ok(number.value)
    }
}
