//! `[health]` and `[log]`: the same keys in the settings of every process.

use std::net::SocketAddr;

use lm_settings::{Section, Value, units};

use crate::log::{Format, LogFilter};

/// Where a process says how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// The file's `""` is `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Nothing is encrypted and no token asked for.
    pub allow_plaintext_beyond_loopback: bool,
    /// Whether `/metrics` is there.
    pub metrics: bool,
}

impl HealthSettings {
    /// On loopback, with everything.
    pub fn on_port(port: u16) -> HealthSettings {
        HealthSettings {
            listen: Some(([127, 0, 0, 1], port).into()),
            allow_plaintext_beyond_loopback: false,
            metrics: true,
        }
    }

    pub fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("listen", &mut self.listen, |value| match value {
            Value::String(text) if text.is_empty() => Ok(None),
            value => units::socket_addr(value).map(Some),
        });
        let is_allowed = &mut self.allow_plaintext_beyond_loopback;
        from.read("allow_plaintext_beyond_loopback", is_allowed, units::flag);
        let outside = self.listen.filter(|listen| !listen.ip().is_loopback());
        if let Some(listen) = outside.filter(|_| !self.allow_plaintext_beyond_loopback) {
            let message = format!(
                "listen is \"{}\", which is reachable from other hosts, and /metrics is neither encrypted \
                 nor asks for a token; listen on 127.0.0.1, or set health.allow_plaintext_beyond_loopback = true",
                listen
            );
            from.complain_at("listen", &message);
        }
        from.read("metrics", &mut self.metrics, units::flag);
        from.finish();
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: LogFilter,
    pub format: Format,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { level: LogFilter::default(), format: Format::Text }
    }
}

impl LogSettings {
    pub fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("level", &mut self.level, |value| units::text(value).unwrap_or_default().parse());
        from.read("format", &mut self.format, |value| units::choice(value, &Format::NAMES));
        from.finish();
    }
}
