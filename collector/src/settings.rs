//! What the collector is told: `config/server.toml` documents every key.

mod mesh;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lm_mesh::{KeepAlive, MeshLimits, Transport};
use lm_promql::{Engine, Features};
use lm_schema::DecodeLimits;
use lm_settings::{Mistake, Section, Value, units};
use lm_telemetry::{HealthSettings, LogSettings};

/// The documented defaults: what `--print-defaults` prints.
pub const DEFAULTS: &str = include_str!("../../config/server.toml");

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub ingest: Ingest,
    /// How much a peer may hold.
    pub mesh: MeshLimits,
    pub auth: Auth,
    pub users: Users,
    pub operator: Operator,
    pub storage: Storage,
    pub query: Query,
    pub dashboards: DefinitionPaths,
    pub health: HealthSettings,
    pub log: LogSettings,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ingest {
    pub listen: SocketAddr,
    pub transport: Transport,
    pub keep_alive: KeepAlive,
    pub workers: u32,
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    pub max_batch_bytes: u64,
    pub max_raw_batch_bytes: u64,
    pub max_series_per_batch: u32,
    pub max_samples_per_batch: u32,
    pub max_labels_per_series: u32,
    pub max_label_key_bytes: u32,
    pub max_label_value_bytes: u32,
    pub max_logs_per_batch: u32,
    pub max_log_message_bytes: u32,
    pub max_alerts_per_batch: u32,
    pub max_calls_in_flight: u32,
    /// How far a writer's sample may be behind the newest of its series.
    pub out_of_order_window: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    pub agent_tokens_file: PathBuf,
    pub gateway_token_file: PathBuf,
    pub query_token_file: PathBuf,
    pub write_token_file: PathBuf,
    pub operator_token_file: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Users {
    /// `None`: only the holders of the tokens in `[auth]`.
    pub tokens_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// The file's `""` is `None`.
    pub socket: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub dir: PathBuf,
    pub retention: Duration,
    pub spool_bytes_max: u64,
    pub segment_bytes: u64,
    pub metrics_retention: Duration,
    pub metrics_bytes_max: u64,
    pub flush_interval: Duration,
    pub metrics_memory_bytes: u64,
    pub block_cache_bytes: u64,
    pub logs_memory_bytes: u64,
    pub series_max: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub threads: u32,
    pub timeout: Duration,
    pub samples_max: u32,
    pub series_max: u32,
    /// Experimental parts of PromQL; all off by default, as in Prometheus.
    pub experimental_functions: bool,
    pub duration_expressions: bool,
    pub extended_range_selectors: bool,
    pub fill_modifiers: bool,
    /// `__type__` says what a counter is, rather than the metric's name.
    pub type_and_unit_labels: bool,
}

/// Where definitions of dashboards are, beside the built-in ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DefinitionPaths {
    pub files: Vec<DefinitionPath>,
    /// Of which all `*.toml` are meant.
    pub dirs: Vec<DefinitionPath>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionPath {
    pub path: PathBuf,
    /// The line that names it, for messages.
    pub line: usize,
}

const MIB: u64 = 1 << 20;

impl Default for Settings {
    fn default() -> Self {
        let limits = DecodeLimits::default();
        Settings {
            ingest: Ingest {
                listen: (Ipv4Addr::UNSPECIFIED, 4433).into(),
                transport: Transport::Auto,
                keep_alive: KeepAlive::default(),
                workers: 2,
                certificate_file: "/etc/lightmetrics/tls/fullchain.pem".into(),
                key_file: "/etc/lightmetrics/tls/key.pem".into(),
                max_batch_bytes: MIB,
                max_raw_batch_bytes: limits.raw_bytes_max.into(),
                max_series_per_batch: limits.series_per_batch_max,
                max_samples_per_batch: limits.samples_per_batch_max,
                max_labels_per_series: limits.labels_per_series_max,
                max_label_key_bytes: limits.label_name_bytes_max,
                max_label_value_bytes: limits.label_value_bytes_max,
                max_logs_per_batch: limits.logs_per_batch_max,
                max_log_message_bytes: limits.log_line_bytes_max,
                max_alerts_per_batch: limits.events_per_batch_max,
                max_calls_in_flight: 16,
                out_of_order_window: Duration::from_secs(3600),
            },
            mesh: MeshLimits::default(),
            auth: Auth {
                agent_tokens_file: "/etc/lightmetrics/ingest-tokens.toml".into(),
                gateway_token_file: "/etc/lightmetrics/gateway-token".into(),
                query_token_file: "/etc/lightmetrics/query-token".into(),
                write_token_file: "/etc/lightmetrics/write-token".into(),
                operator_token_file: "/etc/lightmetrics/operator-token".into(),
            },
            users: Users { tokens_file: None },
            operator: Operator { socket: Some("/run/lightmetrics/collector.sock".into()) },
            storage: Storage {
                dir: "/var/lib/lightmetrics/collector".into(),
                retention: Duration::from_secs(6 * 3600),
                spool_bytes_max: 2048 * MIB,
                segment_bytes: 32 * MIB,
                metrics_retention: Duration::from_secs(30 * 86_400),
                metrics_bytes_max: 16 * 1024 * MIB,
                flush_interval: Duration::from_secs(600),
                metrics_memory_bytes: 192 * MIB,
                block_cache_bytes: 32 * MIB,
                logs_memory_bytes: 64 * MIB,
                series_max: 200_000,
            },
            query: Query {
                threads: 2,
                timeout: Duration::from_secs(30),
                samples_max: 50_000_000,
                series_max: 100_000,
                experimental_functions: false,
                duration_expressions: false,
                extended_range_selectors: false,
                fill_modifiers: false,
                type_and_unit_labels: false,
            },
            dashboards: DefinitionPaths::default(),
            health: HealthSettings::on_port(18081),
            log: LogSettings::default(),
        }
    }
}

impl Settings {
    /// Reads a file completely. Definitions of dashboards are named relative
    /// to its directory.
    ///
    /// # Errors
    ///
    /// Every mistake in it.
    pub fn read(file: &Path) -> Result<Settings, Vec<Mistake>> {
        let mut settings = lm_settings::read(file, Settings::take)?;
        let base = file.parent().unwrap_or(Path::new(""));
        let DefinitionPaths { files, dirs } = &mut settings.dashboards;
        for named in files.iter_mut().chain(dirs) {
            named.path = base.join(&named.path);
        }
        Ok(settings)
    }

    fn take(root: &mut Section<'_, '_>) -> Settings {
        let mut settings = Settings::default();
        settings.ingest.take(root.section("ingest"));
        mesh::take(&mut settings.mesh, root.section("mesh"));
        let largest = settings.ingest.max_batch_bytes + mesh::AROUND_A_BATCH;
        if (settings.mesh.bulk.message_bytes_max as u64) < largest {
            root.complain_at(
                "mesh",
                "mesh.bulk.message_bytes_max must be at least ingest.max_batch_bytes and 64KiB: \
                 the largest batch would end its session",
            );
        }
        settings.auth.take(root.section("auth"));
        let mut users = root.section("users");
        users.read("tokens_file", &mut settings.users.tokens_file, |value| match value {
            Value::String(text) if text.is_empty() => Ok(None),
            value => units::path(value).map(Some),
        });
        users.finish();
        settings.operator.take(root.section("operator"));
        settings.storage.take(root.section("storage"));
        settings.query.take(root.section("query"));
        settings.dashboards.take(root.section("dashboards"));
        settings.health.take(root.section("health"));
        settings.log.take(root.section("log"));
        settings
    }
}

impl Ingest {
    /// The floors are what our own agent sends at the least: 107 series of
    /// up to 4 labels, with keys of 14 and values of 64 bytes.
    fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("listen", &mut self.listen, units::socket_addr);
        from.read("transport", &mut self.transport, |value| units::choice(value, &Transport::NAMES));
        let KeepAlive { every, idle } = &mut self.keep_alive;
        lm_settings::take_keep_alive(&mut from, every, idle);
        from.read("workers", &mut self.workers, |value| units::integer(value, 1..=64));
        let mut tls = from.section("tls");
        tls.read("certificate_file", &mut self.certificate_file, units::path);
        tls.read("key_file", &mut self.key_file, units::path);
        tls.finish();
        from.read("max_batch_bytes", &mut self.max_batch_bytes, |value| {
            units::size(value, 64 << 10..=4 << 20)
        });
        from.read("max_raw_batch_bytes", &mut self.max_raw_batch_bytes, |value| {
            units::size(value, 256 << 10..=32 << 20)
        });
        let mut count = |key, into: &mut u32, floor, ceiling| {
            from.read(key, into, |value| units::integer(value, floor..=ceiling));
        };
        count("max_series_per_batch", &mut self.max_series_per_batch, 107, 1_000_000);
        count("max_samples_per_batch", &mut self.max_samples_per_batch, 107, 10_000_000);
        count("max_labels_per_series", &mut self.max_labels_per_series, 4, 256);
        count("max_label_key_bytes", &mut self.max_label_key_bytes, 14, 1024);
        count("max_label_value_bytes", &mut self.max_label_value_bytes, 64, 65_536);
        count("max_logs_per_batch", &mut self.max_logs_per_batch, 1, 1_000_000);
        count("max_log_message_bytes", &mut self.max_log_message_bytes, 256, 1_048_576);
        count("max_alerts_per_batch", &mut self.max_alerts_per_batch, 0, 10_000);
        count("max_calls_in_flight", &mut self.max_calls_in_flight, 1, 256);
        from.read("out_of_order_window", &mut self.out_of_order_window, |value| {
            units::duration(value, Duration::ZERO..=Duration::from_secs(366 * 24 * 3600))
        });
        from.finish();
    }

    pub fn limits(&self) -> DecodeLimits {
        DecodeLimits {
            raw_bytes_max: self.max_raw_batch_bytes as u32,
            series_per_batch_max: self.max_series_per_batch,
            samples_per_batch_max: self.max_samples_per_batch,
            labels_per_series_max: self.max_labels_per_series,
            label_name_bytes_max: self.max_label_key_bytes,
            label_value_bytes_max: self.max_label_value_bytes,
            logs_per_batch_max: self.max_logs_per_batch,
            log_line_bytes_max: self.max_log_message_bytes,
            events_per_batch_max: self.max_alerts_per_batch,
            ..DecodeLimits::default()
        }
    }
}

impl Auth {
    fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("agent_tokens_file", &mut self.agent_tokens_file, units::path);
        from.read("gateway_token_file", &mut self.gateway_token_file, units::path);
        from.read("query_token_file", &mut self.query_token_file, units::path);
        from.read("write_token_file", &mut self.write_token_file, units::path);
        from.read("operator_token_file", &mut self.operator_token_file, units::path);
        from.finish();
    }
}

impl Operator {
    fn take(&mut self, mut from: Section<'_, '_>) {
        from.read("socket", &mut self.socket, |value| match value {
            Value::String(text) if text.is_empty() => Ok(None),
            value => units::path(value).map(Some),
        });
        from.finish();
    }
}

impl Storage {
    fn take(&mut self, mut from: Section<'_, '_>) {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        from.read("dir", &mut self.dir, units::path);
        from.read("retention", &mut self.retention, |value| {
            units::duration(value, Duration::from_secs(60)..=hours(24 * 366))
        });
        from.read("spool_bytes_max", &mut self.spool_bytes_max, |value| {
            units::size(value, 16 * MIB..=1 << 44)
        });
        from.read("segment_bytes", &mut self.segment_bytes, |value| units::size(value, MIB..=1024 * MIB));
        from.read("metrics_retention", &mut self.metrics_retention, |value| {
            units::duration(value, hours(1)..=hours(24 * 366 * 20))
        });
        from.read("metrics_bytes_max", &mut self.metrics_bytes_max, |value| {
            units::size(value, 64 * MIB..=1 << 50)
        });
        from.read("flush_interval", &mut self.flush_interval, |value| {
            units::duration(value, Duration::from_secs(1)..=hours(2))
        });
        from.read("metrics_memory_bytes", &mut self.metrics_memory_bytes, |value| {
            units::size(value, 8 * MIB..=1 << 40)
        });
        from.read("block_cache_bytes", &mut self.block_cache_bytes, |value| {
            units::size(value, MIB..=1 << 40)
        });
        from.read("logs_memory_bytes", &mut self.logs_memory_bytes, |value| {
            units::size(value, 8 * MIB..=1 << 40)
        });
        from.read("series_max", &mut self.series_max, |value| units::integer(value, 107..=100_000_000));
        if self.segment_bytes > self.spool_bytes_max / 4 {
            from.complain_at("segment_bytes", "segment_bytes must be at most a quarter of spool_bytes_max");
        }
        from.finish();
    }
}

impl Query {
    fn take(&mut self, mut from: Section<'_, '_>) {
        let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
        from.read("threads", &mut self.threads, |value| units::integer(value, 1..=256));
        from.read("timeout", &mut self.timeout, |value| units::duration(value, seconds(1, 3600)));
        from.read("samples_max", &mut self.samples_max, |value| units::integer(value, 1000..=2_000_000_000));
        from.read("series_max", &mut self.series_max, |value| units::integer(value, 100..=100_000_000));
        from.read("experimental_functions", &mut self.experimental_functions, units::flag);
        from.read("duration_expressions", &mut self.duration_expressions, units::flag);
        from.read("extended_range_selectors", &mut self.extended_range_selectors, units::flag);
        from.read("fill_modifiers", &mut self.fill_modifiers, units::flag);
        from.read("type_and_unit_labels", &mut self.type_and_unit_labels, units::flag);
        from.finish();
    }

    /// The evaluator that these settings mean.
    pub fn engine(&self) -> Engine {
        let mut engine = Engine::default();
        engine.limits.samples_max = self.samples_max as usize;
        engine.limits.series_max = self.series_max as usize;
        engine.features = Features {
            experimental_functions: self.experimental_functions,
            duration_expressions: self.duration_expressions,
            extended_range_selectors: self.extended_range_selectors,
            fill_modifiers: self.fill_modifiers,
        };
        engine.type_and_unit_labels = self.type_and_unit_labels;
        engine
    }
}

/// Files and directories that are named at most, each.
const DEFINITION_PATHS_MAX: usize = 100;

impl DefinitionPaths {
    fn take(&mut self, mut from: Section<'_, '_>) {
        for (key, into) in [("definition_files", &mut self.files), ("definition_dirs", &mut self.dirs)] {
            from.read_each(key, into, DEFINITION_PATHS_MAX, |value, line| {
                units::path(value).map(|path| DefinitionPath { path, line })
            });
        }
        from.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_file_says_the_defaults() {
        let file = Path::new("config/server.toml");
        assert_eq!(lm_settings::parse(file, DEFAULTS, Settings::take), Ok(Settings::default()));
    }

    #[test]
    fn plaintext_stays_on_the_host_unless_told() {
        let parse = |text: &str| lm_settings::parse(Path::new("x.toml"), text, Settings::take);
        let refused = parse("[health]\nlisten = \"[::]:1\"\n").unwrap_err();
        assert!(
            refused[0].to_string().starts_with("x.toml:2: health.listen is \"[::]:1\", which"),
            "{refused:?}"
        );
        let allowed = parse("[health]\nlisten = \"[::]:1\"\nallow_plaintext_beyond_loopback = true\n");
        assert!(allowed.unwrap().health.allow_plaintext_beyond_loopback);
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text =
            "[ingest]\nlisten = 5\nmax_series_per_batch = 106\n[storage]\nretenion = \"6h\"\n[nothing]\n";
        let found = lm_settings::parse(Path::new("x.toml"), text, Settings::take).unwrap_err();
        let lines: Vec<_> = found.iter().map(|mistake| mistake.to_string()).collect();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(lines[0].starts_with("x.toml:2: ingest.listen is 5"));
        assert!(lines[1].contains("x.toml:3:") && lines[1].contains("from 107"));
        assert!(lines[2].contains("x.toml:5:") && lines[2].contains("did you mean \"retention\"?"));
        assert!(lines[3].contains("x.toml:6:"));
    }
}
