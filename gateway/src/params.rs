//! Parameters of the Prometheus API, checked as Prometheus checks them.

use std::time::Duration;

use crate::backend::{Failure, FailureKind};

/// Form and query-string parameters, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

/// Parameters of one request.
const PARAMS_MAX: usize = 1000;
/// Points of one series in an answer, as Prometheus bounds them.
const POINTS_MAX: i64 = 11_000;
/// The ends of time, as clients of Prometheus write them.
const MIN_TIME: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME: &str = "292277025-08-18T07:12:54.999999999Z";
/// What those two stand for here; room is left for arithmetic.
const UNIX_MS_MIN: i64 = i64::MIN / 4;
const UNIX_MS_MAX: i64 = i64::MAX / 4;

fn bad(message: String) -> Failure {
    Failure::new(FailureKind::BadData, message)
}

pub(crate) fn invalid(name: &str, why: String) -> Failure {
    bad(format!("invalid parameter {name:?}: {why}"))
}

impl Params {
    /// Decodes `application/x-www-form-urlencoded` parts: a body, then the
    /// query string. The first value of a name counts, as in Go.
    pub fn parse(body: &[u8], query: &[u8]) -> Result<Params, Failure> {
        let mut pairs = Vec::new();
        for (name, value) in form_urlencoded::parse(body).chain(form_urlencoded::parse(query)) {
            if pairs.len() == PARAMS_MAX {
                return Err(bad(format!("more than {PARAMS_MAX} parameters")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Params(pairs))
    }

    /// The first value; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| &value[..])
            .filter(|value| !value.is_empty())
    }

    /// The names that were given, also those without a value.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &name[..])
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.clone())
            .collect()
    }

    /// A point in time, in milliseconds; `None` when it is not given.
    pub fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_time(text)
            .map(Some)
            .ok_or_else(|| invalid(name, format!("cannot parse {text:?} to a valid timestamp")))
    }

    fn required_time(&self, name: &str) -> Result<i64, Failure> {
        self.time(name)?.ok_or_else(|| invalid(name, "cannot parse \"\" to a valid timestamp".to_owned()))
    }

    /// A duration, in milliseconds.
    pub fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_duration_ms(text)
            .map(Some)
            .ok_or_else(|| invalid(name, format!("cannot parse {text:?} to a valid duration")))
    }

    /// How many to answer at most; 0: all.
    pub fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else { return Ok(0) };
        let limit: i64 =
            text.parse().map_err(|_| invalid("limit", format!("cannot parse {text:?} to an integer")))?;
        usize::try_from(limit).map_err(|_| invalid("limit", "limit must be non-negative".to_owned()))
    }

    /// A number of things; `None` when it is not given or negative, which
    /// means all.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let count: i64 = text.parse().map_err(|_| bad(format!("{name} must be a number")))?;
        Ok(usize::try_from(count).ok())
    }

    /// `timeout`, at most `max`.
    pub fn timeout(&self, max: Duration) -> Result<Duration, Failure> {
        let Some(ms) = self.duration("timeout")? else { return Ok(max) };
        let ms = u64::try_from(ms).ok().filter(|ms| *ms > 0);
        let ms = ms.ok_or_else(|| invalid("timeout", "must be positive".to_owned()))?;
        Ok(Duration::from_millis(ms).min(max))
    }

    /// `lookback_delta`, in milliseconds; 0: the default.
    pub fn lookback_ms(&self) -> Result<u32, Failure> {
        let Some(ms) = self.duration("lookback_delta")? else { return Ok(0) };
        u32::try_from(ms)
            .ok()
            .filter(|ms| *ms > 0)
            .ok_or_else(|| invalid("lookback_delta", "must be positive and at most 49 days".to_owned()))
    }

    pub fn query(&self) -> Result<String, Failure> {
        let query = self.get("query").unwrap_or("");
        if query.trim().is_empty() {
            return Err(invalid(
                "query",
                "unknown position: parse error: no expression found in input".to_owned(),
            ));
        }
        Ok(query.to_owned())
    }

    /// `start`, `end`, `step`.
    pub fn range(&self) -> Result<Range, Failure> {
        let start_ms = self.required_time("start")?;
        let end_ms = self.required_time("end")?;
        if end_ms < start_ms {
            return Err(invalid("end", "end timestamp must not be before start time".to_owned()));
        }
        let step_ms = self
            .duration("step")?
            .ok_or_else(|| invalid("step", "cannot parse \"\" to a valid duration".to_owned()))?;
        if step_ms <= 0 {
            let why =
                "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(invalid("step", why.to_owned()));
        }
        if (end_ms - start_ms) / step_ms > POINTS_MAX {
            return Err(bad(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
                 resolution (?step=XX)"
                    .to_owned(),
            ));
        }
        Ok(Range { start_ms, end_ms, step_ms })
    }

    /// `match[]`, `start`, `end`, `limit`.
    pub fn selection(&self) -> Result<Selection, Failure> {
        let start_ms = self.time("start")?.unwrap_or(UNIX_MS_MIN);
        let end_ms = self.time("end")?.unwrap_or(UNIX_MS_MAX);
        if end_ms < start_ms {
            return Err(invalid("end", "end timestamp must not be before start time".to_owned()));
        }
        let selectors = self.all("match[]");
        Ok(Selection { selectors, start_ms, end_ms, limit: self.limit()? })
    }

    /// `query`, `selector`, `contains`, `exclude`, `regex`.
    pub fn log_filter(&self) -> LogFilter {
        let mut contains = self.get("query").map(words).unwrap_or_default();
        contains.extend(self.all("contains"));
        LogFilter {
            selector: self.get("selector").unwrap_or("").to_owned(),
            contains,
            excludes: self.all("exclude"),
            regex: self.get("regex").unwrap_or("").to_owned(),
        }
    }

    /// The parameters of a log search, at `now_nano`.
    pub fn log_search(&self, now_nano: i64) -> Result<LogSearch, Failure> {
        let end_nano = self.log_time("end")?.unwrap_or(now_nano);
        let start_nano = self.log_time("start")?.unwrap_or(end_nano.saturating_sub(LOG_SPAN_NANO));
        if end_nano < start_nano {
            return Err(invalid("end", "end timestamp must not be before start time".to_owned()));
        }
        let limit = match self.limit()? {
            0 => LOG_LIMIT,
            limit if limit <= LOG_LIMIT_MAX => limit,
            limit => return Err(invalid("limit", format!("found {limit}, at most {LOG_LIMIT_MAX}"))),
        };
        let is_forward = match self.get("direction") {
            None | Some("backward") => false,
            Some("forward") => true,
            Some(other) => {
                return Err(invalid(
                    "direction",
                    format!("found {other:?}, expected \"forward\" or \"backward\""),
                ));
            }
        };
        Ok(LogSearch { filter: self.log_filter(), start_nano, end_nano, limit, is_forward })
    }

    fn log_time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_log_time(text)
            .map(Some)
            .ok_or_else(|| invalid(name, format!("cannot parse {text:?} to a valid timestamp")))
    }
}

/// Times of a range query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

/// Which series a metadata question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub selectors: Vec<String>,
    pub start_ms: i64,
    /// Inclusive.
    pub end_ms: i64,
    /// 0: all.
    pub limit: usize,
}

/// Which lines a search or a tail is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    pub selector: String,
    pub contains: Vec<String>,
    pub excludes: Vec<String>,
    pub regex: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSearch {
    pub filter: LogFilter,
    pub start_nano: i64,
    /// Exclusive.
    pub end_nano: i64,
    pub limit: usize,
    pub is_forward: bool,
}

/// How far back a search without `start` looks: an hour.
const LOG_SPAN_NANO: i64 = 3_600_000_000_000;
const LOG_LIMIT: usize = 100;
const LOG_LIMIT_MAX: usize = 5000;

/// Decimal seconds or RFC 3339, in milliseconds.
fn parse_time(text: &str) -> Option<i64> {
    if let Some(seconds) = parse_float(text) {
        let ms = (seconds * 1000.0).round();
        // The ends are far from where a conversion would saturate.
        return (ms.abs() < UNIX_MS_MAX as f64).then_some(ms as i64);
    }
    match text {
        MIN_TIME => Some(UNIX_MS_MIN),
        MAX_TIME => Some(UNIX_MS_MAX),
        _ => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
    }
}

/// What Go's `ParseFloat` would read as a finite number.
fn parse_float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// Decimal seconds or `1h30m`, in milliseconds.
fn parse_duration_ms(text: &str) -> Option<i64> {
    if let Some(seconds) = parse_float(text) {
        let ms = seconds * 1000.0;
        if ms.abs() >= i64::MAX as f64 / 1e6 {
            return None;
        }
        // A step below a millisecond must not become zero unseen.
        return Some(if ms > 0.0 { ms.round().max(1.0) as i64 } else { ms.round() as i64 });
    }
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = text;
    let mut total = 0i64;
    // Units come in falling order, each once.
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let at = UNITS.iter().position(|(name, _)| *name == &rest[..unit_end])?;
        if at < next_unit {
            return None;
        }
        next_unit = at + 1;
        total = total.checked_add(number.checked_mul(UNITS[at].1)?)?;
        rest = &rest[unit_end..];
    }
    (next_unit > 0).then_some(total)
}

/// RFC 3339, or a number that is read by its size: below 1e11 seconds (a
/// fraction is allowed), below 1e14 milliseconds, below 1e17 microseconds,
/// above that nanoseconds. The result is in nanoseconds.
fn parse_log_time(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        let unit = match number.unsigned_abs() {
            0..100_000_000_000 => 1_000_000_000,
            100_000_000_000..100_000_000_000_000 => 1_000_000,
            100_000_000_000_000..100_000_000_000_000_000 => 1000,
            _ => 1,
        };
        return number.checked_mul(unit);
    }
    if let Some(seconds) = parse_float(text) {
        return (seconds.abs() < 9e9).then(|| (seconds * 1e6).round() as i64 * 1000);
    }
    i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

/// Words between white space; double quotes keep a phrase together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in text.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A label's name from a path: Grafana writes `http.status` as
/// `U__http_2e_status`. What is not in that form is taken as it is.
pub fn unescape_name(name: &str) -> String {
    let Some(escaped) = name.strip_prefix("U__") else { return name.to_owned() };
    unescape(escaped).unwrap_or_else(|| name.to_owned())
}

fn unescape(mut rest: &str) -> Option<String> {
    let mut name = String::new();
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('_')?;
        if end == 0 {
            name.push('_');
        } else if end <= 6 {
            name.push(char::from_u32(u32::from_str_radix(&rest[..end], 16).ok()?)?);
        } else {
            return None;
        }
        rest = &rest[end + 1..];
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests;
