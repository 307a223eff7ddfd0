//! The samples of one series as columns: what stores hand to evaluators.

use std::sync::Arc;

use crate::{Histogram, Timestamp};

/// Samples of one series, each column ascending in time. A series holds
/// numbers, native histograms, or first the one and later the other; a time is
/// in one of the two columns only. Made to be filled again and again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Milliseconds since the Unix epoch, one for each of `values`.
    pub times: Vec<i64>,
    /// Staleness markers are among them: see [`crate::is_stale`].
    pub values: Vec<f64>,
    /// Native histograms; a stale one ends the series.
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
}

impl Samples {
    /// Numbers and histograms together.
    pub fn len(&self) -> usize {
        self.times.len() + self.histograms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
    }

    /// Adds a number at the end.
    pub fn push(&mut self, time: Timestamp, value: f64) {
        self.times.push(time.as_millis());
        self.values.push(value);
    }
}
