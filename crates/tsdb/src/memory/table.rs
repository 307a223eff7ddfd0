//! [`Table`]: the labels of all active series, by slot and by themselves.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use lm_model::Labels;

use super::postings::Postings;
use crate::Selector;

/// Estimated memory of a series in the table besides its labels: its place,
/// and its share of the hash table.
const SERIES_BYTES: usize = size_of::<Option<Labels>>() + 10;

/// Slots are numbered anew when more than half of at least this many are free.
const RENUMBER_MIN: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Table {
    /// By slot; `None`: the series has left.
    labels: Vec<Option<Labels>>,
    slots: HashTable<u32>,
    hasher: RandomState,
    pub postings: Postings,
    live: usize,
    /// Of labels and places; the index counts its own.
    bytes: usize,
}

impl Table {
    pub fn slot(&self, labels: &Labels) -> Option<u32> {
        let hash = self.hasher.hash_one(labels);
        self.slots.find(hash, |slot| self.labels[*slot as usize].as_ref() == Some(labels)).copied()
    }

    /// Adds labels that are not in the table.
    pub fn insert(&mut self, labels: &Labels) -> u32 {
        let slot = u32::try_from(self.labels.len()).expect("slots are numbered anew long before 2^32");
        self.labels.push(Some(labels.clone()));
        let Table { labels: all, slots, hasher, .. } = self;
        slots.insert_unique(hasher.hash_one(labels), slot, |slot| hash(hasher, all, *slot));
        self.postings.insert(slot, labels);
        self.live += 1;
        self.bytes += SERIES_BYTES + labels.bytes();
        slot
    }

    /// Takes series out; their slots stay free.
    pub fn remove(&mut self, slots: &[u32]) {
        let mut removed = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(labels) = self.labels[*slot as usize].take() else { continue };
            self.bytes -= SERIES_BYTES + labels.bytes();
            let hash = self.hasher.hash_one(&labels);
            if let Ok(entry) = self.slots.find_entry(hash, |other| other == slot) {
                entry.remove();
            }
            removed.push((*slot, labels));
        }
        self.live -= removed.len();
        self.postings.remove(&removed);
    }

    /// Whether most slots are free.
    pub fn is_sparse(&self) -> bool {
        self.labels.len() > RENUMBER_MIN && self.live < self.labels.len() / 2
    }

    /// Closes the gaps; returns the new slot of each old one.
    pub fn renumber(&mut self) -> Vec<u32> {
        let mut next = 0;
        let new: Vec<u32> = self
            .labels
            .iter()
            .map(|labels| {
                let slot = next;
                next += u32::from(labels.is_some());
                slot
            })
            .collect();
        self.labels.retain(Option::is_some);
        self.labels.shrink_to_fit();
        self.slots.iter_mut().for_each(|slot| *slot = new[*slot as usize]);
        let Table { labels, slots, hasher, .. } = self;
        slots.shrink_to_fit(|slot| hash(hasher, labels, *slot));
        self.postings.renumber(&new);
        new
    }

    /// Live series.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Slots, free ones included.
    pub fn slots_len(&self) -> usize {
        self.labels.len()
    }

    pub fn labels(&self, slot: u32) -> Option<&Labels> {
        self.labels.get(slot as usize)?.as_ref()
    }

    pub fn all(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.labels).filter(|(_, labels)| labels.is_some()).map(|(slot, _)| slot)
    }

    /// Slots of the series that the selector accepts, ascending.
    pub fn select(&self, selector: &Selector) -> Vec<u32> {
        let labels = |slot| self.labels(slot).expect("the index and the table agree");
        self.postings.select(selector, || self.all().collect(), labels)
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.postings.bytes()
    }
}

fn hash(hasher: &RandomState, labels: &[Option<Labels>], slot: u32) -> u64 {
    hasher.hash_one(labels[slot as usize].as_ref().expect("every slot in the hash table is taken"))
}
