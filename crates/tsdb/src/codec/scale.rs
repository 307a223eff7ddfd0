//! Floats as decimal integers, exactly or not at all.
//!
//! `value = int / 10^exponent`, where the division is rounded as IEEE 754 does: so what people and programs print
//! with few digits is found again bit by bit. What is not (NaNs with their payload, infinities, -0, values of many
//! digits) is an *exception*, kept as bits. Many exceptions: the values are no decimals, and stay floats.

use super::RUN_SAMPLES_MAX;

/// Largest exponent tried.
pub(crate) const EXPONENT_MAX: u8 = 14;

/// Integers are kept below this in size, so that conversion is one addition, and sums of two do not overflow.
const INT_LIMIT: i64 = 1 << 51;

/// Added to a float below 2^51 in size, leaves its rounded integer in the lowest bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
const MAGIC_BITS: i64 = MAGIC.to_bits() as i64;

const POWERS: [f64; EXPONENT_MAX as usize + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];

/// One value in this many may be an exception.
const EXCEPTION_SHARE: usize = 8;

/// How many values are looked at to guess the exponent.
const GUESSES: usize = 8;

/// A value that is not an integer at the exponent of its run: its place and its bits.
pub(crate) type Exception = (u32, u64);

#[inline]
fn to_int(value: f64, power: f64) -> i64 {
    ((value * power + MAGIC).to_bits() as i64).wrapping_sub(MAGIC_BITS)
}

/// The value of an integer; of integers that no encoder makes, some value.
#[inline]
pub(crate) fn to_float(int: i64, power: f64) -> f64 {
    (f64::from_bits(int.wrapping_add(MAGIC_BITS) as u64) - MAGIC) / power
}

#[inline]
fn is_exact(value: f64, int: i64, power: f64) -> bool {
    (-INT_LIMIT..INT_LIMIT).contains(&int) && to_float(int, power).to_bits() == value.to_bits()
}

pub(crate) fn power(exponent: u8) -> f64 {
    POWERS[usize::from(exponent.min(EXPONENT_MAX))]
}

/// The smallest exponent from `from` at which the value is an integer.
fn exponent_of(value: f64, from: u8) -> Option<u8> {
    (from..=EXPONENT_MAX).find(|exponent| {
        let power = power(*exponent);
        is_exact(value, to_int(value, power), power)
    })
}

fn is_special(value: f64) -> bool {
    !value.is_finite() || (value == 0.0 && value.is_sign_negative())
}

/// Fills `ints` and `exceptions` (both emptied before) and returns the exponent; nothing when floats are the better
/// form. The integer at an exception's place repeats the one before.
pub(crate) fn scale(values: &[f64], ints: &mut Vec<i64>, exceptions: &mut Vec<Exception>) -> Option<u8> {
    debug_assert!(values.len() <= RUN_SAMPLES_MAX);
    let exceptions_max = values.len().div_ceil(EXCEPTION_SHARE);
    let mut exponent = guess(values)?;
    'restart: loop {
        ints.clear();
        exceptions.clear();
        let power = power(exponent);
        ints.extend(values.iter().map(|value| to_int(*value, power)));
        let all_exact =
            values.iter().zip(&*ints).fold(true, |all, (value, int)| all & is_exact(*value, *int, power));
        if all_exact {
            return Some(exponent);
        }
        for (at, value) in values.iter().enumerate() {
            if is_exact(*value, ints[at], power) {
                continue;
            }
            if !is_special(*value)
                && let Some(finer) = exponent_of(*value, exponent + 1)
            {
                exponent = finer;
                continue 'restart;
            }
            if exceptions.len() == exceptions_max {
                return None;
            }
            exceptions.push((at as u32, value.to_bits()));
            ints[at] = if at == 0 { 0 } else { ints[at - 1] };
        }
        return Some(exponent);
    }
}

/// The exponent that some of the values need; nothing when half of those are no decimals.
fn guess(values: &[f64]) -> Option<u8> {
    let stride = values.len().div_ceil(GUESSES).max(1);
    let (mut exponent, mut looked_at, mut inexact) = (0, 0, 0);
    for value in values.iter().step_by(stride).filter(|value| !is_special(**value)) {
        looked_at += 1;
        match exponent_of(*value, exponent) {
            Some(found) => exponent = found,
            None => inexact += 1,
        }
    }
    (looked_at == 0 || 2 * inexact < looked_at).then_some(exponent)
}
