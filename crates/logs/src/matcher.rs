//! Matchers in the form that is fast to apply.

use lm_model::{Labels, MatchOp, Matcher};
use regex::{Regex, RegexBuilder};

use crate::recent::Error;
use crate::search::TERMS_MAX;

/// Memory bound of one compiled expression, and of its lazy automaton.
pub(crate) const REGEX_BYTES_MAX: usize = 1 << 20;

pub(crate) struct Compiled {
    name: Box<str>,
    negated: bool,
    test: Test,
}

enum Test {
    Equal(Box<str>),
    Regex(Regex),
}

impl Compiled {
    fn new(matcher: &Matcher) -> Result<Self, Error> {
        let test = match matcher.op {
            MatchOp::Eq | MatchOp::Ne => Test::Equal(matcher.value.clone()),
            MatchOp::Re | MatchOp::Nre => Test::Regex(anchored(&matcher.value)?),
        };
        let negated = matches!(matcher.op, MatchOp::Ne | MatchOp::Nre);
        Ok(Compiled { name: matcher.name.clone(), negated, test })
    }

    pub fn all(matchers: &[Matcher]) -> Result<Vec<Self>, Error> {
        if matchers.len() > TERMS_MAX {
            return Err(Error::TooManyTerms { count: matchers.len() });
        }
        matchers.iter().map(Compiled::new).collect()
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).unwrap_or("");
        let hit = match &self.test {
            Test::Equal(wanted) => **wanted == *value,
            Test::Regex(regex) => regex.is_match(value),
        };
        hit != self.negated
    }
}

fn anchored(pattern: &str) -> Result<Regex, Error> {
    let build = |source: &str| {
        RegexBuilder::new(source).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build()
    };
    // Alone first: `a)|(b` must not become valid by being wrapped.
    build(pattern)
        .and_then(|_| build(&format!("^(?s:{pattern})$")))
        .map_err(|error| Error::Regex { pattern: pattern.into(), reason: error.to_string() })
}
