//! Small pieces of text: numbers, names, string literals, expressions.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};

/// Memory bound of one compiled expression, and of its lazy automaton.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A number as label values and messages show it: never with an exponent.
pub(crate) fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else {
        value.to_string()
    }
}

/// A number in its shortest form, with an exponent where Go's `%g` has one.
pub(crate) fn shortest(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return number(value);
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("it is a small integer");
    if (-4..6).contains(&exponent) {
        return number(value);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// A number as OpenMetrics has it in labels: `1.0` for one.
pub(crate) fn open_metrics(value: f64) -> String {
    let text = shortest(value);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_plain { text + ".0" } else { text }
}

/// Digits compare as the number they make: `cpu2` before `cpu10`.
pub(crate) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let ([x, ..], [y, ..]) = (a, b) else { return a.len().cmp(&b.len()) };
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (x, y) = (a.split_at(digits(a)), b.split_at(digits(b)));
            let number = |digits: &'_ [u8]| {
                let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
                (digits.len() - zeros, digits[zeros..].to_vec())
            };
            let order = number(x.0).cmp(&number(y.0)).then(x.0.len().cmp(&y.0.len()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (x.1, y.1);
        } else {
            if x != y {
                return x.cmp(y);
            }
            (a, b) = (&a[1..], &b[1..]);
        }
    }
}

/// The upper bound that a bucket's `le` label names.
pub(crate) fn bucket_bound(text: &str) -> Option<f64> {
    // Rust takes everything that Go takes except hexadecimal and underscores.
    text.parse().ok()
}

/// An expression that has to match the whole value.
pub(crate) struct Anchored {
    /// The source, in the syntax of the regex crate.
    pub source: String,
    pub regex: Regex,
}

/// Compiles an expression as Prometheus understands it.
pub(crate) fn anchored(pattern: &str) -> Result<Anchored, String> {
    let build = |source: &str| {
        RegexBuilder::new(source).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build()
    };
    // Alone first: `a)|(b` must not become valid by being wrapped.
    let compile = |source: String| {
        let regex = build(&source).and_then(|_| build(&format!("^(?s:{source})$")))?;
        Ok::<_, regex::Error>(Anchored { source, regex })
    };
    compile(pattern.to_owned())
        .or_else(|error| compile(with_literal_braces(pattern)).map_err(|_| error))
        .map_err(|error| format!("invalid regular expression {pattern:?}: {error}"))
}

/// Escapes braces that repeat nothing, such as in `/users/{id}`: Go takes them
/// literally, the regex crate refuses them.
fn with_literal_braces(pattern: &str) -> String {
    let mut escaped = String::with_capacity(pattern.len() + 8);
    let mut is_class = false;
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        // An escape, its argument included, is copied as it is.
        let len = match c {
            '\\' => {
                let len = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                let has_argument = matches!(&rest[1..len], "p" | "P" | "x") && rest[len..].starts_with('{');
                if has_argument { rest.find('}').map_or(len, |end| end + 1) } else { len }
            }
            _ => c.len_utf8(),
        };
        match c {
            '[' => is_class = true,
            ']' => is_class = false,
            '{' if !is_class && !is_repetition(rest) => escaped.push('\\'),
            _ => {}
        }
        escaped.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    escaped
}

/// Whether the text starts with `{n}`, `{n,}` or `{n,m}`.
fn is_repetition(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, "0"));
    let is_number = |digits: &str| digits.chars().all(|c| c.is_ascii_digit());
    !low.is_empty() && is_number(low) && is_number(high)
}

/// The value of a string literal, quotes included, with Go's escapes; `None` if
/// they make something that is not UTF-8.
pub(crate) fn unquote(literal: &str) -> Result<Option<String>, String> {
    let mut chars = literal.chars();
    let quote = chars.next().ok_or("empty string literal")?;
    let inner = chars.as_str().strip_suffix(quote).ok_or("unterminated string literal")?;
    if quote == '`' {
        return Ok(Some(inner.into()));
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next().ok_or("escape sequence not terminated")?;
        let simple = match escape {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' => Some(b'\\'),
            _ if escape == quote => u8::try_from(quote).ok(),
            _ => None,
        };
        if let Some(byte) = simple {
            bytes.push(byte);
            continue;
        }
        let (digits, radix) = match escape {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (3, 8),
            _ => return Err(format!("unknown escape sequence '\\{escape}'")),
        };
        let mut code = if radix == 8 { escape.to_digit(8).unwrap_or(0) } else { 0 };
        for _ in 0..digits - usize::from(radix == 8) {
            let digit = rest.next().and_then(|c| c.to_digit(radix)).ok_or("invalid escape sequence")?;
            code = code.wrapping_mul(radix).wrapping_add(digit);
        }
        if matches!(escape, 'u' | 'U') {
            let c = char::from_u32(code).ok_or("escape sequence is not a Unicode character")?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(code).map_err(|_| "octal escape is larger than a byte")?);
        }
    }
    Ok(String::from_utf8(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_unquoted() {
        let check = |literal: &str, expected: Result<&str, ()>| {
            let found = unquote(literal).map_err(|_| ());
            assert_eq!(found, expected.map(|text| Some(text.to_owned())), "{literal}");
        };
        assert_eq!(unquote(r#""\xff""#), Ok(None));
        check(r#""a'b""#, Ok("a'b"));
        check(r#"'a\'b'"#, Ok("a'b"));
        check(r#""a\'b""#, Err(()));
        check(r"`\n`", Ok(r"\n"));
        check(r#""\n\t\\\"""#, Ok("\n\t\\\""));
        check(r#""\xe2\x82\xac\u20ac\101""#, Ok("€€A"));
        check(r#""\777""#, Err(()));
        check(r#""\ud800""#, Err(()));
        check(r#""\"#, Err(()));
        check(r#"""#, Err(()));
    }

    #[test]
    fn expressions_are_anchored_and_bounded() {
        let check = |pattern: &str, value: &str, expected: bool| {
            assert_eq!(anchored(pattern).unwrap().regex.is_match(value), expected, "{pattern} {value}");
        };
        check("a|bc", "bc", true);
        check("a|b", "ab", false);
        check("a.b", "a\nb", true);
        check("/users/{id}", "/users/{id}", true);
        check("a{2}{x}", "aa{x}", true);
        check(r"\x{41}{b}[{]é{1,2}{,}", "A{b}{éé{,}", true);
        assert!(anchored("a)|(b").is_err());
        assert!(anchored(r"\w{1000}{1000}").is_err());
        assert!(anchored("{").is_ok());
        assert!(anchored("\\").is_err());
    }

    #[test]
    fn short_numbers_are_those_of_go() {
        for (value, expected) in [
            (0.0, "0"),
            (-12.5, "-12.5"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (1.234_567_89e8, "1.23456789e+08"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(shortest(value), expected);
        }
    }

    #[test]
    fn digits_are_ordered_as_numbers() {
        let mut names = ["cpu10", "cpu2", "cpu", "a", "cpu02", "cpu2b", "cpu1.10", "cpu1.9"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["a", "cpu", "cpu1.9", "cpu1.10", "cpu2", "cpu2b", "cpu02", "cpu10"]);
        assert_eq!([0.0, 0.25, 1e9].map(open_metrics), ["0.0", "0.25", "1e+09"]);
    }

    #[test]
    fn numbers_have_no_exponent() {
        assert_eq!(number(1e21), "1000000000000000000000");
        assert_eq!(number(0.1), "0.1");
        assert_eq!(number(-0.0), "-0");
        assert_eq!(number(f64::NEG_INFINITY), "-Inf");
    }
}
