//! A record as one line.
//!
//! ```text
//! text   2026-01-31T18:00:00.000000Z  INFO session opened endpoint="c:4433" session=3
//! json   {"timestamp":"...","level":"INFO","target":"lm_agent::sender","message":"...","endpoint":"c:4433"}
//! ecs    {"@timestamp":"...","log.level":"info","message":"...","ecs.version":"8.11.0","service.name":"lm-agent",...}
//! ```
//!
//! ECS is the Elastic Common Schema in the form of its logging specification:
//! dotted names, `@timestamp`, `log.level`, `message` first.

use std::fmt::Write as _;
use std::time::SystemTime;

use tracing::Level;

use super::record::{FieldValue, Record};
use super::{REQUEST, time};

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    Ecs,
}

impl std::str::FromStr for Format {
    /// What was expected.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Format, &'static str> {
        let found = Format::NAMES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| format).ok_or("expected text, json or ecs")
    }
}

impl Format {
    /// As settings and command lines say it.
    pub const NAMES: [(&'static str, Format); 3] =
        [("text", Format::Text), ("json", Format::Json), ("ecs", Format::Ecs)];
}

/// The version of ECS whose names are used.
const ECS_VERSION: &str = "8.11.0";

/// What our fields are called in ECS, of every event.
const ECS_NAMES: [(&str, &str); 8] = [
    ("error", "error.message"),
    ("error_type", "error.type"),
    ("stack", "error.stack_trace"),
    ("rpc_system", "rpc.system"),
    ("rpc_service", "rpc.service"),
    ("rpc_method", "rpc.method"),
    ("trace_id", "trace.id"),
    ("span_id", "span.id"),
];

/// The same, of request events.
const ECS_REQUEST_NAMES: [(&str, &str); 8] = [
    ("method", "http.request.method"),
    ("path", "url.path"),
    ("status", "http.response.status_code"),
    ("client", "client.address"),
    ("user_agent", "user_agent.original"),
    ("request_bytes", "http.request.body.bytes"),
    ("response_bytes", "http.response.body.bytes"),
    ("user", "user.id"),
];

/// How long it took, in microseconds; in ECS `event.duration`, in nanoseconds.
const DURATION: &str = "duration_us";

pub(super) struct Writer {
    pub service: &'static str,
    pub version: &'static str,
    pub format: Format,
    /// systemd's journal adds the time, and reads the level from `<6>`.
    pub is_journal: bool,
}

impl Writer {
    /// One line with its end, whatever the record holds.
    pub fn line(&self, at: SystemTime, record: &Record) -> String {
        let mut line = match self.format {
            Format::Text => self.text(at, record),
            Format::Json => json(&self.json(at, record)),
            Format::Ecs => json(&self.ecs(at, record)),
        };
        line.push('\n');
        line
    }

    fn text(&self, at: SystemTime, record: &Record) -> String {
        let mut line = match self.is_journal {
            true => format!("<{}>{} ", priority(record.level), escaped(&record.message)),
            false => format!("{} {:>5} {} ", time::text(at), record.level, escaped(&record.message)),
        };
        for (name, value) in &record.fields {
            // Writing to a string cannot fail.
            let _ = match value {
                FieldValue::Text(text) => write!(line, "{name}={text:?} "),
                FieldValue::Shown(text) => write!(line, "{name}={} ", escaped(text)),
                FieldValue::Number(text) => write!(line, "{name}={text} "),
                FieldValue::Bool(value) => write!(line, "{name}={value} "),
            };
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn json(&self, at: SystemTime, record: &Record) -> Vec<(String, String)> {
        let mut members = vec![
            member("timestamp", &time::text(at)),
            member("level", &record.level.to_string()),
            member("target", &record.target),
            member("message", &record.message),
        ];
        for (name, value) in &record.fields {
            // A field must not pass for one of those above.
            let is_taken = members[..4].iter().any(|(taken, _)| taken == name);
            let name = if is_taken { format!("field_{name}") } else { (*name).to_owned() };
            members.push((name, value.json()));
        }
        members
    }

    fn ecs(&self, at: SystemTime, record: &Record) -> Vec<(String, String)> {
        let is_request = record.target == REQUEST;
        let dataset = if is_request { "request" } else { "log" };
        let mut members = vec![
            member("@timestamp", &time::text(at)),
            member("log.level", &record.level.to_string().to_ascii_lowercase()),
            member("message", &record.message),
            member("ecs.version", ECS_VERSION),
            member("service.name", self.service),
            member("service.version", self.version),
            member("event.dataset", &format!("{}.{dataset}", self.service)),
            member("log.logger", &record.target),
        ];
        for (name, value) in &record.fields {
            let of_requests = ECS_REQUEST_NAMES.iter().filter(|_| is_request);
            let known = ECS_NAMES.iter().chain(of_requests).find(|(ours, _)| ours == name);
            members.push(match (known, value) {
                (None, FieldValue::Number(micros)) if *name == DURATION => {
                    ("event.duration".to_owned(), format!("{micros}000"))
                }
                (Some((_, theirs)), value) => ((*theirs).to_owned(), value.json()),
                (None, value) => (format!("lightmetrics.{name}"), value.json()),
            });
        }
        members
    }
}

impl FieldValue {
    fn json(&self) -> String {
        match self {
            FieldValue::Text(text) | FieldValue::Shown(text) => quoted(text),
            FieldValue::Number(text) => text.clone(),
            FieldValue::Bool(value) => value.to_string(),
        }
    }
}

fn member(name: &str, text: &str) -> (String, String) {
    (name.to_owned(), quoted(text))
}

fn json(members: &[(String, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// A JSON string. Control characters are escaped, line ends above all.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A text without line ends and other control characters, so that it cannot
/// pass for a line of its own or steer a terminal.
fn escaped(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// syslog's numbers, as systemd reads them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn record(target: &str) -> Record {
        Record {
            level: Level::WARN,
            target: target.to_owned(),
            message: "a\nb".to_owned(),
            fields: vec![
                ("method", FieldValue::Shown("GET".to_owned())),
                ("path", FieldValue::Text("/x\"\n2026-01-01T00:00:00Z ERROR forged".to_owned())),
                ("shown", FieldValue::Shown("x\u{1b}[2J\r\n\u{2028}y".to_owned())),
                ("duration_us", FieldValue::Number("7".to_owned())),
                ("level", FieldValue::Bool(true)),
            ],
        }
    }

    fn line(format: Format, is_journal: bool, target: &str) -> String {
        let writer = Writer { service: "lm-x", version: "1", format, is_journal };
        writer.line(UNIX_EPOCH, &record(target))
    }

    #[test]
    fn a_hostile_text_cannot_forge_a_line() {
        for format in [Format::Text, Format::Json, Format::Ecs] {
            for is_journal in [false, true] {
                let line = line(format, is_journal, "t");
                assert_eq!(
                    line.matches(['\n', '\r', '\u{1b}', '\u{2028}']).count(),
                    1 + usize::from(format != Format::Text),
                    "{line}"
                );
                assert!(line.ends_with('\n'));
            }
        }
    }

    #[test]
    fn text_is_what_people_read() {
        let expected = r#"1970-01-01T00:00:00.000000Z  WARN a\nb method=GET path="/x\"\n2026-01-01T00:00:00Z ERROR forged" shown=x\u{1b}[2J\r\n\u{2028}y duration_us=7 level=true"#;
        assert_eq!(line(Format::Text, false, "t").trim_end(), expected);
        assert!(line(Format::Text, true, "t").starts_with(r"<4>a\nb method=GET"));
    }

    #[test]
    fn json_and_ecs_name_what_they_hold() {
        let json: serde_json::Value = serde_json::from_str(&line(Format::Json, false, "t")).unwrap();
        assert_eq!((&json["level"], &json["field_level"]), (&"WARN".into(), &true.into()));
        assert_eq!((&json["message"], &json["duration_us"]), (&"a\nb".into(), &7.into()));
        let ecs: serde_json::Value = serde_json::from_str(&line(Format::Ecs, false, REQUEST)).unwrap();
        assert_eq!((&ecs["log.level"], &ecs["service.name"]), (&"warn".into(), &"lm-x".into()));
        assert_eq!((&ecs["http.request.method"], &ecs["event.duration"]), (&"GET".into(), &7000.into()));
        assert_eq!(ecs["event.dataset"], "lm-x.request");
        assert_eq!(ecs["lightmetrics.level"], true);
        let other: serde_json::Value = serde_json::from_str(&line(Format::Ecs, false, "t")).unwrap();
        assert_eq!(other["lightmetrics.method"], "GET", "only a request has an HTTP method");
    }
}
