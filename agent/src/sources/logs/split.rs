//! Bytes into lines. Pure: no file, no state between calls.

/// One record's worth of bytes at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The line is `bytes[..line_len]`.
    pub line_len: usize,
    /// The next piece begins at `bytes[consumed]`.
    pub consumed: usize,
    /// The line was too long, and the next piece is more of it.
    pub continues: bool,
}

/// Bytes that are enough for [`next_piece`] to find a piece: a longest line
/// and its `\r\n`.
pub const fn enough_bytes(line_bytes_max: usize) -> usize {
    line_bytes_max + 2
}

/// The first line of `bytes`, without its `\n` or `\r\n`; or the first
/// `line_bytes_max` bytes of a line that is longer; or `None` when neither is
/// complete yet.
pub fn next_piece(bytes: &[u8], line_bytes_max: usize) -> Option<Piece> {
    let window = &bytes[..bytes.len().min(enough_bytes(line_bytes_max))];
    let feed = window.iter().position(|byte| *byte == b'\n');
    if let Some(feed) = feed {
        let line_len = feed - usize::from(window[..feed].ends_with(b"\r"));
        if line_len <= line_bytes_max {
            return Some(Piece { line_len, consumed: feed + 1, continues: false });
        }
    } else if window.len() < enough_bytes(line_bytes_max) {
        return None;
    }
    Some(Piece { line_len: line_bytes_max, consumed: line_bytes_max, continues: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of at most four bytes; `+` marks one that continues, and what is
    /// after the last `|` is not given out yet.
    fn check(bytes: &str, expected: &str) {
        let mut rest = bytes.as_bytes();
        let mut found = String::new();
        while let Some(piece) = next_piece(rest, 4) {
            found += str::from_utf8(&rest[..piece.line_len]).unwrap();
            found += if piece.continues { "+|" } else { "|" };
            rest = &rest[piece.consumed..];
        }
        found += str::from_utf8(rest).unwrap();
        assert_eq!(found, expected, "{bytes:?}");
    }

    #[test]
    fn pieces() {
        check("", "");
        check("ab", "ab");
        check("\n", "|");
        check("ab\ncd\n", "ab|cd|");
        check("ab\r\ncd\r\n", "ab|cd|");
        check("a\rb\n\r\n\r\r\n", "a\rb||\r|");
        check("abcd\n", "abcd|");
        check("abcd\r\n", "abcd|");
        check("abcd", "abcd");
        check("abcd\r", "abcd\r");
        check("abcde", "abcde");
        check("abcde\n", "abcd+|e|");
        check("abcdef", "abcd+|ef");
        check("abcdefgh\r\nx\n", "abcd+|efgh|x|");
        check("abcdefghi\n", "abcd+|efgh+|i|");
    }
}
