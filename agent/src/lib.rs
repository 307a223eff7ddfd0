//! The process next to the workload: read, batch, queue, send.
//!
//! ```text
//! intake thread:   sources ─▶ batcher ─▶ outbox (the queue on disk)
//!                                          ▲ questions, acknowledgements
//! main thread:     sender (session, delivery) ──QUIC──▶ collector
//! ```
//!
//! [`intake`] owns everything that reads or touches the disk; [`sender`] owns
//! the connection. They meet in [`queue_handle`]. [`delivery`], [`dictionary`]
//! and [`batcher`] are logic without I/O.

pub mod batcher;
pub mod cli;
pub mod config;
pub mod counters;
pub mod delivery;
pub mod dictionary;
pub mod disk;
mod health;
pub mod intake;
pub mod outbox;
pub mod queue_handle;
pub mod record;
pub mod run;
pub mod sender;
pub mod setup;
pub mod sources;
pub mod telemetry;

pub use run::run;
