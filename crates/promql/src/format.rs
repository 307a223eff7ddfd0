//! Queries in their canonical form.

use crate::parse::{ParseError, parse};

/// `query`, laid out as Prometheus does it. One that the printer cannot render
/// without changing its meaning is answered as it was written.
///
/// # Errors
///
/// When the text is no query.
pub fn format(query: &str) -> Result<String, ParseError> {
    let meant = parse(query)?;
    let as_written = || query.trim().to_owned();
    let Ok(printable) = promql_parser::parser::parse(query) else { return Ok(as_written()) };
    let text = printable.prettify();
    Ok(if parse(&text).is_ok_and(|again| again == meant) { text } else { as_written() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_their_meaning() {
        let check = |query: &str, expected: &str| assert_eq!(format(query).unwrap(), expected, "{query}");
        check("  a+  b", "a + b");
        check("sum( rate( x[5m] ) )by(job)", "sum by (job) (rate(x[5m]))");
        check(r#"x{a="1", b='it\'s'}"#, r#"x{a="1",b="it's"}"#);
        check("NaN", "NaN");
        assert!(format("sum(").is_err());
    }
}
