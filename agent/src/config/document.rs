//! A TOML file whose every mistake is found, with its line.
//!
//! A [`Section`] hands out values by key and remembers which keys exist; what
//! the file says beyond that is a mistake, and the nearest known key is named.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: PathBuf,
    /// Counts from one.
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
}

impl<'a> Mistakes<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Mistakes { file, text, found: RefCell::default() }
    }

    pub fn add(&self, offset: usize, message: impl Into<String>) {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        self.found.borrow_mut().push(Mistake { file: self.file.to_owned(), line, message: message.into() });
    }

    /// In the order of lines.
    pub fn into_vec(self) -> Vec<Mistake> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|mistake| mistake.line);
        found
    }
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
            DeValue::Table(table) => Some(table),
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

    /// Reads `key` into `into`, which keeps its value when the file does not
    /// say or says nonsense. `parse` answers what it expected.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        into: &mut T,
        parse: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) {
        self.known.push(key);
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return };
        match parse(value.get_ref()) {
            Ok(parsed) => *into = parsed,
            Err(expected) => {
                let found = show(value.get_ref());
                self.complain(value.span().start, &format!("{key} is {found}; {expected}"));
            }
        }
    }

    /// Reports a mistake at `key`, or at the table when the file has no such key.
    pub fn complain_at(&self, key: &str, message: &str) {
        let at = self.table.and_then(|table| table.get(key)).map_or(self.offset, |value| value.span().start);
        self.complain(at, message);
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
            let hint = match nearest(name, &self.known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.complain(key.span().start, &format!("{name} is not a known key; {hint}"));
        }
    }
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The known key that `name` most probably meant.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
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
