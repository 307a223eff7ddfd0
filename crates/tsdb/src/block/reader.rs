//! [`Block`]: answers from one block.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use lm_fs::Fs;
use lm_model::{Labels, Samples, TimeRange};

use super::{BlockMeta, BlockStats, Error, PageCache};
use crate::selector::Selector;

/// A series of one block, by its place in the order of labels.
pub type SeriesIndex = u32;

/// An open block. Answers `&self` from many threads; keeps in memory the directory of its pages, its label names and
/// the extent of its timestamp columns, and reads the rest through the cache.
#[derive(Debug)]
pub struct Block<F: Fs> {
    fs: PhantomData<F>,
}

impl<F: Fs> Block<F> {
    /// Opens the block and verifies header, footer and directory; pages are verified when they are read.
    pub fn open(_fs: &F, _path: &Path, _cache: Arc<PageCache>) -> Result<Self, Error> {
        todo!()
    }

    pub fn path(&self) -> &Path {
        todo!()
    }

    pub fn meta(&self) -> &BlockMeta {
        todo!()
    }

    pub fn stats(&self) -> &BlockStats {
        todo!()
    }

    /// Memory that the open block holds outside of the cache.
    pub fn resident_bytes(&self) -> usize {
        todo!()
    }

    /// The series that the selector accepts and that have samples in `range`, ascending, which is the order of
    /// their labels. "Have samples" is decided by the first and last sample of their chunks: a series with a gap over
    /// the whole range may be among them.
    pub fn select(&self, _selector: &Selector, _range: TimeRange) -> Result<Vec<SeriesIndex>, Error> {
        todo!()
    }

    pub fn labels(&self, _series: SeriesIndex) -> Result<Labels, Error> {
        todo!()
    }

    /// Shows the labels of `series` (ascending) without building [`Labels`]: pairs ascending by name.
    pub fn visit_labels(
        &self,
        _series: &[SeriesIndex],
        _visit: impl FnMut(SeriesIndex, &[(&str, &str)]),
    ) -> Result<(), Error> {
        todo!()
    }

    /// Appends the samples of `series` in `range` to `samples`, which holds only earlier ones.
    pub fn read(&self, _series: SeriesIndex, _range: TimeRange, _samples: &mut Samples) -> Result<(), Error> {
        todo!()
    }

    /// Names of the labels of the selected series, ascending. A selector of nothing takes all series, and is
    /// answered without looking at them.
    pub fn label_names(&self, _selector: &Selector, _range: TimeRange) -> Result<Vec<Box<str>>, Error> {
        todo!()
    }

    /// Values that the label `name` has in the selected series, ascending.
    pub fn label_values(
        &self,
        _name: &str,
        _selector: &Selector,
        _range: TimeRange,
    ) -> Result<Vec<Box<str>>, Error> {
        todo!()
    }

    /// Shows each value of the label `name`, ascending, with the number of its series.
    pub fn visit_value_counts(&self, _name: &str, _visit: impl FnMut(&str, u64)) -> Result<(), Error> {
        todo!()
    }

    /// Each label name, ascending, with the number of its values and of the series that have it.
    pub fn name_counts(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        std::iter::empty()
    }

    /// Reads and verifies everything; calls `damaged` for each part that is not what was written.
    pub fn verify(&self, _damaged: impl FnMut(&Error)) -> Result<(), Error> {
        todo!()
    }
}
