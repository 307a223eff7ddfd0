//! The part of the store that lives in memory: which series there are, and
//! their newest samples.
//!
//! ```text
//! Head ── Table        labels of all active series, and the index
//!      ├─ lasts        time and value of the newest sample of each
//!      └─ SampleSet    samples since the last rotation; becomes a block
//! ```
//!
//! A series is a *slot*: a number into columns. Read [`head`] first.

mod head;
mod merge;
mod postings;
mod set;
mod table;

pub(crate) use head::read;
pub use head::{Appended, Head, HeadFull, HeadOptions, HeadStats, SeriesId, UnknownSeries};
pub(crate) use merge::merge_newer;
pub(crate) use set::SampleSet;

#[cfg(test)]
mod tests;
