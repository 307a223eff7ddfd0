//! `histogram </ number` and `histogram >/ number`.

use lm_model::Histogram;
use lm_model::buckets::{Bucket, negative, positive, zero_bucket};

use super::estimate::{narrowed, share_below};
use super::{compact, is_custom};

/// The observations that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Below,
    Above,
}

/// Takes away the observations beyond a value, those of the bucket that it lies
/// in by interpolation (`trimHistogram` of `promql/engine.go`).
///
/// If any go, the sum is estimated anew: those that stay lie in the middle of
/// the part of their bucket that stays.
pub(crate) fn trim(histogram: &mut Histogram, at: f64, keep: Keep) {
    let is_custom = is_custom(histogram);
    let is_empty_bucket = |bucket: &Bucket| bucket.count == 0.0;
    let cut = |bucket: Bucket, shape: Shape| match is_empty_bucket(&bucket) {
        true => Kept { count: 0.0, middle: 0.0 },
        false => kept(&bucket, at, keep, shape),
    };
    let above = if is_custom { Shape::Linear } else { Shape::Positive };
    let positives: Vec<Kept> = positive(histogram).map(|bucket| cut(bucket, above)).collect();
    let negatives: Vec<Kept> = negative(histogram).map(|bucket| cut(bucket, Shape::Negative)).collect();
    let zero = cut(narrowed(histogram, zero_bucket(histogram)), Shape::Linear);

    let counts = |kept: &[Kept]| kept.iter().map(|kept| kept.count).collect::<Vec<f64>>();
    let (positive_counts, negative_counts) = (counts(&positives), counts(&negatives));
    let is_whole = positive_counts == histogram.positive_counts
        && negative_counts == histogram.negative_counts
        && zero.count == histogram.zero_count;
    if is_whole {
        return;
    }
    let all = || positives.iter().chain(&negatives).chain([&zero]).filter(|kept| kept.count != 0.0);
    histogram.count = all().map(|kept| kept.count).sum();
    histogram.sum = all().map(|kept| kept.count * kept.middle).sum();
    histogram.zero_count = zero.count;
    histogram.positive_counts = positive_counts;
    histogram.negative_counts = negative_counts;
    compact(histogram);
}

/// How observations lie in a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Linear,
    /// Exponentially, above or below zero.
    Positive,
    Negative,
}

#[derive(Clone, Copy)]
struct Kept {
    count: f64,
    /// Of the part of the bucket that stays.
    middle: f64,
}

const NOTHING: Kept = Kept { count: 0.0, middle: 0.0 };

fn kept(bucket: &Bucket, at: f64, keep: Keep, shape: Shape) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    if lower == f64::NEG_INFINITY {
        return kept_of_first(upper, count, at, keep);
    }
    if upper == f64::INFINITY {
        return kept_of_last(lower, count, at, keep);
    }
    let (stays, goes) = match keep {
        Keep::Below => (upper <= at, lower >= at),
        Keep::Above => (lower >= at, upper <= at),
    };
    if stays {
        return Kept { count, middle: middle(lower, upper, shape) };
    }
    if goes || at.is_nan() {
        return NOTHING;
    }
    let below = count * share_below(at, bucket, shape == Shape::Linear);
    match keep {
        Keep::Below => Kept { count: below, middle: middle(lower, at, shape) },
        Keep::Above => Kept { count: count - below, middle: middle(at, upper, shape) },
    }
}

fn middle(lower: f64, upper: f64, shape: Shape) -> f64 {
    match shape {
        Shape::Linear => (lower + upper) / 2.0,
        Shape::Positive => (lower * upper).sqrt(),
        Shape::Negative => -(lower * upper).sqrt(),
    }
}

/// Of the bucket that begins nowhere: at zero if it ends above, else its
/// observations are taken to be at its end, or at the value that cuts it.
fn kept_of_first(upper: f64, count: f64, at: f64, keep: Keep) -> Kept {
    let from_zero = upper > 0.0 && upper != f64::INFINITY;
    let whole = Kept { count, middle: if from_zero { upper / 2.0 } else { upper } };
    let is_within = from_zero && at >= 0.0 && at < upper;
    match keep {
        Keep::Below if at >= upper => whole,
        Keep::Below if is_within => Kept { count: count * at / upper, middle: at / 2.0 },
        Keep::Below if upper <= 0.0 && at != f64::NEG_INFINITY => Kept { count, middle: at },
        Keep::Above if at == f64::NEG_INFINITY => whole,
        Keep::Above if is_within => Kept { count: count * (1.0 - at / upper), middle: (at + upper) / 2.0 },
        _ => NOTHING,
    }
}

/// Of the bucket that ends nowhere: its observations are taken to be at its
/// beginning, or at the value that cuts it.
fn kept_of_last(lower: f64, count: f64, at: f64, keep: Keep) -> Kept {
    match keep {
        Keep::Below if at == f64::INFINITY => Kept { count, middle: lower },
        Keep::Above if at < f64::INFINITY => Kept { count, middle: lower.max(at) },
        _ => NOTHING,
    }
}
