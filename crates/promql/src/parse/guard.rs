//! What a query must satisfy before the grammar may look at it.
//!
//! One pass over the text. It also takes the string literals out and leaves
//! numbered ones (`'#0'`, `'#1'`, ...) in their place, so that their escapes and
//! regular expressions are handled here.

use super::{ParseError, QUERY_BYTES_MAX};
use crate::text::unquote;

/// Deepest nesting of parentheses, brackets and braces.
const NESTING_MAX: usize = 100;

/// Most operators: the tree gets as deep as a chain of them is long.
const OPERATORS_MAX: usize = 500;

/// Largest duration in seconds written as a number: about 300 years, the range
/// of Prometheus' durations.
const DURATION_SECONDS_MAX: f64 = 9.2e9;

/// Most digits of one number within a duration such as `1h30m`.
const DURATION_DIGITS_MAX: usize = 9;

/// A query that is safe to parse.
pub(super) struct Guarded {
    pub text: String,
    /// Values of the literals, or the literals that are not UTF-8.
    strings: Vec<Result<String, String>>,
}

impl Guarded {
    /// The string that a placeholder stands for; other text is itself.
    pub fn restore(&self, text: &str) -> Result<String, ParseError> {
        match self.string(text) {
            None => Ok(text.to_owned()),
            Some(Ok(value)) => Ok(value.clone()),
            // Labels and values are UTF-8, so another string can only be a mistake.
            Some(Err(literal)) => Err(ParseError::new(format!("string {literal} is not valid UTF-8"))),
        }
    }

    /// The same for a string that names a label.
    pub fn restore_label_name(&self, text: &str) -> Result<String, ParseError> {
        match self.string(text) {
            Some(Err(literal)) => Err(ParseError::new(format!("invalid label name {literal}"))),
            _ => self.restore(text),
        }
    }

    fn string(&self, text: &str) -> Option<&Result<String, String>> {
        self.strings.get(text.strip_prefix('#')?.parse::<usize>().ok()?)
    }

    /// A message of the parser with the first placeholders in it restored.
    pub fn restore_message(&self, mut message: String) -> String {
        for (index, text) in self.strings.iter().enumerate().take(20) {
            let Ok(text) = text else { continue };
            message = message.replace(&format!("#{index}'"), &format!("{text}'"));
        }
        message
    }
}

pub(super) fn check(query: &str) -> Result<Guarded, ParseError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(ParseError::new(format!("query is longer than {QUERY_BYTES_MAX} bytes")));
    }
    let mut guarded = Guarded { text: String::with_capacity(query.len()), strings: Vec::new() };
    let mut scanner = Scanner { query, position: 0, nesting: 0, brackets: 0, operators: 0 };
    // Whether the last word was `offset`, signs apart: a duration follows.
    let mut after_offset = false;
    while let Some(c) = scanner.peek() {
        let start = scanner.position;
        match c {
            '"' | '\'' | '`' => {
                let literal = scanner.string(c)?;
                let text = unquote(literal).map_err(|message| ParseError::at(start, message))?;
                guarded.push_string(text.ok_or_else(|| literal.to_owned()));
                after_offset = false;
                continue;
            }
            '#' => scanner.take_while(|c| c != '\n' && c != '\r'),
            '0'..='9' | '.' => {
                let number = scanner.number();
                check_number(number, after_offset || scanner.brackets > 0)
                    .map_err(|message| ParseError::at(start, message))?;
                after_offset = false;
                if is_zero_duration(number) {
                    // The parser takes 0 where it refuses 0s.
                    guarded.text.push('0');
                    continue;
                }
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
                scanner.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
                let word = query[start..scanner.position].to_ascii_lowercase();
                if after_offset && matches!(&*word, "nan" | "inf") {
                    return Err(ParseError::at(start, format!("{word} is not a duration")));
                }
                after_offset = word == "offset";
                let is_operator =
                    matches!(&*word, "and" | "or" | "unless" | "atan2" | "offset" | "nan" | "inf");
                scanner.operator(is_operator)?;
            }
            _ => {
                scanner.position += c.len_utf8();
                match c {
                    '(' | '[' | '{' => scanner.open(c)?,
                    ')' | ']' | '}' => scanner.close(c),
                    _ => {}
                }
                scanner.operator("+-*/%^=!<>@".contains(c))?;
                after_offset = after_offset && (c.is_ascii_whitespace() || c == '+' || c == '-');
            }
        }
        guarded.text.push_str(&query[start..scanner.position]);
    }
    Ok(guarded)
}

impl Guarded {
    fn push_string(&mut self, text: Result<String, String>) {
        // An empty string stays: the grammar asks whether matchers accept it.
        if text.as_ref().is_ok_and(String::is_empty) {
            self.text.push_str("''");
        } else {
            self.text.push_str(&format!("'#{}'", self.strings.len()));
            self.strings.push(text);
        }
    }
}

/// A number or duration as written.
fn check_number(text: &str, is_duration: bool) -> Result<(), String> {
    let is_hexadecimal = text.len() > 1 && text[1..].starts_with(['x', 'X']);
    let has_unit = !is_hexadecimal && text.contains(['m', 's', 'h', 'd', 'w', 'y']);
    let long = text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > DURATION_DIGITS_MAX);
    if has_unit && long {
        return Err(format!("duration {text} is out of range"));
    }
    if is_duration && !is_hexadecimal && text.parse::<f64>().is_ok_and(|n| n > DURATION_SECONDS_MAX) {
        return Err(format!("duration {text} is out of range"));
    }
    Ok(())
}

fn is_zero_duration(text: &str) -> bool {
    let is_duration = text.ends_with(['s', 'm', 'h', 'd', 'w', 'y']);
    is_duration && text.chars().all(|c| matches!(c, '0' | 's' | 'm' | 'h' | 'd' | 'w' | 'y'))
}

struct Scanner<'a> {
    query: &'a str,
    position: usize,
    nesting: usize,
    brackets: usize,
    operators: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<char> {
        self.query[self.position..].chars().next()
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) {
        while let Some(c) = self.peek().filter(|c| accept(*c)) {
            self.position += c.len_utf8();
        }
    }

    fn string(&mut self, quote: char) -> Result<&'a str, ParseError> {
        let start = self.position;
        self.position += 1;
        while let Some(c) = self.peek() {
            self.position += c.len_utf8();
            if c == quote {
                return Ok(&self.query[start..self.position]);
            }
            if c == '\\' && quote != '`' {
                self.position += self.peek().map_or(0, char::len_utf8);
            }
        }
        Err(ParseError::at(start, "unterminated quoted string"))
    }

    fn number(&mut self) -> &'a str {
        let start = self.position;
        let mut before = ' ';
        while let Some(c) = self.peek() {
            let is_exponent_sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
            if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || is_exponent_sign) {
                break;
            }
            before = c;
            self.position += 1;
        }
        &self.query[start..self.position]
    }

    fn open(&mut self, c: char) -> Result<(), ParseError> {
        self.nesting += 1;
        self.brackets += usize::from(c == '[');
        if self.nesting > NESTING_MAX {
            return Err(ParseError::at(self.position, format!("nested deeper than {NESTING_MAX}")));
        }
        Ok(())
    }

    fn close(&mut self, c: char) {
        self.nesting = self.nesting.saturating_sub(1);
        self.brackets = self.brackets.saturating_sub(usize::from(c == ']'));
    }

    fn operator(&mut self, is_operator: bool) -> Result<(), ParseError> {
        self.operators += usize::from(is_operator);
        if self.operators > OPERATORS_MAX {
            return Err(ParseError::at(self.position, format!("more than {OPERATORS_MAX} operators")));
        }
        Ok(())
    }
}
