//! Log store: for now recent lines in memory, and their search.
//!
//! Responsible for keeping the lines of each stream in order of time, for
//! staying inside its memory bound, and for searching within a budget. It reads
//! no clock, writes no file and knows no query language. Start with [`Recent`].

mod filter;
mod matcher;
mod recent;
mod search;
mod segment;

pub use filter::LineFilter;
pub use recent::{Error, Expired, LINE_BYTES_MAX, Recent, RecentOptions, RecentStats, Removed};
pub use search::{Direction, LogAnswer, LogQuery, TERMS_MAX};
