//! The buckets of native histograms with their bounds, as Prometheus'
//! `model/histogram/generic.go` has them.
//!
//! What [`Histogram::check`] would refuse is read as far as its spans and counts
//! agree, without a panic.

use crate::{CUSTOM_BUCKETS_SCHEMA, Histogram, Span};

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
}

/// Index and count of each bucket in the spans.
pub fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |span| {
        let first = next.saturating_add(span.offset);
        next = first.saturating_add(i32::try_from(span.length).unwrap_or(i32::MAX));
        first..next
    });
    indexes.zip(counts.iter().copied())
}

/// The upper bound of an exponential bucket (`getBoundExponential`): of schema
/// `s` and index `i`, `2^(i / 2^s)`. The last finite bucket ends at the largest
/// number.
pub fn exponential_bound(index: i32, schema: i8) -> f64 {
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

fn custom_bound(bounds: &[f64], index: i32) -> f64 {
    match usize::try_from(index) {
        Err(_) => f64::NEG_INFINITY,
        Ok(index) => bounds.get(index).copied().unwrap_or(f64::INFINITY),
    }
}

/// Buckets above zero, or all custom ones, ascending.
pub fn positive(histogram: &Histogram) -> impl Iterator<Item = Bucket> + '_ {
    let is_custom = histogram.schema == CUSTOM_BUCKETS_SCHEMA;
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
pub fn negative(histogram: &Histogram) -> impl Iterator<Item = Bucket> + '_ {
    indexed(&histogram.negative_spans, &histogram.negative_counts).map(|(index, count)| {
        let bound = |index| exponential_bound(index, histogram.schema);
        let (lower, upper) = (-bound(index), -bound(index.saturating_sub(1)));
        Bucket { lower, upper, lower_inclusive: true, upper_inclusive: false, count }
    })
}

pub fn zero_bucket(histogram: &Histogram) -> Bucket {
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
pub fn all(histogram: &Histogram) -> Vec<Bucket> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_powers() {
        for (index, schema, expected) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (2, 1, 2.0),
            (1, 1, std::f64::consts::SQRT_2),
            (1, -1, 4.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (-1074, 0, 5e-324),
        ] {
            assert_eq!(exponential_bound(index, schema), expected, "{index} {schema}");
        }
    }

    #[test]
    fn buckets_ascend_and_end_at_the_zero_bucket() {
        let histogram = Histogram {
            zero_threshold: 0.75,
            zero_count: 1.0,
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 1 }],
            positive_counts: vec![2.0, 3.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_counts: vec![4.0],
            ..Histogram::default()
        };
        let found: Vec<_> = all(&histogram).into_iter().map(|b| (b.lower, b.upper, b.count)).collect();
        assert_eq!(found, [(-2.0, -1.0, 4.0), (-0.75, 0.75, 1.0), (0.75, 1.0, 2.0), (2.0, 4.0, 3.0)]);
    }
}
