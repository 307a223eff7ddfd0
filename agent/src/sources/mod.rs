//! What an agent reads: metrics of its host and lines of log files.
//!
//! A source reads when it is asked to, into buffers of the caller, and blocks
//! on nothing but local files. It does not batch, queue, send, or keep time:
//! the caller passes the time in and decides when to ask again.
//!
//! Start with [`host::HostSource`] and [`logs::LogsSource`]. Metrics are
//! values of series in a [`SeriesTable`].

pub mod host;
pub mod logs;
mod series;

pub use series::{Measurement, SeriesIndex, SeriesTable};
