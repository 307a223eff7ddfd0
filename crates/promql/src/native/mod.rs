//! The mathematics of native histograms, after Prometheus 3.
//!
//! Responsible for what PromQL does with [`lm_model::Histogram`]: adding up
//! ([`Total`]), scaling, comparing, finding counter resets, estimating quantiles
//! and shares, trimming. The formulas are those of Prometheus'
//! `model/histogram/float_histogram.go`, `generic.go` and `promql/quantile.go`;
//! each function names its own. It knows no series and no query.
//!
//! A histogram that reaches this module has passed [`Histogram::check`]; what
//! has not is read as far as its spans and counts agree, without a panic.

mod estimate;
mod render;
mod reset;
mod total;
mod trim;

pub(crate) use estimate::{Estimate, Nans, fraction, mean, quantile, variance};
pub(crate) use render::render;
pub(crate) use reset::is_reset;
pub(crate) use total::{Events, Incompatible, Total};
pub(crate) use trim::{Keep, trim};

use lm_model::buckets::indexed;
use lm_model::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, Span};

pub(crate) fn is_custom(histogram: &Histogram) -> bool {
    histogram.schema == CUSTOM_BUCKETS_SCHEMA
}

/// Spans and counts of buckets that ascend by index.
pub(crate) fn packed(buckets: impl Iterator<Item = (i32, f64)>) -> (Vec<Span>, Vec<f64>) {
    let (mut spans, mut counts): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0i32;
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(Span { offset: index.saturating_sub(next), length: 1 }),
        }
        counts.push(count);
        next = index.saturating_add(1);
    }
    (spans, counts)
}

/// The index that a bucket has in a coarser schema (`targetIdx`).
pub(crate) fn coarser(index: i32, levels: u32) -> i32 {
    (((i64::from(index) - 1) >> levels.min(31)) + 1) as i32
}

/// Drops empty buckets (`Compact(0)`).
pub(crate) fn compact(histogram: &mut Histogram) {
    let side = |spans: &mut Vec<Span>, counts: &mut Vec<f64>| {
        if counts.contains(&0.0) || spans.len() > 1 || counts.is_empty() {
            (*spans, *counts) = packed(indexed(spans, counts).filter(|(_, count)| *count != 0.0));
        }
    };
    side(&mut histogram.positive_spans, &mut histogram.positive_counts);
    side(&mut histogram.negative_spans, &mut histogram.negative_counts);
}

/// Multiplies counts and sum (`Mul`). Below zero they are no counter's.
pub(crate) fn multiply(histogram: &mut Histogram, factor: f64) {
    map(histogram, |value| value * factor);
    if factor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
}

/// Divides counts and sum (`Div`). By zero, what a bucket held is lost.
pub(crate) fn divide(histogram: &mut Histogram, divisor: f64) {
    map(histogram, |value| value / divisor);
    if divisor < 0.0 {
        histogram.reset_hint = ResetHint::Gauge;
    }
    if divisor == 0.0 {
        for spans in [&mut histogram.positive_spans, &mut histogram.negative_spans] {
            spans.clear();
        }
        for counts in [&mut histogram.positive_counts, &mut histogram.negative_counts] {
            counts.clear();
        }
    }
}

fn map(histogram: &mut Histogram, f: impl Fn(f64) -> f64) {
    let Histogram { zero_count, count, sum, positive_counts, negative_counts, .. } = histogram;
    let all = positive_counts.iter_mut().chain(negative_counts).chain([zero_count, count, sum]);
    all.for_each(|value| *value = f(*value));
}

/// Whether both hold the same observations in the same buckets (`Equals`; hints
/// do not count, nor do empty buckets). NaN equals itself.
pub(crate) fn is_equal(a: &Histogram, b: &Histogram) -> bool {
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let same_side = |spans: [&[Span]; 2], counts: [&[f64]; 2]| {
        let filled = |side: usize| indexed(spans[side], counts[side]).filter(|(_, count)| *count != 0.0);
        filled(0).map(|(i, count)| (i, count.to_bits())).eq(filled(1).map(|(i, count)| (i, count.to_bits())))
    };
    a.schema == b.schema
        && same(a.count, b.count)
        && same(a.sum, b.sum)
        && a.custom_bounds == b.custom_bounds
        && a.zero_threshold == b.zero_threshold
        && same(a.zero_count, b.zero_count)
        && same_side([&a.positive_spans, &b.positive_spans], [&a.positive_counts, &b.positive_counts])
        && same_side([&a.negative_spans, &b.negative_spans], [&a.negative_counts, &b.negative_counts])
}

#[cfg(test)]
mod tests;
