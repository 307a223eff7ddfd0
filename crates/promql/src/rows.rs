//! Intermediate results: series over all steps at once.

use std::collections::HashMap;

use lm_model::{Labels, METRIC_NAME, STALE_NAN_BITS};

use crate::engine::Error;

/// The value of a step at which a series has none. The bits of the staleness
/// marker serve: stored markers never become values, and no calculation makes
/// a signalling NaN.
pub(crate) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

pub(crate) fn is_present(value: f64) -> bool {
    value.to_bits() != STALE_NAN_BITS
}

/// One series; `values[i]` belongs to step `i`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub labels: Labels,
    /// Whether the name goes when the query is done. Until then, functions on
    /// labels can still use it.
    pub drops_name: bool,
    pub values: Vec<f64>,
}

impl Row {
    pub fn is_empty(&self) -> bool {
        !self.values.iter().any(|value| is_present(*value))
    }

    /// Applies `f` to the values that are present.
    pub fn map(&mut self, mut f: impl FnMut(f64) -> f64) {
        for value in &mut self.values {
            if is_present(*value) {
                *value = f(*value);
            }
        }
    }
}

/// Steps of a row whose value is present.
pub(crate) fn present(values: &[f64]) -> impl Iterator<Item = (usize, f64)> + '_ {
    values.iter().copied().enumerate().filter(|(_, value)| is_present(*value))
}

pub(crate) fn without_name(labels: &Labels) -> Labels {
    if labels.get(METRIC_NAME).is_none() {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    builder.remove(METRIC_NAME);
    builder.build()
}

/// Unites rows of equal labels, the first one's place kept.
///
/// # Errors
///
/// Two of them have a value at one step.
pub(crate) fn unite(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut united: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(place) = places.get(&row.labels) else {
            places.insert(row.labels.clone(), united.len());
            united.push(row);
            continue;
        };
        let target = &mut united[*place];
        target.drops_name |= row.drops_name;
        for (step, value) in present(&row.values) {
            if is_present(target.values[step]) {
                return Err(Error::Execution("vector cannot contain metrics with the same labelset".into()));
            }
            target.values[step] = value;
        }
    }
    Ok(united)
}

/// The end of a query: drops the names that are to be dropped.
pub(crate) fn finish(mut rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    for row in &mut rows {
        if row.drops_name {
            row.labels = without_name(&row.labels);
            row.drops_name = false;
        }
    }
    let mut rows = unite(rows)?;
    rows.retain(|row| !row.is_empty());
    Ok(rows)
}
