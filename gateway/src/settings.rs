//! What the configuration file says, checked: `config/gateway.toml` documents
//! every key.

mod api;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lm_mesh::{KeepAlive, Transport};
use lm_settings::{Mistake, Section, Value, units};
use lm_telemetry::{HealthSettings, LogSettings};

pub use api::ApiSettings;

/// The documented default file.
pub const DEFAULTS: &str = include_str!("../../config/gateway.toml");

/// The file's keys; `config/gateway.toml` documents each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listen: SocketAddr,
    pub allow_plaintext_beyond_loopback: bool,
    /// The file's two `""` are `None`.
    pub tls: Option<TlsSettings>,
    /// Without port, in any case. Empty: any.
    pub allowed_hosts: Vec<String>,
    pub collector: CollectorSettings,
    pub api: ApiSettings,
    pub limits: LimitSettings,
    pub health: HealthSettings,
    pub log: LogSettings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    pub endpoints: Vec<String>,
    /// The file's `""` is the endpoint's host: `None`.
    pub server_name: Option<String>,
    pub tls_ca_cert_file: PathBuf,
    pub auth_token_file: PathBuf,
    pub transport: Transport,
    /// How often a session over TCP looks whether QUIC works again.
    pub retry_quic_after: Duration,
    pub keep_alive: KeepAlive,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    pub requests_max: usize,
    pub queries_max: usize,
    pub body_bytes_max: u64,
    pub write_body_bytes_max: u64,
    pub write_bytes_max: u64,
    pub write_series_max: usize,
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

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: (Ipv4Addr::LOCALHOST, 18080).into(),
            allow_plaintext_beyond_loopback: false,
            tls: None,
            allowed_hosts: Vec::new(),
            collector: CollectorSettings {
                endpoints: vec!["127.0.0.1:4433".to_owned()],
                server_name: None,
                tls_ca_cert_file: "/etc/lightmetrics/ca.pem".into(),
                auth_token_file: "/etc/lightmetrics/gateway-token".into(),
                transport: Transport::Auto,
                retry_quic_after: Duration::from_secs(300),
                keep_alive: KeepAlive::default(),
            },
            api: ApiSettings::default(),
            limits: LimitSettings {
                connections_max: 1024,
                connections_per_ip_max: 256,
                requests_max: 512,
                queries_max: 64,
                body_bytes_max: 1 << 20,
                write_body_bytes_max: 16 << 20,
                write_bytes_max: 64 << 20,
                write_series_max: 1_000_000,
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
            health: HealthSettings::on_port(18082),
            log: LogSettings::default(),
        }
    }
}

impl Settings {
    /// Reads a file completely. Opens nothing that it names.
    ///
    /// # Errors
    ///
    /// Every mistake in it, in the order of lines.
    pub fn read(file: &Path) -> Result<Settings, Vec<Mistake>> {
        lm_settings::read(file, Settings::take)
    }

    /// Checks `text`, which came from `file`.
    ///
    /// # Errors
    ///
    /// As [`Settings::read`].
    pub fn parse(file: &Path, text: &str) -> Result<Settings, Vec<Mistake>> {
        lm_settings::parse(file, text, Settings::take)
    }

    fn take(root: &mut Section<'_, '_>) -> Settings {
        let mut settings = Settings::default();
        root.read("listen", &mut settings.listen, units::socket_addr);
        let is_allowed = &mut settings.allow_plaintext_beyond_loopback;
        root.read("allow_plaintext_beyond_loopback", is_allowed, units::flag);
        settings.tls = TlsSettings::take(root.section("tls"));
        let is_private = settings.listen.ip().is_loopback() || settings.tls.is_some();
        if !is_private && !settings.allow_plaintext_beyond_loopback {
            let message = format!(
                "listen is \"{}\", which is reachable from other hosts, and the API is not encrypted; name a \
                 certificate and key in [tls], listen on 127.0.0.1 behind a proxy with TLS, or set \
                 allow_plaintext_beyond_loopback = true",
                settings.listen
            );
            root.complain_at("listen", &message);
        }
        root.read("allowed_hosts", &mut settings.allowed_hosts, hosts);
        settings.collector.take(root.section("collector"));
        settings.api.take(root.section("api"));
        settings.limits.take(root.section("limits"));
        settings.health.take(root.section("health"));
        settings.log.take(root.section("log"));
        settings
    }
}

impl TlsSettings {
    fn take(mut from: Section<'_, '_>) -> Option<TlsSettings> {
        let (mut certificate, mut key) = (String::new(), String::new());
        from.read("certificate_file", &mut certificate, any_text);
        from.read("key_file", &mut key, any_text);
        if certificate.is_empty() != key.is_empty() {
            let (there, missing) = match key.is_empty() {
                true => ("certificate_file", "key_file"),
                false => ("key_file", "certificate_file"),
            };
            from.complain_at(there, &format!("{there} is of no use without tls.{missing}"));
        }
        from.finish();
        let is_given = !certificate.is_empty() && !key.is_empty();
        is_given.then(|| TlsSettings { certificate_file: certificate.into(), key_file: key.into() })
    }
}

impl CollectorSettings {
    fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("endpoints", &mut self.endpoints, units::endpoints);
        from.read("server_name", &mut self.server_name, |value| {
            any_text(value).map(|name| Some(name).filter(|name| !name.is_empty()))
        });
        from.read("tls_ca_cert_file", &mut self.tls_ca_cert_file, units::path);
        from.read("auth_token_file", &mut self.auth_token_file, units::path);
        from.read("transport", &mut self.transport, |value| units::choice(value, &Transport::NAMES));
        from.read("retry_quic_after", &mut self.retry_quic_after, |value| {
            units::duration(value, Duration::from_secs(1)..=Duration::from_secs(24 * 3600))
        });
        let KeepAlive { every, idle } = &mut self.keep_alive;
        lm_settings::take_keep_alive(&mut from, every, idle);
        from.finish();
    }
}

impl LimitSettings {
    fn take(&mut self, mut from: Section<'_, '_>) {
        count(&mut from, "connections_max", &mut self.connections_max);
        count(&mut from, "connections_per_ip_max", &mut self.connections_per_ip_max);
        count(&mut from, "requests_max", &mut self.requests_max);
        count(&mut from, "queries_max", &mut self.queries_max);
        from.read("body_bytes_max", &mut self.body_bytes_max, |value| units::size(value, 1 << 10..=64 << 20));
        let sizes = 1 << 10..=1 << 30;
        from.read("write_body_bytes_max", &mut self.write_body_bytes_max, |value| {
            units::size(value, 1 << 10..=64 << 20)
        });
        from.read("write_bytes_max", &mut self.write_bytes_max, |value| units::size(value, sizes.clone()));
        count(&mut from, "write_series_max", &mut self.write_series_max);
        time(&mut from, "header_timeout", &mut self.header_timeout);
        time(&mut from, "stall_timeout", &mut self.stall_timeout);
        time(&mut from, "idle_timeout", &mut self.idle_timeout);
        time(&mut from, "query_timeout", &mut self.query_timeout);
        count(&mut from, "live_max", &mut self.live_max);
        count(&mut from, "live_per_user_max", &mut self.live_per_user_max);
        count(&mut from, "users_max", &mut self.users_max);
        time(&mut from, "user_cache", &mut self.user_cache);
        time(&mut from, "drain_timeout", &mut self.drain_timeout);
        if self.live_max >= self.requests_max {
            let message = format!(
                "live_max ({}) must be less than limits.requests_max ({}): tails would take every place",
                self.live_max, self.requests_max
            );
            from.complain_at("live_max", &message);
        }
        from.finish();
    }
}

fn count(from: &mut Section<'_, '_>, key: &'static str, into: &mut usize) {
    from.read(key, into, |value| units::integer(value, 1..=1_000_000).map(|number| number as usize));
}

fn time(from: &mut Section<'_, '_>, key: &'static str, into: &mut Duration) {
    let range = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
    from.read(key, into, |value| units::duration(value, range));
}

fn any_text(value: &Value<'_>) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "expected a text".to_owned())
}

fn hosts(value: &Value<'_>) -> Result<Vec<String>, String> {
    let found = units::texts(value)?;
    match found.iter().find(|host| host.contains(['/', ' '])) {
        Some(host) => Err(format!("expected names such as \"metrics.example.org\", not {host:?}")),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests;
