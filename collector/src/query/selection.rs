//! Which series a question about labels means.

use lm_model::{Matcher, TimeRange, Timestamp};
use lm_schema::query_capnp::selection;
use lm_tsdb::db::DbError;

use super::failed::{Failed, bad_data};
use super::scope::ReadScope;
use crate::log_filter::matchers;

/// Selectors of one label query.
const SELECTORS_MAX: u32 = 64;

/// Series that a label query is about.
pub(super) struct Selected {
    /// Any of these; empty: all series.
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
    limit: usize,
}

pub(super) fn read_selection(from: selection::Reader<'_>) -> Result<Selected, Failed> {
    let texts = from.get_selectors().map_err(|error| bad_data(error.to_string()))?;
    if texts.len() > SELECTORS_MAX {
        return Err(bad_data(format!("{} selectors (at most {SELECTORS_MAX})", texts.len())));
    }
    let mut selectors = Vec::new();
    for text in texts {
        let text = text.map_err(|error| bad_data(error.to_string()))?;
        let text = text.to_str().map_err(|error| bad_data(error.to_string()))?;
        selectors.push(matchers(text).map_err(bad_data)?);
    }
    let end = Timestamp::from_millis(from.get_end_unix_ms().saturating_add(1));
    Ok(Selected {
        selectors,
        range: TimeRange { start: Timestamp::from_millis(from.get_start_unix_ms()), end },
        limit: match from.get_limit() {
            0 => usize::MAX,
            limit => limit as usize,
        },
    })
}

impl Selected {
    /// Runs `find` for each selector, narrowed to the scope, and joins the
    /// answers, sorted.
    pub fn union<T: Ord>(
        &self,
        scope: &ReadScope,
        find: impl Fn(&[Matcher], TimeRange) -> Result<Vec<T>, DbError>,
    ) -> Result<(Vec<T>, bool), Failed> {
        let all: [&[Matcher]; 1] = [&[]];
        let chosen: Vec<&[Matcher]> = match &self.selectors[..] {
            [] => all.to_vec(),
            some => some.iter().map(|matchers| &matchers[..]).collect(),
        };
        let mut found = Vec::new();
        for matchers in chosen {
            found.extend(
                find(&scope.narrow(matchers), self.range).map_err(|error| bad_data(error.to_string()))?,
            );
        }
        found.sort();
        found.dedup();
        let is_truncated = found.len() > self.limit;
        found.truncate(self.limit);
        Ok((found, is_truncated))
    }
}
