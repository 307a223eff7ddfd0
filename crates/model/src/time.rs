//! Time as data: milliseconds since the Unix epoch, and half-open ranges of it.

use std::fmt;
use std::time::Duration;

/// A point in time, in milliseconds since the Unix epoch (may be negative).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    /// Truncates towards negative infinity, as log times in nanoseconds are
    /// compared with metric times in milliseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Timestamp(nanos.div_euclid(1_000_000))
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Nanoseconds since the epoch, saturating at the ends of the range.
    pub const fn as_nanos(self) -> i64 {
        self.0.saturating_mul(1_000_000)
    }

    pub fn as_seconds_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// `self + duration`, saturating.
    pub fn saturating_add(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(duration_millis(duration)))
    }

    /// From `earlier` to `self`; nothing when that is not earlier.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// `self - duration`, saturating.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(duration_millis(duration)))
    }
}

impl fmt::Display for Timestamp {
    /// Seconds with three decimals, as the Prometheus API writes times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let abs = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:03}", abs / 1000, abs % 1000)
    }
}

fn duration_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Times `start <= t < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl TimeRange {
    pub const ALL: TimeRange = TimeRange { start: Timestamp::MIN, end: Timestamp::MAX };

    pub fn contains(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}
