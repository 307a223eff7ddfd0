//! Integer columns as a first value, a line, and the residuals from it.
//!
//! `x[i] = first + unit * y[i]` with `y[0] = 0`, and either `y[i] = y[i-1] + step + r[i]` (order 1: counters, clocks)
//! or `y[i] = step + r[i]` (order 0: gauges around a level). With the mean step taken out, counters of any rate have
//! residuals around zero, so that runs of different series can share one model. Arithmetic wraps, so every i64 is
//! fine.

use super::Malformed;
use super::bytes::{Cursor, put_i64, put_u64, zigzag};

/// What is left when the residuals are taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub first: i64,
    pub unit: u64,
    pub step: i64,
    /// 0 or 1.
    pub order: u8,
}

/// How the residuals look.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Residuals {
    /// Bits of all residuals, without the zeros above their highest.
    pub bits: u64,
    pub nonzero: usize,
    /// Of the largest in size, zigzag.
    pub largest: u64,
}

/// How many differences decide that there is no common unit.
const UNIT_GUESSES: usize = 8;

/// Replaces `ints` by their residuals, without that of the first. `ints` is not empty.
pub(crate) fn split(ints: &mut Vec<i64>) -> (Line, Residuals) {
    let first = ints[0];
    let count = ints.len() - 1;
    let unit = unit(ints);
    if unit == 1 {
        ints.iter_mut().for_each(|int| *int = int.wrapping_sub(first));
    } else {
        ints.iter_mut().for_each(|int| *int = int.wrapping_sub(first) / unit as i64);
    }
    if count == 0 {
        ints.clear();
        return (Line { first, unit, step: 0, order: 1 }, Residuals::default());
    }
    let slope = ints[count] / count as i64;
    let level = (ints[1..].iter().map(|int| i128::from(*int)).sum::<i128>() / count as i128) as i64;
    let (mut bits_of_slope, mut bits_of_level) = (0u64, 0u64);
    for at in 1..=count {
        bits_of_slope += bit_len(ints[at].wrapping_sub(ints[at - 1]).wrapping_sub(slope));
        bits_of_level += bit_len(ints[at].wrapping_sub(level));
    }
    let order = u8::from(bits_of_slope <= bits_of_level);
    let step = if order == 1 { slope } else { level };
    let mut residuals = Residuals { bits: bits_of_slope.min(bits_of_level), ..Residuals::default() };
    let mut before = 0;
    for at in 1..=count {
        let base = if order == 1 { before } else { 0 };
        before = ints[at];
        let residual = before.wrapping_sub(base).wrapping_sub(step);
        ints[at - 1] = residual;
        residuals.nonzero += usize::from(residual != 0);
        residuals.largest |= zigzag(residual);
    }
    ints.truncate(count);
    (Line { first, unit, step, order }, residuals)
}

#[inline]
fn bit_len(residual: i64) -> u64 {
    u64::from(64 - zigzag(residual).leading_zeros())
}

/// The largest number that divides all differences from the first; 1 when there are none.
fn unit(ints: &[i64]) -> u64 {
    let first = ints[0];
    let difference = |int: &i64| int.wrapping_sub(first).unsigned_abs();
    let stride = ints.len().div_ceil(UNIT_GUESSES).max(1);
    // Most columns have no common unit, and a few differences show it.
    let mut unit = 0;
    for difference in ints.iter().step_by(stride).chain(ints).map(difference) {
        if unit == 0 || !difference.is_multiple_of(unit) {
            unit = gcd(unit, difference);
            if unit == 1 {
                return 1;
            }
        }
    }
    if unit == 0 || unit > i64::MAX as u64 { 1 } else { unit }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Line {
    /// Appends the values of `residuals` after the first one, which the caller has pushed, through `map`.
    #[inline]
    pub fn restore<T: Copy + Into<i64>, V>(
        &self,
        residuals: &[T],
        out: &mut Vec<V>,
        map: impl Fn(i64) -> V + Copy,
    ) {
        let Line { first, step, .. } = *self;
        let unit = self.unit as i64;
        match (self.order, unit) {
            (0, _) => out.extend(residuals.iter().map(|residual| {
                map(first.wrapping_add(step.wrapping_add((*residual).into()).wrapping_mul(unit)))
            })),
            (_, 1) => {
                let mut int = first;
                out.extend(residuals.iter().map(|residual| {
                    int = int.wrapping_add(step).wrapping_add((*residual).into());
                    map(int)
                }));
            }
            _ => {
                let mut int = first;
                out.extend(residuals.iter().map(|residual| {
                    int = int.wrapping_add(step.wrapping_add((*residual).into()).wrapping_mul(unit));
                    map(int)
                }));
            }
        }
    }

    /// As [`Line::restore`], when all residuals are zero.
    pub fn restore_straight<V>(&self, count: usize, out: &mut Vec<V>, map: impl Fn(i64) -> V + Copy) {
        self.restore::<i8, V>(&ZEROS[..count.min(ZEROS.len())], out, map);
        debug_assert!(count <= ZEROS.len());
    }
}

const ZEROS: [i8; super::RUN_SAMPLES_MAX] = [0; super::RUN_SAMPLES_MAX];

/// Tag bits of a column of plain integers.
const ORDER: u8 = 1;
const STRAIGHT: u8 = 2;

/// Appends `ints` (not empty; used up) as one self-contained column: timestamps.
pub(crate) fn encode(ints: &mut Vec<i64>, out: &mut Vec<u8>) {
    let (line, residuals) = split(ints);
    let is_straight = residuals.nonzero == 0;
    out.push((line.order * ORDER) | (u8::from(is_straight) * STRAIGHT));
    put_i64(out, line.first);
    put_u64(out, line.unit);
    put_i64(out, line.step);
    if !is_straight {
        ints.iter().for_each(|residual| put_i64(out, *residual));
    }
}

/// Appends the `count` integers of a column to `out`. `count` is at most [`super::RUN_SAMPLES_MAX`].
pub(crate) fn decode(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    if count == 0 || count > super::RUN_SAMPLES_MAX {
        return Err(Malformed("a column of an impossible length"));
    }
    let mut cursor = Cursor::new(bytes);
    let tag = cursor.u8()?;
    let line = Line { first: cursor.i64()?, unit: cursor.u64()?, step: cursor.i64()?, order: tag & ORDER };
    out.push(line.first);
    if tag & STRAIGHT != 0 {
        line.restore_straight(count - 1, out, |int| int);
    } else {
        let residuals = varints(&mut cursor, count - 1)?;
        line.restore(&residuals, out, |int| int);
    }
    Ok(())
}

/// `count` signed numbers, each of at least one byte.
pub(crate) fn varints(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    if count > cursor.rest().len() {
        return Err(Malformed("the bytes end too early"));
    }
    (0..count).map(|_| cursor.i64()).collect()
}
