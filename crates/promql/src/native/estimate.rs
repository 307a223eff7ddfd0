//! What a histogram says about its observations: quantiles, shares, moments.

use lm_model::Histogram;
use lm_model::buckets::{Bucket, all as buckets};

use super::is_custom;
use crate::sums::Sum;

/// Whether observations of NaN, which are in no bucket, bear on a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nans {
    None,
    /// The result lies among them.
    Decide,
    /// They shift the result.
    Skew,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub value: f64,
    pub nans: Nans,
}

impl From<f64> for Estimate {
    fn from(value: f64) -> Self {
        Estimate { value, nans: Nans::None }
    }
}

/// Zero bounds the zero bucket of a histogram that has buckets on one side only.
pub(super) fn narrowed(histogram: &Histogram, mut bucket: Bucket) -> Bucket {
    let has_negative = !histogram.negative_counts.is_empty();
    let has_positive = !histogram.positive_counts.is_empty();
    match (has_negative, has_positive) {
        (false, true) => bucket.lower = 0.0,
        (true, false) => bucket.upper = 0.0,
        _ => {}
    }
    bucket
}

/// Counts of observations in buckets, without NaNs.
fn bucketed(buckets: &[Bucket]) -> f64 {
    buckets.iter().map(|bucket| bucket.count).sum()
}

/// The `q`-quantile (`HistogramQuantile`). Within a bucket, interpolation is
/// exponential; in custom buckets and the zero bucket it is linear.
pub(crate) fn quantile(q: f64, histogram: &Histogram) -> Estimate {
    if q < 0.0 {
        return f64::NEG_INFINITY.into();
    }
    if q > 1.0 {
        return f64::INFINITY.into();
    }
    if histogram.count == 0.0 || q.is_nan() {
        return f64::NAN.into();
    }
    let mut all = buckets(histogram);
    let may_have_nans = histogram.sum.is_nan();
    let is_forward = may_have_nans || q < 0.5;
    let in_buckets = bucketed(&all);
    let mut rank = if is_forward { q } else { 1.0 - q } * histogram.count;
    if !is_forward {
        all.reverse();
    }
    let mut count = 0.0;
    let mut found = None;
    for bucket in all.into_iter().filter(|bucket| bucket.count != 0.0) {
        count += bucket.count;
        found = Some(bucket);
        if count >= rank {
            break;
        }
    }
    let Some(mut bucket) = found else {
        return Estimate { value: f64::NAN, nans: if may_have_nans { Nans::Decide } else { Nans::None } };
    };
    // Counts of buckets may add up to a little more than the whole.
    count = count.min(histogram.count);
    if may_have_nans && count < rank {
        return Estimate { value: f64::NAN, nans: Nans::Decide };
    }
    let nans = if may_have_nans && in_buckets < histogram.count { Nans::Skew } else { Nans::None };
    let estimate = |value| Estimate { value, nans };
    if is_custom(histogram) {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return estimate(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return estimate(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = narrowed(histogram, bucket);
    }
    if count < rank {
        return estimate(bucket.upper);
    }
    rank = if is_forward { rank - (count - bucket.count) } else { count - rank };
    let fraction = rank / bucket.count;
    estimate(if is_custom(histogram) || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        bucket.lower + (bucket.upper - bucket.lower) * fraction
    } else {
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        }
    })
}

/// The share of the observations between two values (`HistogramFraction`).
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> Estimate {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN.into();
    }
    if lower >= upper {
        return 0.0.into();
    }
    let all = buckets(histogram);
    let mut total = histogram.count;
    let mut nans = Nans::None;
    if histogram.sum.is_nan() {
        // NaNs are above and below nothing.
        total = bucketed(&all);
        if total < histogram.count {
            nans = Nans::Skew;
        }
    }
    let rank = |value: f64| rank_of(value, histogram, &all, total);
    Estimate { value: (rank(upper) - rank(lower)) / histogram.count, nans }
}

/// How many observations lie below a value.
fn rank_of(value: f64, histogram: &Histogram, all: &[Bucket], total: f64) -> f64 {
    let is_custom = is_custom(histogram);
    let mut rank: f64 = 0.0;
    for bucket in all {
        let mut bucket = *bucket;
        let is_linear = is_custom || (bucket.lower <= 0.0 && bucket.upper >= 0.0);
        if is_custom {
            // As in classic histograms, the first bucket begins at zero if it can.
            if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 && value >= 0.0 {
                bucket.lower = 0.0;
            }
        } else if is_linear {
            bucket = narrowed(histogram, bucket);
        }
        if bucket.lower >= value {
            return rank.min(total);
        }
        if bucket.upper > value {
            return (rank + bucket.count * share_below(value, &bucket, is_linear)).min(total);
        }
        rank += bucket.count;
    }
    total
}

/// Which part of a bucket lies below a value in it.
pub(super) fn share_below(value: f64, bucket: &Bucket, is_linear: bool) -> f64 {
    if bucket.lower == f64::NEG_INFINITY {
        return 1.0;
    }
    if bucket.upper == f64::INFINITY {
        return 0.0;
    }
    if is_linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let [lower, upper, value_log] = [bucket.lower, bucket.upper, value].map(|bound| bound.abs().log2());
    if value > 0.0 {
        (value_log - lower) / (upper - lower)
    } else {
        1.0 - (value_log - upper) / (lower - upper)
    }
}

pub(crate) fn mean(histogram: &Histogram) -> f64 {
    histogram.sum / histogram.count
}

/// The population variance, every observation taken to lie in the middle of its
/// bucket: the geometric one, of custom buckets the arithmetic one
/// (`histogramVariance` of `promql/functions.go`).
pub(crate) fn variance(histogram: &Histogram) -> f64 {
    let mean = mean(histogram);
    let squares = buckets(histogram).into_iter().filter(|bucket| bucket.count != 0.0).map(|bucket| {
        let Bucket { lower, upper, count, .. } = bucket;
        let middle = if is_custom(histogram) {
            (upper + lower) / 2.0
        } else if lower <= 0.0 && upper >= 0.0 {
            0.0
        } else {
            (upper * lower).sqrt().copysign(upper)
        };
        count * (middle - mean) * (middle - mean)
    });
    let mut sum = Sum::default();
    squares.for_each(|square| sum.add(square));
    sum.compensated() / histogram.count
}
