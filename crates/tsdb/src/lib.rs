//! Metrics store: recent samples in memory, all others in blocks on disk.
//!
//! Responsible for the series table, the label index, samples in any order of
//! time, and for what a crash or a bad disk may do to them. It reads no clock,
//! starts no thread and knows no query language. Start with [`db::Db`].

pub mod block;
mod buckets;
mod chunk;
mod codec;
pub mod db;
pub mod memory;
mod selector;
mod series;

pub use selector::{Candidates, Selector, Test};
