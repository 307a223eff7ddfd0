//! Blocks: immutable files of many series' samples, with their index.
//!
//! Responsible for writing a block once ([`BlockWriter`]), answering from it ([`Block`]), and making fewer out of
//! many ([`merge`]). It does not know which blocks there are, nor when to merge or delete them. Read [`Block`]
//! first. The bytes are drawn in `docs/formats/block.md`.
//!
//! Every page and section of a file has a checksum, every length is checked before memory is taken for it, and
//! damage is an [`Error::Damaged`] that says what is lost: the rest stays readable.

mod cache;
mod error;
mod format;
mod labels;
mod merge;
mod meta;
mod reader;
mod series;
mod writer;

pub use cache::{CacheStats, PageCache};
pub use error::{Damage, Error, Part};
pub use merge::{Deletion, MergeOptions, Merged, Output, Progress, merge, merge_samples};
pub use meta::{BlockMeta, BlockStats, Kind};
pub use reader::{Block, SeriesIndex};
pub use writer::{BlockWriter, Compression, Pair};

#[cfg(test)]
mod tests;
