//! What an agent reads: metrics of its host and of scraped targets, and lines of
//! log files.
//!
//! A source reads when it is asked to, into buffers of the caller, and blocks
//! on nothing but local files. It does not batch, queue, send, or keep time:
//! the caller passes the time in and decides when to ask again.
//!
//! Start with [`host::HostSource`], [`logs::LogsSource`] and
//! [`scrape::ScrapeSource`], which alone has a thread. Metrics of the host are
//! values of series in a [`SeriesTable`].

pub mod host;
pub mod logs;
pub mod scrape;
mod series;

pub use series::{Measurement, SeriesIndex, SeriesTable};
