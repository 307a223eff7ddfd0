//! Plain data that every crate shares: labels, samples, log records, time, and
//! the identity and fate of batches.
//!
//! This crate does no I/O, reads no clock and knows no wire format. Start with
//! [`Labels`] for metrics, [`LogRecord`] for logs and [`BatchId`] for delivery.

mod ahead;
mod batch;
pub mod buckets;
mod histogram;
mod labels;
mod log;
mod matcher;
mod sample;
mod samples;
mod time;

pub use ahead::{AHEAD, Ahead};
pub use batch::{BatchId, Incarnation, Loss, LossReason, Resume, Stream, UnknownStream};
pub use histogram::{BUCKETS_MAX, CUSTOM_BUCKETS_SCHEMA, EXPONENTIAL_SCHEMAS, Histogram, ResetHint, Span};
pub use labels::{Iter as LabelsIter, Label, Labels, LabelsBuilder, METRIC_NAME};
pub use log::LogRecord;
pub use matcher::{MatchOp, Matcher};
pub use sample::{STALE_NAN_BITS, Sample, is_stale, stale_nan};
pub use samples::Samples;
pub use time::{TimeRange, Timestamp};
