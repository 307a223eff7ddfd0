//! Samples of one request, on their way into batches.
//!
//! A batch is compressed as soon as it is full, so that what a request holds
//! is in memory at its full size for one batch of each epoch only.

use std::sync::Arc;

use lm_model::{BatchId, Histogram, Incarnation, Labels, Stream, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{BatchHeader, Body, Encoder, HistogramColumns, SampleColumns, entries_bytes};

use super::series::{Mark, Place, SeriesKey, SeriesTable};

/// Samples of one batch.
const SAMPLES_MAX: usize = DecodeLimits::WRITER.samples_per_batch_max as usize;
/// New entries of one batch, and their bytes: with its samples it must stay
/// below [`DecodeLimits::raw_bytes_max`], and compressed below what a message
/// of a bulk stream may be.
const ENTRIES_MAX: usize = 16_384;
const ENTRIES_BYTES_MAX: usize = 5 << 19;
/// Bytes of one batch's histograms, but for the last: about those of as many
/// samples as a batch has.
const HISTOGRAMS_BYTES_MAX: usize = 1 << 19;

/// Batches in the making: the samples and the histograms of one epoch.
struct Draft {
    epoch: u32,
    /// Entries of the epoch before its own.
    length: u32,
    new_entries: Vec<Labels>,
    new_bytes: usize,
    samples: SampleColumns,
    histograms: HistogramColumns,
    histograms_bytes: usize,
}

impl Draft {
    fn new(epoch: u32, length: u32) -> Draft {
        Draft {
            epoch,
            length,
            new_entries: Vec::new(),
            new_bytes: 0,
            samples: SampleColumns::default(),
            histograms: HistogramColumns::default(),
            histograms_bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.samples.values.len() >= SAMPLES_MAX
            || self.histograms.values.len() >= SAMPLES_MAX
            || self.histograms_bytes >= HISTOGRAMS_BYTES_MAX
            || self.new_entries.len() >= ENTRIES_MAX
            || self.new_bytes >= ENTRIES_BYTES_MAX
    }

    /// One batch of each kind that it has; the first has the new entries.
    fn encode(self, encoder: &mut Encoder, to: &mut Vec<Batch>) -> std::io::Result<()> {
        let id = BatchId {
            stream: Stream::Metrics,
            // The collector gives it its place.
            incarnation: Incarnation { ordinal: 0, nonce: 0 },
            sequence: 0,
        };
        let (mut length, mut new_entries) = (self.length, &self.new_entries[..]);
        let has_histograms = !self.histograms.values.is_empty();
        // New entries are told even when nothing uses them yet.
        let has_samples = !self.samples.values.is_empty() || !has_histograms;
        let samples = has_samples.then_some(Body::Samples(self.samples));
        let histograms = has_histograms.then_some(Body::Histograms(self.histograms));
        for body in samples.into_iter().chain(histograms) {
            let encoded = encoder.encode(new_entries, &body)?;
            let header = BatchHeader::new(id, 0, self.epoch, length, &encoded);
            to.push(Batch { header, body: encoded.bytes });
            length += new_entries.len() as u32;
            new_entries = &[];
        }
        Ok(())
    }
}

/// A batch as it is sent.
pub struct Batch {
    pub header: BatchHeader,
    pub body: Vec<u8>,
}

/// Collects the samples of one request.
pub struct Drafts<'t> {
    table: &'t mut SeriesTable,
    encoder: &'t mut Encoder,
    mark: Mark,
    added: Vec<SeriesKey>,
    full: Vec<Batch>,
    /// Why a full batch is not among them.
    failed: Option<std::io::Error>,
    /// At most one of each epoch.
    open: Vec<Draft>,
    counts: Counts,
}

/// What a request has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub samples: u64,
    pub histograms: u64,
}

impl<'t> Drafts<'t> {
    pub fn new(table: &'t mut SeriesTable, encoder: &'t mut Encoder) -> Self {
        let mark = table.mark();
        Drafts {
            table,
            encoder,
            mark,
            added: Vec::new(),
            full: Vec::new(),
            failed: None,
            open: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The series of this key, if it was there before.
    pub fn series(&self, key: SeriesKey) -> Option<Place> {
        self.table.get(key)
    }

    /// Adds a series that was not there before.
    pub fn add_series(&mut self, key: SeriesKey, labels: Labels) -> Place {
        let place = self.table.insert(key, &labels);
        self.added.push(key);
        let draft = self.draft(place.epoch, place.reference);
        draft.new_bytes += entries_bytes(std::slice::from_ref(&labels));
        draft.new_entries.push(labels);
        place
    }

    pub fn push(&mut self, place: Place, time: Timestamp, value: f64) {
        let length = self.table.length(place.epoch);
        self.draft(place.epoch, length).samples.push(time, place.reference, value);
        self.counts.samples += 1;
    }

    pub fn push_histogram(&mut self, place: Place, time: Timestamp, histogram: Histogram) {
        let length = self.table.length(place.epoch);
        let draft = self.draft(place.epoch, length);
        draft.histograms_bytes += bytes_of(&histogram);
        draft.histograms.push(time, place.reference, Arc::new(histogram));
        self.counts.histograms += 1;
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The open batch of an epoch. `length`: what a new one begins with.
    fn draft(&mut self, epoch: u32, length: u32) -> &mut Draft {
        let found = self.open.iter().position(|draft| draft.epoch == epoch);
        let at = match found {
            Some(at) if !self.open[at].is_full() => at,
            found => {
                if let Some(at) = found {
                    let full = self.open.swap_remove(at);
                    if let Err(error) = full.encode(self.encoder, &mut self.full) {
                        self.failed.get_or_insert(error);
                    }
                }
                self.open.push(Draft::new(epoch, length));
                self.open.len() - 1
            }
        };
        &mut self.open[at]
    }

    /// The request makes no sense: nothing of it stays.
    pub fn abandon(self) {
        self.table.take_back(&self.mark, &self.added);
    }

    /// All batches, in the order in which they are to be sent.
    ///
    /// # Errors
    ///
    /// When one cannot be compressed.
    pub fn finish(self) -> std::io::Result<Vec<Batch>> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut batches = self.full;
        for draft in self.open {
            draft.encode(self.encoder, &mut batches)?;
        }
        Ok(batches)
    }
}

/// Roughly what a histogram takes in a message.
fn bytes_of(histogram: &Histogram) -> usize {
    let spans = histogram.positive_spans.len() + histogram.negative_spans.len();
    let numbers =
        histogram.positive_counts.len() + histogram.negative_counts.len() + histogram.custom_bounds.len();
    (10 + spans + numbers) * 8
}
