//! Metrics store: the head, which keeps recent samples in memory, and blocks, which keep samples in files.
//!
//! Responsible for the series table, the label index, samples in any order of
//! time, and for staying inside its memory bound. It reads no clock and
//! knows no query language. Start with [`Head`] and [`block::Block`].

pub mod block;
mod chunk;
mod codec;
mod head;
mod index;
mod matcher;
mod selector;
mod series;

pub use head::{
    Appended, Error, Expired, Head, HeadOptions, HeadStats, Removed, SelectLimits, SeriesId, SeriesLimit,
    UnknownSeries,
};
pub use selector::{Candidates, Selector, Test};
