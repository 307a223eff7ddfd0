//! Answers for readers: PromQL, labels, logs and the live tail, over RPC.
//!
//! Server objects are thin; evaluation runs on the threads of [`Pool`].

mod answer;
mod context;
mod cursor;
mod failed;
mod helpers;
mod pool;
mod reader;
mod scope;
mod selection;
mod status;
mod tail;
mod targets;
#[cfg(test)]
mod tests;

pub use context::QueryContext;
pub use helpers::Helpers;
pub use pool::Pool;
pub use reader::ReaderServer;
pub use scope::ReadScope;
