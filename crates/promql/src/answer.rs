//! What a query answers.

use std::sync::Arc;

use lm_model::{Histogram, Labels, Sample, Timestamp};

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// Probable mistakes in the query or the data, worded as in Prometheus, with
    /// the place in the query.
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
    Vector(Vec<Element>),
    /// Ascending by labels.
    Matrix(Vec<SeriesData>),
    String(Timestamp, String),
}

/// One series of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Element {
    pub labels: Labels,
    pub time: Timestamp,
    pub point: Point,
}

/// What a series has at one time.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Number(f64),
    Histogram(Arc<Histogram>),
}

impl Point {
    /// As annotations name it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Point::Number(_) => "float",
            Point::Histogram(_) => "histogram",
        }
    }
}

/// One series of a matrix: its numbers and its histograms, each ascending in
/// time. No time is in both.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesData {
    pub labels: Labels,
    pub samples: Vec<Sample>,
    pub histograms: Vec<(Timestamp, Arc<Histogram>)>,
}
