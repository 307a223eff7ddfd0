//! A plain store for scripts. It knows where native histograms would be, and
//! fails a query that asks for one.

use std::collections::BTreeMap;

use lm_model::{Labels, METRIC_NAME, MatchOp, Matcher, Samples, TimeRange, Timestamp};
use lm_promql::{SelectRequest, Selected, Storage, StorageError};
use regex::Regex;

use crate::script::{Load, Point, samples};

pub const NATIVE: &str = "native histograms";

#[derive(Default)]
pub struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, f64>>,
    native: BTreeMap<Labels, Vec<i64>>,
}

impl Store {
    pub fn load(&mut self, load: &Load) {
        // In one load the later description of a series replaces the earlier.
        let series: BTreeMap<&Labels, &Vec<Point>> = load.series.iter().map(|(l, p)| (l, p)).collect();
        for (labels, points) in series {
            let times = |(index, _)| index as i64 * load.step_millis;
            let is_native = |(_, point): &(usize, &Point)| **point == Point::Native;
            let native: Vec<i64> = points.iter().enumerate().filter(is_native).map(times).collect();
            if !native.is_empty() {
                self.native.entry(labels.clone()).or_default().extend(native);
            }
            let samples = samples(points, 0, load.step_millis);
            if let (true, Some(labels)) = (load.with_native, native_labels(labels)) {
                let times = samples.iter().map(|sample| sample.time.as_millis());
                self.native.entry(labels).or_default().extend(times);
            }
            let stored = self.series.entry(labels.clone()).or_default();
            for sample in samples {
                stored.entry(sample.time.as_millis()).or_insert(sample.value);
            }
        }
    }
}

/// Labels of the native histogram that a bucket is made part of.
fn native_labels(labels: &Labels) -> Option<Labels> {
    labels.get("le")?;
    let name = labels.metric_name().strip_suffix("_bucket")?;
    let mut builder = labels.to_builder();
    builder.remove("le").set(METRIC_NAME, name);
    Some(builder.build())
}

impl Storage for Store {
    fn select<'a>(&'a self, request: SelectRequest<'_>) -> Result<Box<dyn Selected + 'a>, StorageError> {
        let tests: Vec<_> = request.matchers.iter().map(test).collect();
        let matches = |labels: &Labels| tests.iter().all(|test| test(labels));
        let within = |time: &i64| contains(request.range, *time);
        if self.native.iter().any(|(labels, times)| matches(labels) && times.iter().any(within)) {
            return Err(StorageError::Unavailable(NATIVE.into()));
        }
        let mut found: Vec<(Labels, Samples)> = Vec::new();
        for (labels, stored) in self.series.iter().filter(|(labels, _)| matches(labels)) {
            let mut samples = Samples::default();
            for (time, value) in stored.iter().filter(|(time, _)| within(time)) {
                samples.push(Timestamp::from_millis(*time), *value);
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
