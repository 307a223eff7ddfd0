//! Configuration files: TOML of which every mistake is found, with its line
//! and what was probably meant.
//!
//! A process reads its file with [`read`]: a closure takes what it wants from
//! a [`Section`], key by key, with the parsers of [`units`]. What the closure
//! did not ask for is a mistake. Nothing that a file names is opened here.

mod document;
pub mod units;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

use document::Mistakes;
pub use document::{Mistake, Section};

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Parses `text`, read from `file`, with `take`.
///
/// # Errors
///
/// Every mistake in the file, in the order of lines.
pub fn parse<T>(
    file: &Path,
    text: &str,
    take: impl FnOnce(&mut Section<'_, '_>) -> T,
) -> Result<T, Vec<Mistake>> {
    let mistakes = Mistakes::new(file, text);
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            mistakes.add(error.span().map_or(0, |span| span.start), error.message());
            return Err(mistakes.into_vec());
        }
    };
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
/// As [`parse`]; a file that cannot be read is one mistake, at line 0.
pub fn read<T>(file: &Path, take: impl FnOnce(&mut Section<'_, '_>) -> T) -> Result<T, Vec<Mistake>> {
    let unreadable = |message: String| vec![Mistake { file: file.to_owned(), line: 0, message }];
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("cannot read the file: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("larger than {FILE_BYTES_MAX} bytes: is it a configuration file?")));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8 text".to_owned()))?;
    parse(file, &text, take)
}
