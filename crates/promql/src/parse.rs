//! From text to our tree.
//!
//! Responsible for what PromQL is: tokens (`lexer.rs`), grammar (`grammar.rs`,
//! `selector.rs`) and types (`signature.rs`), with errors that say where. Length,
//! nesting and numbers are bounded, expressions compile within a memory bound.

mod grammar;
mod lexer;
mod number;
mod selector;
mod signature;

use std::fmt;

use crate::ast::Expr;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    /// In bytes, as Prometheus counts.
    pub column: usize,
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
        let before = &query.as_bytes()[..position.min(query.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let place = Some(Place { line, column: 1 + before.len() - line_start });
        ParseError { message: message.into(), place }
    }
}

/// Parses and checks a query.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(ParseError::nowhere(format!("query is longer than {QUERY_BYTES_MAX} bytes")));
    }
    grammar::Parser::new(query).query()
}

#[cfg(test)]
mod tests;
