//! One value of one series at one time.

use crate::Timestamp;

/// Bits of the NaN that ends a series (Prometheus `value.StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A measured value. NaN payload bits are kept: one of them marks staleness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub time: Timestamp,
    pub value: f64,
}

/// Whether `value` is the marker that ends a series; other NaNs are values.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// The marker that ends a series.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}
