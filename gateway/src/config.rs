//! What the configuration means, with nothing left to decide.

use std::net::SocketAddr;
use std::time::Duration;

use lm_mesh::DialerConfig;
use lm_telemetry::{HealthSettings, LogSettings};

use crate::settings::{Settings, TlsSettings};

/// Everything that a gateway needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Certificate and key; `None`: no encryption.
    pub tls: Option<TlsSettings>,
    /// Lower case, without port. Empty: any.
    pub allowed_hosts: Vec<String>,
    /// Begins with `/`; empty: none.
    pub path_prefix: String,
    pub cors_origins: Vec<String>,
    pub dialer: DialerConfig,
    pub web: lm_web::Limits,
    pub write_body_bytes_max: u64,
    pub write_bytes_max: u64,
    pub write_series_max: usize,
    pub queries_max: usize,
    pub query_timeout: Duration,
    pub live_max: usize,
    pub live_per_user_max: usize,
    pub users_max: usize,
    pub user_cache: Duration,
    pub health: HealthSettings,
    pub log: LogSettings,
}

impl From<Settings> for Config {
    fn from(settings: Settings) -> Config {
        let Settings { collector, api, limits, log, .. } = settings;
        Config {
            listen: settings.listen,
            tls: settings.tls,
            allowed_hosts: settings.allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            dialer: DialerConfig {
                endpoints: collector.endpoints,
                server_name: collector.server_name,
                ca: collector.tls_ca_cert_file,
                token: collector.auth_token_file,
                transport: collector.transport,
                retry_quic_after: collector.retry_quic_after,
                keep_alive: collector.keep_alive,
            },
            path_prefix: api.path_prefix,
            cors_origins: api.cors_origins,
            web: lm_web::Limits {
                connections_max: limits.connections_max,
                connections_per_ip_max: limits.connections_per_ip_max,
                requests_max: limits.requests_max,
                header_timeout: limits.header_timeout,
                body_bytes_max: limits.body_bytes_max,
                long_body_bytes_max: limits.write_body_bytes_max,
                long_body_paths: &crate::http::WRITE_PATHS,
                idle_timeout: limits.idle_timeout,
                stall_timeout: limits.stall_timeout,
                drain_deadline: limits.drain_timeout,
                ..lm_web::Limits::default()
            },
            write_body_bytes_max: limits.write_body_bytes_max,
            write_bytes_max: limits.write_bytes_max.max(limits.write_body_bytes_max),
            write_series_max: limits.write_series_max,
            queries_max: limits.queries_max,
            query_timeout: limits.query_timeout,
            live_max: limits.live_max,
            live_per_user_max: limits.live_per_user_max,
            users_max: limits.users_max,
            user_cache: limits.user_cache,
            health: settings.health,
            log,
        }
    }
}
