//! What operators may ask over HTTP, and its parameters.

use lm_schema::operator::CapabilityFilter;

use crate::backend::{Failure, FailureKind};
use crate::params::{Params, invalid};

/// Entries of an answer when nothing is said, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Longest name that is looked for.
const NAME_BYTES_MAX: usize = 256;

/// One request below `/api/console/v1/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleQuestion {
    Sessions {
        page: Page,
        /// Empty: any.
        identity: String,
        role: String,
    },
    Capabilities {
        page: Page,
        filter: CapabilityFilter,
    },
    Calls {
        over_micros: u64,
        /// In flight or finished; both when absent.
        is_in_flight: Option<bool>,
        limit: usize,
    },
    Status,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Entries with a larger id.
    pub after: u64,
    pub limit: usize,
}

impl ConsoleQuestion {
    /// Reads the parameters of `list`. One that is not known is refused: a
    /// filter that was misspelt would show what nobody asked for.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] when there is no such list, and
    /// [`FailureKind::BadData`], which names the parameter.
    pub fn parse(list: &str, params: &Params) -> Result<Self, Failure> {
        let known: &[&str] = match list {
            "sessions" => &["after", "limit", "identity", "role"],
            "capabilities" => &["after", "limit", "session", "interface", "holder"],
            "calls" => &["limit", "over", "state"],
            "status" => &[],
            _ => {
                let message =
                    "there is nothing at this path; the console has sessions, capabilities, calls and status";
                return Err(Failure::new(FailureKind::NotFound, message));
            }
        };
        if let Some(name) = params.names().find(|name| !known.contains(name)) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
            return Err(invalid(&shown, format!("it is not known; those of {list}: {known}")));
        }
        Ok(match list {
            "sessions" => ConsoleQuestion::Sessions {
                page: Page { after: id(params, "after", 's')?, limit: limit(params)? },
                identity: name(params, "identity")?,
                role: name(params, "role")?,
            },
            "capabilities" => ConsoleQuestion::Capabilities {
                page: Page { after: id(params, "after", 'c')?, limit: limit(params)? },
                filter: CapabilityFilter {
                    session: id(params, "session", 's')?,
                    interface: name(params, "interface")?,
                    holder: name(params, "holder")?,
                },
            },
            "calls" => ConsoleQuestion::Calls {
                over_micros: over_micros(params)?,
                is_in_flight: match params.get("state") {
                    None => None,
                    Some("in_flight") => Some(true),
                    Some("finished") => Some(false),
                    Some(other) => {
                        let why = format!("found {other:?}, expected \"in_flight\" or \"finished\"");
                        return Err(invalid("state", why));
                    }
                },
                limit: limit(params)?,
            },
            _ => ConsoleQuestion::Status,
        })
    }
}

/// A number, or as `lmctl` writes it: `s3`, `c17`. 0 when absent.
fn id(params: &Params, name: &str, prefix: char) -> Result<u64, Failure> {
    let Some(text) = params.get(name) else { return Ok(0) };
    let digits = text.strip_prefix(prefix).unwrap_or(text);
    match digits.parse() {
        Ok(id) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id),
        _ => Err(invalid(name, format!("found {text:?}, expected a number such as 17 or {prefix}17"))),
    }
}

fn limit(params: &Params) -> Result<usize, Failure> {
    match params.get("limit").map(str::parse) {
        None => Ok(LIMIT),
        Some(Ok(limit @ 1..=LIMIT_MAX)) => Ok(limit),
        Some(_) => Err(invalid("limit", format!("expected a number from 1 to {LIMIT_MAX}"))),
    }
}

fn name(params: &Params, name: &str) -> Result<String, Failure> {
    match params.get(name) {
        None => Ok(String::new()),
        Some(text) if text.len() <= NAME_BYTES_MAX => Ok(text.to_owned()),
        Some(_) => Err(invalid(name, format!("longer than {NAME_BYTES_MAX} bytes"))),
    }
}

fn over_micros(params: &Params) -> Result<u64, Failure> {
    let millis = params.duration("over")?.unwrap_or(0);
    let millis = u64::try_from(millis).map_err(|_| invalid("over", "must not be negative".to_owned()))?;
    Ok(millis.saturating_mul(1000))
}

#[cfg(test)]
mod tests;
