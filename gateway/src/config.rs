//! What the configuration means: checked, with nothing left to decide.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lm_mesh::DialerConfig;

use crate::settings::{Mistake, Parsed, Settings};

/// Everything that a gateway needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// Lower case, without port. Empty: any.
    pub allowed_hosts: Vec<String>,
    pub dialer: DialerConfig,
    pub web: lm_web::Limits,
    pub queries_max: usize,
    pub query_timeout: Duration,
    pub live_max: usize,
    pub live_per_user_max: usize,
    pub users_max: usize,
    pub user_cache: Duration,
    pub log: LogConfig,
}

#[derive(Clone, Debug)]
pub struct LogConfig {
    /// In the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    pub is_json: bool,
}

impl Config {
    /// Resolves what a file says.
    ///
    /// # Errors
    ///
    /// Every mistake of the file.
    pub fn resolve(parsed: Parsed) -> Result<Config, Vec<Mistake>> {
        let Parsed { settings, mut mistakes, source } = parsed;
        let Settings { listen, allow_plaintext_beyond_loopback, allowed_hosts, collector, limits, log } =
            settings;
        let mut wrong = |key: &str, message: String| mistakes.push(source.mistake(key, message));

        let addr = listen.parse::<SocketAddr>();
        match &addr {
            Err(_) => wrong(
                "listen",
                format!("found {listen:?}, expected an IP address and port such as \"127.0.0.1:18080\""),
            ),
            Ok(addr) if !addr.ip().is_loopback() && !allow_plaintext_beyond_loopback => wrong(
                "listen",
                format!(
                    "{listen:?} is reachable from other hosts, and the API is not encrypted; listen on \
                     127.0.0.1 behind a proxy with TLS, or set allow_plaintext_beyond_loopback = true"
                ),
            ),
            Ok(_) => {}
        }
        for host in &allowed_hosts {
            if host.is_empty() || host.contains(['/', ' ']) {
                wrong(
                    "allowed_hosts",
                    format!("found {host:?}, expected names such as \"metrics.example.org\""),
                );
            }
        }
        if collector.endpoints.is_empty() {
            wrong("collector.endpoints", "found an empty list, expected \"host:port\"".to_owned());
        }
        for endpoint in &collector.endpoints {
            let is_endpoint = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !is_endpoint {
                wrong("collector.endpoints", format!("found {endpoint:?}, expected \"host:port\""));
            }
        }
        for (key, path) in [
            ("collector.tls_ca_cert_file", &collector.tls_ca_cert_file),
            ("collector.auth_token_file", &collector.auth_token_file),
        ] {
            if path.is_empty() {
                wrong(key, "found \"\", expected a path".to_owned());
            }
        }
        if limits.live_max >= limits.requests_max {
            wrong(
                "limits.live_max",
                format!(
                    "found {}, expected less than limits.requests_max ({}): tails would take every place",
                    limits.live_max, limits.requests_max
                ),
            );
        }
        if !matches!(&log.format[..], "text" | "json") {
            wrong("log.format", format!("found {:?}, expected \"text\" or \"json\"", log.format));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&log.level) {
            wrong(
                "log.level",
                format!("found {:?}, expected error, warn, info, debug or trace: {error}", log.level),
            );
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        let (true, Ok(listen)) = (mistakes.is_empty(), addr) else { return Err(mistakes) };

        Ok(Config {
            listen,
            allowed_hosts: allowed_hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            dialer: DialerConfig {
                endpoints: collector.endpoints,
                server_name: Some(collector.server_name).filter(|name| !name.is_empty()),
                ca: PathBuf::from(collector.tls_ca_cert_file),
                token: PathBuf::from(collector.auth_token_file),
            },
            web: lm_web::Limits {
                connections_max: limits.connections_max,
                connections_per_ip_max: limits.connections_per_ip_max,
                requests_max: limits.requests_max,
                header_timeout: limits.header_timeout,
                body_bytes_max: limits.body_bytes_max,
                idle_timeout: limits.idle_timeout,
                stall_timeout: limits.stall_timeout,
                drain_deadline: limits.drain_timeout,
                ..lm_web::Limits::default()
            },
            queries_max: limits.queries_max,
            query_timeout: limits.query_timeout,
            live_max: limits.live_max,
            live_per_user_max: limits.live_per_user_max,
            users_max: limits.users_max,
            user_cache: limits.user_cache,
            log: LogConfig { filter: log.level, is_json: log.format == "json" },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse;

    fn mistakes(text: &str) -> Vec<String> {
        match Config::resolve(parse("g.toml", text)) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn defaults_are_a_configuration() {
        assert_eq!(mistakes(""), [""; 0]);
    }

    #[test]
    fn plaintext_stays_on_the_host_unless_told() {
        let found = mistakes("\nlisten = \"0.0.0.0:18080\"");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("g.toml:2: listen: \"0.0.0.0:18080\" is reachable"), "{found:?}");
        assert!(found[0].contains("allow_plaintext_beyond_loopback = true"), "{found:?}");
        assert_eq!(mistakes("listen = \"0.0.0.0:1\"\nallow_plaintext_beyond_loopback = true"), [""; 0]);
        assert_eq!(mistakes("listen = \"[::1]:18080\""), [""; 0]);
    }

    #[test]
    fn values_that_make_no_sense() {
        let text = "listen = \"here\"\n[collector]\nendpoints = [\"a:1\", \"b\"]\nauth_token_file = \"\"\n\
                    [log]\nformat = \"xml\"\nlevel = \"a=b=c\"\n[limits]\nlive_max = 512\n";
        let found = mistakes(text);
        let starts: Vec<_> =
            found.iter().map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":")).collect();
        assert_eq!(
            starts,
            [
                "g.toml:1: listen",
                "g.toml:3: collector.endpoints",
                "g.toml:4: collector.auth_token_file",
                "g.toml:6: log.format",
                "g.toml:7: log.level",
                "g.toml:9: limits.live_max",
            ],
            "{found:?}"
        );
    }
}
