//! What evaluation needs from a store.

use lm_model::{Labels, Matcher, Sample, TimeRange};

/// One series and its samples, ascending in time.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesData {
    pub labels: Labels,
    pub samples: Vec<Sample>,
}

/// What one selector needs.
#[derive(Clone, Copy, Debug)]
pub struct SelectRequest<'a> {
    pub matchers: &'a [Matcher],
    pub range: TimeRange,
    /// With more than this, fail rather than answer in part.
    pub series_max: usize,
    /// The same for samples of all series together.
    pub samples_max: usize,
}

/// The store could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// More series or samples than the request allows.
    #[error("{0}")]
    Limit(String),
    /// The request asks for something the store cannot do, such as an oversized
    /// regular expression.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
}

/// A store of samples.
pub trait Storage {
    /// The series that all matchers accept, each with its samples in the range,
    /// staleness markers included. Series without samples may be left out; the
    /// order does not matter.
    fn select(&self, request: SelectRequest<'_>) -> Result<Vec<SeriesData>, StorageError>;
}
