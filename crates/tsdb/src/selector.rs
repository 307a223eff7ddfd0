//! [`Selector`]: matchers in the form that a label index answers from.

use lm_model::Matcher;

use crate::block::Error;

/// A set of matchers, compiled once and asked of every head and block.
#[derive(Debug)]
pub struct Selector {
    tests: Vec<Test>,
}

/// One matcher, taken apart so that most are answered without running an expression.
#[derive(Debug)]
struct Test {}

impl Selector {
    /// Takes every series.
    pub fn all() -> Selector {
        Selector { tests: Vec::new() }
    }

    pub fn new(_matchers: &[Matcher]) -> Result<Selector, Error> {
        todo!()
    }

    /// Whether it takes every series.
    pub fn is_all(&self) -> bool {
        self.tests.is_empty()
    }

    /// Whether labels, asked for by name (`""` when absent), pass all tests.
    pub fn accepts<'a>(&self, _value: impl Fn(&str) -> &'a str) -> bool {
        todo!()
    }
}
