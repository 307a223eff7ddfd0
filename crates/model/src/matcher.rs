//! A test on one label, as plain data. Whoever evaluates it compiles it.

use std::fmt;

/// How a [`Matcher`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchOp {
    /// `=`
    Eq,
    /// `!=`
    Ne,
    /// `=~`, fully anchored.
    Re,
    /// `!~`, fully anchored.
    Nre,
}

impl fmt::Display for MatchOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MatchOp::Eq => "=",
            MatchOp::Ne => "!=",
            MatchOp::Re => "=~",
            MatchOp::Nre => "!~",
        })
    }
}

/// A test on the label `name`. A missing label has the empty value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matcher {
    pub name: Box<str>,
    pub op: MatchOp,
    /// A value, or the source of a regular expression.
    pub value: Box<str>,
}

impl Matcher {
    pub fn new(name: impl Into<Box<str>>, op: MatchOp, value: impl Into<Box<str>>) -> Self {
        Matcher { name: name.into(), op, value: value.into() }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op, self.value)
    }
}
