//! Names that rotation gives: how old `app.log.3` is. Pure.

use std::cmp::Reverse;

/// The place of a file among those that one path has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Generation {
    /// It is still at the path.
    Current,
    /// `app.log.2`: smaller is newer.
    Number(u32),
    /// `app.log-20260131`, `app.log.2026-01-31T10`: larger is newer.
    Date(Box<[u8]>),
    /// Renamed to something else.
    Other,
}

impl Generation {
    /// What `name` is to `base`, both without directories.
    pub fn of(base: &[u8], name: &[u8]) -> Generation {
        match name.strip_prefix(base) {
            Some([]) => Generation::Current,
            Some([b'.', digits @ ..]) if digits.len() <= 5 && is_number(digits) => {
                let number = digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
                Generation::Number(number)
            }
            Some([b'.' | b'-' | b'_', date @ ..]) if is_date(date) => Generation::Date(date.into()),
            _ => Generation::Other,
        }
    }

    /// Whether names alone say that `self` came after `other`.
    pub fn is_newer_than(&self, other: &Generation) -> bool {
        match (self, other) {
            (Generation::Current, Generation::Number(_) | Generation::Date(_)) => true,
            (Generation::Number(this), Generation::Number(that)) => this < that,
            (Generation::Date(this), Generation::Date(that)) => this.len() == that.len() && this > that,
            _ => false,
        }
    }

    /// Sorts oldest first. Comparing different kinds says nothing.
    pub fn oldest_first(&self) -> (Reverse<u32>, &[u8]) {
        match self {
            Generation::Current => (Reverse(0), b""),
            Generation::Number(number) => (Reverse(*number), b""),
            Generation::Date(date) => (Reverse(100_000), date),
            Generation::Other => (Reverse(100_001), b""),
        }
    }
}

fn is_number(digits: &[u8]) -> bool {
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// At least year and month; separators between digits.
fn is_date(date: &[u8]) -> bool {
    date.iter().filter(|byte| byte.is_ascii_digit()).count() >= 6
        && date[0].is_ascii_digit()
        && date.iter().all(|byte| byte.is_ascii_digit() || b"-_.:T".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Generation {
        Generation::of(b"app.log", name.as_bytes())
    }

    #[test]
    fn names() {
        assert_eq!(of("app.log"), Generation::Current);
        assert_eq!(of("app.log.12"), Generation::Number(12));
        assert_eq!(of("app.log-20260131"), Generation::Date((*b"20260131").into()));
        assert_eq!(of("app.log.2026-01-31T10"), Generation::Date((*b"2026-01-31T10").into()));
        for other in ["app.log.", "app.log.1.gz", "app.log.err", "app.log2", "app.log.-20260131", "app"] {
            assert_eq!(of(other), Generation::Other, "{other}");
        }
    }

    #[test]
    fn ages() {
        let check = |newer: &str, older: &str, expected: bool| {
            assert_eq!(of(newer).is_newer_than(&of(older)), expected, "{newer} {older}");
        };
        check("app.log.1", "app.log.2", true);
        check("app.log.2", "app.log.1", false);
        check("app.log.2", "app.log.2", false);
        check("app.log-20260202", "app.log-20260131", true);
        check("app.log-20260202", "app.log.2", false);
        check("app.log-20260202-1", "app.log-20260131", false);
        check("app.log", "app.log.1", true);
        check("app.log.err", "app.log.1", false);
    }
}
