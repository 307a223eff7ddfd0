//! A run of native histograms: each as the difference from the one before while the layout of buckets stays.

use std::sync::Arc;

use lm_model::{Histogram, ResetHint, Span, Timestamp};

use super::bytes::{Cursor, put_i64, put_u64};
use super::{Malformed, RUN_SAMPLES_MAX};

/// A run ends when its bytes exceed this, so one run has at most this and one histogram (below 300 KiB).
pub(crate) const RUN_BYTES: usize = 64 << 10;

/// A run also ends when its histograms have so many spans, counts and bounds together: what a decoder allocates.
pub(crate) const RUN_ELEMENTS: usize = 1 << 19;

/// The layout is that of the histogram before.
const SAME_LAYOUT: u8 = 1;
/// Counts are whole numbers, written as differences.
const WHOLE: u8 = 2;

/// Counts up to here are whole numbers without doubt.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Appends histograms until [`RUN_BYTES`] or [`RUN_SAMPLES_MAX`] are reached; returns how many.
pub(crate) fn encode(histograms: &[(Timestamp, Arc<Histogram>)], out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    let mut before = Histogram::default();
    let (mut done, mut elements_done) = (0, 0);
    for (_, histogram) in histograms.iter().take(RUN_SAMPLES_MAX) {
        put(histogram, &before, done == 0, out);
        before.clone_from(histogram);
        done += 1;
        elements_done += elements(histogram);
        if out.len() - begin > RUN_BYTES || elements_done > RUN_ELEMENTS {
            break;
        }
    }
    done
}

fn elements(histogram: &Histogram) -> usize {
    histogram.positive_spans.len()
        + histogram.positive_counts.len()
        + histogram.negative_spans.len()
        + histogram.negative_counts.len()
        + histogram.custom_bounds.len()
}

fn has_layout_of(one: &Histogram, other: &Histogram) -> bool {
    let same_bounds = one.custom_bounds.len() == other.custom_bounds.len()
        && one.custom_bounds.iter().zip(&other.custom_bounds).all(|(a, b)| a.to_bits() == b.to_bits());
    one.schema == other.schema
        && one.reset_hint == other.reset_hint
        && one.zero_threshold.to_bits() == other.zero_threshold.to_bits()
        && one.positive_spans == other.positive_spans
        && one.negative_spans == other.negative_spans
        && one.positive_counts.len() == other.positive_counts.len()
        && one.negative_counts.len() == other.negative_counts.len()
        && same_bounds
}

fn counts(histogram: &Histogram) -> impl Iterator<Item = f64> + '_ {
    let buckets = histogram.positive_counts.iter().chain(&histogram.negative_counts);
    [histogram.count, histogram.zero_count].into_iter().chain(buckets.copied())
}

fn is_whole(count: f64) -> bool {
    count.is_sign_positive() && count <= WHOLE_MAX && count.fract() == 0.0
}

/// What counts are compared with: those of the histogram before, or zeros.
fn base(before: &Histogram, is_same: bool) -> impl Iterator<Item = f64> + '_ {
    counts(before).map(move |count| if is_same { count } else { 0.0 }).chain(std::iter::repeat(0.0))
}

fn put(histogram: &Histogram, before: &Histogram, is_first: bool, out: &mut Vec<u8>) {
    let is_same = !is_first && has_layout_of(histogram, before);
    let whole = counts(histogram).all(is_whole) && (!is_same || counts(before).all(is_whole));
    out.push((u8::from(is_same) * SAME_LAYOUT) | (u8::from(whole) * WHOLE));
    if !is_same {
        put_layout(histogram, out);
    }
    let sum_before = if is_same { before.sum.to_bits() } else { 0 };
    put_u64(out, (histogram.sum.to_bits() ^ sum_before).swap_bytes());
    for (count, before) in counts(histogram).zip(base(before, is_same)) {
        if whole {
            put_i64(out, count as i64 - before as i64);
        } else {
            put_u64(out, (count.to_bits() ^ before.to_bits()).swap_bytes());
        }
    }
}

fn put_layout(histogram: &Histogram, out: &mut Vec<u8>) {
    out.push(histogram.schema as u8);
    out.push(histogram.reset_hint as u8);
    out.extend_from_slice(&histogram.zero_threshold.to_bits().to_le_bytes());
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        put_u64(out, spans.len() as u64);
        for span in spans {
            put_i64(out, i64::from(span.offset));
            put_u64(out, u64::from(span.length));
        }
    }
    put_u64(out, histogram.positive_counts.len() as u64);
    put_u64(out, histogram.negative_counts.len() as u64);
    put_u64(out, histogram.custom_bounds.len() as u64);
    histogram.custom_bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_bits().to_le_bytes()));
}

/// The `count` histograms of a run.
pub(crate) fn decode(bytes: &[u8], count: usize) -> Result<Vec<Arc<Histogram>>, Malformed> {
    // Each is of more than one byte.
    if count == 0 || count > RUN_SAMPLES_MAX.min(bytes.len()) {
        return Err(Malformed("a run of an impossible length"));
    }
    let mut cursor = Cursor::new(bytes);
    let mut run: Vec<Arc<Histogram>> = Vec::with_capacity(count);
    let mut elements_done = 0;
    for _ in 0..count {
        if elements_done > RUN_ELEMENTS {
            return Err(Malformed("too many buckets"));
        }
        let histogram = take(&mut cursor, run.last().map(|before| &**before))?;
        elements_done += elements(&histogram);
        run.push(Arc::new(histogram));
    }
    Ok(run)
}

fn take(cursor: &mut Cursor<'_>, before: Option<&Histogram>) -> Result<Histogram, Malformed> {
    let tag = cursor.u8()?;
    let is_same = tag & SAME_LAYOUT != 0;
    let mut histogram = match before {
        Some(before) if is_same => before.clone(),
        None if is_same => return Err(Malformed("a first histogram without layout")),
        _ => take_layout(cursor)?,
    };
    let sum_before = if is_same { histogram.sum.to_bits() } else { 0 };
    histogram.sum = f64::from_bits(sum_before ^ cursor.u64()?.swap_bytes());
    let mut next = |count: &mut f64| -> Result<(), Malformed> {
        *count = if tag & WHOLE != 0 {
            (*count as i64).wrapping_add(cursor.i64()?) as f64
        } else {
            f64::from_bits(count.to_bits() ^ cursor.u64()?.swap_bytes())
        };
        Ok(())
    };
    next(&mut histogram.count)?;
    next(&mut histogram.zero_count)?;
    histogram.positive_counts.iter_mut().chain(&mut histogram.negative_counts).try_for_each(next)?;
    Ok(histogram)
}

fn take_layout(cursor: &mut Cursor<'_>) -> Result<Histogram, Malformed> {
    let schema = cursor.u8()? as i8;
    let reset_hint = ResetHint::from_number(cursor.u8()?).ok_or(Malformed("an unknown reset hint"))?;
    let zero_threshold = f64::from_bits(cursor.bits()?);
    let (positive_spans, negative_spans) = (take_spans(cursor)?, take_spans(cursor)?);
    let (positives, negatives) = (cursor.count()?, cursor.count()?);
    let bounds = cursor.at_most(cursor.rest().len() / 8)?;
    let custom_bounds =
        (0..bounds).map(|_| cursor.bits().map(f64::from_bits)).collect::<Result<Vec<_>, _>>()?;
    Ok(Histogram {
        schema,
        reset_hint,
        zero_threshold,
        positive_spans,
        negative_spans,
        positive_counts: vec![0.0; positives],
        negative_counts: vec![0.0; negatives],
        custom_bounds,
        ..Histogram::default()
    })
}

fn take_spans(cursor: &mut Cursor<'_>) -> Result<Vec<Span>, Malformed> {
    let count = cursor.at_most(cursor.rest().len() / 2)?;
    (0..count)
        .map(|_| {
            let offset =
                i32::try_from(cursor.i64()?).map_err(|_| Malformed("a span's offset is out of range"))?;
            Ok(Span { offset, length: cursor.u32()? })
        })
        .collect()
}
