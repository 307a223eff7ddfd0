//! The words of a line: names, quoted texts, numbers, sets of labels.

use std::borrow::Cow;

use memchr::memchr2;

use super::Dialect;
use crate::entry::Label;
use crate::error::shown;
use crate::number;

/// What is expected where something else stands, or which bound is passed.
pub enum Fault {
    Malformed(String),
    Labels,
}

impl Fault {
    pub fn new(what: impl Into<String>) -> Self {
        Fault::Malformed(what.into())
    }
}

/// A place in a line.
pub struct Cursor<'a> {
    rest: &'a [u8],
    dialect: Dialect,
}

/// What a set of labels may say beside labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SetOf {
    /// A sample, whose name may stand in the set.
    Sample,
    Exemplar,
}

impl<'a> Cursor<'a> {
    pub fn new(line: &'a [u8], dialect: Dialect) -> Self {
        Cursor { rest: line, dialect }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// What is left of the line.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn expected(&self, what: &str) -> Fault {
        match self.rest {
            [] => Fault::new(format!("expected {what}, but the line ends")),
            rest => Fault::new(format!("expected {what}, found {}", shown(rest))),
        }
    }

    pub fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        if is_there {
            self.rest = &self.rest[1..];
        }
        is_there
    }

    pub fn skip_blanks(&mut self) {
        let count = self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.rest = &self.rest[count..];
    }

    /// What stands between the words of a line: blanks, in OpenMetrics one.
    pub fn take_gap(&mut self) -> bool {
        match self.dialect {
            Dialect::OpenMetrics => self.take(b' '),
            Dialect::Prometheus => {
                let before = self.rest.len();
                self.skip_blanks();
                self.rest.len() < before
            }
        }
    }

    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|byte| !is_part(*byte)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Everything up to a blank.
    pub fn word(&mut self) -> &'a [u8] {
        self.take_while(|byte| !matches!(byte, b' ' | b'\t'))
    }

    /// The name of a metric as it stands outside of braces, or quoted.
    pub fn family(&mut self, what: &str) -> Result<Cow<'a, str>, Fault> {
        if self.peek() == Some(b'"') { self.quoted(what) } else { self.metric_name(what).map(Cow::Borrowed) }
    }

    pub fn metric_name(&mut self, what: &str) -> Result<&'a str, Fault> {
        self.name(what, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
    }

    fn name(&mut self, what: &str, is_part: impl Fn(u8) -> bool) -> Result<&'a str, Fault> {
        if self.peek().is_none_or(|byte| !is_part(byte) || byte.is_ascii_digit()) {
            return Err(self.expected(what));
        }
        Ok(std::str::from_utf8(self.take_while(is_part)).expect("names outside of quotes are ASCII"))
    }

    /// A text between quotes, its escapes resolved.
    fn quoted(&mut self, what: &str) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.expected(what));
        }
        let body = &self.rest[1..];
        let (mut at, mut is_escaped) = (0, false);
        loop {
            match memchr2(b'"', b'\\', &body[at..]) {
                Some(found) if body[at + found] == b'"' => {
                    at += found;
                    break;
                }
                Some(found) if at + found + 1 < body.len() => {
                    is_escaped = true;
                    at += found + 2;
                }
                _ => {
                    return Err(Fault::new(format!(
                        "expected {what}, but no quote ends {}",
                        shown(self.rest)
                    )));
                }
            }
        }
        let Ok(text) = std::str::from_utf8(&body[..at]) else {
            return Err(Fault::new(format!("{} is not UTF-8", shown(&body[..at]))));
        };
        self.rest = &body[at + 1..];
        Ok(if is_escaped { Cow::Owned(unescape(text, true)) } else { Cow::Borrowed(text) })
    }

    /// The set of labels behind an open brace, up to its end. Returns the
    /// name of the metric if it stands there.
    pub fn labels(
        &mut self,
        into: &mut Vec<Label<'a>>,
        labels_max: usize,
        of: SetOf,
    ) -> Result<Option<Cow<'a, str>>, Fault> {
        let mut metric = None;
        loop {
            self.skip_blanks();
            if self.take(b'}') {
                return Ok(metric);
            }
            let is_quoted = self.peek() == Some(b'"');
            let name = if is_quoted {
                self.quoted("a label's name")?
            } else {
                let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                Cow::Borrowed(self.name("a label's name", is_part)?)
            };
            self.skip_blanks();
            if is_quoted && matches!(self.peek(), Some(b',' | b'}')) {
                if of == SetOf::Exemplar {
                    return Err(self.expected("a label's value"));
                }
                if metric.replace(name).is_some() {
                    return Err(Fault::new("the metric has two names"));
                }
            } else {
                if !self.take(b'=') {
                    return Err(self.expected("'='"));
                }
                self.skip_blanks();
                let value = self.quoted("a label's value in quotes")?;
                if into.len() == labels_max {
                    return Err(Fault::Labels);
                }
                if name.is_empty() {
                    return Err(Fault::new("a label has an empty name"));
                }
                if into.iter().any(|label| label.name == name) {
                    return Err(Fault::new(format!("label {} is there twice", shown(name.as_bytes()))));
                }
                into.push(Label { name, value });
            }
            self.skip_blanks();
            match self.peek() {
                Some(b'}') => {}
                _ if self.take(b',') => {}
                // Upstream lets labels of the older format follow without.
                Some(_) if self.dialect == Dialect::Prometheus => {}
                _ => return Err(self.expected("',' or '}'")),
            }
        }
    }

    /// A value, and what it is of for the message.
    pub fn number(&mut self, of: &str) -> Result<f64, Fault> {
        if self.is_at_end() {
            return Err(self.expected(of));
        }
        let word = self.word();
        number::parse(word).ok_or_else(|| Fault::new(format!("expected {of}, found {}", shown(word))))
    }
}

/// Resolves `\\`, `\n` and, where there are quotes, `\"`; another byte behind
/// a backslash stays as it is, backslash included.
pub fn unescape(text: &str, has_quotes: bool) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some('\\') => plain.push('\\'),
            Some('"') if has_quotes => plain.push('"'),
            other => {
                plain.push('\\');
                plain.extend(other);
            }
        }
    }
    plain
}
