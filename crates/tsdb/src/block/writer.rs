//! [`BlockWriter`]: writes a block in one pass.

use std::marker::PhantomData;
use std::path::Path;

use lm_fs::Fs;
use lm_model::{Labels, Samples};

use super::{BlockMeta, BlockStats, Error};

/// How much time goes into making a block small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// For blocks that are merged soon: only the cheap codecs.
    Fast,
    /// All codecs.
    Small,
}

/// A label name and value that a [`BlockWriter`] knows. Of no use to another writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair(pub(crate) u32);

/// Writes a block: series in ascending order of labels, then [`finish`](BlockWriter::finish).
///
/// Memory grows with series and label values (about 100 bytes a series plus 4 a label), not with samples. The file
/// appears under its name only when it is complete and synced; dropped before, the writer removes what it wrote.
#[derive(Debug)]
pub struct BlockWriter<F: Fs> {
    fs: PhantomData<F>,
}

impl<F: Fs> BlockWriter<F> {
    /// Begins the block `path`, in a file beside it whose name ends in `.tmp` (a left-over one is overwritten).
    pub fn create(_fs: &F, _path: &Path, _compression: Compression) -> Result<Self, Error> {
        todo!()
    }

    /// The pair of a label name and value, for [`add_pairs`](BlockWriter::add_pairs). Who adds many series asks once
    /// for each of its own interned label pairs.
    pub fn pair(&mut self, _name: &str, _value: &str) -> Result<Pair, Error> {
        todo!()
    }

    /// Adds a series: its labels come after those of the series before, its samples ascend in time and no time is in
    /// both columns. A series without samples is left out.
    pub fn add(&mut self, _labels: &Labels, _samples: &Samples) -> Result<(), Error> {
        todo!()
    }

    /// As [`add`](BlockWriter::add), with labels as pairs, ascending by name.
    pub fn add_pairs(&mut self, _pairs: &[Pair], _samples: &Samples) -> Result<(), Error> {
        todo!()
    }

    /// Writes index and footer, syncs the file, gives it its name (replacing nothing: the name must be free) and
    /// syncs the directory. After an error the file may be there or not: the caller's manifest decides.
    pub fn finish(self, _meta: &BlockMeta) -> Result<BlockStats, Error> {
        todo!()
    }
}
