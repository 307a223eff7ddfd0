//! What the configuration says of a group of targets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::relabel::Rule;

/// One `[[scrape]]`: targets that are scraped alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The `job` label of its series, unless relabeling gives another.
    pub name: String,
    /// `host:port` each.
    pub targets: Vec<String>,
    /// Labels of all targets above.
    pub labels: BTreeMap<String, String>,
    /// Patterns of JSON files that list targets.
    pub files: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    pub scheme: Scheme,
    pub metrics_path: String,
    pub params: BTreeMap<String, Vec<String>>,
    /// Formats to ask for, the most wanted first.
    pub protocols: Vec<Protocol>,
    /// Whether a target's own labels win over those of the job and target.
    pub honor_labels: bool,
    /// Whether times that a target says are taken.
    pub honor_timestamps: bool,
    pub credentials: Credentials,
    pub headers: BTreeMap<String, String>,
    pub tls_ca_file: PathBuf,
    /// The name in the target's certificate, when it is not its host.
    pub tls_server_name: Option<String>,
    pub relabel: Vec<Rule>,
    pub metric_relabel: Vec<Rule>,
    pub limits: JobLimits,
    /// Whether `scrape_timeout_seconds`, `scrape_sample_limit` and
    /// `scrape_body_size_bytes` are written too.
    pub extra_metrics: bool,
}

/// Beyond one of these a scrape fails as a whole, `targets_max` aside.
#[derive(Clone, Debug, PartialEq)]
pub struct JobLimits {
    /// Of an answer, after decompression.
    pub body_bytes_max: u64,
    /// After relabeling.
    pub samples_max: u32,
    pub labels_max: u32,
    pub label_name_bytes_max: u32,
    pub label_value_bytes_max: u32,
    /// Of the job; what files list beyond it is not scraped.
    pub targets_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const NAMES: [(&'static str, Scheme); 2] = [("http", Scheme::Http), ("https", Scheme::Https)];

    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    pub fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A format, as Prometheus' `scrape_protocols` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Proto,
    OpenMetrics1,
    OpenMetrics0,
    Text1,
    Text0,
}

impl Protocol {
    pub const NAMES: [(&'static str, Protocol); 5] = [
        ("PrometheusProto", Protocol::Proto),
        ("OpenMetricsText1.0.0", Protocol::OpenMetrics1),
        ("OpenMetricsText0.0.1", Protocol::OpenMetrics0),
        ("PrometheusText1.0.0", Protocol::Text1),
        ("PrometheusText0.0.4", Protocol::Text0),
    ];

    pub fn media_type(self) -> &'static str {
        match self {
            Protocol::Proto => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
            Protocol::OpenMetrics1 => "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
            Protocol::OpenMetrics0 => "application/openmetrics-text;version=0.0.1",
            Protocol::Text1 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            Protocol::Text0 => "text/plain;version=0.0.4",
        }
    }
}

/// Read anew for each scrape, so that a change needs no restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Credentials {
    #[default]
    None,
    Bearer {
        file: PathBuf,
    },
    Basic {
        username: String,
        password_file: PathBuf,
    },
}

impl Default for Job {
    fn default() -> Self {
        Job {
            name: String::new(),
            targets: Vec::new(),
            labels: BTreeMap::new(),
            files: Vec::new(),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
            scheme: Scheme::Http,
            metrics_path: "/metrics".to_owned(),
            params: BTreeMap::new(),
            protocols: vec![Protocol::OpenMetrics1, Protocol::OpenMetrics0, Protocol::Text1, Protocol::Text0],
            honor_labels: false,
            honor_timestamps: true,
            credentials: Credentials::None,
            headers: BTreeMap::new(),
            tls_ca_file: "/etc/ssl/certs/ca-certificates.crt".into(),
            tls_server_name: None,
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            limits: JobLimits {
                body_bytes_max: 16 << 20,
                samples_max: 10_000,
                labels_max: 32,
                label_name_bytes_max: 128,
                label_value_bytes_max: 512,
                targets_max: 256,
            },
            extra_metrics: false,
        }
    }
}
