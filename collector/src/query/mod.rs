//! Answers for readers: PromQL, labels, logs and the live tail, over RPC.
//!
//! Server objects are thin; evaluation runs on the threads of [`Pool`].

mod cursor;
mod pool;
mod reader;
mod scope;
mod tail;
#[cfg(test)]
mod tests;

pub use pool::Pool;
pub use reader::{QueryContext, ReaderServer};
pub use scope::ReadScope;
