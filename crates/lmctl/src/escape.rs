//! Text that came from somewhere else, made harmless for a terminal.
//!
//! Names, reasons and error texts are chosen by peers. Printed as they are,
//! they could move the cursor, retitle the window, plant links (OSC 8) or turn
//! the reading direction around. Everything that lmctl prints passes
//! [`printable`] or [`json`].

use std::fmt::Write as _;

use serde::Serialize;

/// Marks that may stand on one character; a pile of them covers other lines.
const MARKS_MAX: usize = 2;

/// `text` on one line, with what a terminal would obey written out: `\x1b`,
/// `\u{202e}`.
pub fn printable(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    let mut marks = 0;
    for c in text.chars() {
        marks = if width_of(c) == 0 { marks + 1 } else { 0 };
        match c {
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            c if !is_plain(c) || marks > MARKS_MAX => {
                // Writing to a string cannot fail.
                let _ = match u32::from(c) {
                    code @ 0..0x100 => write!(to, "\\x{code:02x}"),
                    code => write!(to, "\\u{{{code:x}}}"),
                };
            }
            c => to.push(c),
        }
    }
    to
}

/// [`printable`], and cut to `width_max` columns with an ellipsis.
pub fn cell(text: &str, width_max: usize) -> String {
    cut(&printable(text), width_max)
}

/// Cuts text that is printable already to `width_max` columns.
pub fn cut(text: &str, width_max: usize) -> String {
    if width(text) <= width_max {
        return text.to_owned();
    }
    let mut to = String::new();
    let mut used = 0;
    for c in text.chars() {
        // One column stays for the ellipsis.
        if used + width_of(c) >= width_max {
            break;
        }
        used += width_of(c);
        to.push(c);
    }
    if width_max > 0 {
        to.push('…');
    }
    to
}

/// Columns that printable text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// One JSON document on one line. Strings are escaped further than JSON asks
/// for: a document on a terminal must be as harmless as a table.
pub fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("our documents have text keys and no failing parts");
    let mut to = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside of strings JSON is plain ASCII, so this is within one.
        if is_plain(c) {
            to.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(to, "\\u{unit:04x}");
            }
        }
    }
    to
}

/// Whether a terminal shows this as one visible character and does nothing
/// else.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(u32::from(c),
            0xad                        // soft hyphen
            | 0x61c                     // Arabic letter mark
            | 0x115f | 0x1160 | 0x3164 | 0xffa0 // fillers without a shape
            | 0x180e
            | 0x200b..=0x200f           // zero width; direction marks
            | 0x2028..=0x202e           // line separators; embeddings, overrides
            | 0x2060..=0x206f           // invisible operators; isolates
            | 0xfeff | 0xfff0..=0xfffb  // byte order mark; interlinear
            | 0xe000..=0xf8ff           // private use
            | 0xe0000..) // tags; private use
}

/// Columns of one character, simply: marks that stand on others take none,
/// East Asian wide characters and emoji two.
fn width_of(c: char) -> usize {
    match u32::from(c) {
        0..0x300 => 1,
        0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x610..=0x61a | 0x64b..=0x65f => 0,
        0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xa960..=0xa97f | 0xac00..=0xd7a3 => 2,
        0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1f64f | 0x1f680..=0x1f6ff | 0x1f900..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
