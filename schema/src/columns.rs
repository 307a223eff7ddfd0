//! Samples as columns.

use std::sync::Arc;

use lm_model::{Histogram, Timestamp};

/// Values as columns: scrape `i` has `lengths[i]` consecutive entries of
/// `references` and `values`, all at `times[i]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns<T> {
    pub times: Vec<Timestamp>,
    pub lengths: Vec<u32>,
    pub references: Vec<u32>,
    pub values: Vec<T>,
}

pub type SampleColumns = Columns<f64>;
/// Shared, because the store keeps each of them as it is.
pub type HistogramColumns = Columns<Arc<Histogram>>;

impl<T: Clone> Columns<T> {
    /// Appends a value; one at the same time as the value before belongs to
    /// the same scrape.
    pub fn push(&mut self, time: Timestamp, reference: u32, value: T) {
        match self.lengths.last_mut().filter(|_| self.times.last() == Some(&time)) {
            Some(length) => *length += 1,
            None => {
                self.times.push(time);
                self.lengths.push(1);
            }
        }
        self.references.push(reference);
        self.values.push(value);
    }

    /// The first `count` values.
    pub fn before(&self, count: usize) -> Columns<T> {
        let mut columns = Columns {
            times: Vec::new(),
            lengths: Vec::new(),
            references: self.references[..count].to_vec(),
            values: self.values[..count].to_vec(),
        };
        let mut left = count;
        for (time, length) in self.times.iter().zip(&self.lengths) {
            if left == 0 {
                break;
            }
            let length = (*length as usize).min(left);
            columns.times.push(*time);
            columns.lengths.push(length as u32);
            left -= length;
        }
        columns
    }
}
