//! A reader's log filter, from the wire to a query.

use std::sync::Arc;

use lm_logs::{Direction, LineFilter, LogQuery};
use lm_model::Matcher;
use lm_promql::Expr;
use lm_schema::query_capnp::log_filter;

use crate::query::ReadScope;
use crate::tail::TailEvent;

/// Most bytes that one search looks at before it answers with what it has.
const SCAN_BYTES_MAX: usize = 512 << 20;
/// Most terms of each kind; the log store has a bound of its own below this.
const TERMS_MAX: u32 = 64;

/// What the live tail lets through.
pub struct LogFilter {
    lines: LineFilter,
    scope: Arc<ReadScope>,
    /// Notices pass only an empty filter: nobody who asks for one file's
    /// lines wants them.
    takes_notices: bool,
}

impl LogFilter {
    /// # Errors
    ///
    /// A text for the user when the filter makes no sense.
    pub fn read(from: log_filter::Reader<'_>, scope: Arc<ReadScope>) -> Result<LogFilter, String> {
        let query = read_query(from)?;
        let takes_notices = query.matchers.is_empty()
            && query.contains.is_empty()
            && query.excludes.is_empty()
            && query.regex.is_none();
        let lines = LineFilter::new(&query).map_err(|error| error.to_string())?;
        Ok(LogFilter { lines, scope, takes_notices })
    }

    pub fn keeps(&self, event: &TailEvent) -> bool {
        match event {
            TailEvent::Log { labels, line, .. } => {
                self.scope.takes(labels) && self.lines.matches(labels, line)
            }
            TailEvent::Notice(notice) => self.takes_notices && self.scope.takes_agent(&notice.agent),
        }
    }
}

/// A query over all time, without a limit; the caller narrows it.
///
/// # Errors
///
/// A text for the user when a term or the selector makes no sense.
pub fn read_query(from: log_filter::Reader<'_>) -> Result<LogQuery, String> {
    let malformed = |error: capnp::Error| error.to_string();
    let selector = from.get_selector().map_err(malformed)?.to_str().map_err(|error| error.to_string())?;
    let regex = from.get_regex().map_err(malformed)?.to_str().map_err(|error| error.to_string())?;
    Ok(LogQuery {
        matchers: if selector.trim().is_empty() { Vec::new() } else { matchers(selector)? },
        contains: texts(from.get_contains().map_err(malformed)?)?,
        excludes: texts(from.get_excludes().map_err(malformed)?)?,
        regex: Some(regex.to_owned()).filter(|regex| !regex.is_empty()),
        ..everything(Direction::Backward)
    })
}

/// A query over all lines of all time.
pub fn everything(direction: Direction) -> LogQuery {
    LogQuery {
        matchers: Vec::new(),
        contains: Vec::new(),
        excludes: Vec::new(),
        regex: None,
        start_unix_nano: i64::MIN,
        end_unix_nano: i64::MAX,
        limit: usize::MAX,
        direction,
        scan_bytes_max: SCAN_BYTES_MAX,
    }
}

fn texts(from: capnp::text_list::Reader<'_>) -> Result<Vec<String>, String> {
    if from.len() > TERMS_MAX {
        return Err(format!("{} terms (at most {TERMS_MAX})", from.len()));
    }
    let text = |text: capnp::Result<capnp::text::Reader<'_>>| {
        text.map_err(|error| error.to_string())?.to_string().map_err(|error| error.to_string())
    };
    from.iter().map(text).collect()
}

/// The matchers of a series or stream selector such as `up{job="node"}`.
///
/// # Errors
///
/// A text for the user when it is not a plain selector.
pub fn matchers(selector: &str) -> Result<Vec<Matcher>, String> {
    match lm_promql::parse(selector) {
        Ok(Expr::Selector(found)) if found.at.is_none() && found.offset_millis == 0 => Ok(found.matchers),
        Ok(_) => Err(format!("{selector:?} is not a selector such as {{job=\"node\"}}")),
        Err(error) => Err(error.to_string()),
    }
}
