//! From text to our tree.
//!
//! Responsible for what PromQL is: tokens (`lexer.rs`), grammar (`grammar.rs`,
//! `selector.rs`) and types (`signature.rs`), with errors that say where. Length,
//! nesting and numbers are bounded, expressions compile within a memory bound.

mod duration;
mod grammar;
mod lexer;
mod number;
mod selector;
mod signature;

use std::fmt;

use crate::ast::Expr;

pub(crate) use signature::shape as call_shape;

/// Longest query.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;

/// The text is not a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub message: String,
    /// Where in the text, when there is such a place.
    pub place: Option<Place>,
}

/// A place in a text; both numbers begin with 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    /// In bytes, as Prometheus counts.
    pub column: usize,
}

impl Place {
    /// The place of a byte.
    pub fn of(query: &str, position: usize) -> Self {
        let before = &query.as_bytes()[..position.min(query.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Place { line, column: 1 + before.len() - line_start }
    }
}

impl fmt::Display for ParseError {
    /// `1:5: parse error: ...`, as Prometheus writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => write!(f, "{line}:{column}: ")?,
            None => f.write_str("unknown position: ")?,
        }
        write!(f, "parse error: {}", self.message)
    }
}

impl std::error::Error for ParseError {}

impl ParseError {
    fn nowhere(message: impl Into<String>) -> Self {
        ParseError { message: message.into(), place: None }
    }

    /// At a byte of the query.
    fn at(query: &str, position: usize, message: impl Into<String>) -> Self {
        ParseError { message: message.into(), place: Some(Place::of(query, position)) }
    }
}

/// Parts of the language that Prometheus calls experimental, and has off until
/// they are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `limitk`, `limit_ratio` and the functions for which
    /// [`crate::Function::is_experimental`] holds.
    pub experimental_functions: bool,
    /// `[2 * 5m]`, `offset step()`.
    pub duration_expressions: bool,
    /// `rate(x[5m] anchored)`, `x smoothed`.
    pub extended_range_selectors: bool,
    /// `a + fill(0) b`
    pub fill_modifiers: bool,
}

impl Features {
    pub fn all() -> Self {
        Features {
            experimental_functions: true,
            duration_expressions: true,
            extended_range_selectors: true,
            fill_modifiers: true,
        }
    }
}

/// Parses and checks a query of the stable language.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    parse_with(query, Features::default())
}

/// Parses and checks a query.
pub fn parse_with(query: &str, features: Features) -> Result<Expr, ParseError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(ParseError::nowhere(format!("query is longer than {QUERY_BYTES_MAX} bytes")));
    }
    grammar::Parser::new(query, features).query()
}

#[cfg(test)]
mod tests;
