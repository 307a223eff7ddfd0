//! Series by number, so that a cycle moves numbers and not labels.
//!
//! [`SeriesTable`] builds the labels of a series once, when it is first seen;
//! from then on the series is its [`SeriesIndex`], small and dense, which fits
//! the references of a batch dictionary.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use lm_model::{Labels, METRIC_NAME};

/// Names one series of a [`SeriesTable`]: 0, 1, 2 and so on without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesIndex(pub u32);

/// The value of one series in one cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    pub series: SeriesIndex,
    pub value: f64,
}

/// Gives every distinct set of labels a number, and the labels of a number.
///
/// Series in use are never removed one by one, because numbers must stay dense. A
/// caller that sees many more series here than a cycle measures (interfaces
/// that came and went) calls [`clear`](Self::clear) and starts a new
/// dictionary; the next cycle inserts what still lives.
#[derive(Debug)]
pub struct SeriesTable {
    labels: Vec<Labels>,
    /// The hash of the labels to the series. A second series of equal hash is
    /// at the next free hash, so a look-up compares labels before it believes.
    by_hash: HashMap<u64, SeriesIndex>,
    hasher: RandomState,
    generation: u64,
    series_count_max: u32,
}

impl SeriesTable {
    /// An empty table that refuses to hold more than `series_count_max`.
    pub fn new(series_count_max: u32) -> Self {
        SeriesTable {
            labels: Vec::new(),
            by_hash: HashMap::new(),
            hasher: RandomState::new(),
            generation: 0,
            series_count_max,
        }
    }

    /// The series `name{labels}`, or `None` when it is new and the table is
    /// full. Does not allocate when the series is known. `labels` may be in
    /// any order, each name once; empty values mean absent, as may `name`.
    pub fn get_or_insert(&mut self, name: &str, labels: &[(&str, &str)]) -> Option<SeriesIndex> {
        let pairs = || {
            let name = std::iter::once((METRIC_NAME, name));
            name.chain(labels.iter().copied()).filter(|(_, value)| !value.is_empty())
        };
        // A sum, so that the order of labels does not matter.
        let mut hash = pairs().map(|pair| self.hasher.hash_one(pair)).fold(0, u64::wrapping_add);
        let count = pairs().count();
        while let Some(&index) = self.by_hash.get(&hash) {
            let known = &self.labels[index.0 as usize];
            if known.len() == count && pairs().all(|(name, value)| known.get(name) == Some(value)) {
                return Some(index);
            }
            hash = hash.wrapping_add(1);
        }
        if self.labels.len() >= self.series_count_max as usize {
            return None;
        }
        let index = SeriesIndex(self.labels.len() as u32);
        self.labels.push(Labels::from_pairs(pairs()));
        self.by_hash.insert(hash, index);
        Some(index)
    }

    /// The labels of a series, `__name__` among them.
    ///
    /// # Panics
    ///
    /// When `index` is not of this table since the last [`clear`](Self::clear).
    pub fn labels(&self, index: SeriesIndex) -> &Labels {
        &self.labels[index.0 as usize]
    }

    /// The labels of all series from `first` on: what was added since the
    /// caller last looked at [`len`](Self::len).
    pub fn labels_from(&self, first: SeriesIndex) -> &[Labels] {
        self.labels.get(first.0 as usize..).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub fn series_count_max(&self) -> u32 {
        self.series_count_max
    }

    /// Forgets all series but the first `len`: those that were added since and
    /// that nobody has used yet.
    pub fn truncate(&mut self, len: usize) {
        self.labels.truncate(len);
        self.by_hash.retain(|_, index| (index.0 as usize) < len);
    }

    /// Forgets every series; numbers start at 0 again.
    pub fn clear(&mut self) {
        self.labels.clear();
        self.by_hash.clear();
        self.generation += 1;
    }

    /// How often the table was cleared. A source that remembers numbers
    /// compares this before it uses them.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_are_one_series() {
        let mut table = SeriesTable::new(10);
        let first = table.get_or_insert("a", &[("x", "1"), ("y", "2")]);
        assert_eq!(first, Some(SeriesIndex(0)));
        assert_eq!(table.get_or_insert("a", &[("y", "2"), ("x", "1"), ("z", "")]), first);
        assert_eq!(table.get_or_insert("a", &[("y", "1"), ("x", "2")]), Some(SeriesIndex(1)));
        assert_eq!(table.get_or_insert("", &[("x", "1")]), Some(SeriesIndex(2)));
        assert_eq!(table.labels(SeriesIndex(0)).to_string(), r#"{__name__="a", x="1", y="2"}"#);
        assert_eq!(table.labels_from(SeriesIndex(2)).len(), 1);
    }

    #[test]
    fn a_full_table_still_knows_what_it_holds() {
        let mut table = SeriesTable::new(1);
        assert_eq!(table.get_or_insert("a", &[]), Some(SeriesIndex(0)));
        assert_eq!(table.get_or_insert("b", &[]), None);
        assert_eq!(table.get_or_insert("a", &[]), Some(SeriesIndex(0)));
        table.truncate(0);
        assert_eq!(table.get_or_insert("b", &[]), Some(SeriesIndex(0)));
        table.clear();
        assert_eq!(table.generation(), 1);
        assert_eq!(table.get_or_insert("b", &[]), Some(SeriesIndex(0)));
    }
}
