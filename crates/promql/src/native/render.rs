//! A histogram as text, for `count_values`.

use std::fmt::Write as _;

use lm_model::Histogram;
use lm_model::buckets;

use crate::text::shortest;

/// `{count:3, sum:4.5, (0.5,1]:2, ...}`, populated buckets ascending
/// (`FloatHistogram.String`).
pub(crate) fn render(histogram: &Histogram) -> String {
    let mut text = format!("{{count:{}, sum:{}", shortest(histogram.count), shortest(histogram.sum));
    for bucket in buckets::all(histogram).into_iter().filter(|bucket| bucket.count != 0.0) {
        let open = if bucket.lower_inclusive { '[' } else { '(' };
        let close = if bucket.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (shortest(bucket.lower), shortest(bucket.upper));
        let _ = write!(text, ", {open}{lower},{upper}{close}:{}", shortest(bucket.count));
    }
    text.push('}');
    text
}
