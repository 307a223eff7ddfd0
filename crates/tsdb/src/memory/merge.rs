//! Samples of one series from several sources become one.

use lm_model::Samples;

use crate::block::merge_samples;

/// Adds `newer` to `into`. Of two samples at one time the one that is there
/// already stays: the older source wins.
pub(crate) fn merge_newer(into: &mut Samples, newer: &Samples) {
    if newer.is_empty() {
        return;
    }
    if last(into) < first(newer) {
        into.times.extend_from_slice(&newer.times);
        into.values.extend_from_slice(&newer.values);
        into.histograms.extend_from_slice(&newer.histograms);
        return;
    }
    let older = std::mem::take(into);
    merge_samples(&[&older, newer], into);
}

fn first(samples: &Samples) -> Option<i64> {
    let histogram = samples.histograms.first().map(|(time, _)| time.as_millis());
    samples.times.first().copied().into_iter().chain(histogram).min()
}

fn last(samples: &Samples) -> Option<i64> {
    let histogram = samples.histograms.last().map(|(time, _)| time.as_millis());
    samples.times.last().copied().max(histogram)
}
