//! Metrics store: for now the head, which keeps recent samples in memory.
//!
//! Responsible for the series table, the label index, samples in any order of
//! time, and for staying inside its memory bound. It reads no clock, writes no
//! file and knows no query language. Start with [`Head`].

mod chunk;
mod head;
mod index;
mod matcher;
mod series;

pub use head::{
    Appended, Error, Expired, Head, HeadOptions, HeadStats, Removed, SelectLimits, SeriesId, SeriesLimit,
    UnknownSeries,
};
