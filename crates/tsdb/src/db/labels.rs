//! What labels there are.

use std::collections::BTreeSet;

use lm_fs::Fs;
use lm_model::{Labels, Matcher, Samples, TimeRange};

use super::{Db, DbError, State};
use crate::Selector;
use crate::memory::read;

impl<F: Fs> Db<F> {
    /// Labels of the series that all matchers accept and that have samples in
    /// `range`, in no order.
    ///
    /// # Errors
    ///
    /// As [`Db::select`].
    pub fn series_labels(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        series_max: usize,
    ) -> Result<Vec<Labels>, DbError> {
        let found = self.select(matchers, range, series_max)?;
        let mut labels = Vec::with_capacity(found.len());
        let mut samples = Samples::default();
        for index in 0..found.len() {
            if found.may_be_empty(index) {
                found.read(index, &mut samples)?;
                if samples.is_empty() {
                    continue;
                }
            }
            labels.push(found.labels(index).clone());
        }
        Ok(labels)
    }

    /// Names of the labels of those series, ascending.
    pub fn label_names(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<String>, DbError> {
        let selector = Selector::new(matchers)?;
        let mut names = BTreeSet::new();
        let blocks = {
            let state = self.state();
            if matchers.is_empty() && range == TimeRange::ALL {
                names.extend(state.head.table.postings.names().map(str::to_owned));
            } else {
                for_each_present(&state, &selector, range, |labels| {
                    for (name, _) in
                        labels.iter().filter(|(name, _)| !names.contains(*name)).collect::<Vec<_>>()
                    {
                        names.insert(name.to_owned());
                    }
                });
            }
            state.blocks.clone()
        };
        for live in blocks.iter().filter(|live| live.overlaps(range)) {
            match live.block.label_names(&selector, range) {
                Ok(found) => names.extend(found.into_iter().map(String::from)),
                Err(error) => live.forgive(error)?,
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Values that the label `name` has in those series, ascending.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, DbError> {
        let selector = Selector::new(matchers)?;
        let mut values = BTreeSet::new();
        let blocks = {
            let state = self.state();
            if matchers.is_empty() && range == TimeRange::ALL {
                values.extend(state.head.table.postings.values(name).map(str::to_owned));
            } else {
                for_each_present(&state, &selector, range, |labels| {
                    if let Some(value) = labels.get(name).filter(|value| !values.contains(*value)) {
                        values.insert(value.to_owned());
                    }
                });
            }
            state.blocks.clone()
        };
        for live in blocks.iter().filter(|live| live.overlaps(range)) {
            match live.block.label_values(name, &selector, range) {
                Ok(found) => values.extend(found.into_iter().map(String::from)),
                Err(error) => live.forgive(error)?,
            }
        }
        Ok(values.into_iter().collect())
    }

    /// Labels of the active series that all matchers accept: those that had
    /// samples within the last hour.
    pub fn active(&self, matchers: &[Matcher]) -> Result<Vec<Labels>, DbError> {
        let state = self.state();
        let table = &state.head.table;
        let labels = |slot| table.labels(slot).expect("the index and the table agree").clone();
        let selector = Selector::new(matchers)?;
        Ok(table.select(&selector).into_iter().map(labels).collect())
    }
}

/// Shows the labels of the series with samples in memory.
fn for_each_present<F: Fs>(
    state: &State<F>,
    selector: &Selector,
    range: TimeRange,
    mut show: impl FnMut(&Labels),
) {
    let sets: Vec<_> = state.head.sets().map(read).collect();
    for slot in state.head.table.select(selector) {
        if sets.iter().any(|set| set.has_samples(slot, range)) {
            show(state.head.table.labels(slot).expect("the index and the table agree"));
        }
    }
}
