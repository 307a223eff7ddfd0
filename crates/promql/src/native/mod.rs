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

use lm_model::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint, Span};

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

pub(crate) fn is_custom(histogram: &Histogram) -> bool {
    histogram.schema == CUSTOM_BUCKETS_SCHEMA
}

/// Index and count of each bucket in the spans.
pub(crate) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        first..next
    });
    indexes.zip(counts.iter().copied())
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

/// The upper bound of an exponential bucket (`getBoundExponential`): of schema
/// `s` and index `i`, `2^(i / 2^s)`. The last finite bucket ends at the largest
/// number.
pub(crate) fn exponential_bound(index: i32, schema: i8) -> f64 {
    let (exponent, fraction) = if schema < 0 {
        (i64::from(index) << u32::from(schema.unsigned_abs()).min(16), 0.0)
    } else {
        let parts = 1i64 << u32::from(schema.unsigned_abs()).min(16);
        let index = i64::from(index);
        (index.div_euclid(parts), index.rem_euclid(parts) as f64 / parts as f64)
    };
    if exponent == 1024 && fraction == 0.0 {
        return f64::MAX;
    }
    fraction.exp2() * (exponent as f64).exp2()
}

/// The index that a bucket has in a coarser schema (`targetIdx`).
pub(crate) fn coarser(index: i32, levels: u32) -> i32 {
    (((i64::from(index) - 1) >> levels.min(31)) + 1) as i32
}

fn custom_bound(bounds: &[f64], index: i32) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

/// Buckets above zero, or all custom ones, ascending.
pub(crate) fn positive(histogram: &Histogram) -> impl Iterator<Item = Bucket> + '_ {
    let is_custom = is_custom(histogram);
    indexed(&histogram.positive_spans, &histogram.positive_counts).map(move |(index, count)| {
        if is_custom {
            let bound = |index| custom_bound(&histogram.custom_bounds, index);
            let (lower, upper) = (bound(index - 1), bound(index));
            return Bucket { lower, upper, lower_inclusive: index == 0, upper_inclusive: true, count };
        }
        let bound = |index| exponential_bound(index, histogram.schema);
        let (lower, upper) = (bound(index.saturating_sub(1)), bound(index));
        Bucket { lower, upper, lower_inclusive: false, upper_inclusive: true, count }
    })
}

/// Buckets below zero, from zero downwards.
pub(crate) fn negative(histogram: &Histogram) -> impl Iterator<Item = Bucket> + '_ {
    indexed(&histogram.negative_spans, &histogram.negative_counts).map(|(index, count)| {
        let bound = |index| exponential_bound(index, histogram.schema);
        let (lower, upper) = (-bound(index), -bound(index.saturating_sub(1)));
        Bucket { lower, upper, lower_inclusive: true, upper_inclusive: false, count }
    })
}

pub(crate) fn zero_bucket(histogram: &Histogram) -> Bucket {
    Bucket {
        lower: -histogram.zero_threshold,
        upper: histogram.zero_threshold,
        lower_inclusive: true,
        upper_inclusive: true,
        count: histogram.zero_count,
    }
}

/// All buckets, ascending. Those that overlap the zero bucket end at its
/// threshold (`AllBucketIterator`).
pub fn buckets(histogram: &Histogram) -> Vec<Bucket> {
    let threshold = histogram.zero_threshold;
    let clipped = |mut bucket: Bucket| {
        if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        } else if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        }
        bucket
    };
    let mut all: Vec<Bucket> = negative(histogram).map(clipped).collect();
    all.reverse();
    if histogram.zero_count > 0.0 {
        all.push(zero_bucket(histogram));
    }
    all.extend(positive(histogram).map(clipped));
    all
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
