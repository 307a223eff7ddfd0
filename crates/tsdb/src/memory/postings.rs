//! The inverted index: label name -> value -> ascending slots.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lm_model::Labels;

use crate::{Candidates, Selector, Test};

/// Estimated memory of a name or value in its map, besides its text: key,
/// list, its share of the table's free places, the allocation's header.
const ENTRY_BYTES: usize = 80;

type Values = HashMap<Box<str>, Vec<u32>>;

#[derive(Debug, Default)]
pub(crate) struct Postings {
    names: BTreeMap<Box<str>, Values>,
    /// Estimated memory, kept by `insert` and `remove`.
    bytes: usize,
}

impl Postings {
    /// `slot` is larger than all before, which keeps every list sorted.
    pub fn insert(&mut self, slot: u32, labels: &Labels) {
        for (name, value) in labels.iter() {
            if !self.names.contains_key(name) {
                self.names.insert(name.into(), Values::new());
                self.bytes += ENTRY_BYTES + name.len();
            }
            let values = self.names.get_mut(name).expect("the name was just inserted");
            match values.get_mut(value) {
                Some(slots) => {
                    let before = slots.capacity();
                    slots.push(slot);
                    self.bytes += (slots.capacity() - before) * size_of::<u32>();
                }
                None => {
                    let slots = vec![slot];
                    self.bytes += ENTRY_BYTES + value.len() + list_bytes(&slots);
                    values.insert(value.into(), slots);
                }
            }
        }
    }

    /// Removes many series in one pass over the lists that mention them.
    pub fn remove(&mut self, removed: &[(u32, Labels)]) {
        let slots: HashSet<u32> = removed.iter().map(|(slot, _)| *slot).collect();
        let pairs: BTreeSet<(&str, &str)> = removed.iter().flat_map(|(_, labels)| labels.iter()).collect();
        for (name, value) in pairs {
            let Some(values) = self.names.get_mut(name) else { continue };
            if let Some(list) = values.get_mut(value) {
                self.bytes -= list_bytes(list);
                list.retain(|slot| !slots.contains(slot));
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

    /// Gives every slot its new number; the order stays.
    pub fn renumber(&mut self, new: &[u32]) {
        for slot in self.names.values_mut().flat_map(HashMap::values_mut).flatten() {
            *slot = new[*slot as usize];
        }
    }

    /// Estimated memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Slots of the series that the selector accepts, ascending. `all` yields
    /// all slots, ascending; `labels` those of a slot.
    pub fn select<'a>(
        &self,
        selector: &Selector,
        all: impl Fn() -> Vec<u32>,
        labels: impl Fn(u32) -> &'a Labels,
    ) -> Vec<u32> {
        // A test that rejects the empty value needs the label; the others only
        // take series away. Those that name their values are cheapest.
        let mut ordered: Vec<&Test> = selector.tests().iter().collect();
        let names_values = |test: &Test| matches!(test.candidates(), Candidates::Values(_));
        ordered.sort_by_key(|test| (test.accepts(""), !names_values(test)));
        let mut found: Option<Vec<u32>> = None;
        for test in ordered {
            let narrowed = match found {
                None if test.accepts("") => subtract(all(), &self.slots_where(test, false)),
                None => self.slots_where(test, true),
                // Few are left: their own labels are looked at.
                Some(mut few) if few.len() <= self.values_count(test.name()) => {
                    few.retain(|slot| test.accepts(labels(*slot).get(test.name()).unwrap_or_default()));
                    few
                }
                Some(many) if test.accepts("") => subtract(many, &self.slots_where(test, false)),
                Some(many) => intersect(many, &self.slots_where(test, true)),
            };
            if narrowed.is_empty() {
                return narrowed;
            }
            found = Some(narrowed);
        }
        found.unwrap_or_else(all)
    }

    /// Slots of the series that have the label and whose value the test
    /// accepts (or rejects, if `accepted` is false), ascending.
    fn slots_where(&self, test: &Test, accepted: bool) -> Vec<u32> {
        let Some(values) = self.names.get(test.name()) else { return Vec::new() };
        let mut slots = Vec::new();
        let mut add = |is_wanted: &dyn Fn(&str) -> bool| {
            let wanted = values.iter().filter(|(value, _)| is_wanted(value));
            wanted.for_each(|(_, list)| slots.extend_from_slice(list));
        };
        if accepted == test.is_negated() {
            add(&|value| !test.hits(value));
        } else {
            match test.candidates() {
                Candidates::Values([value]) => return values.get(value).cloned().unwrap_or_default(),
                Candidates::Values(named) => {
                    let lists = named.iter().filter_map(|value| values.get(value));
                    lists.for_each(|list| slots.extend_from_slice(list));
                }
                Candidates::Prefix(prefix) => add(&|value| value.starts_with(prefix)),
                Candidates::Tested(prefix) => add(&|value| value.starts_with(prefix) && test.hits(value)),
            }
        }
        // A series has one value of a label, so no slot comes twice.
        slots.sort_unstable();
        slots
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// Values of a label, in no order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.names.get(name).into_iter().flatten().map(|(value, _)| &**value)
    }

    fn values_count(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, HashMap::len)
    }
}

/// Both ascending.
fn intersect(mut a: Vec<u32>, b: &[u32]) -> Vec<u32> {
    let mut rest = b;
    a.retain(|slot| {
        rest = &rest[rest.partition_point(|other| other < slot)..];
        rest.first() == Some(slot)
    });
    a
}

fn subtract(mut a: Vec<u32>, b: &[u32]) -> Vec<u32> {
    let mut rest = b;
    a.retain(|slot| {
        rest = &rest[rest.partition_point(|other| other < slot)..];
        rest.first() != Some(slot)
    });
    a
}

fn list_bytes(slots: &Vec<u32>) -> usize {
    slots.capacity() * size_of::<u32>()
}
