//! A run of sample values: which form it takes, and the forms that need no model.
//!
//! [`Encoder::split`] turns values into a [`Head`] (what can be said of the run as a whole) and residuals. A run
//! without residuals is its head. Of the others, those of few bits are written as varints after their head, many
//! runs in one zstd page; the rest joins a [`super::group`], where pco models runs of one size together.

use super::bytes::{Cursor, put_i64, put_u64};
use super::ints::{Line, Residuals, split, varints};
use super::scale::{EXPONENT_MAX, Exception, power, scale, to_float};
use super::{Malformed, RUN_SAMPLES_MAX};

/// What can be said of a run as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Head {
    pub exponent: u8,
    pub line: Line,
    /// Ascending by place.
    pub exceptions: Vec<Exception>,
}

/// Tag bits: the exponent, then these.
const EXPONENT: u8 = 0x0f;
const ORDER: u8 = 0x10;
const HAS_UNIT: u8 = 0x20;
const HAS_EXCEPTIONS: u8 = 0x40;
/// No residuals follow. Never set in a group.
const STRAIGHT: u8 = 0x80;
/// An exponent that says: the bits of the floats, each xored with the one before, bytes reversed.
const FLOATS: u8 = 0x0f;

/// What became of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Split {
    /// The head is everything.
    Straight,
    Ints(Residuals),
    /// No decimals: the head means nothing.
    Floats,
}

/// Splits runs; keeps its memory between them.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    ints: Vec<i64>,
    is_floats: bool,
    pub head: Head,
}

impl Encoder {
    /// `values` holds 1 to [`RUN_SAMPLES_MAX`].
    pub fn split(&mut self, values: &[f64]) -> Split {
        let exponent = scale(values, &mut self.ints, &mut self.head.exceptions);
        self.is_floats = exponent.is_none();
        let Some(exponent) = exponent else { return Split::Floats };
        let (line, about) = split(&mut self.ints);
        self.head.exponent = exponent;
        self.head.line = line;
        if about.nonzero == 0 { Split::Straight } else { Split::Ints(about) }
    }

    /// Those of the run that was split last; nothing when it stays floats.
    pub fn residuals(&self) -> Option<&[i64]> {
        (!self.is_floats).then_some(&self.ints)
    }
}

impl Head {
    pub fn put(&self, is_straight: bool, out: &mut Vec<u8>) {
        let Line { first, unit, step, order } = self.line;
        let mut tag = self.exponent;
        tag |= if order == 1 { ORDER } else { 0 };
        tag |= if unit != 1 { HAS_UNIT } else { 0 };
        tag |= if self.exceptions.is_empty() { 0 } else { HAS_EXCEPTIONS };
        tag |= if is_straight { STRAIGHT } else { 0 };
        out.push(tag);
        put_i64(out, first);
        put_i64(out, step);
        if unit != 1 {
            put_u64(out, unit);
        }
        if !self.exceptions.is_empty() {
            put_u64(out, self.exceptions.len() as u64);
            let mut before = 0;
            for (at, bits) in &self.exceptions {
                put_u64(out, u64::from(at - before));
                out.extend_from_slice(&bits.to_le_bytes());
                before = *at;
            }
        }
    }

    /// The head after its tag, and whether it is all there is.
    fn take(tag: u8, cursor: &mut Cursor<'_>) -> Result<(Head, bool), Malformed> {
        let exponent = tag & EXPONENT;
        if exponent > EXPONENT_MAX {
            return Err(Malformed("an impossible exponent"));
        }
        let (first, step) = (cursor.i64()?, cursor.i64()?);
        let unit = if tag & HAS_UNIT != 0 { cursor.u64()? } else { 1 };
        let line = Line { first, unit, step, order: u8::from(tag & ORDER != 0) };
        let mut exceptions = Vec::new();
        if tag & HAS_EXCEPTIONS != 0 {
            let count = cursor.at_most(cursor.rest().len() / 9)?;
            exceptions.reserve_exact(count);
            let mut at = 0u32;
            for _ in 0..count {
                at = at.checked_add(cursor.u32()?).ok_or(Malformed("a number is too large"))?;
                exceptions.push((at, cursor.bits()?));
            }
        }
        Ok((Head { exponent, line, exceptions }, tag & STRAIGHT != 0))
    }

    /// The head of a run in a group.
    pub fn take_grouped(cursor: &mut Cursor<'_>) -> Result<Head, Malformed> {
        match Head::take(cursor.u8()?, cursor)? {
            (head, false) => Ok(head),
            (_, true) => Err(Malformed("a straight run in a group")),
        }
    }

    /// Appends the run of the first value and of `residuals`.
    pub fn restore<T: Copy + Into<i64>>(&self, residuals: &[T], out: &mut Vec<f64>) {
        let begin = out.len();
        let power = power(self.exponent);
        out.push(to_float(self.line.first, power));
        if self.exponent == 0 {
            self.line.restore(residuals, out, |int| to_float(int, 1.0));
        } else {
            self.line.restore(residuals, out, |int| to_float(int, power));
        }
        self.patch(begin, out);
    }

    fn patch(&self, begin: usize, out: &mut [f64]) {
        for (at, bits) in &self.exceptions {
            // Only the beginning of the run may have been asked for.
            if let Some(value) = out.get_mut(begin + *at as usize) {
                *value = f64::from_bits(*bits);
            }
        }
    }
}

/// Appends the run with its residuals as varints.
pub(crate) fn put_varints(head: &Head, residuals: &[i64], out: &mut Vec<u8>) {
    head.put(false, out);
    residuals.iter().for_each(|residual| put_i64(out, *residual));
}

/// Appends a run of floats that are no decimals.
pub(crate) fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    out.push(FLOATS);
    let mut before = 0;
    for value in values {
        let bits = value.to_bits();
        // Of neighbours the high bits agree and often the lowest are zero: reversed, the varint is short.
        put_u64(out, (bits ^ before).swap_bytes());
        before = bits;
    }
}

/// Appends the `count` values of a run that was written without a group.
pub(crate) fn decode(bytes: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), Malformed> {
    if count == 0 || count > RUN_SAMPLES_MAX {
        return Err(Malformed("a run of an impossible length"));
    }
    let mut cursor = Cursor::new(bytes);
    let tag = cursor.u8()?;
    if tag == FLOATS {
        if count > cursor.rest().len() {
            return Err(Malformed("the bytes end too early"));
        }
        let mut bits = 0;
        for _ in 0..count {
            bits ^= cursor.u64()?.swap_bytes();
            out.push(f64::from_bits(bits));
        }
        return Ok(());
    }
    let (head, is_straight) = Head::take(tag, &mut cursor)?;
    if !is_straight {
        head.restore(&varints(&mut cursor, count - 1)?, out);
        return Ok(());
    }
    let begin = out.len();
    let power = power(head.exponent);
    out.push(to_float(head.line.first, power));
    head.line.restore_straight(count - 1, out, |int| to_float(int, power));
    head.patch(begin, out);
    Ok(())
}
