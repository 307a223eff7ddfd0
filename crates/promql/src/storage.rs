//! What evaluation needs from a store: [`Storage`] finds series, [`Selected`]
//! reads their samples one series at a time, from any thread.

use lm_model::{Labels, Matcher, Samples, TimeRange};

/// What one selector needs.
#[derive(Clone, Copy, Debug)]
pub struct SelectRequest<'a> {
    pub matchers: &'a [Matcher],
    pub range: TimeRange,
    /// With more than this, fail rather than answer in part.
    pub series_max: usize,
    /// What the samples are for: a store may answer from coarser ones.
    pub hints: Hints,
}

/// How the samples of a selector will be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Between two steps of the query, in milliseconds; 0: one step.
    pub step_millis: i64,
    /// Of a range selector, in milliseconds; 0: an instant selector.
    pub range_millis: i64,
    /// The function or aggregation right around the selector, by its PromQL name.
    pub function: Option<&'static str>,
}

/// The store could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// More series than the request allows.
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
pub trait Storage: Sync {
    /// The series that all matchers accept and that may have samples in the
    /// range. The order does not matter; ascending by labels costs the least.
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError>;
}

/// Series that were found. What is read is what was stored at the time of the
/// selection or a little later; a series never vanishes while this is held.
pub trait Selected: Send + Sync {
    /// How many series there are.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of the series `index`, which is below [`Selected::len`].
    fn labels(&self, index: usize) -> &Labels;

    /// Reads the samples of the series `index` in the requested range,
    /// staleness markers included, into `into`, whatever that held before. At
    /// most `samples_max + 1` need be read: the caller gives up at more.
    fn read(&self, index: usize, samples_max: usize, into: &mut Samples) -> Result<(), StorageError>;
}

/// Series that are in memory already.
impl Selected for Vec<(Labels, Samples)> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn labels(&self, index: usize) -> &Labels {
        &self[index].0
    }

    fn read(&self, index: usize, _: usize, into: &mut Samples) -> Result<(), StorageError> {
        into.clone_from(&self[index].1);
        Ok(())
    }
}
