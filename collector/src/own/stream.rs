//! Batches of our own samples: what an agent's batcher and queue do, without
//! a disk. Plain logic: it is told the time and what was answered.

use std::collections::{BTreeMap, HashMap, VecDeque};

use lm_model::{BatchId, Incarnation, Labels, Stream, Timestamp};
use lm_schema::batch::{BatchHeader, Body, Encoder, SampleColumns};

/// Samples of one batch: well below what a message may hold.
const SAMPLES_PER_BATCH: usize = 8192;
/// Entries of one epoch, below what ingest takes from agents.
const ENTRIES_PER_EPOCH: usize = 65_536;
/// Epochs in use at a time: ingest remembers one more.
const EPOCHS_MAX: usize = 15;
/// Dead entries that are carried along before all begin anew.
const ENDED_MAX: usize = 16_384;

/// A batch that is to be pushed until it is answered for good.
pub struct Draft {
    pub header: BatchHeader,
    pub body: Vec<u8>,
}

/// Where a series stands.
#[derive(Clone, Copy)]
struct Reference {
    epoch: u32,
    entry: u32,
}

/// See the module documentation.
pub struct OwnStream {
    incarnation: Incarnation,
    encoder: Encoder,
    sequence: u64,
    items: u64,
    references: HashMap<Labels, Reference>,
    /// Entries of each epoch in use; only the last one grows.
    epochs: BTreeMap<u32, u32>,
    /// At most what one look gave.
    waiting: VecDeque<Draft>,
}

impl OwnStream {
    /// # Errors
    ///
    /// When there is no memory for the encoder.
    pub fn new(incarnation: Incarnation) -> std::io::Result<OwnStream> {
        Ok(OwnStream {
            incarnation,
            encoder: Encoder::new()?,
            sequence: 0,
            items: 0,
            references: HashMap::new(),
            epochs: BTreeMap::from([(0, 0)]),
            waiting: VecDeque::new(),
        })
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Whether everything was answered, so that there is room for more.
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes batches of samples that were all taken at `time`.
    ///
    /// # Errors
    ///
    /// When one cannot be encoded: it and those behind it are dropped unnamed,
    /// they were never accepted.
    pub fn handle_samples(&mut self, time: Timestamp, samples: &[(Labels, f64)]) -> std::io::Result<()> {
        if self.references.len() > 2 * samples.len() + ENDED_MAX || self.epochs.len() > EPOCHS_MAX {
            self.forget();
        }
        let mut by_epoch: BTreeMap<u32, Columns> = BTreeMap::new();
        for (labels, value) in samples {
            let (at, is_new) = self.reference(labels);
            let columns = by_epoch.entry(at.epoch).or_default();
            if is_new {
                columns.new_entries.push((at.entry, labels.clone()));
            }
            columns.samples.push((at.entry, *value));
        }
        for (epoch, columns) in by_epoch {
            self.draft(time, epoch, &columns)?;
        }
        Ok(())
    }

    /// The oldest batch that was not answered.
    pub fn poll_draft(&self) -> Option<&Draft> {
        self.waiting.front()
    }

    /// The oldest batch was answered for good.
    pub fn on_answered(&mut self) {
        self.waiting.pop_front();
    }

    /// All entries of an epoch, by reference; for an ingest that forgot them.
    pub fn dictionary(&self, epoch: u32) -> Vec<Labels> {
        let mut entries: Vec<_> = self
            .references
            .iter()
            .filter(|(_, at)| at.epoch == epoch)
            .map(|(labels, at)| (at.entry, labels))
            .collect();
        entries.sort_unstable_by_key(|(entry, _)| *entry);
        entries.into_iter().map(|(_, labels)| labels.clone()).collect()
    }

    /// Begins with an empty dictionary; the old ones are never used again.
    fn forget(&mut self) {
        let next = self.epochs.last_key_value().map_or(0, |(epoch, _)| epoch + 1);
        self.references.clear();
        self.epochs = BTreeMap::from([(next, 0)]);
    }

    fn reference(&mut self, labels: &Labels) -> (Reference, bool) {
        if let Some(known) = self.references.get(labels) {
            return (*known, false);
        }
        let (last, length) = self.epochs.last_key_value().map_or((0, 0), |(epoch, length)| (*epoch, *length));
        let at = if length as usize >= ENTRIES_PER_EPOCH {
            Reference { epoch: last + 1, entry: 0 }
        } else {
            Reference { epoch: last, entry: length }
        };
        self.epochs.insert(at.epoch, at.entry + 1);
        self.references.insert(labels.clone(), at);
        (at, true)
    }

    fn draft(&mut self, time: Timestamp, epoch: u32, columns: &Columns) -> std::io::Result<()> {
        let mut new_entries = &columns.new_entries[..];
        for samples in columns.samples.chunks(SAMPLES_PER_BATCH) {
            // Entries go with the first batch that uses one of them or a later one.
            let highest = samples.iter().map(|(entry, _)| *entry).max().unwrap_or(0);
            let own = new_entries.partition_point(|(entry, _)| *entry <= highest);
            let known = new_entries.first().map_or(self.epochs[&epoch], |(entry, _)| *entry);
            let entries: Vec<_> = new_entries[..own].iter().map(|(_, labels)| labels.clone()).collect();
            new_entries = &new_entries[own..];
            let body = Body::Samples(SampleColumns {
                times: vec![time],
                lengths: vec![samples.len() as u32],
                references: samples.iter().map(|(entry, _)| *entry).collect(),
                values: samples.iter().map(|(_, value)| *value).collect(),
            });
            let encoded = self.encoder.encode(&entries, &body)?;
            let id =
                BatchId { stream: Stream::Metrics, incarnation: self.incarnation, sequence: self.sequence };
            let header = BatchHeader::new(id, self.items, epoch, known, &encoded);
            self.sequence += 1;
            self.items += u64::from(encoded.item_count);
            self.waiting.push_back(Draft { header, body: encoded.bytes });
        }
        Ok(())
    }
}

/// What goes into batches of one epoch.
#[derive(Default)]
struct Columns {
    /// With their references, ascending.
    new_entries: Vec<(u32, Labels)>,
    samples: Vec<(u32, f64)>,
}

#[cfg(test)]
mod tests {
    use lm_schema::DecodeLimits;
    use lm_schema::batch::decode_body;

    use super::*;

    fn series(number: usize) -> Labels {
        Labels::from_pairs([("__name__", "up".to_owned()), ("instance", number.to_string())])
    }

    fn stream() -> OwnStream {
        OwnStream::new(Incarnation { ordinal: 1, nonce: 1 }).unwrap()
    }

    /// What a collector makes of all drafts: `(series, value)` in order.
    fn read(stream: &mut OwnStream, dictionaries: &mut BTreeMap<u32, Vec<Labels>>) -> Vec<(Labels, f64)> {
        let mut found = Vec::new();
        while let Some(Draft { header, body }) = stream.poll_draft() {
            let decoded = decode_body(header, body, &DecodeLimits::STORED).unwrap();
            let dictionary = dictionaries.entry(header.dictionary_epoch).or_default();
            assert!(dictionary.len() >= header.dictionary_length as usize, "a gap in the dictionary");
            dictionary.truncate(header.dictionary_length as usize);
            dictionary.extend(decoded.new_entries);
            let Body::Samples(columns) = decoded.body else { panic!("not samples") };
            let labels = columns.references.iter().map(|reference| dictionary[*reference as usize].clone());
            found.extend(labels.zip(columns.values));
            stream.on_answered();
        }
        found
    }

    #[test]
    fn samples_come_back_over_batches_and_epochs() {
        let (mut stream, mut dictionaries) = (stream(), BTreeMap::new());
        let count = ENTRIES_PER_EPOCH + SAMPLES_PER_BATCH + 7;
        let samples: Vec<_> = (0..count).map(|number| (series(number), number as f64)).collect();
        for _ in 0..2 {
            stream.handle_samples(Timestamp::from_millis(5), &samples).unwrap();
            let found = read(&mut stream, &mut dictionaries);
            assert!(found == samples, "{} of {count} samples, or others", found.len());
        }
        assert_eq!(stream.items, 2 * count as u64);
        assert_eq!(dictionaries.len(), 2);
        assert_eq!(dictionaries[&1], stream.dictionary(1));
    }

    #[test]
    fn series_that_ended_are_forgotten_some_day() {
        let (mut stream, mut dictionaries) = (stream(), BTreeMap::new());
        for round in 0..40 {
            let samples: Vec<_> = (0..1000).map(|number| (series(round * 1000 + number), 1.0)).collect();
            stream.handle_samples(Timestamp::from_millis(5), &samples).unwrap();
            assert_eq!(read(&mut stream, &mut dictionaries), samples);
        }
        assert!(stream.references.len() < 20_000, "{}", stream.references.len());
        assert!(dictionaries.len() > 1);
    }
}
