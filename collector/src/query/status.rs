//! How much there is, by name and label: what a reader asks when series grow.

use std::collections::{BTreeSet, HashMap};

use lm_model::METRIC_NAME;
use lm_schema::query_capnp::{named_count, store_status};

use super::failed::{Failed, bad_data};
use super::scope::ReadScope;
use crate::store::Store;

/// Entries of one list.
const ENTRIES_MAX: usize = 10_000;

/// Counts of what is in scope. What only the whole store can say is left out
/// of a scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StoreStatus {
    pub series: u64,
    pub chunks: u64,
    pub label_pairs: u64,
    pub oldest_unix_ms: i64,
    pub newest_unix_ms: i64,
    pub series_by_metric: Vec<(String, u64)>,
    pub values_by_label: Vec<(String, u64)>,
    pub bytes_by_label: Vec<(String, u64)>,
    pub series_by_pair: Vec<(String, u64)>,
}

/// Counts; of each list the `limit` largest.
pub(super) fn count(store: &Store, scope: &ReadScope, limit: usize) -> Result<StoreStatus, Failed> {
    let limit = limit.min(ENTRIES_MAX);
    let all = store.db.active(&scope.narrow(&[])).map_err(|error| bad_data(error.to_string()))?;
    let mut status = StoreStatus { series: all.len() as u64, ..StoreStatus::default() };
    if scope.is_everything() {
        status.chunks = store.db.stats().blocks_series;
        if let Some((oldest, newest)) = store.db.times() {
            (status.oldest_unix_ms, status.newest_unix_ms) = (oldest.as_millis(), newest.as_millis());
        }
    }
    let mut by_metric: HashMap<&str, u64> = HashMap::new();
    let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
    for labels in &all {
        for (name, value) in labels.iter() {
            if name == METRIC_NAME {
                *by_metric.entry(value).or_default() += 1;
            }
            *by_pair.entry((name, value)).or_default() += 1;
        }
    }
    let mut values: HashMap<&str, u64> = HashMap::new();
    let mut bytes: HashMap<&str, u64> = HashMap::new();
    for ((name, value), series) in &by_pair {
        *values.entry(name).or_default() += 1;
        *bytes.entry(name).or_default() += series * (name.len() + value.len()) as u64;
    }
    status.label_pairs = by_pair.len() as u64;
    let named = |(name, count): (&str, u64)| (name.to_owned(), count);
    status.series_by_metric = largest(by_metric.into_iter().map(named), limit);
    status.values_by_label = largest(values.into_iter().map(named), limit);
    status.bytes_by_label = largest(bytes.into_iter().map(named), limit);
    let pairs = by_pair.into_iter().map(|((name, value), count)| (format!("{name}={value}"), count));
    status.series_by_pair = largest(pairs, limit);
    Ok(status)
}

/// The largest counts, descending; the same counts by name.
fn largest(counts: impl Iterator<Item = (String, u64)>, limit: usize) -> Vec<(String, u64)> {
    let mut kept = BTreeSet::new();
    for (name, count) in counts {
        kept.insert((std::cmp::Reverse(count), name));
        if kept.len() > limit {
            kept.pop_last();
        }
    }
    kept.into_iter().map(|(count, name)| (name, count.0)).collect()
}

impl StoreStatus {
    pub fn write(&self, to: &mut store_status::Builder<'_>) {
        to.set_series(self.series);
        to.set_chunks(self.chunks);
        to.set_label_pairs(self.label_pairs);
        to.set_oldest_unix_ms(self.oldest_unix_ms);
        to.set_newest_unix_ms(self.newest_unix_ms);
        write_counts(&self.series_by_metric, |len| to.reborrow().init_series_by_metric(len));
        write_counts(&self.values_by_label, |len| to.reborrow().init_values_by_label(len));
        write_counts(&self.bytes_by_label, |len| to.reborrow().init_bytes_by_label(len));
        write_counts(&self.series_by_pair, |len| to.reborrow().init_series_by_pair(len));
    }
}

fn write_counts<'a>(
    from: &[(String, u64)],
    init: impl FnOnce(u32) -> capnp::struct_list::Builder<'a, named_count::Owned>,
) {
    let mut to = init(from.len() as u32);
    for (index, (name, count)) in from.iter().enumerate() {
        let mut entry = to.reborrow().get(index as u32);
        entry.set_name(&name[..]);
        entry.set_count(*count);
    }
}
