//! What the series references of each agent mean.
//!
//! A dictionary belongs to (agent, incarnation, epoch) and only grows. Entries
//! are kept as queries see them: with what [`super::stamp`] puts on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lm_model::{Incarnation, Labels, Timestamp};
use lm_schema::batch::BatchHeader;
use lm_tsdb::memory::SeriesId;

use super::stamp::stamped;
use super::writers::WRITER_PREFIX;

/// Which dictionary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DictionaryKey {
    pub agent: Arc<str>,
    pub incarnation: Incarnation,
    pub epoch: u32,
}

impl DictionaryKey {
    /// Of the dictionary that a batch's references are in.
    pub fn of(agent: &Arc<str>, header: &BatchHeader) -> Self {
        DictionaryKey {
            agent: agent.clone(),
            incarnation: header.id.incarnation,
            epoch: header.dictionary_epoch,
        }
    }
}

/// One entry: its labels, and its series once samples came.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As the agent sent it, to be written into later spool segments.
    pub sent: Labels,
    /// As it is stored and queried.
    pub labels: Labels,
    pub series: Option<SeriesId>,
    /// The latest of its samples that were applied.
    pub newest: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    pub entries: Vec<Entry>,
    /// What the session's scope gave when it was last added to: the labels
    /// of all entries have it.
    pub stamp: Labels,
    /// When it was last used, in ingest rounds.
    used: u64,
}

/// The dictionaries of all agents, bounded by [`DICTIONARIES_MAX`] for each.
#[derive(Default)]
pub struct Dictionaries {
    known: BTreeMap<DictionaryKey, Dictionary>,
    round: u64,
}

/// Dictionaries kept for one agent; the least used goes first. An agent whose
/// dictionary went is asked to define it again.
const DICTIONARIES_MAX: usize = 16;
/// As many of a writer, over all its gateways.
const WRITER_DICTIONARIES_MAX: usize = 64;

/// Why new entries do not fit.
#[derive(Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Entries before them are not known here.
    Unknown,
    /// Another entry has the reference already.
    Conflict { reference: u32 },
}

impl Dictionaries {
    /// Whether new entries may follow `length` known ones. `new` may repeat
    /// entries that are known, as a batch that is sent again does.
    pub fn check(&self, key: &DictionaryKey, length: u32, new: &[Labels]) -> Result<(), Misfit> {
        let known = self.known.get(key).map_or(&[][..], |dictionary| &dictionary.entries[..]);
        let Some(after) = known.get(length as usize..) else { return Err(Misfit::Unknown) };
        match new.iter().zip(after).position(|(new, old)| *new != old.sent) {
            Some(at) => Err(Misfit::Conflict { reference: length + at as u32 }),
            None => Ok(()),
        }
    }

    /// Adds what is new of `new`, whose first entry has reference `length`.
    /// Returns the length before, for [`Dictionaries::truncate`]. Call after
    /// [`Dictionaries::check`].
    pub fn extend(&mut self, key: &DictionaryKey, length: u32, new: &[Labels], stamp: &Labels) -> u32 {
        self.make_room(key);
        self.round += 1;
        let dictionary = self.known.entry(key.clone()).or_default();
        dictionary.used = self.round;
        if dictionary.stamp != *stamp {
            // The scope has changed since: so has what these entries mean.
            dictionary.stamp = stamp.clone();
            for entry in &mut dictionary.entries {
                entry.labels = stamped(&entry.sent, stamp);
                entry.series = None;
            }
        }
        let before = dictionary.entries.len();
        let known = before.saturating_sub(length as usize);
        for sent in new.iter().skip(known) {
            let labels = stamped(sent, stamp);
            let (sent, newest) = (sent.clone(), Timestamp::MIN);
            dictionary.entries.push(Entry { sent, labels, series: None, newest });
        }
        before as u32
    }

    fn make_room(&mut self, key: &DictionaryKey) {
        if self.known.contains_key(key) {
            return;
        }
        let first = DictionaryKey {
            agent: key.agent.clone(),
            incarnation: Incarnation { ordinal: 0, nonce: 0 },
            epoch: 0,
        };
        let of_agent: Vec<_> = self
            .known
            .range(first..)
            .take_while(|(other, _)| other.agent == key.agent)
            .map(|(other, dictionary)| (dictionary.used, other.clone()))
            .collect();
        let max = match key.agent.starts_with(WRITER_PREFIX) {
            true => WRITER_DICTIONARIES_MAX,
            false => DICTIONARIES_MAX,
        };
        if of_agent.len() >= max
            && let Some((_, oldest)) = of_agent.into_iter().min()
        {
            self.known.remove(&oldest);
        }
    }

    /// Forgets a dictionary whose record says something else.
    pub fn remove(&mut self, key: &DictionaryKey) {
        self.known.remove(key);
    }

    /// Takes back an extension whose record did not reach the disk.
    pub fn truncate(&mut self, key: &DictionaryKey, length: u32) {
        if let Some(dictionary) = self.known.get_mut(key) {
            dictionary.entries.truncate(length as usize);
        }
    }

    pub fn get(&self, key: &DictionaryKey) -> Option<&Dictionary> {
        self.known.get(key)
    }

    /// For use by samples or lines: notes that it is in use.
    pub fn get_mut(&mut self, key: &DictionaryKey) -> Option<&mut Dictionary> {
        self.round += 1;
        let dictionary = self.known.get_mut(key)?;
        dictionary.used = self.round;
        Some(dictionary)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::stamp;
    use super::*;

    fn key(epoch: u32) -> DictionaryKey {
        DictionaryKey { agent: Arc::from("a"), incarnation: Incarnation { ordinal: 1, nonce: 1 }, epoch }
    }

    fn host() -> Labels {
        stamp("host", &Labels::empty())
    }

    fn labels(name: &str) -> Labels {
        Labels::from_pairs([("__name__", name), ("instance", "forged")])
    }

    #[test]
    fn entries_follow_each_other_and_repeat_harmlessly() {
        let mut dictionaries = Dictionaries::default();
        assert_eq!(dictionaries.check(&key(0), 1, &[labels("b")]), Err(Misfit::Unknown));
        assert_eq!(dictionaries.check(&key(0), 0, &[labels("a")]), Ok(()));
        assert_eq!(dictionaries.extend(&key(0), 0, &[labels("a"), labels("b")], &host()), 0);
        assert_eq!(dictionaries.check(&key(0), 0, &[labels("a"), labels("b"), labels("c")]), Ok(()));
        assert_eq!(dictionaries.extend(&key(0), 0, &[labels("a"), labels("b"), labels("c")], &host()), 2);
        assert_eq!(dictionaries.get(&key(0)).unwrap().entries.len(), 3);
        assert_eq!(dictionaries.check(&key(0), 1, &[labels("x")]), Err(Misfit::Conflict { reference: 1 }));
        dictionaries.truncate(&key(0), 2);
        assert_eq!(dictionaries.get(&key(0)).unwrap().entries.len(), 2);
    }

    #[test]
    fn the_scope_decides_the_instance() {
        let mut dictionaries = Dictionaries::default();
        dictionaries.extend(&key(0), 0, &[labels("a")], &host());
        let entry = &dictionaries.get(&key(0)).unwrap().entries[0];
        assert_eq!(entry.labels.get("instance"), Some("host"));
        assert_eq!(entry.sent.get("instance"), Some("forged"));
    }

    #[test]
    fn another_scope_gives_other_labels_to_old_entries_too() {
        let mut dictionaries = Dictionaries::default();
        dictionaries.extend(&key(0), 0, &[labels("a")], &host());
        let mut head = lm_tsdb::memory::Head::new(lm_tsdb::memory::HeadOptions { series_max: 10 });
        let series = head.series(&labels("a")).unwrap();
        dictionaries.get_mut(&key(0)).unwrap().entries[0].series = Some(series);
        let prod = stamp("host", &Labels::from_pairs([("env", "prod")]));
        dictionaries.extend(&key(0), 0, &[labels("a"), labels("b")], &prod);
        for entry in &dictionaries.get(&key(0)).unwrap().entries {
            assert_eq!((entry.labels.get("env"), entry.series), (Some("prod"), None));
        }
    }

    #[test]
    fn an_agent_cannot_hold_unbounded_dictionaries() {
        let mut dictionaries = Dictionaries::default();
        for epoch in 0..100 {
            dictionaries.extend(&key(epoch), 0, &[labels("a")], &host());
            dictionaries.get_mut(&key(epoch));
        }
        assert_eq!(dictionaries.known.len(), DICTIONARIES_MAX);
        assert!(dictionaries.get(&key(99)).is_some());
    }
}
