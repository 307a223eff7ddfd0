//! Metrics of Prometheus targets: who is asked when, and what came of it.
//!
//! [`ScrapeSource`] runs a thread of its own, so that a target that hangs
//! holds up neither log files nor the queue. Each target is a task there; a
//! finished scrape is a set of samples in a bounded channel, which the intake
//! thread empties. This module does not batch, queue or send.
//!
//! Start with [`Job`] for what can be configured, [`series`] for what an
//! answer becomes and `thread` for when.

mod budget;
mod file_sd;
mod http;
mod job;
mod relabel;
mod report;
mod series;
mod status;
mod target;
mod thread;

pub use job::{Credentials, Job, JobLimits, Protocol, Scheme};
pub use relabel::{Action, Pattern, Rule};
pub use series::ScrapedSample;
pub use status::{ScrapeStatus, TargetStatus};
pub use thread::{Finished, ScrapeSource};
