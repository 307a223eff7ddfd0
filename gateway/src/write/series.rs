//! Which series of a writer the collector knows, and by which number.
//!
//! A series is known by a keyed hash of 128 bits of its labels as they were
//! sent, so that one that is known costs a look-up and no allocation, and 24
//! bytes here whatever its labels are. The key is made at random; whoever could
//! find two series of one hash all the same would mix up series of its own.
//!
//! The labels themselves are at the collector. When it does not know them any
//! more, [`SeriesTable::begin_again`] forgets all, and every series is told
//! anew when its next sample comes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use lm_model::Labels;
use lm_schema::DecodeLimits;
use lm_schema::batch::{WRITER_EPOCH_BYTES_MAX, entries_bytes};
use twox_hash::XxHash3_128;

/// Longest secret of the hash: the shortest that it takes is 136.
const SECRET_BYTES: usize = 192;
/// A table whose writer is over its limit of series begins again after this
/// long, so that series that have ended make room.
const LIMITED_LIFE: Duration = Duration::from_secs(600);

/// A series as it is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesKey(u128);

/// Makes [`SeriesKey`]s; one for the life of the process.
pub struct SeriesHash([u8; SECRET_BYTES]);

impl SeriesHash {
    pub fn new() -> Self {
        let mut secret = [0; SECRET_BYTES];
        // Without randomness it is still a hash.
        let _ = getrandom::fill(&mut secret);
        SeriesHash(secret)
    }

    /// `bytes`: all labels, in a form in which different labels differ.
    pub fn of(&self, bytes: &[u8]) -> SeriesKey {
        let hash = XxHash3_128::oneshot_with_seed_and_secret(0, &self.0, bytes);
        SeriesKey(hash.expect("the secret is longer than the least that is needed"))
    }
}

/// Half of the hash is hash enough for a table.
#[derive(Default)]
pub struct LowHalf(u64);

impl Hasher for LowHalf {
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Where a series stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub epoch: u32,
    pub reference: u32,
}

/// What one epoch's dictionary holds.
#[derive(Clone, Copy, Default)]
struct Epoch {
    entries: u32,
    bytes: usize,
}

/// The series of one writer.
pub struct SeriesTable {
    client: u64,
    places: HashMap<SeriesKey, Place, BuildHasherDefault<LowHalf>>,
    /// Only the last one grows.
    epochs: Vec<Epoch>,
    began: Instant,
    series_max: usize,
}

/// What a table was before a request.
pub struct Mark {
    epochs: usize,
    last: Epoch,
}

impl SeriesTable {
    /// `client` is a random number.
    pub fn new(client: u64, series_max: usize, now: Instant) -> Self {
        let places = HashMap::default();
        SeriesTable { client, places, epochs: vec![Epoch::default()], began: now, series_max }
    }

    /// Whose dictionaries these are, for the collector.
    pub fn client(&self) -> u64 {
        self.client
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Forgets every series: the collector does not know them, or there is no
    /// room for more.
    pub fn begin_again(&mut self, client: u64, now: Instant) {
        *self = SeriesTable::new(client, self.series_max, now);
    }

    /// Whether it is to begin again because series were over a limit.
    pub fn is_worn(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= LIMITED_LIFE
    }

    pub fn is_full(&self) -> bool {
        self.places.len() >= self.series_max
    }

    pub fn get(&self, key: SeriesKey) -> Option<Place> {
        self.places.get(&key).copied()
    }

    /// Adds a series that is not there.
    pub fn insert(&mut self, key: SeriesKey, labels: &Labels) -> Place {
        let bytes = entries_bytes(std::slice::from_ref(labels));
        let last = self.epochs.last_mut().expect("there is always one");
        if last.entries >= DecodeLimits::WRITER.dictionary_entries_max
            || last.bytes + bytes > WRITER_EPOCH_BYTES_MAX
        {
            self.epochs.push(Epoch::default());
        }
        let epoch = self.epochs.len() as u32 - 1;
        let last = self.epochs.last_mut().expect("there is always one");
        let place = Place { epoch, reference: last.entries };
        last.entries += 1;
        last.bytes += bytes;
        self.places.insert(key, place);
        place
    }

    /// Entries of an epoch.
    pub fn length(&self, epoch: u32) -> u32 {
        self.epochs[epoch as usize].entries
    }

    pub fn mark(&self) -> Mark {
        Mark { epochs: self.epochs.len(), last: *self.epochs.last().expect("there is always one") }
    }

    /// Takes back what was added since: the request makes no sense.
    pub fn take_back(&mut self, mark: &Mark, added: &[SeriesKey]) {
        for key in added {
            self.places.remove(key);
        }
        self.epochs.truncate(mark.epochs);
        *self.epochs.last_mut().expect("there is always one") = mark.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(number: u32) -> Labels {
        Labels::from_pairs([("__name__", "up".to_owned()), ("instance", number.to_string())])
    }

    fn table() -> (SeriesTable, SeriesHash) {
        (SeriesTable::new(1, 1 << 20, Instant::now()), SeriesHash::new())
    }

    #[test]
    fn epochs_follow_each_other_when_one_is_full() {
        let (mut table, hash) = table();
        let max = DecodeLimits::WRITER.dictionary_entries_max;
        for number in 0..=max {
            let key = hash.of(&number.to_le_bytes());
            assert_eq!(table.get(key), None);
            let place = table.insert(key, &labels(number));
            assert_eq!(table.get(key), Some(place));
        }
        assert_eq!((table.length(0), table.length(1)), (max, 1));
        assert_eq!(table.get(hash.of(&max.to_le_bytes())), Some(Place { epoch: 1, reference: 0 }));
        table.begin_again(2, Instant::now());
        assert_eq!((table.client(), table.len(), table.length(0)), (2, 0, 0));
    }

    #[test]
    fn long_labels_fill_an_epoch_by_their_bytes() {
        let (mut table, hash) = table();
        let long = Labels::from_pairs([("__name__", "x".repeat(4000))]);
        for number in 0..10_000u32 {
            table.insert(hash.of(&number.to_le_bytes()), &long);
        }
        let in_first = table.length(0) as usize;
        assert!(in_first < 10_000);
        assert!(in_first * entries_bytes(&[long]) <= WRITER_EPOCH_BYTES_MAX);
    }

    #[test]
    fn what_was_added_is_taken_back() {
        let (mut table, hash) = table();
        table.insert(hash.of(b"a"), &labels(1));
        let (mark, key) = (table.mark(), hash.of(b"b"));
        table.insert(key, &labels(2));
        table.take_back(&mark, &[key]);
        assert_eq!((table.get(key), table.length(0), table.len()), (None, 1, 1));
    }
}
