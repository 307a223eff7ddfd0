//! Where readers of formats put samples whose labels they have as text.

use lm_model::{Histogram, Timestamp};

use super::drafts::Drafts;
use super::labels::{BadSeries, RefusedSeries, ordered};
use super::series::{Place, SeriesHash, SeriesKey};

/// What a key begins with that was made here: no field of protobuf does.
const MADE: u8 = 0xff;

/// Labels as they are read, in any order unless somebody says otherwise.
pub type Pairs<'a> = [(&'a str, &'a str)];

/// Takes samples of one request.
pub struct Sink<'a, 't> {
    drafts: &'a mut Drafts<'t>,
    hash: &'a SeriesHash,
    refused: &'a mut RefusedSeries,
    /// Of the labels at hand.
    key: Vec<u8>,
}

impl<'a, 't> Sink<'a, 't> {
    pub fn new(drafts: &'a mut Drafts<'t>, hash: &'a SeriesHash, refused: &'a mut RefusedSeries) -> Self {
        Sink { drafts, hash, refused, key: Vec::new() }
    }

    /// The key of a series whose labels are in order.
    pub fn key(&mut self, pairs: &Pairs<'_>) -> SeriesKey {
        self.key.clear();
        self.key.push(MADE);
        for text in
            pairs.iter().filter(|(_, value)| !value.is_empty()).flat_map(|(name, value)| [name, value])
        {
            self.key.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.key.extend_from_slice(text.as_bytes());
        }
        self.hash.of(&self.key)
    }

    /// The series of labels that are to be in order.
    ///
    /// # Errors
    ///
    /// Why there can be no such series.
    pub fn series(&mut self, pairs: &Pairs<'_>) -> Result<Place, BadSeries> {
        let key = self.key(pairs);
        match self.drafts.series(key) {
            Some(place) => Ok(place),
            None => ordered(pairs).map(|labels| self.drafts.add_series(key, labels)),
        }
    }

    pub fn push(&mut self, place: Place, time: Timestamp, value: f64) {
        self.drafts.push(place, time, value);
    }

    pub fn push_histogram(&mut self, place: Place, time: Timestamp, histogram: Histogram) {
        self.drafts.push_histogram(place, time, histogram);
    }

    /// A sample of labels in any order; they are sorted.
    pub fn sample(&mut self, pairs: &mut Pairs<'_>, time: Timestamp, value: f64) {
        pairs.sort_unstable();
        match self.series(pairs) {
            Ok(place) => self.push(place, time, value),
            Err(why) => self.refuse(1, why),
        }
    }

    pub fn refuse(&mut self, samples: u64, why: BadSeries) {
        self.refused.add(samples, why);
    }
}
