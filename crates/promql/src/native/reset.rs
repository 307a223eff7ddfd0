//! Counter resets between two histograms.

use std::cmp::Ordering;

use lm_model::buckets::{exponential_bound, indexed};
use lm_model::{Histogram, ResetHint};

use super::is_custom;
use super::total::{Sides, coarser_or_same, common_bounds, place_in};

/// Whether counters were reset between two neighbours (`DetectReset`): some
/// count went down, a populated bucket vanished, or the layout became finer.
/// A hint decides alone.
pub(crate) fn is_reset(current: &Histogram, previous: &Histogram) -> bool {
    match current.reset_hint {
        ResetHint::Reset => return true,
        ResetHint::NotReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count || is_custom(current) != is_custom(previous) {
        return true;
    }
    if is_custom(current) {
        return custom_decreases(current, previous);
    }
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let mut before = Sides::new(previous);
    if current.zero_threshold > before.zero_threshold {
        before.widen_zero_bucket(current.zero_threshold);
    }
    if before.zero_threshold != current.zero_threshold || current.zero_count < before.zero_count {
        return true;
    }
    let levels = u32::from(previous.schema.abs_diff(current.schema));
    let sides = [
        (&current.positive_spans, &current.positive_counts, before.positive),
        (&current.negative_spans, &current.negative_counts, before.negative),
    ];
    sides.into_iter().any(|(spans, counts, before)| {
        let is_outside = |index: i32| {
            current.zero_threshold == 0.0 || exponential_bound(index, current.schema) > current.zero_threshold
        };
        let before = united(before.into_iter().map(|(index, count)| (coarser_or_same(index, levels), count)));
        let now = indexed(spans, counts).filter(|(index, _)| is_outside(*index)).collect();
        decreases(now, before)
    })
}

/// Custom buckets are compared between the bounds that both have
/// (`detectResetWithMismatchedCustomBounds`).
fn custom_decreases(current: &Histogram, previous: &Histogram) -> bool {
    let common = common_bounds(&current.custom_bounds, &previous.custom_bounds);
    let [now, before] = [current, previous].map(|of| {
        let buckets = indexed(&of.positive_spans, &of.positive_counts);
        united(buckets.map(|(index, count)| (place_in(&common, &of.custom_bounds, index), count)))
    });
    decreases(now, before)
}

/// Adds up neighbours of the same index.
fn united(buckets: impl Iterator<Item = (i32, f64)>) -> Vec<(i32, f64)> {
    let mut united: Vec<(i32, f64)> = Vec::new();
    for (index, count) in buckets {
        match united.last_mut() {
            Some((last, total)) if *last == index => *total += count,
            _ => united.push((index, count)),
        }
    }
    united
}

/// Whether some bucket had more before than it has now.
fn decreases(now: Vec<(i32, f64)>, before: Vec<(i32, f64)>) -> bool {
    let mut now = now.into_iter().peekable();
    before.into_iter().any(|(index, count)| {
        loop {
            match now.peek().map(|(at, _)| at.cmp(&index)) {
                Some(Ordering::Less) => {
                    now.next();
                }
                Some(Ordering::Equal) => return now.peek().is_some_and(|(_, current)| *current < count),
                Some(Ordering::Greater) | None => return count != 0.0,
            }
        }
    })
}
