//! What the agent is told: `config/agent.toml` documents every key.
//!
//! [`Settings::parse`] reads a file completely and answers either settings
//! that need no further checks or every mistake in it, with lines. It opens
//! nothing that the file names.

mod metrics;
mod scrape;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lm_mesh::{KeepAlive, Transport};
use lm_settings::{Mistake, Section, Value, units};
use lm_telemetry::{HealthSettings, LogSettings};

use crate::sources::logs::LogsOptions;
use crate::sources::scrape::Job;
pub use metrics::Metrics;

/// The documented defaults: what `--print-defaults` prints.
pub const DEFAULTS: &str = include_str!("../../../config/agent.toml");

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Must be what the collector calls the holder of our token.
    pub agent_id: String,
    /// How long a stopping agent tries to deliver what is queued.
    pub shutdown_timeout: Duration,
    /// How long `--once` and `--flush` try.
    pub upload_timeout: Duration,
    pub collector: Collector,
    pub queue: Queue,
    pub metrics: Metrics,
    pub logs: Logs,
    pub scrape: Vec<Job>,
    pub limits: Limits,
    pub health: HealthSettings,
    pub log: LogSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Collector {
    /// `host:port`, tried in order.
    pub endpoints: Vec<String>,
    /// The name in the collector's certificate, when it is not the endpoint's host.
    pub server_name: Option<String>,
    pub tls_ca_cert_file: PathBuf,
    pub auth_token_file: PathBuf,
    pub transport: Transport,
    /// How often a session over TCP looks whether QUIC works again.
    pub retry_quic_after: Duration,
    pub keep_alive: KeepAlive,
    /// Whether the collector may ask for our status and for a flush.
    pub control: bool,
}

/// A file's settings, and the digest of its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    pub sha256: [u8; 32],
}

#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub dir: PathBuf,
    pub bytes_max: u64,
    pub segment_bytes: u64,
    pub on_full: OnFull,
    pub durability: Durability,
    /// With [`Durability::Interval`].
    pub flush_interval: Duration,
}

/// What happens to new data when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    DropOldest,
    DropNewest,
    Refuse,
}

/// When accepted data survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before it is sent or counted as accepted.
    Sync,
    /// After the flush interval at the latest.
    Interval,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Logs {
    pub files: Vec<String>,
    pub exclude: Vec<String>,
    pub from: From,
    pub log_message_bytes_max: u32,
    pub logs_per_batch_max: u32,
}

/// Where reading starts in a file that was never read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    pub alerts_per_batch_max: u32,
    /// New series in one batch.
    pub series_per_batch_max: u32,
    pub labels_per_series_max: u32,
    pub label_key_bytes_max: u32,
    pub label_value_bytes_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            agent_id: "local-agent".to_owned(),
            shutdown_timeout: Duration::from_secs(5),
            upload_timeout: Duration::from_secs(30),
            collector: Collector {
                endpoints: vec!["127.0.0.1:4433".to_owned()],
                server_name: None,
                tls_ca_cert_file: "/etc/lightmetrics/ca.pem".into(),
                auth_token_file: "/etc/lightmetrics/token".into(),
                transport: Transport::Auto,
                retry_quic_after: Duration::from_secs(300),
                keep_alive: KeepAlive::default(),
                control: false,
            },
            queue: Queue {
                dir: "/var/lib/lightmetrics/queue".into(),
                bytes_max: 500_000_000,
                segment_bytes: 4 << 20,
                on_full: OnFull::DropOldest,
                durability: Durability::Sync,
                flush_interval: Duration::from_secs(1),
            },
            metrics: Metrics::default(),
            logs: Logs {
                files: Vec::new(),
                exclude: LogsOptions::default().exclude,
                from: From::End,
                log_message_bytes_max: 65_536,
                logs_per_batch_max: 4096,
            },
            scrape: Vec::new(),
            limits: Limits {
                alerts_per_batch_max: 1,
                series_per_batch_max: 2048,
                labels_per_series_max: 32,
                label_key_bytes_max: 128,
                label_value_bytes_max: 512,
            },
            health: HealthSettings::on_port(18083),
            log: LogSettings::default(),
        }
    }
}

impl Settings {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Every mistake in the file, in the order of lines; never an empty list.
    pub fn load(file: &Path) -> Result<Loaded, Vec<Mistake>> {
        let text = lm_settings::read_text(file, lm_settings::FILE_BYTES_MAX)?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
        Ok(Loaded { settings: Settings::parse(file, &text)?, sha256 })
    }

    /// Checks `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// As [`Settings::load`].
    pub fn parse(file: &Path, text: &str) -> Result<Settings, Vec<Mistake>> {
        lm_settings::parse(file, text, Settings::take)
    }

    fn take(root: &mut Section<'_, '_>) -> Settings {
        let mut settings = Settings::default();
        root.read("agent_id", &mut settings.agent_id, agent_id);
        let waits = seconds(0)..=seconds(3600);
        root.read("shutdown_timeout", &mut settings.shutdown_timeout, |v| units::duration(v, waits.clone()));
        root.read("upload_timeout", &mut settings.upload_timeout, |v| units::duration(v, waits));
        settings.collector.take(root.section("collector"));
        settings.queue.take(root.section("queue"));
        settings.metrics.take(root.section("metrics"));
        settings.logs.take(root.section("logs"));
        settings.limits.take(root.section("limits"));
        settings.scrape = scrape::take(root, &settings.limits);
        settings.health.take(root.section("health"));
        settings.log.take(root.section("log"));
        settings
    }
}

impl Collector {
    fn take(&mut self, mut section: Section<'_, '_>) {
        section.read("endpoints", &mut self.endpoints, units::endpoints);
        section.read("server_name", &mut self.server_name, |v| units::text(v).map(Some));
        section.read("tls_ca_cert_file", &mut self.tls_ca_cert_file, units::path);
        section.read("auth_token_file", &mut self.auth_token_file, units::path);
        section.read("transport", &mut self.transport, |v| units::choice(v, &Transport::NAMES));
        section.read("retry_quic_after", &mut self.retry_quic_after, |v| {
            units::duration(v, Duration::from_secs(1)..=Duration::from_secs(24 * 3600))
        });
        let KeepAlive { every, idle } = &mut self.keep_alive;
        lm_settings::take_keep_alive(&mut section, every, idle);
        section.read("control", &mut self.control, units::flag);
        section.finish();
    }
}

/// Room for a few segments and the reserve for loss records.
const QUEUE_BYTES_MIN: u64 = 4 << 20;

impl Queue {
    fn take(&mut self, mut section: Section<'_, '_>) {
        section.read("dir", &mut self.dir, units::path);
        section.read("bytes_max", &mut self.bytes_max, |v| units::size(v, QUEUE_BYTES_MIN..=1 << 40));
        section.read("segment_bytes", &mut self.segment_bytes, |v| units::size(v, 64 << 10..=64 << 20));
        let policies = [
            ("drop_oldest", OnFull::DropOldest),
            ("drop_newest", OnFull::DropNewest),
            ("refuse", OnFull::Refuse),
        ];
        section.read("on_full", &mut self.on_full, |v| units::choice(v, &policies));
        let durabilities = [("sync", Durability::Sync), ("interval", Durability::Interval)];
        section.read("durability", &mut self.durability, |v| units::choice(v, &durabilities));
        let range = Duration::from_millis(50)..=seconds(60);
        section.read("flush_interval", &mut self.flush_interval, |v| units::duration(v, range));
        if self.segment_bytes > self.bytes_max / 2 {
            let message = format!("segment_bytes must be at most half of bytes_max ({} B)", self.bytes_max);
            section.complain_at("segment_bytes", &message);
        }
        section.finish();
    }
}

impl Logs {
    fn take(&mut self, mut section: Section<'_, '_>) {
        section.read("files", &mut self.files, patterns);
        section.read("exclude", &mut self.exclude, exclusions);
        let from = [("start", From::Start), ("end", From::End)];
        section.read("from", &mut self.from, |v| units::choice(v, &from));
        let bytes = &mut self.log_message_bytes_max;
        section.read("max_log_message_bytes", bytes, |v| units::integer(v, 256..=1 << 20));
        let lines = &mut self.logs_per_batch_max;
        section.read("max_logs_per_batch", lines, |v| units::integer(v, 1..=65_536));
        section.finish();
    }
}

impl Limits {
    /// The floors are what our own series and log streams need.
    fn take(&mut self, mut section: Section<'_, '_>) {
        let alerts = &mut self.alerts_per_batch_max;
        section.read("max_alerts_per_batch", alerts, |v| units::integer(v, 0..=256));
        let series = &mut self.series_per_batch_max;
        section.read("max_series_per_batch", series, |v| units::integer(v, 107..=65_536));
        let labels = &mut self.labels_per_series_max;
        section.read("max_labels_per_series", labels, |v| units::integer(v, 4..=256));
        let key = &mut self.label_key_bytes_max;
        section.read("max_label_key_bytes", key, |v| units::integer(v, 14..=4096));
        let value = &mut self.label_value_bytes_max;
        section.read("max_label_value_bytes", value, |v| units::integer(v, 64..=65_536));
        section.finish();
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// As the collector checks the names in its token table.
fn agent_id(value: &Value<'_>) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    units::text(value)
        .ok()
        .filter(|id| id.len() <= 128 && id.bytes().all(is_allowed))
        .ok_or_else(|| "expected 1 to 128 letters, digits, '.', '_' or '-'".to_owned())
}

fn patterns(value: &Value<'_>) -> Result<Vec<String>, String> {
    let found = exclusions(value)?;
    match found.iter().find(|pattern| !pattern.starts_with('/')) {
        Some(pattern) => Err(format!("expected absolute paths, not {pattern:?}")),
        None => Ok(found),
    }
}

fn exclusions(value: &Value<'_>) -> Result<Vec<String>, String> {
    let found = units::texts(value)?;
    for pattern in &found {
        glob::Pattern::new(pattern).map_err(|error| format!("{pattern:?}: {error}"))?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
