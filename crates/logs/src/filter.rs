//! The tests of a query on one line, for lines that are not in the store yet.

use lm_model::Labels;

use crate::matcher::Compiled;
use crate::recent::Error;
use crate::search::{LineTest, LogQuery};

/// Says of a line whether a [`LogQuery`] would find it; time and limit aside.
pub struct LineFilter {
    matchers: Vec<Compiled>,
    test: LineTest,
}

impl LineFilter {
    /// # Errors
    ///
    /// An invalid or oversized regular expression; too many terms.
    pub fn new(query: &LogQuery) -> Result<Self, Error> {
        Ok(LineFilter { matchers: Compiled::all(&query.matchers)?, test: LineTest::new(query)? })
    }

    pub fn matches(&self, labels: &Labels, line: &[u8]) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels)) && self.test.matches(line)
    }
}
