//! node_exporter and Prometheus beside us on one host, and whether both tell
//! the same.
//!
//! [`Peers`] runs Debian's programs; [`compare`] asks both APIs for the same
//! names. Two processes never read a counter at the same instant, so values
//! are compared as the range that each saw within a window.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::api::{Api, Labels, Series, unix_ms};
use crate::ports::Port;
use crate::process::Service;
use crate::tools::skipped;

/// Metric names of the dashboard "Node Exporter Full".
pub const DASHBOARD_NAMES: &str = include_str!("../fixtures/grafana/node-exporter-full-metrics.txt");

/// How far apart two ranges may be, as a part of their values.
const TOLERANCE: f64 = 0.05;

/// Names whose values are about the process that measures, not about the host.
fn is_of_the_measurer(name: &str) -> bool {
    name.starts_with("process_") || name.starts_with("node_scrape_")
}

/// Connections open and close between two looks; only those that listen stay.
fn is_of_the_moment(name: &str, labels: &Labels) -> bool {
    name == "node_tcp_connection_states" && labels.get("state").is_none_or(|state| state != "listen")
}

/// A node_exporter and a Prometheus that scrapes it each second.
pub struct Peers {
    pub exporter: Service,
    pub prometheus: Service,
    pub api: Api,
    _ports: [Port; 2],
}

impl Peers {
    /// Lays both out below `dir`; `None` when Debian's programs cannot be had.
    ///
    /// # Panics
    ///
    /// When `dir` is not writable.
    #[track_caller]
    pub fn find(dir: &Path, exporter_args: &[&str]) -> Option<Peers> {
        let exporter = program("prometheus-node-exporter", "prometheus-node-exporter")?;
        let prometheus = program("prometheus", "prometheus")?;
        let ports = [Port::reserve(), Port::reserve()];
        let addr = |port: &Port| format!("127.0.0.1:{}", port.number);
        let config = dir.join("prometheus.yml");
        let scrape = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: node\n    \
             static_configs:\n      - targets: [\"{}\"]\n",
            addr(&ports[0])
        );
        std::fs::write(&config, scrape).expect("the directory is ours");
        let mut args = vec![format!("--web.listen-address={}", addr(&ports[0]))];
        args.extend(exporter_args.iter().map(|arg| (*arg).to_owned()));
        let data = dir.join("prometheus-data");
        let prometheus_args = [
            format!("--web.listen-address={}", addr(&ports[1])),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            "--log.level=warn".to_owned(),
        ];
        let service = |name: &str, program: PathBuf, args: Vec<String>| {
            let args = args.into_iter().map(Into::into).collect();
            Service::new(name, program, args, dir.join(format!("{name}.log")))
        };
        Some(Peers {
            exporter: service("node-exporter", exporter, args),
            prometheus: service("prometheus", prometheus, prometheus_args.to_vec()),
            api: Api { addr: ([127, 0, 0, 1], ports[1].number).into(), token: "none".to_owned() },
            _ports: ports,
        })
    }

    pub fn start(&mut self) {
        self.exporter.start();
        self.prometheus.start();
    }
}

/// A program of a Debian package, or nothing with a note why.
#[track_caller]
pub fn program(package: &str, name: &str) -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/peer");
    let found = Command::new(script).args([package, name]).output();
    match found {
        Ok(output) if output.status.success() => {
            Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        }
        Ok(output) => {
            skipped("a comparison with node_exporter", String::from_utf8_lossy(&output.stderr).trim());
            None
        }
        Err(error) => {
            skipped("a comparison with node_exporter", &error.to_string());
            None
        }
    }
}

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    pub compared_names: usize,
    pub compared_series: usize,
    /// Series that are there and not here.
    pub missing: Vec<String>,
    /// Series with values apart: theirs and ours, each lowest and highest.
    pub apart: Vec<String>,
}

/// Compares every one of `names` that `theirs` has, over `window` (such as
/// `10s`) up to now.
///
/// # Errors
///
/// When one of the two does not answer.
pub fn compare(
    ours: &Api,
    our_instance: &str,
    theirs: &Api,
    names: &[&str],
    window: &str,
) -> Result<Comparison, String> {
    let mut comparison = Comparison::default();
    let now = unix_ms();
    for name in names {
        let there = ranges(theirs, name, "job=\"node\"", window, now)?;
        if there.is_empty() {
            continue;
        }
        comparison.compared_names += 1;
        let here = ranges(ours, name, &format!("instance=\"{our_instance}\""), window, now)?;
        for (labels, their_range) in there {
            if is_of_the_moment(name, &labels) {
                continue;
            }
            comparison.compared_series += 1;
            match here.get(&labels) {
                None => comparison.missing.push(format!("{name}{labels:?}")),
                Some(our_range) if is_of_the_measurer(name) || agree(their_range, *our_range) => {}
                Some(our_range) => comparison
                    .apart
                    .push(format!("{name}{labels:?}: theirs {their_range:?}, ours {our_range:?}")),
            }
        }
    }
    Ok(comparison)
}

type Range = (f64, f64);

/// The lowest and highest value of each series, by labels without those that
/// differ by design.
fn ranges(
    api: &Api,
    name: &str,
    selector: &str,
    window: &str,
    now: i64,
) -> Result<BTreeMap<Labels, Range>, String> {
    let ask = |function: &str| api.query(&format!("{function}({name}{{{selector}}}[{window}])"), now);
    let by_labels = |found: Vec<Series>| -> BTreeMap<Labels, f64> {
        let plain = |mut labels: Labels| {
            labels.retain(|label, _| !matches!(&label[..], "job" | "instance" | "__name__"));
            labels
        };
        found.into_iter().map(|series| (plain(series.labels), series.samples[0].1)).collect()
    };
    let (lowest, highest) = (by_labels(ask("min_over_time")?), by_labels(ask("max_over_time")?));
    Ok(lowest
        .into_iter()
        .filter_map(|(labels, low)| highest.get(&labels).map(|high| (labels, (low, *high))))
        .collect())
}

/// Whether two ranges overlap, widened by the tolerance.
fn agree(a: Range, b: Range) -> bool {
    if [a.0, a.1, b.0, b.1].iter().any(|value| !value.is_finite()) {
        return a.0.to_bits() == b.0.to_bits() || (a.0.is_nan() && b.0.is_nan());
    }
    let room = TOLERANCE * a.1.abs().max(b.1.abs());
    a.0 <= b.1 + room && b.0 <= a.1 + room
}

#[cfg(test)]
mod tests {
    use super::agree;

    #[test]
    fn ranges_that_touch_agree() {
        assert!(agree((10.0, 12.0), (12.1, 13.0)));
        assert!(!agree((10.0, 12.0), (14.0, 15.0)));
        assert!(agree((0.0, 0.0), (0.0, 0.0)));
        assert!(!agree((0.0, 0.0), (1.0, 1.0)));
        assert!(agree((f64::NAN, f64::NAN), (f64::NAN, f64::NAN)));
        assert!(!agree((f64::INFINITY, f64::INFINITY), (1.0, 1.0)));
    }
}
