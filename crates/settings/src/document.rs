//! A TOML file whose every mistake is found, with its line.
//!
//! A [`Section`] hands out values by key and remembers which keys exist; what
//! the file says beyond that is a mistake, and the nearest known key is named.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use crate::Value;

/// More mistakes of one file than these are not kept: there is enough to mend
/// before the next check.
const MISTAKES_MAX: usize = 100;

/// How much of a text is shown when it is not what was expected.
const SHOWN_CHARS_MAX: usize = 60;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: PathBuf,
    /// Counts from one, which also stands for the file as a whole.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// Collects the mistakes of one file.
pub struct Mistakes<'a> {
    file: &'a Path,
    text: &'a str,
    found: RefCell<Vec<Mistake>>,
    /// Lines that are no TOML: what was read there is a guess of the parser,
    /// and complaints about it would mislead.
    broken: Vec<usize>,
    /// The file holds secrets: nothing that stands in it is repeated, except
    /// keys that are almost known.
    is_secret: bool,
}

impl<'a> Mistakes<'a> {
    pub fn new(file: &'a Path, text: &'a str, is_secret: bool) -> Self {
        Mistakes { file, text, found: RefCell::default(), broken: Vec::new(), is_secret }
    }

    /// What is no TOML; the first report of a line is its only one.
    pub fn add_broken(&mut self, offset: usize, message: &str) {
        let hidden = "not TOML; the line is not shown, since a secret may stand there";
        self.add(offset, if self.is_secret { hidden } else { message });
        self.broken.push(self.line(offset));
    }

    pub fn add(&self, offset: usize, message: impl Into<String>) {
        let is_full = self.found.borrow().len() == MISTAKES_MAX;
        if is_full {
            return;
        }
        let line = self.line(offset);
        if !self.broken.contains(&line) {
            self.found.borrow_mut().push(Mistake {
                file: self.file.to_owned(),
                line,
                message: message.into(),
            });
        }
    }

    /// Whether `value` stands nowhere in the file: after an error the parser
    /// goes on with one of its own.
    fn is_guess(&self, value: &Spanned<Value<'_>>) -> bool {
        value.span().is_empty() && !self.broken.is_empty()
    }

    fn line(&self, offset: usize) -> usize {
        line_of(self.text.as_bytes(), offset)
    }

    /// What is told of a value that is not what was expected.
    fn show(&self, value: &Value<'_>) -> String {
        match value {
            Value::String(_) if self.is_secret => "a text that is not shown".to_owned(),
            value => show(value),
        }
    }

    /// In the order of lines.
    pub fn into_vec(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.line);
        found
    }
}

/// The line of the byte at `offset`, from one.
pub fn line_of(text: &[u8], offset: usize) -> usize {
    1 + text[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// One table of the file, or nothing where the file leaves it out.
pub struct Section<'a, 'i> {
    /// `"queue."`, empty for the whole file.
    prefix: String,
    /// Where the table begins, for mistakes of the table as a whole.
    offset: usize,
    table: Option<&'a DeTable<'i>>,
    known: Vec<&'static str>,
    mistakes: &'a Mistakes<'a>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub fn root(table: &'a DeTable<'i>, mistakes: &'a Mistakes<'a>) -> Self {
        Section { prefix: String::new(), offset: 0, table: Some(table), known: Vec::new(), mistakes }
    }

    /// The table `name` within this one.
    pub fn section(&mut self, name: &'static str) -> Section<'a, 'i> {
        self.known.push(name);
        let found = self.table.and_then(|table| table.get(name));
        let table = found.and_then(|value| match value.get_ref() {
            Value::Table(table) => Some(table),
            _ if self.mistakes.is_guess(value) => None,
            _ => {
                self.mistakes.add(value.span().start, format!("{}{name} must be a table", self.prefix));
                None
            }
        });
        Section {
            prefix: format!("{}{name}.", self.prefix),
            offset: found.map_or(self.offset, |value| value.span().start),
            table,
            known: Vec::new(),
            mistakes: self.mistakes,
        }
    }

    /// The tables of the list `name`: each `[[name]]`, or inline tables between
    /// brackets. Another number of them than `counts` is a mistake.
    pub fn sections(&mut self, name: &'static str, counts: RangeInclusive<usize>) -> Vec<Section<'a, 'i>> {
        let expected = "expected a list of tables";
        let mut tables = Vec::new();
        for (value, offset) in self.entries(name, counts, expected) {
            match value {
                Value::Table(table) => tables.push(Section {
                    prefix: format!("{}{name}.", self.prefix),
                    offset,
                    table: Some(table),
                    known: Vec::new(),
                    mistakes: self.mistakes,
                }),
                value => {
                    self.complain(offset, &format!("{name} has {}; {expected}", self.mistakes.show(value)))
                }
            }
        }
        tables
    }

    /// Reads the list at `key`: `parse` gets each entry and its line. What is
    /// nonsense is reported there and left out. More than `count_max` entries
    /// are a mistake.
    pub fn read_each<T>(
        &mut self,
        key: &'static str,
        into: &mut Vec<T>,
        count_max: usize,
        mut parse: impl FnMut(&Value<'i>, usize) -> Result<T, String>,
    ) {
        for (value, offset) in self.entries(key, 0..=count_max, "expected a list") {
            match parse(value, self.mistakes.line(offset)) {
                Ok(parsed) => into.push(parsed),
                Err(expected) => {
                    self.complain(offset, &format!("{key} has {}; {expected}", self.mistakes.show(value)))
                }
            }
        }
    }

    /// The entries of the list at `key`, and where each begins; none when
    /// their number is not in `counts`.
    fn entries(
        &mut self,
        key: &'static str,
        counts: RangeInclusive<usize>,
        expected: &str,
    ) -> Vec<(&'a Value<'i>, usize)> {
        self.known.push(key);
        let Some(value) = self.table.and_then(|table| table.get(key)) else {
            if *counts.start() > 0 {
                self.complain_missing(key, &format!("; {expected}"));
            }
            return Vec::new();
        };
        let at = value.span().start;
        match value.get_ref() {
            Value::Array(entries) if !counts.contains(&entries.len()) => {
                let (count, from, to) = (entries.len(), counts.start(), counts.end());
                self.complain(at, &format!("{key} has {count} entries; expected {from} to {to}"));
                Vec::new()
            }
            Value::Array(entries) => {
                let known = entries.iter().filter(|entry| !self.mistakes.is_guess(entry));
                known.map(|entry| (entry.get_ref(), entry.span().start)).collect()
            }
            _ if self.mistakes.is_guess(value) => Vec::new(),
            found => {
                self.complain(at, &format!("{key} is {}; {expected}", self.mistakes.show(found)));
                Vec::new()
            }
        }
    }

    /// [`read`](Self::read)s a key that the file must have.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        parse: impl FnOnce(&Value<'i>) -> Result<T, String>,
    ) {
        if !self.has(key) {
            self.complain_missing(key, "");
        }
        self.read(key, into, parse);
    }

    /// Of a file that is no TOML, the key may be in what was not understood.
    fn complain_missing(&self, key: &str, hint: &str) {
        if self.mistakes.broken.is_empty() {
            self.complain(self.offset, &format!("{key} is missing{hint}"));
        }
    }

    /// Whether the file says anything for `key`.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The line of `key`'s value, or of the table when the file has no such key.
    pub fn line_at(&self, key: &str) -> usize {
        self.mistakes.line(self.offset_at(key))
    }

    /// Reads `key` into `into`, which keeps its value when the file does not
    /// say or says nonsense. `parse` answers what it expected.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        parse: impl FnOnce(&Value<'i>) -> Result<T, String>,
    ) {
        self.known.push(key);
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return };
        match parse(value.get_ref()) {
            Ok(parsed) => *into = parsed,
            Err(_) if self.mistakes.is_guess(value) => {}
            Err(expected) => {
                let found = self.mistakes.show(value.get_ref());
                self.complain(value.span().start, &format!("{key} is {found}; {expected}"));
            }
        }
    }

    /// Reports a mistake at `key`, or at the table when the file has no such key.
    pub fn complain_at(&self, key: &str, message: &str) {
        self.complain(self.offset_at(key), message);
    }

    fn offset_at(&self, key: &str) -> usize {
        self.table.and_then(|table| table.get(key)).map_or(self.offset, |value| value.span().start)
    }

    fn complain(&self, offset: usize, message: &str) {
        self.mistakes.add(offset, format!("{}{message}", self.prefix));
    }

    /// Reports the keys that nothing asked for.
    pub fn finish(self) {
        for (key, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let near = nearest(name, &self.known);
            let hint = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let name = if self.mistakes.is_secret && near.is_none() { "this" } else { name };
            self.complain(key.span().start, &format!("{name} is not a known key; {hint}"));
        }
    }
}

fn show(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{:?}...", &text[..end]),
            None => format!("{text:?}"),
        },
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// The known word that `name` most probably meant; `None` when none is near.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|key| (edit_distance(name, key), *key)).min()?;
    (near.0 <= 2.max(name.len() / 3)).then_some(near.1)
}

/// Insertions, removals and replacements that turn `a` into `b`. Longer texts
/// than a key could be are cut, which bounds the work.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b) = (&a.as_bytes()[..a.len().min(64)], &b.as_bytes()[..b.len().min(64)]);
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
