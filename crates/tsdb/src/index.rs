//! The inverted index: label name -> value -> sorted series ids.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lm_model::Labels;

use crate::head::SeriesId;
use crate::matcher::Compiled;

type Values = BTreeMap<Box<str>, Vec<SeriesId>>;

/// Estimated memory of a name or value in its map, besides its text: key,
/// list, its share of the tree's nodes, the allocation's header.
const ENTRY_BYTES: usize = 80;

#[derive(Debug, Default)]
pub(crate) struct Index {
    names: BTreeMap<Box<str>, Values>,
    /// Estimated memory, kept by `insert` and `remove`.
    bytes: usize,
}

impl Index {
    /// `id` is larger than all ids before, which keeps every list sorted.
    pub fn insert(&mut self, id: SeriesId, labels: &Labels) {
        for (name, value) in labels.iter() {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), Values::new());
                self.bytes += ENTRY_BYTES + name.len();
            }
            let values = self.names.get_mut(name).expect("the name was just inserted");
            match values.get_mut(value) {
                Some(ids) => {
                    self.bytes -= list_bytes(ids);
                    ids.push(id);
                    self.bytes += list_bytes(ids);
                }
                None => {
                    let ids = vec![id];
                    self.bytes += ENTRY_BYTES + value.len() + list_bytes(&ids);
                    values.insert(value.into(), ids);
                }
            }
        }
    }

    /// Removes many series in one pass over the lists that mention them.
    pub fn remove(&mut self, removed: &[(SeriesId, Labels)]) {
        let ids: HashSet<SeriesId> = removed.iter().map(|(id, _)| *id).collect();
        let pairs: BTreeSet<(&str, &str)> = removed.iter().flat_map(|(_, labels)| labels.iter()).collect();
        for (name, value) in pairs {
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(list) = values.get_mut(value) {
                self.bytes -= list_bytes(list);
                list.retain(|id| !ids.contains(id));
                list.shrink_to_fit();
                self.bytes += list_bytes(list);
                if list.is_empty() {
                    values.remove(value);
                    self.bytes -= ENTRY_BYTES + value.len();
                }
            }
            if values.is_empty() {
                self.names.remove(name);
                self.bytes -= ENTRY_BYTES + name.len();
            }
        }
    }

    /// Estimated memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ids of the series that every matcher accepts, ascending. `all` yields
    /// all ids, ascending.
    pub fn select(&self, matchers: &[Compiled], all: impl Fn() -> Vec<SeriesId>) -> Vec<SeriesId> {
        // A matcher that rejects the empty value needs the label; the others
        // only take series away.
        let (needing, removing): (Vec<_>, Vec<_>) = matchers.iter().partition(|matcher| !matcher.matches(""));
        let mut found: Option<Vec<SeriesId>> = None;
        for matcher in needing {
            let ids = self.ids_where(matcher, true);
            let narrowed = match found {
                None => ids,
                Some(before) => intersect(&before, &ids),
            };
            if narrowed.is_empty() {
                return narrowed;
            }
            found = Some(narrowed);
        }
        let mut found = found.unwrap_or_else(all);
        for matcher in removing {
            let rejected = self.ids_where(matcher, false);
            found.retain(|id| rejected.binary_search(id).is_err());
        }
        found
    }

    /// Ids of the series that have the label and whose value the matcher
    /// accepts (or rejects, if `accepted` is false), ascending.
    fn ids_where(&self, matcher: &Compiled, accepted: bool) -> Vec<SeriesId> {
        let Some(values) = self.names.get(&matcher.name) else { return Vec::new() };
        if accepted && let Some(value) = matcher.only_value() {
            return values.get(value).cloned().unwrap_or_default();
        }
        let lists = values.iter().filter(|(value, _)| matcher.matches(value) == accepted);
        // A series has one value of a label, so no id comes twice.
        let mut ids: Vec<SeriesId> = lists.flat_map(|(_, ids)| ids.iter().copied()).collect();
        ids.sort_unstable();
        ids
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.names.get(name).into_iter().flat_map(|values| values.keys().map(|value| &**value))
    }
}

fn intersect(a: &[SeriesId], b: &[SeriesId]) -> Vec<SeriesId> {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    small.iter().copied().filter(|id| large.binary_search(id).is_ok()).collect()
}

fn list_bytes(ids: &Vec<SeriesId>) -> usize {
    ids.capacity() * size_of::<SeriesId>()
}
