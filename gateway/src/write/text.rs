//! Prometheus text, OpenMetrics text and delimited protobuf, as a target
//! would answer them, pushed by whoever has them.

use std::collections::HashMap;

use lm_exposition::{Entry, Error, Format, Limits, Metadata, Reader};
use lm_model::{METRIC_NAME, Timestamp};

use super::remote_write::{DESCRIBED_MAX, MetricText};
use super::sink::Sink;

/// What a request says of samples that do not say it themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// `job` and `instance`; empty: none.
    pub job: String,
    pub instance: String,
    /// When the request came.
    pub time: Timestamp,
}

/// Reads a body into `sink`.
///
/// # Errors
///
/// The first mistake, with its place. What stands before it has gone into
/// `sink`.
pub fn read(
    format: Format,
    body: &[u8],
    given: &Given,
    sink: &mut Sink<'_, '_>,
    metadata: &mut Vec<MetricText>,
) -> Result<(), Error> {
    let mut reader = Reader::new(format, body, Limits::default());
    let mut described = HashMap::new();
    while let Some(entry) = reader.next()? {
        match entry {
            Entry::Sample(sample) => {
                let mut pairs = Vec::with_capacity(sample.labels.len() + 3);
                pairs.push((METRIC_NAME, sample.name));
                pairs.extend(sample.labels.iter().map(|label| (&label.name[..], &label.value[..])));
                for (name, value) in [("job", &given.job), ("instance", &given.instance)] {
                    if !value.is_empty() && !pairs.iter().any(|(known, _)| *known == name) {
                        pairs.push((name, &value[..]));
                    }
                }
                let time = sample.time_unix_ms.map_or(given.time, Timestamp::from_millis);
                sink.sample(&mut pairs, time, sample.value);
            }
            Entry::Metadata(fact) => describe(fact, &mut described),
            // Its classic form follows.
            Entry::NativeHistogram(_) => {}
        }
    }
    metadata.extend(described.into_values());
    Ok(())
}

fn describe(fact: Metadata<'_>, described: &mut HashMap<String, MetricText>) {
    let (Metadata::Help { family, .. } | Metadata::Type { family, .. } | Metadata::Unit { family, .. }) =
        fact;
    if described.len() >= DESCRIBED_MAX && !described.contains_key(family) {
        return;
    }
    let fresh = || MetricText { name: family.to_owned(), kind: "unknown", ..MetricText::default() };
    let of = described.entry(family.to_owned()).or_insert_with(fresh);
    match fact {
        Metadata::Help { text, .. } => of.help = text.to_owned(),
        Metadata::Type { metric_type, .. } => of.kind = metric_type.name(),
        Metadata::Unit { unit, .. } => of.unit = unit.to_owned(),
    }
}
