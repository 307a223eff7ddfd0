//! `histogram </ number` and `histogram >/ number`.

use lm_model::Histogram;

use super::estimate::share_below;
use super::{Bucket, compact, is_custom, negative, positive, zero_bucket};

/// The observations that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Below,
    Above,
}

/// Takes away the observations beyond a value, those of the bucket it lies in
/// by interpolation, and corrects count and sum (`trimHistogram` of
/// `promql/engine.go`).
pub(crate) fn trim(histogram: &mut Histogram, at: f64, keep: Keep) {
    let is_custom = is_custom(histogram);
    let (mut count, mut removed) = (0.0, 0.0);
    let mut has_negative = negative(histogram).any(|bucket| bucket.count != 0.0);
    let mut has_positive = false;
    let mut cut = |bucket: Bucket, is_positive: bool| {
        if bucket.count == 0.0 {
            return 0.0;
        }
        let kept = kept(&bucket, at, keep, is_custom, is_positive);
        count += kept.count;
        removed += (bucket.count - kept.count) * kept.removed_middle;
        kept.count
    };
    for bucket in positive(histogram).filter(|bucket| bucket.count != 0.0) {
        has_positive |= !is_custom || bucket.upper > 0.0;
        has_negative |= is_custom && (bucket.upper <= 0.0 || bucket.lower < 0.0);
    }
    let positive_counts: Vec<f64> = positive(histogram).map(|bucket| cut(bucket, true)).collect();
    let negative_counts: Vec<f64> = negative(histogram).map(|bucket| cut(bucket, false)).collect();
    histogram.positive_counts = positive_counts;
    histogram.negative_counts = negative_counts;
    if histogram.zero_count > 0.0 {
        // Its observations are taken to be zero, so the sum stays.
        let zero = zero_bucket(histogram);
        let below = if at <= zero.lower {
            0.0
        } else if at >= zero.upper {
            zero.count
        } else {
            zero.count * share_below(at, &zero, true)
        };
        histogram.zero_count = if keep == Keep::Below { below } else { zero.count - below };
        count += histogram.zero_count;
    }
    histogram.sum = if count == 0.0 { 0.0 } else { histogram.sum - removed };
    if (!has_negative && histogram.sum < 0.0) || (!has_positive && histogram.sum > 0.0) {
        histogram.sum = 0.0;
    }
    histogram.count = count;
    compact(histogram);
}

struct Kept {
    count: f64,
    /// What each observation taken away counted for in the sum.
    removed_middle: f64,
}

fn kept(bucket: &Bucket, at: f64, keep: Keep, is_custom: bool, is_positive: bool) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    if lower == f64::NEG_INFINITY || upper == f64::INFINITY {
        return kept_of_infinite(bucket, at, keep);
    }
    let (stays, goes) = match keep {
        Keep::Below => (upper <= at, lower >= at),
        Keep::Above => (lower >= at, upper <= at),
    };
    if stays {
        return Kept { count, removed_middle: 0.0 };
    }
    if goes {
        return Kept { count: 0.0, removed_middle: middle(lower, upper, is_custom, is_positive) };
    }
    let below = count * share_below(at, bucket, is_custom);
    match keep {
        Keep::Below => {
            Kept { count: below, removed_middle: middle_of_cut(bucket, lower, at, is_custom, is_positive) }
        }
        Keep::Above => Kept {
            count: count - below,
            removed_middle: middle_of_cut(bucket, at, upper, is_custom, is_positive),
        },
    }
}

fn middle(lower: f64, upper: f64, is_linear: bool, is_positive: bool) -> f64 {
    if is_linear {
        return (lower + upper) / 2.0;
    }
    let middle = (lower * upper).sqrt();
    if is_positive { middle } else { -middle }
}

/// `computeMidpoint`: of custom buckets the middle of the whole.
fn middle_of_cut(bucket: &Bucket, from: f64, to: f64, is_linear: bool, is_positive: bool) -> f64 {
    if is_linear {
        return (bucket.lower + bucket.upper) / 2.0;
    }
    let middle = (from.abs() * to.abs()).sqrt();
    if is_positive { middle } else { -middle }
}

/// `handleInfinityBuckets`: nobody knows how observations lie in a bucket
/// without an end, so it goes when the cut is within; the first one of custom
/// buckets begins at zero if it can.
fn kept_of_infinite(bucket: &Bucket, at: f64, keep: Keep) -> Kept {
    let Bucket { lower, upper, count, .. } = *bucket;
    let whole = Kept { count, removed_middle: 0.0 };
    if lower == f64::NEG_INFINITY {
        let is_within = at >= 0.0 && upper > at && upper != f64::INFINITY;
        return match keep {
            Keep::Below if at >= upper => whole,
            Keep::Below if is_within => {
                Kept { count: count * at / upper, removed_middle: (at + upper) / 2.0 }
            }
            Keep::Above if at == f64::NEG_INFINITY => whole,
            Keep::Above if is_within => Kept { count: count * (1.0 - at / upper), removed_middle: at / 2.0 },
            _ => Kept { count: 0.0, removed_middle: upper },
        };
    }
    match keep {
        Keep::Below if at == f64::INFINITY => whole,
        Keep::Above if at <= lower => whole,
        _ => Kept { count: 0.0, removed_middle: lower },
    }
}
