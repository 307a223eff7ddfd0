//! `prometheus.WriteRequest`, remote write 1.0, read where it lies.
//!
//! ```text
//! WriteRequest { timeseries 1 (repeated), metadata 3 (repeated) }
//!   TimeSeries { labels 1 (repeated), samples 2, exemplars 3, histograms 4 }
//!     Label { name 1, value 2 }   Sample { value 1, timestamp 2 }
//!   MetricMetadata { type 1, metric_family_name 2, help 4, unit 5 }
//! ```
//!
//! Of a series that is known nothing is looked at but where its labels end:
//! their bytes are its key.

use lm_exposition::wire::{Broken, Fields, take_delimited};
use lm_model::Timestamp;

use super::drafts::Drafts;
use super::histogram;
use super::labels::{BadSeries, RefusedSeries, ordered};
use super::series::{Place, SeriesHash};

/// The key of a `labels` field: number 1, with a length.
const LABELS: u8 = 1 << 3 | 2;

/// What a metric is, as its sender says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricText {
    pub name: String,
    pub kind: &'static str,
    pub help: String,
    pub unit: String,
}

/// Descriptions of one request that are passed on.
pub const DESCRIBED_MAX: usize = 4096;

/// Reads a request into `drafts`.
///
/// # Errors
///
/// When the bytes are no such message. What stands before the mistake has gone
/// into `drafts`.
pub fn read(
    message: &[u8],
    hash: &SeriesHash,
    drafts: &mut Drafts<'_>,
    refused: &mut RefusedSeries,
    metadata: &mut Vec<MetricText>,
) -> Result<(), Broken> {
    let mut fields = Fields(message);
    let mut pairs = Vec::new();
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => series(value.bytes()?, hash, drafts, refused, &mut pairs)?,
            3 if metadata.len() < DESCRIBED_MAX => metadata.push(describe(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(())
}

fn series<'a>(
    message: &'a [u8],
    hash: &SeriesHash,
    drafts: &mut Drafts<'_>,
    refused: &mut RefusedSeries,
    pairs: &mut Vec<(&'a str, &'a str)>,
) -> Result<(), Broken> {
    let mut rest = message;
    while let [LABELS, after @ ..] = rest {
        rest = after;
        take_delimited(&mut rest)?;
    }
    let labels = &message[..message.len() - rest.len()];
    let mut fields = Fields(rest);
    // Found with the first sample: a series without any is not begun.
    let mut found: Option<Result<Place, BadSeries>> = None;
    let mut find = |drafts: &mut Drafts<'_>| -> Result<Result<Place, BadSeries>, Broken> {
        match &found {
            Some(found) => Ok(found.clone()),
            None => Ok(found.insert(place(labels, hash, drafts, pairs)?).clone()),
        }
    };
    while let Some((number, value)) = fields.next()? {
        match number {
            // Every encoder writes fields in order; others cannot be told apart.
            1 => return Err(Broken),
            2 => {
                let (time, value) = sample(value.bytes()?)?;
                match find(drafts)? {
                    Ok(place) => drafts.push(place, time, value),
                    Err(why) => refused.add(1, why),
                }
            }
            4 => {
                let (time, read) = histogram::read(value.bytes()?)?;
                let placed = match read {
                    Ok(read) => find(drafts)?.map(|place| (place, read)),
                    Err(why) => Err(why),
                };
                match placed {
                    Ok((place, read)) => drafts.push_histogram(place, time, read),
                    Err(why) => refused.add(1, why),
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn place<'a>(
    labels: &'a [u8],
    hash: &SeriesHash,
    drafts: &mut Drafts<'_>,
    pairs: &mut Vec<(&'a str, &'a str)>,
) -> Result<Result<Place, BadSeries>, Broken> {
    let key = hash.of(labels);
    if let Some(place) = drafts.series(key) {
        return Ok(Ok(place));
    }
    pairs.clear();
    let mut fields = Fields(labels);
    while let Some((_, value)) = fields.next()? {
        let (mut name, mut text) = (&[][..], &[][..]);
        let mut label = Fields(value.bytes()?);
        while let Some((number, value)) = label.next()? {
            match number {
                1 => name = value.bytes()?,
                2 => text = value.bytes()?,
                _ => {}
            }
        }
        let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(text)) else {
            return Ok(Err(BadSeries::NotText));
        };
        pairs.push((name, text));
    }
    Ok(ordered(pairs).map(|labels| drafts.add_series(key, labels)))
}

/// `Sample { value 1, timestamp 2 }` of both versions.
pub fn sample(message: &[u8]) -> Result<(Timestamp, f64), Broken> {
    let (mut time, mut number) = (0, 0.0);
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => number = value.exact_double()?,
            2 => time = value.signed()?,
            _ => {}
        }
    }
    Ok((Timestamp::from_millis(time), number))
}

/// The name of a metric's type, as both versions number them.
pub fn metric_kind(number: u64) -> &'static str {
    const KINDS: [&str; 8] =
        ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];
    usize::try_from(number).ok().and_then(|number| KINDS.get(number).copied()).unwrap_or(KINDS[0])
}

fn describe(message: &[u8]) -> Result<MetricText, Broken> {
    let mut described = MetricText { kind: metric_kind(0), ..MetricText::default() };
    let mut fields = Fields(message);
    let text = |value: lm_exposition::wire::Value<'_>| value.text().map(str::to_owned);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => described.kind = metric_kind(value.unsigned()?),
            2 => described.name = text(value)?,
            4 => described.help = text(value)?,
            5 => described.unit = text(value)?,
            _ => {}
        }
    }
    Ok(described)
}

#[cfg(test)]
mod tests;
