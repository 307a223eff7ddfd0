//! The corpus stands in `testdata/hostile.txt`: what a peer may send, as a
//! Rust literal, and how it is shown.

use super::*;

const CORPUS: &str = include_str!("../../testdata/hostile.txt");

/// `\x1b`, `\u{..}`, `\n` and `\\` in a line of the corpus.
fn unescaped(text: &str) -> String {
    let mut to = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        to.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (code, length) = match rest.as_bytes()[0] {
            b'\\' => (0x5c, 1),
            b'n' => (0xa, 1),
            b'x' => (u32::from_str_radix(&rest[1..3], 16).unwrap(), 3),
            b'u' => {
                let end = rest.find('}').unwrap();
                (u32::from_str_radix(&rest[2..end], 16).unwrap(), end + 1)
            }
            other => panic!("{other}"),
        };
        to.push(char::from_u32(code).unwrap());
        rest = &rest[length..];
    }
    to + rest
}

/// `(sent, shown)` of each line.
fn corpus() -> Vec<(String, String)> {
    let lines = CORPUS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (sent, shown) = line.split_once(" => ").expect("two sides");
            (unescaped(sent), shown.to_owned())
        })
        .collect()
}

/// What row 14 of the threat table asks for, and more.
fn assert_harmless(text: &str) {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.chars().any(steers), "{text:?}");
}

#[test]
fn the_corpus_is_shown_as_written() {
    assert!(corpus().len() > 20);
    for (sent, shown) in corpus() {
        assert_eq!(printable(&sent), shown);
        assert_harmless(&printable(&sent));
    }
}

#[test]
fn json_of_the_corpus_is_harmless_and_says_the_same() {
    for (sent, _) in corpus() {
        let text = json(&serde_json::json!({ sent.clone(): sent }));
        assert_harmless(&text);
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back[&sent], sent[..], "{text}");
    }
}

#[test]
fn no_character_steers_the_terminal() {
    for c in '\0'..=char::MAX {
        let text = printable(&format!("a{c}b"));
        assert_harmless(&text);
        assert_harmless(&json(&c.to_string()));
    }
}

#[test]
fn text_is_cut_by_columns() {
    let cases = [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("日本語", 1, "…"),
        ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
        ("abc", 0, ""),
        ("\x1b[2J", 6, "\\x1b[…"),
    ];
    for (text, width_max, wanted) in cases {
        let cell = cell(text, width_max);
        assert_eq!(cell, wanted, "{text:?} in {width_max}");
        assert!(width(&cell) <= width_max);
    }
}
