//! [`Selector`]: matchers in the form that a label index answers from.

use lm_model::{MatchOp, Matcher};
use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Dot, Hir, HirKind};

use crate::block::Error;

/// Memory bound of one compiled expression, and of its lazy automaton.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// An expression that is a choice of at most so many values is looked up value by value.
const VALUES_MAX: usize = 4096;

/// A set of matchers, compiled once and asked of every head and block.
#[derive(Debug)]
pub struct Selector {
    tests: Vec<Test>,
}

/// One matcher, taken apart so that most are answered without running an expression.
#[derive(Debug)]
pub struct Test {
    name: Box<str>,
    is_negated: bool,
    kind: TestKind,
}

#[derive(Debug)]
enum TestKind {
    /// One of these, ascending.
    Values(Vec<Box<str>>),
    Prefix(Box<str>),
    Anything,
    NotEmpty,
    /// With what every match begins with.
    Regex(Regex, Box<str>),
}

/// Where the values are that a test's comparison hits; a negated test accepts the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidates<'a> {
    /// All of these that exist, ascending; there may be the empty one among them.
    Values(&'a [Box<str>]),
    /// All that begin so.
    Prefix(&'a str),
    /// Of those that begin so, the ones for which [`Test::hits`] holds.
    Tested(&'a str),
}

impl Selector {
    /// Takes every series.
    pub fn all() -> Selector {
        Selector { tests: Vec::new() }
    }

    /// # Errors
    ///
    /// [`Error::Regex`].
    pub fn new(matchers: &[Matcher]) -> Result<Selector, Error> {
        matchers.iter().map(Test::new).collect::<Result<_, _>>().map(|tests| Selector { tests })
    }

    /// Whether it takes every series.
    pub fn is_all(&self) -> bool {
        self.tests.is_empty()
    }

    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// Whether labels, asked for by name (`""` when absent), pass all tests.
    pub fn accepts<'a>(&self, value: impl Fn(&str) -> &'a str) -> bool {
        self.tests.iter().all(|test| test.accepts(value(&test.name)))
    }
}

impl Test {
    fn new(matcher: &Matcher) -> Result<Test, Error> {
        let kind = match matcher.op {
            MatchOp::Eq | MatchOp::Ne => TestKind::Values(vec![matcher.value.clone()]),
            MatchOp::Re | MatchOp::Nre => TestKind::of_pattern(&matcher.value)?,
        };
        let is_negated = matches!(matcher.op, MatchOp::Ne | MatchOp::Nre);
        Ok(Test { name: matcher.name.clone(), is_negated, kind })
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_negated(&self) -> bool {
        self.is_negated
    }

    /// Whether the test passes; an absent label has the value `""`.
    pub fn accepts(&self, value: &str) -> bool {
        self.hits(value) != self.is_negated
    }

    /// What is compared with, before negation.
    pub fn hits(&self, value: &str) -> bool {
        match &self.kind {
            TestKind::Values(values) => values.binary_search_by(|known| (**known).cmp(value)).is_ok(),
            TestKind::Prefix(prefix) => value.starts_with(&**prefix),
            TestKind::Anything => true,
            TestKind::NotEmpty => !value.is_empty(),
            TestKind::Regex(regex, _) => regex.is_match(value),
        }
    }

    /// Which values of an index hit.
    pub fn candidates(&self) -> Candidates<'_> {
        match &self.kind {
            TestKind::Values(values) => Candidates::Values(values),
            TestKind::Prefix(prefix) => Candidates::Prefix(prefix),
            // An index has no empty values.
            TestKind::Anything | TestKind::NotEmpty => Candidates::Prefix(""),
            TestKind::Regex(_, prefix) => Candidates::Tested(prefix),
        }
    }
}

impl TestKind {
    fn of_pattern(pattern: &str) -> Result<TestKind, Error> {
        let refused = |reason: String| Error::Regex { pattern: pattern.into(), reason };
        let hir = ParserBuilder::new()
            .dot_matches_new_line(true)
            .build()
            .parse(pattern)
            .map_err(|error| refused(error.to_string()))?;
        if let Some(kind) = TestKind::of_hir(&hir) {
            return Ok(kind);
        }
        let prefix = if has_looks(&hir) { "".into() } else { common_prefix(&hir) };
        let regex = RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(TestKind::Regex(regex, prefix))
    }

    /// What needs no expression to be run; nothing for the rest.
    fn of_hir(hir: &Hir) -> Option<TestKind> {
        if has_looks(hir) {
            return None;
        }
        if let Some(min) = anything(hir) {
            return match min {
                0 => Some(TestKind::Anything),
                1 => Some(TestKind::NotEmpty),
                _ => None,
            };
        }
        if let HirKind::Concat(parts) = hir.kind()
            && let [literal, rest] = &parts[..]
            && let HirKind::Literal(literal) = literal.kind()
            && anything(rest) == Some(0)
            && let Ok(prefix) = std::str::from_utf8(&literal.0)
        {
            return Some(TestKind::Prefix(prefix.into()));
        }
        let sequence = extractor().extract(hir);
        let literals = sequence.literals().filter(|_| sequence.is_exact())?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(Box::from).ok();
        let mut values: Vec<Box<str>> =
            literals.iter().map(|literal| text(literal.as_bytes())).collect::<Option<_>>()?;
        values.sort_unstable();
        values.dedup();
        Some(TestKind::Values(values))
    }
}

fn extractor() -> Extractor {
    let mut extractor = Extractor::new();
    extractor.limit_class(64).limit_repeat(16).limit_literal_len(1 << 10).limit_total(VALUES_MAX);
    extractor
}

/// Boundaries and anchors match nothing by themselves, so literals around them do not tell what matches.
fn has_looks(hir: &Hir) -> bool {
    !hir.properties().look_set().is_empty()
}

/// If it is "any character, at least so often": how often.
fn anything(hir: &Hir) -> Option<u32> {
    let HirKind::Repetition(repetition) = hir.kind() else { return None };
    let is_any = *repetition.sub == Hir::dot(Dot::AnyChar) && repetition.max.is_none();
    is_any.then_some(repetition.min)
}

fn common_prefix(hir: &Hir) -> Box<str> {
    let sequence = extractor().extract(hir);
    let bytes = sequence.longest_common_prefix().unwrap_or_default();
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    valid.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(op: MatchOp, pattern: &str) -> Test {
        Test::new(&Matcher::new("name", op, pattern)).expect("the pattern is valid")
    }

    #[test]
    fn simple_expressions_need_no_automaton() {
        let is_values = |pattern: &str, expected: &[&str]| {
            let test = test(MatchOp::Re, pattern);
            let Candidates::Values(values) = test.candidates() else { panic!("{pattern}: {test:?}") };
            assert_eq!(values.iter().map(|value| &**value).collect::<Vec<_>>(), expected, "{pattern}");
        };
        is_values("a", &["a"]);
        is_values("b|a|b", &["a", "b"]);
        is_values("node-(1|2)", &["node-1", "node-2"]);
        is_values("node-[1-3]:9100", &["node-1:9100", "node-2:9100", "node-3:9100"]);
        is_values("|x", &["", "x"]);
        is_values("", &[""]);
        is_values("(?i:ab)", &["AB", "Ab", "aB", "ab"]);
        assert_eq!(test(MatchOp::Re, "eth.*").candidates(), Candidates::Prefix("eth"));
        assert_eq!(test(MatchOp::Re, ".*").candidates(), Candidates::Prefix(""));
        assert_eq!(test(MatchOp::Re, "eth.+").candidates(), Candidates::Tested("eth"));
        assert_eq!(test(MatchOp::Re, "eth[0-9]+|ether").candidates(), Candidates::Tested("eth"));
        assert_eq!(test(MatchOp::Re, "foo\\b").candidates(), Candidates::Tested(""));
        assert!(Test::new(&Matcher::new("name", MatchOp::Re, "a)|(b")).is_err());
    }

    /// Whatever form a pattern takes, it hits what the plain anchored expression hits.
    #[test]
    fn forms_agree_with_the_plain_expression() {
        let patterns = [
            "",
            "a",
            "a|b",
            ".*",
            ".+",
            "a.*",
            "a.+",
            ".*a",
            "a?b",
            "(a|b)c?",
            "^a$",
            "a$|b",
            "\\ba",
            "a\\B.*",
            "(?i)A",
            "[a-c]",
            "[^a]",
            "a{2}",
            "(ab)*",
            "ä.*",
            "[ä-ö]x",
            "a.b",
            "a\nb",
            ".",
            "..+",
            "a|",
            "(a|b|c)(a|b|c)",
        ];
        let values = [
            "", "a", "b", "c", "aa", "ab", "ba", "abc", "abab", "A", "ä", "äx", "a\nb", "a.b", "axb", "bc",
            "ac", "ä\n", "x", "\n", "ca", "öx",
        ];
        for pattern in patterns {
            let plain = Regex::new(&format!("^(?s:{pattern})$")).expect("the pattern is valid");
            let (hit, not) = (test(MatchOp::Re, pattern), test(MatchOp::Nre, pattern));
            for value in values {
                assert_eq!(hit.accepts(value), plain.is_match(value), "{pattern:?} on {value:?}");
                assert_eq!(not.accepts(value), !plain.is_match(value), "{pattern:?} on {value:?}");
                if let Candidates::Prefix(prefix) | Candidates::Tested(prefix) = hit.candidates() {
                    assert!(!hit.hits(value) || value.starts_with(prefix), "{pattern:?} on {value:?}");
                }
            }
        }
    }
}
