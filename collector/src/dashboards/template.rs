//! Variables in the text of an expression or selector.
//!
//! Whoever shows a dashboard replaces them; here they only have to be known,
//! and the text has to be right once they are replaced.

/// Variables of every dashboard, all of them times such as `5m`: the distance
/// of points, a window that holds enough samples for a rate, the whole range.
const TIMES: [&str; 3] = ["__interval", "__rate_interval", "__range"];

/// `text` with a value in place of each `$name` and `${name}`. What follows a
/// dollar sign and is no name, as in a regular expression, stays.
///
/// # Errors
///
/// What is expected, when a name is not known.
pub fn fill(text: &str, names: &[String]) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((name, after)) = name_of(rest) else {
            filled.push('$');
            continue;
        };
        filled.push_str(value_of(name, names)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The name that a text after a dollar sign begins with, and what follows.
fn name_of(rest: &str) -> Option<(&str, &str)> {
    let (name, after) = match rest.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => {
            let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            rest.split_at(rest.find(is_end).unwrap_or(rest.len()))
        }
    };
    is_name(name).then_some((name, after))
}

fn value_of<'t>(name: &str, names: &[String]) -> Result<&'t str, String> {
    if TIMES.contains(&name) {
        return Ok("1m");
    }
    if names.iter().any(|known| known == name) {
        return Ok("x");
    }
    let known: Vec<_> =
        names.iter().map(String::as_str).chain(TIMES).map(|known| format!("${known}")).collect();
    Err(format!("there is no variable ${name} here; known are {}", known.join(", ")))
}

/// Whether this can be the name of a variable or of a label.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether each `{{...}}` of a legend names a label.
pub fn is_legend(text: &str) -> bool {
    let mut pieces = text.split("{{");
    let is_plain = |text: &str| !text.contains("}}");
    pieces.next().is_none_or(is_plain)
        && pieces.all(|piece| {
            let closed = piece.split_once("}}");
            closed.is_some_and(|(label, after)| is_name(label.trim()) && is_plain(after))
        })
}
