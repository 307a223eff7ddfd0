//! A host source that remembers its series, and what it measures as text.

use std::collections::BTreeMap;

use lm_agent::sources::host::{CycleReport, HostOptions, HostSource};
use lm_agent::sources::{Measurement, SeriesTable};
use lm_model::{Labels, METRIC_NAME, Timestamp};

/// Values by series: name{a="1",b="2"}.
pub type Values = BTreeMap<String, f64>;

pub struct Machine {
    pub source: HostSource,
    pub table: SeriesTable,
    pub out: Vec<Measurement>,
    /// What collectors left out in the last cycle, and why.
    pub left_out: Vec<String>,
    pub now_ms: i64,
}

impl Machine {
    pub fn new(options: HostOptions) -> Self {
        Machine {
            source: HostSource::new(options),
            table: SeriesTable::new(1_000_000),
            out: Vec::new(),
            left_out: Vec::new(),
            now_ms: 1_700_000_000_500,
        }
    }

    /// Measures once into `out`.
    pub fn measure(&mut self) -> CycleReport {
        self.out.clear();
        let now = Timestamp::from_millis(self.now_ms);
        let report = self.source.collect(now, &mut self.table, &mut self.out);
        self.left_out = report.left_out.iter().map(|(_, error)| error.to_string()).collect();
        report
    }

    /// Measures once: values, and the collectors that gave none with why. How
    /// long each took is looked at here and left out.
    pub fn cycle(&mut self) -> (Values, Vec<(&'static str, String)>) {
        let report = self.measure();
        let mut values = Values::new();
        for measurement in &self.out {
            let before = values.insert(text(self.table.labels(measurement.series)), measurement.value);
            assert_eq!(before, None, "measured twice: {:?}", self.table.labels(measurement.series));
        }
        values.retain(|series, value| {
            let is_duration = series.starts_with("node_scrape_collector_duration_seconds");
            assert!(!is_duration || *value >= 0.0, "{series} {value}");
            !is_duration
        });
        let failures = report.failures.into_iter().map(|(name, error)| (name, error.to_string()));
        (values, failures.collect())
    }
}

/// As the exposition format writes it, with labels in the order of their names.
pub fn text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(name, _)| *name != METRIC_NAME)
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    match pairs.is_empty() {
        true => labels.metric_name().to_owned(),
        false => format!("{}{{{}}}", labels.metric_name(), pairs.join(",")),
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
