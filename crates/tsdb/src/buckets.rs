//! Blocks are cut at multiples of two hours, so that merging and retention
//! meet whole ranges.

use std::time::Duration;

use lm_model::{TimeRange, Timestamp};

pub(crate) const BUCKET: Duration = Duration::from_secs(2 * 3600);

/// The number of the bucket that holds `time`.
pub(crate) fn bucket_of(time: Timestamp) -> i64 {
    time.as_millis().div_euclid(millis(BUCKET))
}

/// The range between multiples of `width` that holds `start`.
pub(crate) fn aligned(start: i64, width: Duration) -> TimeRange {
    let width = millis(width);
    let start = start.div_euclid(width).saturating_mul(width);
    let end = start.saturating_add(width);
    TimeRange { start: Timestamp::from_millis(start), end: Timestamp::from_millis(end) }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
