//! Makes the bodies of batches: measurements, lines and events into columns
//! and dictionary references, within the collector's limits.
//!
//! A [`Draft`] becomes a batch when the queue has given it a sequence; then
//! the caller says [`Batcher::commit`], or [`Batcher::discard`] when the queue
//! refused it. There is one draft at a time.

use std::io;

use lm_model::{Labels, Stream, Timestamp};
use lm_schema::batch::{Body, EncodedBody, Encoder, Event, LogColumns, SampleColumns};

use crate::config::{Limits, Settings};
use crate::dictionary::{Dictionary, ENTRIES_MAX, LabelLimits, Lookup};
use crate::record::snapshot_bytes;
use crate::sources::logs::{FileCursor, LineSink, StreamIndex};
use crate::sources::scrape::ScrapedSample;
use crate::sources::{Measurement, SeriesTable};

/// What every collector accepts, however low its limits are set: a body
/// before compression, and after. Only a single line or series may be larger.
pub const RAW_BYTES_MAX: usize = 256 << 10;
pub const ENCODED_BYTES_MAX: usize = 64 << 10;

/// Samples in one batch: their values hardly compress, and 12 bytes of each
/// fit [`ENCODED_BYTES_MAX`] even if they do not at all.
const SAMPLES_MAX: usize = 4096;
/// New labels fill a batch up to this; one more set of labels fits in any case.
const NEW_LABELS_BYTES_MAX: usize = RAW_BYTES_MAX / 2;

/// A body that waits for its place in the queue.
pub struct Draft {
    pub stream: Stream,
    pub body: EncodedBody,
    pub epoch: u32,
    /// Entries that must be known before those in the body.
    pub dictionary_length: u32,
}

/// Encodes drafts; owns the dictionary and the only compression state.
pub struct Batcher {
    dictionary: Dictionary,
    encoder: Encoder,
    job: String,
    new_series_max: usize,
    value_bytes_max: usize,
    /// Samples that were left out because labels were over a limit.
    left_out: u64,
}

impl Batcher {
    pub fn new(settings: &Settings) -> io::Result<Self> {
        Batcher::with_entries_max(settings, ENTRIES_MAX)
    }

    fn with_entries_max(settings: &Settings, entries_max: usize) -> io::Result<Self> {
        Ok(Batcher {
            dictionary: Dictionary::new(label_limits(&settings.limits), entries_max),
            encoder: Encoder::new()?,
            job: settings.metrics.job.clone(),
            new_series_max: settings.limits.series_per_batch_max as usize,
            value_bytes_max: settings.limits.label_value_bytes_max as usize,
            left_out: 0,
        })
    }

    /// Drafts as many measurements from the front of `rest` as fit one batch
    /// and moves `rest` behind them; `None` when nothing is left to send.
    pub fn draft_samples(
        &mut self,
        time: Timestamp,
        rest: &mut &[Measurement],
        table: &SeriesTable,
    ) -> io::Result<Option<Draft>> {
        let job = std::mem::take(&mut self.job);
        let draft = self.draft_values(rest, |dictionary, measurement| {
            (time, dictionary.series(measurement.series, table, &job), measurement.value)
        });
        self.job = job;
        draft
    }

    /// As [`draft_samples`](Self::draft_samples), of samples that bring their
    /// own labels and times.
    pub fn draft_scraped(&mut self, rest: &mut &[ScrapedSample]) -> io::Result<Option<Draft>> {
        self.draft_values(rest, |dictionary, sample| {
            (sample.time, dictionary.labels(&sample.labels), sample.value)
        })
    }

    fn draft_values<T>(
        &mut self,
        rest: &mut &[T],
        look_up: impl Fn(&mut Dictionary, &T) -> (Timestamp, Lookup, f64),
    ) -> io::Result<Option<Draft>> {
        let mut columns = SampleColumns::default();
        columns.references.reserve_exact(rest.len().min(SAMPLES_MAX));
        columns.values.reserve_exact(rest.len().min(SAMPLES_MAX));
        let (mut new_labels, mut new_labels_bytes) = (0, 0);
        while let Some(item) = rest.first() {
            let proposed = self.dictionary.proposed();
            new_labels_bytes += proposed[new_labels..].iter().map(raw_bytes).sum::<usize>();
            new_labels = proposed.len();
            if columns.values.len() == SAMPLES_MAX
                || new_labels >= self.new_series_max
                || new_labels_bytes >= NEW_LABELS_BYTES_MAX
            {
                break;
            }
            let (time, lookup, value) = look_up(&mut self.dictionary, item);
            match lookup {
                Lookup::Known(reference) | Lookup::Proposed(reference) => {
                    columns.push(time, reference, value);
                }
                Lookup::TooLarge => self.left_out += 1,
                Lookup::Full if columns.values.is_empty() => {
                    self.dictionary.next_epoch();
                    continue;
                }
                Lookup::Full => break,
            }
            *rest = &rest[1..];
        }
        if columns.values.is_empty() {
            return Ok(None);
        }
        self.draft(Stream::Metrics, &Body::Samples(columns)).map(Some)
    }

    /// Drafts all lines of `sink`, of which there may be none: positions of
    /// files need a record too.
    pub fn draft_logs<'l>(
        &mut self,
        sink: &LineSink,
        labels_of: impl Fn(StreamIndex) -> Option<&'l Labels>,
    ) -> io::Result<Draft> {
        // Streams that this batch has met, so that a line costs no label set.
        let mut met: Vec<(StreamIndex, u32)> = Vec::new();
        let mut columns = LogColumns::default();
        columns.text.reserve_exact(sink.bytes.len());
        for line in &sink.lines {
            let reference = match met.iter().rev().find(|(stream, _)| *stream == line.stream) {
                Some((_, reference)) => *reference,
                None => {
                    let labels = self.log_labels(labels_of(line.stream));
                    let reference = match self.dictionary.labels(&labels) {
                        Lookup::Known(reference) | Lookup::Proposed(reference) => reference,
                        // Start over in a new epoch. It has room: a batch has
                        // fewer streams than a dictionary has entries.
                        Lookup::Full => {
                            self.dictionary.next_epoch();
                            return self.draft_logs(sink, labels_of);
                        }
                        Lookup::TooLarge => unreachable!("log_labels() keeps to the limits"),
                    };
                    met.push((line.stream, reference));
                    reference
                }
            };
            columns.push(reference, line.time_unix_nano, sink.line(line));
        }
        self.draft(Stream::Logs, &Body::Logs(columns))
    }

    pub fn draft_events(&mut self, events: Vec<Event>) -> io::Result<Draft> {
        self.draft(Stream::Events, &Body::Events(events))
    }

    fn draft(&mut self, stream: Stream, body: &Body) -> io::Result<Draft> {
        let body = self.encoder.encode(self.dictionary.proposed(), body)?;
        let dictionary_length = self.dictionary.committed().len() as u32;
        Ok(Draft { stream, body, epoch: self.dictionary.epoch(), dictionary_length })
    }

    /// The body of a batch that declares a loss.
    pub fn encode_loss(&mut self, body: &Body) -> io::Result<EncodedBody> {
        self.encoder.encode(&[], body)
    }

    /// The last draft is in the queue.
    pub fn commit(&mut self) {
        self.dictionary.commit();
    }

    /// The last draft is not in the queue.
    pub fn discard(&mut self) {
        self.dictionary.discard();
    }

    /// Everything that later records of a segment need from earlier ones.
    pub fn snapshot(&self, cursors: &[FileCursor]) -> Vec<u8> {
        snapshot_bytes(self.dictionary.epoch(), self.dictionary.committed(), cursors)
    }

    /// Begins a new dictionary; series that ended are forgotten.
    pub fn next_epoch(&mut self) {
        self.dictionary.next_epoch();
    }

    /// Samples left out since the last call.
    pub fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Labels of a line. A value over the limit is cut: a line with half a
    /// file name is worth more than no line.
    fn log_labels(&self, labels: Option<&Labels>) -> Labels {
        let mut builder = labels.cloned().unwrap_or_default().to_builder();
        for (name, value) in labels.into_iter().flat_map(Labels::iter) {
            if value.len() > self.value_bytes_max {
                builder.set(name, &value[..value.floor_char_boundary(self.value_bytes_max)]);
            }
        }
        builder.set("job", &self.job[..self.job.floor_char_boundary(self.value_bytes_max)]);
        builder.build()
    }
}

/// What labels take in a message: a pointer to each of their bytes, which are
/// padded, and one to all.
fn raw_bytes(labels: &Labels) -> usize {
    labels.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() + 16
}

fn label_limits(limits: &Limits) -> LabelLimits {
    LabelLimits {
        labels_max: limits.labels_per_series_max as usize,
        name_bytes_max: limits.label_key_bytes_max as usize,
        value_bytes_max: limits.label_value_bytes_max as usize,
    }
}

#[cfg(test)]
mod tests;
