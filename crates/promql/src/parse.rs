//! From text to our tree.
//!
//! The grammar is the `promql-parser` crate's. Around it stands what that crate
//! leaves open: bounds on length, nesting and numbers (it panics on durations
//! that `Duration` cannot hold and recurses over its tree), Go's string
//! literals, expressions compiled within a memory bound.

mod convert;
mod guard;

use crate::ast::Expr;

/// Longest query.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;

/// The text is not a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error: {message}")]
pub struct ParseError {
    pub message: String,
    /// Byte offset in the text, when known.
    pub position: Option<usize>,
}

impl ParseError {
    fn new(message: impl Into<String>) -> Self {
        ParseError { message: message.into(), position: None }
    }

    fn at(position: usize, message: impl Into<String>) -> Self {
        ParseError { message: message.into(), position: Some(position) }
    }
}

/// Parses and checks a query.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    let guarded = guard::check(query)?;
    let parsed = promql_parser::parser::parse(&guarded.text)
        .map_err(|message| ParseError::new(guarded.restore_message(message)))?;
    convert::expr(parsed, &guarded)
}

#[cfg(test)]
mod tests;
