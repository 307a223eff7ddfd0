//! Labels by number, so that a batch names each set of labels once.
//!
//! A [`Dictionary`] belongs to one incarnation of the agent and grows only:
//! a reference means the same for all of an epoch. What a batch adds is
//! proposed first and becomes part of the dictionary when the batch is in the
//! queue, so a batch that could not be queued leaves no trace.

use std::collections::HashMap;

use lm_model::Labels;

use crate::sources::{SeriesIndex, SeriesTable};

/// Entries of an epoch. Host series and log files of one agent are a few
/// hundred; the bound keeps the snapshot in each segment, and our memory, small.
pub const ENTRIES_MAX: usize = 16_384;

/// What labels may be; the collector refuses batches with more.
#[derive(Clone, Copy, Debug)]
pub struct LabelLimits {
    pub labels_max: usize,
    pub name_bytes_max: usize,
    pub value_bytes_max: usize,
}

impl LabelLimits {
    fn allow(&self, labels: &Labels) -> bool {
        let fits = |(name, value): (&str, &str)| {
            name.len() <= self.name_bytes_max && value.len() <= self.value_bytes_max
        };
        labels.len() <= self.labels_max && labels.iter().all(fits)
    }
}

/// What to do with a set of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Known(u32),
    /// The batch has to carry it; it stands in [`Dictionary::proposed`].
    Proposed(u32),
    /// Over a limit of labels: leave it out.
    TooLarge,
    /// The epoch is full: start another one.
    Full,
}

/// The references of one epoch.
pub struct Dictionary {
    epoch: u32,
    entries: Vec<Labels>,
    /// How many of `entries` are in queued batches; the rest is proposed.
    committed: usize,
    references: HashMap<Labels, u32>,
    /// The reference of each series of the table, as far as it is known.
    by_series: Vec<Option<Lookup>>,
    generation: u64,
    limits: LabelLimits,
    entries_max: usize,
}

impl Dictionary {
    pub fn new(limits: LabelLimits, entries_max: usize) -> Self {
        Dictionary {
            epoch: 0,
            entries: Vec::new(),
            committed: 0,
            references: HashMap::new(),
            by_series: Vec::new(),
            generation: 0,
            limits,
            entries_max,
        }
    }

    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Entries that queued batches have brought.
    pub fn committed(&self) -> &[Labels] {
        &self.entries[..self.committed]
    }

    /// Entries that the batch in the making has to carry.
    pub fn proposed(&self) -> &[Labels] {
        &self.entries[self.committed..]
    }

    /// The reference of `labels`.
    pub fn labels(&mut self, labels: &Labels) -> Lookup {
        if let Some(reference) = self.references.get(labels) {
            return self.found(*reference);
        }
        if !self.limits.allow(labels) {
            return Lookup::TooLarge;
        }
        if self.entries.len() == self.entries_max {
            return Lookup::Full;
        }
        let reference = self.entries.len() as u32;
        self.entries.push(labels.clone());
        self.references.insert(labels.clone(), reference);
        Lookup::Proposed(reference)
    }

    /// The reference of a series of `table`, which is under `job`.
    pub fn series(&mut self, series: SeriesIndex, table: &SeriesTable, job: &str) -> Lookup {
        if self.generation != table.generation() {
            self.generation = table.generation();
            self.by_series.clear();
        }
        let at = series.0 as usize;
        match self.by_series.get(at).copied().flatten() {
            Some(Lookup::Known(reference)) => return self.found(reference),
            Some(lookup) => return lookup,
            None => {}
        }
        let mut labels = table.labels(series).to_builder();
        labels.set("job", job);
        let lookup = self.labels(&labels.build());
        if self.by_series.len() <= at {
            self.by_series.resize(at + 1, None);
        }
        self.by_series[at] = match lookup {
            Lookup::Known(reference) | Lookup::Proposed(reference) => Some(Lookup::Known(reference)),
            Lookup::TooLarge => Some(Lookup::TooLarge),
            Lookup::Full => None,
        };
        lookup
    }

    fn found(&self, reference: u32) -> Lookup {
        if (reference as usize) < self.committed {
            Lookup::Known(reference)
        } else {
            Lookup::Proposed(reference)
        }
    }

    /// The batch with the proposed entries is in the queue.
    pub fn commit(&mut self) {
        self.committed = self.entries.len();
    }

    /// The batch was not queued: its references are given anew.
    pub fn discard(&mut self) {
        for labels in self.entries.drain(self.committed..) {
            self.references.remove(&labels);
        }
        let committed = self.committed as u32;
        for known in &mut self.by_series {
            if matches!(known, Some(Lookup::Known(reference)) if *reference >= committed) {
                *known = None;
            }
        }
    }

    /// Begins again with no entries.
    pub fn next_epoch(&mut self) {
        self.epoch += 1;
        self.entries.clear();
        self.committed = 0;
        self.references.clear();
        self.by_series.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LabelLimits = LabelLimits { labels_max: 4, name_bytes_max: 14, value_bytes_max: 64 };

    fn named(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name)])
    }

    #[test]
    fn references_are_dense_and_stay() {
        let mut dictionary = Dictionary::new(LIMITS, 10);
        assert_eq!(dictionary.labels(&named("a")), Lookup::Proposed(0));
        assert_eq!(dictionary.labels(&named("b")), Lookup::Proposed(1));
        assert_eq!(dictionary.labels(&named("a")), Lookup::Proposed(0));
        assert_eq!(dictionary.proposed(), [named("a"), named("b")]);
        dictionary.commit();
        assert_eq!(dictionary.labels(&named("a")), Lookup::Known(0));
        assert_eq!(dictionary.proposed(), []);
        assert_eq!(dictionary.labels(&named("c")), Lookup::Proposed(2));
    }

    #[test]
    fn a_batch_that_was_not_queued_leaves_no_trace() {
        let mut table = SeriesTable::new(10);
        let [a, b] = ["a", "b"].map(|name| table.get_or_insert(name, &[]).unwrap());
        let mut dictionary = Dictionary::new(LIMITS, 10);
        assert_eq!(dictionary.series(a, &table, "node"), Lookup::Proposed(0));
        dictionary.commit();
        assert_eq!(dictionary.series(b, &table, "node"), Lookup::Proposed(1));
        dictionary.discard();
        assert_eq!(dictionary.committed().len(), 1);
        assert_eq!(dictionary.labels(&named("c")), Lookup::Proposed(1));
        assert_eq!(dictionary.series(b, &table, "node"), Lookup::Proposed(2));
        assert_eq!(dictionary.series(a, &table, "node"), Lookup::Known(0));
        assert_eq!(dictionary.committed()[0].to_string(), r#"{__name__="a", job="node"}"#);
    }

    #[test]
    fn bounds() {
        let mut dictionary = Dictionary::new(LIMITS, 1);
        assert_eq!(dictionary.labels(&named(&"x".repeat(65))), Lookup::TooLarge);
        assert_eq!(dictionary.labels(&named("a")), Lookup::Proposed(0));
        assert_eq!(dictionary.labels(&named("b")), Lookup::Full);
        dictionary.commit();
        dictionary.next_epoch();
        assert_eq!((dictionary.epoch(), dictionary.labels(&named("b"))), (1, Lookup::Proposed(0)));
    }

    #[test]
    fn a_cleared_table_is_looked_up_anew() {
        let mut table = SeriesTable::new(10);
        let a = table.get_or_insert("a", &[]).unwrap();
        let mut dictionary = Dictionary::new(LIMITS, 10);
        assert_eq!(dictionary.series(a, &table, "node"), Lookup::Proposed(0));
        table.clear();
        let b = table.get_or_insert("b", &[]).unwrap();
        assert_eq!(b, a);
        assert_eq!(dictionary.series(b, &table, "node"), Lookup::Proposed(1));
        assert_eq!(dictionary.series(b, &table, "node"), Lookup::Proposed(1));
    }
}
