//! What a process of ours says of itself: figures for `/metrics` ([`Telemetry`],
//! [`Figure`]) and its log ([`log::start`]).
//!
//! This crate listens nowhere, stores nothing and knows no process. Everything
//! that comes from outside is escaped here, so that a hostile text can forge
//! neither a figure nor a line.

mod figure;
pub mod log;
pub mod process;
pub mod process_stat;
mod settings;
mod text;

pub use figure::{BOUNDS_SECONDS, Figure, Histogram, Snapshot, Telemetry, Value};
pub use settings::{HealthSettings, LogSettings};
pub use text::CONTENT_TYPE;
