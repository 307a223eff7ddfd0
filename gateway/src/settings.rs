//! What the configuration file says, as plain data.
//!
//! The file is walked by hand rather than by serde, so that every mistake is
//! reported at once, each with its line, and an unknown key with the nearest
//! known one.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The documented default file.
pub const DEFAULTS: &str = include_str!("../../config/gateway.toml");

/// The file's keys; `config/gateway.toml` documents each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listen: String,
    pub allow_plaintext_beyond_loopback: bool,
    pub allowed_hosts: Vec<String>,
    pub collector: CollectorSettings,
    pub limits: LimitSettings,
    pub log: LogSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    pub endpoints: Vec<String>,
    pub server_name: String,
    pub tls_ca_cert_file: String,
    pub auth_token_file: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    pub requests_max: usize,
    pub queries_max: usize,
    pub body_bytes_max: u64,
    pub header_timeout: Duration,
    pub stall_timeout: Duration,
    pub idle_timeout: Duration,
    pub query_timeout: Duration,
    pub live_max: usize,
    pub live_per_user_max: usize,
    pub users_max: usize,
    pub user_cache: Duration,
    pub drain_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: String,
    pub format: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: "127.0.0.1:18080".to_owned(),
            allow_plaintext_beyond_loopback: false,
            allowed_hosts: Vec::new(),
            collector: CollectorSettings {
                endpoints: vec!["127.0.0.1:4433".to_owned()],
                server_name: String::new(),
                tls_ca_cert_file: "/etc/lightmetrics/ca.pem".to_owned(),
                auth_token_file: "/etc/lightmetrics/gateway.token".to_owned(),
            },
            limits: LimitSettings {
                connections_max: 1024,
                connections_per_ip_max: 256,
                requests_max: 512,
                queries_max: 64,
                body_bytes_max: 1 << 20,
                header_timeout: Duration::from_secs(10),
                stall_timeout: Duration::from_secs(30),
                idle_timeout: Duration::from_secs(60),
                query_timeout: Duration::from_secs(60),
                live_max: 128,
                live_per_user_max: 8,
                users_max: 1024,
                user_cache: Duration::from_secs(300),
                drain_timeout: Duration::from_secs(10),
            },
            log: LogSettings { level: "info".to_owned(), format: "text".to_owned() },
        }
    }
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

/// The settings of a file, with where each key stood.
pub struct Parsed {
    pub settings: Settings,
    pub mistakes: Vec<Mistake>,
    pub(crate) source: Source,
}

/// For messages about a key after the file was read.
pub(crate) struct Source {
    file: String,
    /// `section.key` and its line.
    lines: Vec<(String, usize)>,
}

impl Source {
    pub fn mistake(&self, key: &str, message: String) -> Mistake {
        let line = self.lines.iter().find(|(known, _)| known == key).map_or(0, |(_, line)| *line);
        Mistake { file: self.file.clone(), line, message: format!("{key}: {message}") }
    }
}

/// Reads a file.
pub fn read(path: &Path) -> Parsed {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&file, &text),
        Err(error) => Parsed {
            settings: Settings::default(),
            mistakes: vec![Mistake { file: file.clone(), line: 0, message: format!("cannot read: {error}") }],
            source: Source { file, lines: Vec::new() },
        },
    }
}

/// Reads a file's text; `file` is its name in messages.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut walk =
        Walk { text, source: Source { file: file.to_owned(), lines: Vec::new() }, mistakes: Vec::new() };
    let mut settings = Settings::default();
    match DeTable::parse(text) {
        Ok(root) => walk.root(root.into_inner(), &mut settings),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            walk.mistake(at, error.message().to_owned());
        }
    }
    Parsed { settings, mistakes: walk.mistakes, source: walk.source }
}

struct Walk<'a> {
    text: &'a str,
    source: Source,
    mistakes: Vec<Mistake>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl<'a> Walk<'a> {
    fn root(&mut self, mut table: DeTable<'a>, to: &mut Settings) {
        let mut section = self.section(&mut table, "");
        section.string("listen", &mut to.listen);
        section.boolean("allow_plaintext_beyond_loopback", &mut to.allow_plaintext_beyond_loopback);
        section.strings("allowed_hosts", &mut to.allowed_hosts);
        section.table("collector", |section| {
            section.strings("endpoints", &mut to.collector.endpoints);
            section.string("server_name", &mut to.collector.server_name);
            section.string("tls_ca_cert_file", &mut to.collector.tls_ca_cert_file);
            section.string("auth_token_file", &mut to.collector.auth_token_file);
        });
        section.table("limits", |section| {
            let to = &mut to.limits;
            section.count("connections_max", &mut to.connections_max);
            section.count("connections_per_ip_max", &mut to.connections_per_ip_max);
            section.count("requests_max", &mut to.requests_max);
            section.count("queries_max", &mut to.queries_max);
            section.size("body_bytes_max", &mut to.body_bytes_max);
            section.duration("header_timeout", &mut to.header_timeout);
            section.duration("stall_timeout", &mut to.stall_timeout);
            section.duration("idle_timeout", &mut to.idle_timeout);
            section.duration("query_timeout", &mut to.query_timeout);
            section.count("live_max", &mut to.live_max);
            section.count("live_per_user_max", &mut to.live_per_user_max);
            section.count("users_max", &mut to.users_max);
            section.duration("user_cache", &mut to.user_cache);
            section.duration("drain_timeout", &mut to.drain_timeout);
        });
        section.table("log", |section| {
            section.string("level", &mut to.log.level);
            section.string("format", &mut to.log.format);
        });
        section.finish();
    }

    fn section<'w, 't>(&'w mut self, table: &'t mut DeTable<'a>, name: &str) -> Section<'w, 't, 'a> {
        Section { walk: self, table, name: name.to_owned(), known: Vec::new() }
    }

    fn mistake(&mut self, offset: usize, message: String) {
        let line = self.line(offset);
        self.mistakes.push(Mistake { file: self.source.file.clone(), line, message });
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// One table; what is left at the end is unknown.
struct Section<'w, 't, 'a> {
    walk: &'w mut Walk<'a>,
    table: &'t mut DeTable<'a>,
    name: String,
    known: Vec<&'static str>,
}

impl<'a> Section<'_, '_, 'a> {
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        let line = self.walk.line(value.span().start);
        let path = self.path(key);
        self.walk.source.lines.push((path, line));
        Some(value)
    }

    fn wrong(&mut self, key: &str, value: &Value<'_>, wanted: &str) {
        let found = &self.walk.text[value.span()];
        let found: String = found.chars().take(60).collect();
        let message = format!("{}: found {found}, expected {wanted}", self.path(key));
        self.walk.mistake(value.span().start, message);
    }

    /// Sets `to` from the key when it is there and `read` takes it.
    fn set<T>(
        &mut self,
        key: &'static str,
        to: &mut T,
        wanted: &str,
        read: impl Fn(&DeValue<'a>) -> Option<T>,
    ) {
        let Some(value) = self.take(key) else { return };
        match read(value.get_ref()) {
            Some(read) => *to = read,
            None => self.wrong(key, &value, wanted),
        }
    }

    fn string(&mut self, key: &'static str, to: &mut String) {
        self.set(key, to, "a string", |value| value.as_str().map(str::to_owned));
    }

    fn strings(&mut self, key: &'static str, to: &mut Vec<String>) {
        self.set(key, to, "a list of strings", |value| {
            value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        });
    }

    fn boolean(&mut self, key: &'static str, to: &mut bool) {
        self.set(key, to, "true or false", DeValue::as_bool);
    }

    fn count(&mut self, key: &'static str, to: &mut usize) {
        self.set(key, to, "a number from 1 to 1000000", |value| {
            let number = value.as_integer()?;
            let number = usize::from_str_radix(number.as_str(), number.radix()).ok()?;
            (1..=1_000_000).contains(&number).then_some(number)
        });
    }

    fn duration(&mut self, key: &'static str, to: &mut Duration) {
        self.set(
            key,
            to,
            "a duration from \"1ms\" to \"24h\", such as \"500ms\", \"10s\" or \"5m\"",
            |value| parse_duration(value.as_str()?),
        );
    }

    fn size(&mut self, key: &'static str, to: &mut u64) {
        self.set(key, to, "a size from \"1KiB\" to \"64MiB\", such as \"512KiB\"", |value| {
            parse_size(value.as_str()?).filter(|bytes| (1 << 10..=64 << 20).contains(bytes))
        });
    }

    fn table(&mut self, key: &'static str, body: impl FnOnce(&mut Section<'_, '_, 'a>)) {
        let Some(value) = self.take(key) else { return };
        let found = value.get_ref().type_str();
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Table(mut table) => {
                let path = self.path(key);
                let mut section = self.walk.section(&mut table, &path);
                body(&mut section);
                section.finish();
            }
            _ => self.walk.mistake(at, format!("{key}: found {found}, expected a table ([{key}])")),
        }
    }

    fn finish(self) {
        for key in self.table.keys() {
            let path = self.path(key.get_ref());
            let nearest = self
                .known
                .iter()
                .map(|known| (distance(known, key.get_ref()), known))
                .min()
                .map_or(String::new(), |(_, known)| format!("; did you mean {}?", self.path(known)));
            self.walk.mistake(key.span().start, format!("unknown key {path}{nearest}"));
        }
    }
}

/// `"500ms"`, `"10s"`, `"5m"`, `"2h"`: 1 ms to 24 h.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let ms = number.checked_mul(unit_ms)?;
    (1..=86_400_000).contains(&ms).then(|| Duration::from_millis(ms))
}

/// `"512KiB"`, `"1MiB"`, `"1GiB"`, `"100B"`.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match &text[digits..] {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// Letters to insert, delete or replace to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
