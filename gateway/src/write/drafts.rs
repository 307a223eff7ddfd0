//! Samples of one request, on their way into batches.

use lm_model::{BatchId, Incarnation, Labels, Stream, Timestamp};
use lm_schema::DecodeLimits;
use lm_schema::batch::{BatchHeader, Body, Encoder, SampleColumns, entries_bytes};

use super::series::{Mark, Place, SeriesKey, SeriesTable};

/// Samples of one batch.
const SAMPLES_MAX: usize = DecodeLimits::WRITER.samples_per_batch_max as usize;
/// New entries of one batch, and their bytes: with its samples it must stay
/// below [`DecodeLimits::raw_bytes_max`], and compressed below what a message
/// of a bulk stream may be.
const ENTRIES_MAX: usize = 16_384;
const ENTRIES_BYTES_MAX: usize = 5 << 19;

/// One batch in the making.
struct Draft {
    epoch: u32,
    /// Entries of the epoch before its own.
    length: u32,
    new_entries: Vec<Labels>,
    new_bytes: usize,
    columns: SampleColumns,
}

/// A batch as it is sent.
pub struct Batch {
    pub header: BatchHeader,
    pub body: Vec<u8>,
}

/// Collects the samples of one request.
pub struct Drafts<'t> {
    table: &'t mut SeriesTable,
    mark: Mark,
    added: Vec<SeriesKey>,
    full: Vec<Draft>,
    /// At most one of each epoch.
    open: Vec<Draft>,
    samples: u64,
}

impl<'t> Drafts<'t> {
    pub fn new(table: &'t mut SeriesTable) -> Self {
        let mark = table.mark();
        Drafts { table, mark, added: Vec::new(), full: Vec::new(), open: Vec::new(), samples: 0 }
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
        let draft = self.draft(place.epoch, length);
        draft.columns.push(time, place.reference, value);
        self.samples += 1;
    }

    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// The open batch of an epoch. `length`: what a new one begins with.
    fn draft(&mut self, epoch: u32, length: u32) -> &mut Draft {
        let found = self.open.iter().position(|draft| draft.epoch == epoch);
        let is_full = |draft: &Draft| {
            draft.columns.values.len() >= SAMPLES_MAX
                || draft.new_entries.len() >= ENTRIES_MAX
                || draft.new_bytes >= ENTRIES_BYTES_MAX
        };
        let at = match found {
            Some(at) if !is_full(&self.open[at]) => at,
            found => {
                if let Some(at) = found {
                    self.full.push(self.open.swap_remove(at));
                }
                let columns = SampleColumns::default();
                self.open.push(Draft { epoch, length, new_entries: Vec::new(), new_bytes: 0, columns });
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
    pub fn finish(self, encoder: &mut Encoder) -> std::io::Result<Vec<Batch>> {
        let id = BatchId {
            stream: Stream::Metrics,
            // The collector gives it its place.
            incarnation: Incarnation { ordinal: 0, nonce: 0 },
            sequence: 0,
        };
        let mut batches = Vec::with_capacity(self.full.len() + self.open.len());
        for draft in self.full.into_iter().chain(self.open) {
            let encoded = encoder.encode(&draft.new_entries, &Body::Samples(draft.columns))?;
            let header = BatchHeader::new(id, 0, draft.epoch, draft.length, &encoded);
            batches.push(Batch { header, body: encoded.bytes });
        }
        Ok(batches)
    }
}
