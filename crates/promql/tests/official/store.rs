//! A plain store for scripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use lm_model::buckets::all as all_buckets;
use lm_model::{
    CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, METRIC_NAME, MatchOp, Matcher, ResetHint, Samples, Span,
    TimeRange, Timestamp,
};
use lm_promql::{SelectRequest, Selected, Storage, StorageError};
use regex::Regex;

use crate::script::{Load, Point, histograms, samples};

#[derive(Default)]
pub struct Store {
    series: BTreeMap<Labels, Stored>,
    /// Something loaded had start timestamps, which we do not keep.
    pub has_start_timestamps: bool,
}

#[derive(Default)]
struct Stored {
    numbers: BTreeMap<i64, f64>,
    histograms: BTreeMap<i64, Arc<Histogram>>,
}

/// A classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// By the bits of the upper bounds, which are ordered as the bounds are.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Store {
    pub fn load(&mut self, load: &Load) {
        self.has_start_timestamps |= load.has_start_timestamps;
        // In one load the later description of a series replaces the earlier.
        let series: BTreeMap<&Labels, &Vec<Point>> = load.series.iter().map(|(l, p)| (l, p)).collect();
        let mut classic: BTreeMap<(Labels, i64), Classic> = BTreeMap::new();
        for (labels, points) in series {
            let stored = self.series.entry(labels.clone()).or_default();
            for (time, histogram) in hinted(histograms(points, 0, load.step_millis)) {
                stored.histograms.entry(time.as_millis()).or_insert(histogram);
            }
            for sample in samples(points, 0, load.step_millis) {
                let (time, value) = (sample.time.as_millis(), sample.value);
                stored.numbers.entry(time).or_insert(value);
                if let (true, Some((of, part))) = (load.with_native, part_of(labels)) {
                    let whole = classic.entry((of, time)).or_default();
                    match part {
                        Part::Bucket(upper) => whole.buckets.push((upper, value)),
                        Part::Count => whole.count = Some(value),
                        Part::Sum => whole.sum = value,
                    }
                }
            }
        }
        for ((labels, time), whole) in classic {
            if let Some(histogram) = whole.native() {
                self.series.entry(labels).or_default().histograms.insert(time, Arc::new(histogram));
            }
        }
    }
}

/// Hints as a Prometheus store answers them: what begins a chunk says nothing,
/// what follows in it is no reset. A reset begins a chunk, a change of type, too.
fn hinted(samples: Vec<(Timestamp, Arc<Histogram>)>) -> Vec<(Timestamp, Arc<Histogram>)> {
    let mut before: Option<Arc<Histogram>> = None;
    let hint = |(time, histogram): (Timestamp, Arc<Histogram>)| {
        let is_new_chunk = before
            .as_ref()
            .is_none_or(|before| before.reset_hint == ResetHint::Gauge || decreases(before, &histogram));
        let mut hinted = (*histogram).clone();
        if hinted.reset_hint == ResetHint::Unknown && !is_new_chunk && !hinted.is_stale() {
            hinted.reset_hint = ResetHint::NotReset;
        }
        before = Some(Arc::new(hinted.clone()));
        (time, Arc::new(hinted))
    };
    samples.into_iter().map(hint).collect()
}

/// Whether some bucket, or the layout, says that counters were reset.
fn decreases(before: &Histogram, now: &Histogram) -> bool {
    let counts = |of: &Histogram| {
        all_buckets(of)
            .into_iter()
            .map(|bucket| (bucket.lower, bucket.upper, bucket.count))
            .collect::<Vec<_>>()
    };
    let now_counts = counts(now);
    now.count < before.count
        || now.schema != before.schema
        || now.zero_threshold != before.zero_threshold
        || now.custom_bounds != before.custom_bounds
        || counts(before).into_iter().any(|(lower, upper, count)| {
            let same = now_counts.iter().find(|now| (now.0, now.1) == (lower, upper));
            same.map_or(0.0, |now| now.2) < count
        })
}

enum Part {
    Bucket(f64),
    Count,
    Sum,
}

/// Of which classic histogram a series is a part, and which.
fn part_of(labels: &Labels) -> Option<(Labels, Part)> {
    let name = labels.metric_name();
    let (of, part) = if let Some(of) = name.strip_suffix("_bucket") {
        (of, Part::Bucket(labels.get("le")?.parse().ok()?))
    } else if let Some(of) = name.strip_suffix("_count") {
        (of, Part::Count)
    } else {
        (name.strip_suffix("_sum")?, Part::Sum)
    };
    let mut builder = labels.to_builder();
    builder.remove("le").set(METRIC_NAME, of);
    Some((builder.build(), part))
}

impl Classic {
    /// As a native histogram with custom buckets.
    fn native(mut self) -> Option<Histogram> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let last = self.buckets.last()?.1;
        let count = self.count.unwrap_or(last);
        let (mut before, mut counts) = (0.0, Vec::new());
        let finite: Vec<&(f64, f64)> = self.buckets.iter().filter(|(upper, _)| upper.is_finite()).collect();
        for (_, cumulative) in &finite {
            counts.push(cumulative - before);
            before = *cumulative;
        }
        counts.push(count - before);
        if counts.iter().any(|count| *count < 0.0) {
            return None;
        }
        Some(Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: counts.len() as u32 }],
            positive_counts: counts,
            custom_bounds: finite.into_iter().map(|(upper, _)| *upper).collect(),
            ..Histogram::default()
        })
    }
}

impl Storage for Store {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let tests: Vec<_> = request.matchers.iter().map(test).collect();
        let matches = |labels: &Labels| tests.iter().all(|test| test(labels));
        let within = |time: &i64| contains(request.range, *time);
        let mut found: Vec<(Labels, Samples)> = Vec::new();
        for (labels, stored) in self.series.iter().filter(|(labels, _)| matches(labels)) {
            let mut samples = Samples::default();
            for (time, value) in stored.numbers.iter().filter(|(time, _)| within(time)) {
                samples.push(Timestamp::from_millis(*time), *value);
            }
            for (time, histogram) in stored.histograms.iter().filter(|(time, _)| within(time)) {
                samples.histograms.push((Timestamp::from_millis(*time), histogram.clone()));
            }
            found.push((labels.clone(), samples));
        }
        Ok(Box::new(found))
    }
}

fn contains(range: TimeRange, time: i64) -> bool {
    range.contains(Timestamp::from_millis(time))
}

fn test(matcher: &Matcher) -> Box<dyn Fn(&Labels) -> bool + '_> {
    let value = |labels: &Labels| labels.get(&matcher.name).unwrap_or("").to_owned();
    let regex = || Regex::new(&format!("^(?s:{})$", matcher.value)).expect("the parser has checked it");
    match matcher.op {
        MatchOp::Eq => Box::new(move |labels| value(labels) == *matcher.value),
        MatchOp::Ne => Box::new(move |labels| value(labels) != *matcher.value),
        MatchOp::Re => {
            let regex = regex();
            Box::new(move |labels| regex.is_match(&value(labels)))
        }
        MatchOp::Nre => {
            let regex = regex();
            Box::new(move |labels| !regex.is_match(&value(labels)))
        }
    }
}
