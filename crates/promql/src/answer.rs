//! What a query answers.

use lm_model::{Labels, Sample, Timestamp};

use crate::storage::SeriesData;

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// Probable mistakes in the query or the data, worded as in Prometheus but
    /// without positions.
    pub warnings: Vec<String>,
    /// The same, less probable.
    pub infos: Vec<String>,
    pub stats: Stats,
}

/// What an evaluation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples read from the store.
    pub samples_read: usize,
    /// Samples and values held at once, at most.
    pub samples_peak: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar(Sample),
    /// In the order of the query: sorted if it sorts.
    Vector(Vec<(Labels, Sample)>),
    /// Ascending by labels.
    Matrix(Vec<SeriesData>),
    String(Timestamp, String),
}
