//! Text to syntax tree and back.
//!
//! Owns: the lexer, the grammar, the type check, the table of functions, the canonical and the pretty print.
//! Never: evaluates anything, or knows a series.
//! Tested by: the tables of inputs and errors in `tests`, and round trips over every script under `tests/promql`.
pub mod ast;
mod check;
mod duration;
mod error;
mod functions;
mod lexer;
mod literal;
mod modifiers;
mod number_scan;
mod parser;
mod pretty;
mod print;
mod selector;
mod suffix;
#[cfg(test)]
mod tests;
mod token;
mod tree;

use crate::model::Matcher;
use crate::promql::parse::ast::{Expr, ExprKind};
use crate::promql::parse::parser::Parser;

pub use error::{ParseError, position};
pub use functions::{function, functions};
pub(crate) use literal::number_value;
pub use literal::unquote;
pub use parser::{EXPR_HEIGHT_MAX, EXPR_NESTING_MAX};
pub use pretty::pretty;
pub use token::{keywords, operators};
pub use tree::tree_json;

/// Reads a query and checks its types.
pub fn parse_expr(text: &str) -> Result<Expr, ParseError> {
    let mut expr = Parser::new(text)?.whole_expr()?;
    check::check(text, &mut expr)?;
    Ok(expr)
}

/// Reads a vector selector, as `match[]` parameters are; the matchers may all match the empty string.
pub fn parse_selector_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let expr = Parser::new(text)?.whole_selector()?;
    let ExprKind::Vector(selector) = expr.kind else {
        return Ok(Vec::new());
    };
    Ok(selector
        .matchers
        .iter()
        .map(|matcher| Matcher::clone(matcher))
        .collect())
}
