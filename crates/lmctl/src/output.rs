//! What lmctl prints: tables for people, JSON for programs; sizes, ages and
//! times; and a standard output that may be closed at any time.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::escape::{cell, cut, json, width};
use crate::failure::Failure;

/// Widest cell of a table; the rest is in the JSON.
const CELL_COLUMNS_MAX: usize = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// One document; one a line where something is watched
    Json,
}

/// Standard output.
pub struct Out {
    pub format: Format,
    /// What is printed first when a table is printed again: a redraw on a
    /// terminal, an empty line in a file.
    again: &'static str,
    is_begun: bool,
    is_terminal: bool,
}

impl Out {
    pub fn new(format: Format) -> Self {
        Out { format, again: "\n", is_begun: false, is_terminal: io::stdout().is_terminal() }
    }

    /// Prints one document: `table` is asked only when it is for people.
    pub fn show<T: Serialize>(&mut self, value: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.line(&json(value)),
            Format::Table => {
                let again = if self.is_begun { self.again } else { "" };
                self.is_begun = true;
                self.print(&format!("{again}{}", table(value)))
            }
        }
    }

    /// As [`Out::show`], in the place of what was shown before.
    pub fn redraw<T: Serialize>(
        &mut self,
        value: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.format == Format::Json || !self.is_terminal {
            return self.show(value, table);
        }
        let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
        self.print(&screen(&table(value), columns.into(), rows.into()))
    }

    /// Prints one line of text that is printable already.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.print(&format!("{line}\n"))
    }

    fn print(&mut self, text: &str) -> Result<(), Failure> {
        let mut to = io::stdout().lock();
        to.write_all(text.as_bytes()).and_then(|()| to.flush()).map_err(Failure::from_output)
    }
}

/// `text` as a whole screen: from the top left corner, each line cleared
/// and cut, and nothing left of what stood below.
fn screen(text: &str, columns: usize, rows: usize) -> String {
    // The cursor's own line stays free.
    let room = rows.saturating_sub(1).max(1);
    let lines: Vec<&str> = text.lines().collect();
    let mut to = "\x1b[H".to_owned();
    for line in &lines[..lines.len().min(room)] {
        to.push_str("\x1b[2K");
        to.push_str(&cut(line, columns));
        to.push_str("\r\n");
    }
    to.push_str("\x1b[J");
    if lines.len() > room {
        to.push_str(&format!("{} more lines", lines.len() - room));
    }
    to
}

/// Aligns `rows` under `heads`, two spaces between columns.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|text| cell(text, CELL_COLUMNS_MAX)).collect()).collect();
    let mut widths: Vec<usize> = heads.iter().map(|head| head.len()).collect();
    for row in &rows {
        for (known, cell) in widths.iter_mut().zip(row) {
            *known = (*known).max(width(cell));
        }
    }
    let mut text = String::new();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::new();
        for (column, cell) in widths.iter().zip(row) {
            line.push_str(&padded(cell, column + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Printable text, filled with spaces to `columns`.
pub fn padded(text: &str, columns: usize) -> String {
    let mut to = text.to_owned();
    to.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(text))));
    to
}

/// Empty text as a dash, so that a column has no holes.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// `"1.5MiB"`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", UNITS[unit]) }
}

/// `"3s"`, `"12m"`, `"5h30m"`, `"9d"`.
pub fn age(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `"850us"`, `"1.5ms"`, `"12.0s"`, and ages above a minute.
pub fn took(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros}us"),
        1000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        1_000_000..60_000_000 => format!("{:.1}s", micros as f64 / 1e6),
        _ => age(i64::try_from(micros / 1000).unwrap_or(i64::MAX)),
    }
}

/// Time of day in UTC, `"14:03:59.123"`.
pub fn time_of_day(unix_ms: i64) -> String {
    let ms = unix_ms.rem_euclid(86_400_000);
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_whatever_stands_in_it() {
        let rows = [["日本語", "x\ny"], ["a", "\x1b[2J"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&["A", "B"], &rows), "A       B\n日本語  x\\ny\na       \\x1b[2J\n");
    }

    #[test]
    fn a_screen_is_cut_on_both_sides() {
        assert_eq!(screen("abcdef\ng\n", 4, 24), "\x1b[H\x1b[2Kabc…\r\n\x1b[2Kg\r\n\x1b[J");
        assert_eq!(screen("a\nb\nc\nd\n", 4, 3), "\x1b[H\x1b[2Ka\r\n\x1b[2Kb\r\n\x1b[J2 more lines");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!([size(5), size(1536), size(5 << 30)], ["5B", "1.5KiB", "5.0GiB"]);
        assert_eq!(
            [age(-5), age(59_999), age(61_000), age(3_660_000), age(90_000_000)],
            ["0s", "59s", "1m", "1h01m", "1d"]
        );
        assert_eq!(
            [took(9), took(1500), took(12_000_000), took(90_000_000)],
            ["9us", "1.5ms", "12.0s", "1m"]
        );
        assert_eq!([time_of_day(0), time_of_day(-1)], ["00:00:00.000", "23:59:59.999"]);
    }
}
