//! Ingest: one thread that validates, removes duplicates, spools, and only
//! then answers and shows.
//!
//! Group commit comes by itself: while one group is being synced, the next
//! one gathers in the channel. A batch is acknowledged when it and its place
//! in the sequence are in one synced append; queries and the live tail see it
//! after that, never before.

mod ahead;
mod apply;
mod clock;
mod dictionaries;
mod group;
mod handle;
mod replay;
mod stamp;
#[cfg(test)]
mod tests;
mod watermarks;
mod writers;

pub use apply::StoreMetrics;
pub use group::{Core, CoreOptions};
pub use handle::{Define, DefineOutcome, IngestHandle, Push, Receipt, ReceiptOutcome, Unreadable, start};
pub use stamp::{COLLECTOR, INSTANCE, OWN, PATTERN_END, stamp, stamp_with, stamp_writer, stamped};
pub use watermarks::{Account, Lost, Watermarks};
pub use writers::{WRITER_PREFIX, Write, Written};
