//! The tables that are built in, in the text format of Prometheus.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::MetricType;

static TABLE: LazyLock<HashMap<&'static str, (MetricType, &'static str)>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    // Ours last: it corrects the other.
    for text in [include_str!("node_exporter/metrics.txt"), include_str!("own.txt")] {
        for line in text.lines() {
            read(line, &mut table);
        }
    }
    table
});

/// Type and help of a metric that is built in.
pub(super) fn find(name: &str) -> Option<(MetricType, &'static str)> {
    TABLE.get(name).copied()
}

/// `# HELP name text` or `# TYPE name type`.
fn read(line: &'static str, table: &mut HashMap<&'static str, (MetricType, &'static str)>) {
    let mut words = line.splitn(4, ' ').skip(1);
    let (Some(key), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else { return };
    let entry = table.entry(name).or_insert((MetricType::Unknown, ""));
    match key {
        "HELP" => entry.1 = rest,
        _ => {
            entry.0 = match rest {
                "counter" => MetricType::Counter,
                "gauge" => MetricType::Gauge,
                "histogram" => MetricType::Histogram,
                "summary" => MetricType::Summary,
                _ => MetricType::Unknown,
            }
        }
    }
}
