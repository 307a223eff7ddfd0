//! `io.prometheus.write.v2.Request`, remote write 2.0: every text stands once
//! in a table of symbols, and labels are pairs of numbers into it.
//!
//! ```text
//! Request { symbols 4 (repeated), timeseries 5 (repeated) }
//!   TimeSeries { labels_refs 1 (packed), samples 2, histograms 3, exemplars 4, metadata 5 }
//!     Sample { value 1, timestamp 2 }   Metadata { type 1, help_ref 3, unit_ref 4 }
//! ```

use lm_exposition::wire::{Broken, Fields, Value};
use lm_model::METRIC_NAME;

use super::histogram;
use super::labels::BadSeries;
use super::remote_write::{DESCRIBED_MAX, MetricText, metric_kind, sample};
use super::series::Place;
use super::sink::Sink;

/// Reads a request into `sink`.
///
/// # Errors
///
/// When the bytes are no such message. What stands before the mistake has gone
/// into `sink`.
pub fn read(message: &[u8], sink: &mut Sink<'_, '_>, metadata: &mut Vec<MetricText>) -> Result<(), Broken> {
    // Symbols stand before what uses them, and may stand behind it.
    let mut symbols = Vec::new();
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 4 {
            symbols.push(value.bytes()?);
        }
    }
    let mut reader = SeriesReader { symbols: &symbols, pairs: Vec::new() };
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 5 {
            reader.series(value.bytes()?, sink, metadata)?;
        }
    }
    Ok(())
}

struct SeriesReader<'a, 's> {
    symbols: &'s [&'a [u8]],
    /// Of the series at hand.
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> SeriesReader<'a, '_> {
    fn series(
        &mut self,
        message: &'a [u8],
        sink: &mut Sink<'_, '_>,
        metadata: &mut Vec<MetricText>,
    ) -> Result<(), Broken> {
        // Begun with its first sample, unless its labels make no sense.
        let mut found = self.labels(message)?.err().map(Err);
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                2 => {
                    let (time, value) = sample(value.bytes()?)?;
                    match self.place(&mut found, sink) {
                        Ok(place) => sink.push(place, time, value),
                        Err(why) => sink.refuse(1, why),
                    }
                }
                3 => {
                    let (time, read) = histogram::read(value.bytes()?)?;
                    let placed = read.and_then(|read| Ok((self.place(&mut found, sink)?, read)));
                    match placed {
                        Ok((place, read)) => sink.push_histogram(place, time, read),
                        Err(why) => sink.refuse(1, why),
                    }
                }
                5 if metadata.len() < DESCRIBED_MAX => {
                    metadata.extend(self.describe(value.bytes()?)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The place of the series at hand.
    fn place(
        &self,
        found: &mut Option<Result<Place, BadSeries>>,
        sink: &mut Sink<'_, '_>,
    ) -> Result<Place, BadSeries> {
        found.get_or_insert_with(|| sink.series(&self.pairs)).clone()
    }

    /// Fills `pairs`; or says why the series has none that make sense.
    fn labels(&mut self, message: &'a [u8]) -> Result<Result<(), BadSeries>, Broken> {
        self.pairs.clear();
        let mut name = None;
        let mut outcome = Ok(());
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            if number != 1 {
                continue;
            }
            value.each_varint(|reference| {
                let text = usize::try_from(reference).ok().and_then(|at| self.symbols.get(at));
                let Some(text) = text.and_then(|bytes| std::str::from_utf8(bytes).ok()) else {
                    outcome = Err(BadSeries::NotText);
                    return Ok(());
                };
                match name.take() {
                    None => name = Some(text),
                    Some(name) => self.pairs.push((name, text)),
                }
                Ok(())
            })?;
        }
        if name.is_some() {
            outcome = Err(BadSeries::NoLabelName);
        }
        Ok(outcome)
    }

    fn describe(&self, message: &'a [u8]) -> Result<Option<MetricText>, Broken> {
        let Some((_, name)) = self.pairs.iter().find(|(name, _)| *name == METRIC_NAME) else {
            return Ok(None);
        };
        let text = |value: Value<'a>| -> Result<String, Broken> {
            let reference = usize::try_from(value.unsigned()?).map_err(|_| Broken)?;
            let bytes = self.symbols.get(reference).copied().unwrap_or_default();
            Ok(String::from_utf8_lossy(bytes).into_owned())
        };
        let mut described = MetricText { name: (*name).to_owned(), kind: "unknown", ..MetricText::default() };
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => described.kind = metric_kind(value.unsigned()?),
                3 => described.help = text(value)?,
                4 => described.unit = text(value)?,
                _ => {}
            }
        }
        Ok(Some(described))
    }
}
