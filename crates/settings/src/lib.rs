//! Configuration files: TOML of which every mistake is found, with its line
//! and what was probably meant.
//!
//! A process reads its file with [`read`]: a closure takes what it wants from
//! a [`Section`], key by key, with the parsers of [`units`]. What the closure
//! did not ask for is a mistake. Nothing that a file names is opened here.

mod document;
mod keep_alive;
pub mod units;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

pub use document::{Mistake, Section, nearest};
use document::{Mistakes, line_of};
pub use keep_alive::take_keep_alive;

/// What a file says for one key: the argument of the parsers in [`units`] and
/// of a process's own.
pub type Value<'i> = toml::de::DeValue<'i>;

/// Largest configuration file that is read.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Errors of TOML itself that are reported, so that other mistakes have room.
const BROKEN_MAX: usize = 50;

/// Parses `text`, read from `file`, with `take`.
///
/// # Errors
///
/// Every mistake in the file (up to a hundred), in the order of lines; never an
/// empty list.
pub fn parse<T>(
    file: &Path,
    text: &str,
    take: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Result<T, Vec<Mistake>> {
    parse_with(Mistakes::new(file, text, false), text, take)
}

/// As [`parse`], of a file that holds secrets: no mistake repeats a text of it,
/// except keys that are almost known.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_secret<T>(
    file: &Path,
    text: &str,
    take: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Result<T, Vec<Mistake>> {
    parse_with(Mistakes::new(file, text, true), text, take)
}

fn parse_with<'a, T>(
    mut mistakes: Mistakes<'a>,
    text: &'a str,
    take: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Result<T, Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(BROKEN_MAX) {
        mistakes.add_broken(error.span().map_or(0, |span| span.start), error.message());
    }
    let mut root = Section::root(table.get_ref(), &mistakes);
    let taken = take(&mut root);
    root.finish();
    let found = mistakes.into_vec();
    if found.is_empty() { Ok(taken) } else { Err(found) }
}

/// Reads and parses `file`.
///
/// # Errors
///
/// As [`parse`]; a file that cannot be read is one mistake.
pub fn read<T>(file: &Path, take: impl FnOnce(&mut Section<'_, '_>) -> T) -> Result<T, Vec<Mistake>> {
    parse(file, &read_text(file, FILE_BYTES_MAX)?, take)
}

/// The text of a file of at most `bytes_max`, for [`parse`].
///
/// # Errors
///
/// One mistake when it cannot be read, is larger, or is not UTF-8.
pub fn read_text(file: &Path, bytes_max: u64) -> Result<String, Vec<Mistake>> {
    let unreadable = |line, message| vec![Mistake { file: file.to_owned(), line, message }];
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(1, format!("cannot read the file: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("larger than {bytes_max} bytes: is it a configuration file?");
        return Err(unreadable(1, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = line_of(error.as_bytes(), error.utf8_error().valid_up_to());
        unreadable(line, "not UTF-8 text".to_owned())
    })
}

#[cfg(test)]
mod tests;
