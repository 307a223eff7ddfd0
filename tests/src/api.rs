//! Questions to the gateway, as a user asks them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::http::{self, Response, escape};
use crate::sse::Sse;

/// Labels of a series or a line.
pub type Labels = BTreeMap<String, String>;

/// Lines that one page of a log search holds at most.
const PAGE: usize = 5000;

/// The gateway's HTTP interface with one token.
#[derive(Clone, Debug)]
pub struct Api {
    pub addr: SocketAddr,
    pub token: String,
}

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct Series {
    pub labels: Labels,
    /// `(unix ms, value)`.
    pub samples: Vec<(i64, f64)>,
}

/// One line of a log search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub labels: Labels,
    pub time_unix_nano: i64,
    pub line: String,
}

/// What the collector says of one stream.
#[derive(Clone, Debug)]
pub struct StreamAccount {
    pub agent: String,
    pub stream: String,
    pub incarnation: String,
    pub durable_end: u64,
    pub stored_items: u64,
    /// By reason: `(items, batches)`.
    pub lost: BTreeMap<String, (u64, u64)>,
}

impl Api {
    /// A GET request; a failure to connect is an error too.
    ///
    /// # Errors
    ///
    /// When there is no whole answer.
    pub fn get(&self, path: &str) -> Result<Response, String> {
        http::get(self.addr, path, Some(&self.token)).map_err(|error| format!("{path}: {error}"))
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let response = self.get(path)?;
        if response.status != 200 {
            return Err(format!("{path}: {} {}", response.status, response.body));
        }
        let mut json: Value = serde_json::from_str(&response.body)
            .map_err(|error| format!("{path}: {error}: {}", response.body))?;
        Ok(json["data"].take())
    }

    /// An instant query whose answer is a vector or a matrix.
    ///
    /// # Errors
    ///
    /// When it is not answered.
    pub fn query(&self, expression: &str, at_ms: i64) -> Result<Vec<Series>, String> {
        let time = format!("{}.{:03}", at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
        series(&self.ask(&format!("/api/v1/query?query={}&time={time}", escape(expression)))?)
    }

    /// The value of an expression that is one series now.
    ///
    /// # Errors
    ///
    /// When it is none or many.
    pub fn value(&self, expression: &str) -> Result<f64, String> {
        let found = self.query(expression, unix_ms())?;
        match &found[..] {
            [one] => Ok(one.samples[0].1),
            _ => Err(format!("{expression} is {} series: {found:?}", found.len())),
        }
    }

    /// A range query.
    ///
    /// # Errors
    ///
    /// When it is not answered.
    pub fn query_range(
        &self,
        expression: &str,
        start_ms: i64,
        end_ms: i64,
        step: Duration,
    ) -> Result<Vec<Series>, String> {
        let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
        series(&self.ask(&format!(
            "/api/v1/query_range?query={}&start={}&end={}&step={}",
            escape(expression),
            seconds(start_ms),
            seconds(end_ms),
            step.as_secs_f64()
        ))?)
    }

    /// Every line of the last two hours that matches, oldest first, page by page.
    ///
    /// # Errors
    ///
    /// When a page is not answered.
    pub fn all_lines(&self, selector: &str, contains: &str) -> Result<Vec<LogLine>, String> {
        let end = unix_nano() + 60_000_000_000;
        self.lines_between(selector, contains, end - 7_200_000_000_000, end)
    }

    /// As [`all_lines`](Self::all_lines), of any time.
    ///
    /// # Errors
    ///
    /// When a page is not answered.
    pub fn lines_between(
        &self,
        selector: &str,
        contains: &str,
        mut start: i64,
        end: i64,
    ) -> Result<Vec<LogLine>, String> {
        let mut found: Vec<LogLine> = Vec::new();
        loop {
            let path = format!(
                "/api/v1/logs?selector={}&contains={}&start={start}&end={end}&limit={PAGE}&direction=forward",
                escape(selector),
                escape(contains)
            );
            let data = self.ask(&path)?;
            let mut page = Vec::new();
            for line in data["lines"].as_array().ok_or("no lines")? {
                page.push(LogLine {
                    labels: labels(&line["labels"])?,
                    time_unix_nano: line["timestamp"]
                        .as_str()
                        .and_then(|time| time.parse().ok())
                        .ok_or("a line without a time")?,
                    line: line["line"].as_str().ok_or("a line without text")?.to_owned(),
                });
            }
            if data["truncated"] != Value::Bool(true) {
                found.extend(page);
                return Ok(found);
            }
            // The last instant may be cut in two: ask for it again.
            let last = page.last().ok_or("a truncated page without lines")?.time_unix_nano;
            page.retain(|line| line.time_unix_nano < last);
            if page.is_empty() {
                return Err(format!("more than {PAGE} lines at {last}"));
            }
            found.extend(page);
            start = last;
        }
    }

    /// What is stored and declared lost.
    ///
    /// # Errors
    ///
    /// When it is not answered.
    pub fn losses(&self) -> Result<Vec<StreamAccount>, String> {
        let data = self.ask("/api/v1/losses")?;
        let number = |value: &Value| value.as_u64().ok_or_else(|| format!("{value} is no count"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut accounts = Vec::new();
        for stream in data["streams"].as_array().ok_or("no streams")? {
            let mut lost = BTreeMap::new();
            for entry in stream["lost"].as_array().ok_or("no losses")? {
                lost.insert(text(&entry["reason"]), (number(&entry["items"])?, number(&entry["batches"])?));
            }
            accounts.push(StreamAccount {
                agent: text(&stream["agent"]),
                stream: text(&stream["stream"]),
                incarnation: text(&stream["incarnation"]),
                durable_end: number(&stream["durable_end"])?,
                stored_items: number(&stream["stored_items"])?,
                lost,
            });
        }
        Ok(accounts)
    }

    /// `(stored, declared lost)` items of one stream of an agent, over all incarnations.
    ///
    /// # Errors
    ///
    /// As [`losses`](Self::losses).
    pub fn account(&self, agent: &str, stream: &str) -> Result<(u64, BTreeMap<String, u64>), String> {
        let mut stored = 0;
        let mut lost = BTreeMap::new();
        for account in self.losses()? {
            if account.agent == agent && account.stream == stream {
                stored += account.stored_items;
                for (reason, (items, batches)) in account.lost {
                    // A loss of batches whose items nobody knows is a loss too.
                    if items > 0 || batches > 0 {
                        *lost.entry(reason).or_default() += items;
                    }
                }
            }
        }
        Ok((stored, lost))
    }

    /// Opens a live tail.
    #[track_caller]
    pub fn live(&self, parameters: &str, after: Option<&str>) -> Sse {
        Sse::open(self.addr, &format!("/api/v1/live?{parameters}"), &self.token, after)
    }
}

fn labels(json: &Value) -> Result<Labels, String> {
    let pairs = json.as_object().ok_or_else(|| format!("{json} is no set of labels"))?;
    Ok(pairs
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect())
}

fn series(data: &Value) -> Result<Vec<Series>, String> {
    let sample = |value: &Value| {
        let time = value[0].as_f64()?;
        let number = value[1].as_str()?.parse().ok()?;
        Some(((time * 1000.0).round() as i64, number))
    };
    let mut found = Vec::new();
    for entry in data["result"].as_array().ok_or_else(|| format!("{data} is no vector or matrix"))? {
        let samples: Option<Vec<_>> = match (&entry["value"], entry["values"].as_array()) {
            (_, Some(values)) => values.iter().map(sample).collect(),
            (value, None) => sample(value).map(|sample| vec![sample]),
        };
        let samples = samples.ok_or_else(|| format!("{entry} is no series"))?;
        found.push(Series { labels: labels(&entry["metric"])?, samples });
    }
    Ok(found)
}

/// The values of a label, of some series.
pub fn values_of(series: &[Series], label: &str) -> BTreeSet<String> {
    series.iter().filter_map(|series| series.labels.get(label).cloned()).collect()
}

pub fn unix_nano() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as i64)
}

pub fn unix_ms() -> i64 {
    unix_nano() / 1_000_000
}
