//! What metrics mean: type, help text and unit, by name.
//!
//! Four sources, the first that knows a name counts: our own figures, which
//! bring their text with them; the tables that are built in (the agent's
//! metrics, node_exporter's names); what those say who write a metric; the
//! ending of the name. Read [`Metadata`].

mod table;
#[cfg(test)]
mod tests;
mod written;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use lm_telemetry::Telemetry;
use written::WrittenMetadata;

/// As Prometheus names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Info,
    Unknown,
}

impl MetricType {
    /// The type of this name. What we have no word for is unknown.
    pub fn of_name(name: &str) -> MetricType {
        use MetricType::*;
        let known = [Counter, Gauge, Histogram, Summary, Info];
        known.into_iter().find(|known| known.name() == name).unwrap_or(Unknown)
    }

    pub fn name(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::Unknown => "unknown",
        }
    }
}

/// What is known of one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub kind: MetricType,
    pub help: Cow<'static, str>,
    /// `seconds`, `bytes`; empty: none, or not known.
    pub unit: Cow<'static, str>,
}

/// Looks descriptions up.
#[derive(Clone, Default)]
pub struct Metadata {
    telemetry: Telemetry,
    written: WrittenMetadata,
}

impl Metadata {
    pub fn new(telemetry: Telemetry) -> Self {
        Metadata { telemetry, written: WrittenMetadata::default() }
    }

    /// Somebody who writes a metric says what it is.
    pub fn describe_written(&self, name: &str, description: Description) {
        self.written.set(name, description);
    }

    /// Descriptions of the metrics that series of these `names` belong to. The
    /// series of a classic histogram or summary belong to one metric.
    pub fn describe(&self, names: &[String]) -> BTreeMap<String, Description> {
        let figures: BTreeMap<_, _> =
            self.telemetry.collect().iter().map(|figure| (figure.name, figure.help)).collect();
        let present: HashSet<&str> = names.iter().map(|name| &name[..]).collect();
        let mut described = BTreeMap::new();
        for name in names {
            if let Some(help) = figures.get(&name[..]) {
                let kind = if name.ends_with("_total") { MetricType::Counter } else { MetricType::Gauge };
                described
                    .insert(name.clone(), Description { help: Cow::Borrowed(help), ..by_name(name, kind) });
            } else if let Some((kind, help)) = table::find(name) {
                described
                    .insert(name.clone(), Description { help: Cow::Borrowed(help), ..by_name(name, kind) });
            } else if let Some(written) = self.written.get(name) {
                described.insert(name.clone(), written);
            } else {
                let (metric, kind) = by_ending(name, &present);
                described.entry(metric.to_owned()).or_insert_with(|| match table::find(metric) {
                    Some((kind, help)) => Description { help: Cow::Borrowed(help), ..by_name(metric, kind) },
                    None => self.written.get(metric).unwrap_or_else(|| by_name(metric, kind)),
                });
            }
        }
        described
    }
}

/// Without help; the unit is the one that the name ends in.
fn by_name(name: &str, kind: MetricType) -> Description {
    const UNITS: [&str; 9] =
        ["seconds", "bytes", "ratio", "celsius", "volts", "amperes", "joules", "watts", "hertz"];
    let base = name.strip_suffix("_total").unwrap_or(name);
    let unit = UNITS.into_iter().find(|unit| base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')));
    Description { kind, help: Cow::Borrowed(""), unit: Cow::Borrowed(unit.unwrap_or("")) }
}

/// The metric that a series belongs to, and its type, as far as names tell.
fn by_ending<'n>(name: &'n str, present: &HashSet<&str>) -> (&'n str, MetricType) {
    if let Some(metric) = name.strip_suffix("_bucket") {
        return (metric, MetricType::Histogram);
    }
    for ending in ["_sum", "_count"] {
        let Some(metric) = name.strip_suffix(ending) else { continue };
        if present.contains(&format!("{metric}_bucket")[..]) {
            return (metric, MetricType::Histogram);
        }
        if present.contains(metric) {
            return (metric, MetricType::Summary);
        }
    }
    if name.ends_with("_total") {
        return (name, MetricType::Counter);
    }
    if present.contains(&format!("{name}_sum")[..]) && present.contains(&format!("{name}_count")[..]) {
        return (name, MetricType::Summary);
    }
    if name.ends_with("_info") {
        return (name, MetricType::Info);
    }
    (name, MetricType::Unknown)
}
