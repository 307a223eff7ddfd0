//! Intermediate results: series over all steps at once.

use std::collections::HashMap;
use std::sync::Arc;

use lm_model::{Histogram, Labels, METRIC_NAME, STALE_NAN_BITS};

use crate::answer::Point;
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
    /// Native histograms of steps, ascending, at which there is no number. Few
    /// rows have any, so what handles numbers only need not look here.
    pub histograms: Vec<(u32, Arc<Histogram>)>,
}

impl Row {
    /// A row of numbers.
    pub fn new(labels: Labels, drops_name: bool, values: Vec<f64>) -> Self {
        Row { labels, drops_name, values, histograms: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && !self.values.iter().any(|value| is_present(*value))
    }

    /// The histogram of a step.
    pub fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let found = self.histograms.binary_search_by_key(&step, |(at, _)| *at as usize).ok()?;
        Some(&self.histograms[found].1)
    }

    pub fn point(&self, step: usize) -> Option<Point> {
        let value = self.values[step];
        if is_present(value) {
            return Some(Point::Number(value));
        }
        self.histogram(step).map(|histogram| Point::Histogram(histogram.clone()))
    }

    /// Sets what a step has; steps come in ascending order.
    pub fn set(&mut self, step: usize, point: Point) {
        match point {
            Point::Number(value) => self.values[step] = value,
            Point::Histogram(histogram) => {
                let at = u32::try_from(step).expect("a query has fewer steps");
                self.histograms.push((at, histogram));
            }
        }
    }

    /// Calls `f` with each step that has a number or a histogram.
    pub fn for_each_present(&self, mut f: impl FnMut(usize)) {
        present(&self.values).for_each(|(step, _)| f(step));
        self.histograms.iter().for_each(|(step, _)| f(*step as usize));
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

/// Steps of a row whose number is present.
pub(crate) fn present(values: &[f64]) -> impl Iterator<Item = (usize, f64)> + '_ {
    values.iter().copied().enumerate().filter(|(_, value)| is_present(*value))
}

/// Labels that say what a metric is, and go when it is no longer that.
pub(crate) const METADATA_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

pub(crate) fn without_name(labels: &Labels) -> Labels {
    if METADATA_LABELS.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    let mut builder = labels.to_builder();
    METADATA_LABELS.iter().for_each(|name| {
        builder.remove(name);
    });
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
            if is_present(target.values[step]) || target.histogram(step).is_some() {
                return Err(same_labels());
            }
            target.values[step] = value;
        }
        unite_histograms(target, &row)?;
    }
    Ok(united)
}

fn unite_histograms(target: &mut Row, row: &Row) -> Result<(), Error> {
    if row.histograms.is_empty() {
        return Ok(());
    }
    target.histograms.extend(row.histograms.iter().cloned());
    target.histograms.sort_by_key(|(step, _)| *step);
    let is_twice = target.histograms.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if is_twice || row.histograms.iter().any(|(step, _)| is_present(target.values[*step as usize])) {
        return Err(same_labels());
    }
    Ok(())
}

pub(crate) fn same_labels() -> Error {
    Error::Execution("vector cannot contain metrics with the same labelset".into())
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
