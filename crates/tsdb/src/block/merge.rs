//! [`merge`]: fewer blocks out of many.

use std::ops::ControlFlow;
use std::path::PathBuf;

use lm_fs::Fs;
use lm_model::{Matcher, Samples, TimeRange, Timestamp};

use super::{Block, BlockMeta, BlockStats, Compression, Damage, Error};

/// Samples of the series that all matchers accept, in the range, are to be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
    /// Only samples from sources whose generations all lie at or below this: what came after the deletion stays.
    pub generation_through: u64,
}

/// A block to make. The ranges of outputs do not overlap.
#[derive(Clone, Debug)]
pub struct Output {
    pub path: PathBuf,
    pub meta: BlockMeta,
    pub range: TimeRange,
    pub compression: Compression,
}

#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    pub deletions: Vec<Deletion>,
    /// Earlier samples are left out.
    pub retain_from: Option<Timestamp>,
}

/// How far a merge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Series of the sources that are done, of `series_total`.
    pub series: u64,
    pub series_total: u64,
    pub samples: u64,
}

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// One for each output, in order; nothing where there was no sample, and then no file either.
    pub blocks: Vec<Option<BlockStats>>,
    /// Samples that two sources had with one value.
    pub duplicates: u64,
    /// Samples that an older source had with another value.
    pub conflicts: u64,
    /// Samples left out because of a deletion, or because they are before `retain_from`.
    pub deleted: u64,
    pub expired: u64,
    /// Samples in the range of no output.
    pub outside: u64,
    /// Parts of sources that could not be read, with their number in `sources`: what they held is lost with them.
    pub damage: Vec<(usize, Damage)>,
}

/// Merges `sources`, in any order, into `outputs`. Where two sources have a sample at one time, the one of the
/// smaller first generation wins. Memory: symbols of the sources, one series, and what [`super::BlockWriter`] says
/// for each output. `progress` is called every few thousand samples; `Break` removes what was written and ends in
/// [`Error::Cancelled`]. Damage in a source does not end the merge, an error of the file system does.
pub fn merge<F: Fs>(
    _fs: &F,
    _sources: &[&Block<F>],
    _outputs: &[Output],
    _options: &MergeOptions,
    _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Merged, Error> {
    todo!()
}

/// Merges the samples of one series from several sources, oldest source first, into `into`, which is emptied before.
/// Of samples at one time the oldest source's wins. Returns (duplicates, conflicts): samples left out that had the
/// same value, and another.
pub fn merge_samples(_sources: &[&Samples], _into: &mut Samples) -> (u64, u64) {
    todo!()
}
