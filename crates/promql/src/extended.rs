//! Selectors that look beyond their window: `anchored` and `smoothed`.
//!
//! `rate(x[5m] anchored)` is the change since the last sample before the window,
//! `smoothed` interpolates at both ends with the samples around them. Nothing is
//! extrapolated (`extendedRate` of Prometheus' `promql/functions.go`).

use std::sync::Arc;

use lm_model::{Histogram, ResetHint, Samples, Timestamp};

use crate::annotations::{Note, Operation};
use crate::answer::Point;
use crate::ast::{Call, Extension, Function, RangeSelector, Selector};
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::mixed;
use crate::native::{self, Incompatible, Total};
use crate::rows::Row;
use crate::series::Markers;
use crate::windows::Steps;

type Sample = (i64, Point);

/// A function of a range selector with a modifier.
pub(crate) fn range(
    evaluator: &mut Evaluator<'_>,
    call: &Call,
    selector: &RangeSelector,
    extension: Extension,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let found = evaluator.range_series(&crate::ast::Expr::Range(selector.clone()), steps)?;
    let windows = &found.windows;
    let (lookback, annotations) = (crate::eval::millis(evaluator.engine.lookback), &evaluator.annotations);
    evaluator.map_series(&found, true, Markers::Dropped, |reader, row| {
        let samples = in_order(&reader.samples);
        let name = row.labels.metric_name().to_owned();
        let mut note = |note| annotations.add(note, &name, call.arg_span(0));
        for step in 0..windows.len() {
            let (after, until) = windows.of(step);
            let ahead = if extension == Extension::Smoothed { lookback } else { 0 };
            let within = within(&samples, after.saturating_sub(lookback), until.saturating_add(ahead));
            reader.count_work(1 + within.len())?;
            let window = Window { samples: within, after, until, extension };
            let point = match call.function {
                Function::Resets => window.count_pairs(mixed::is_reset),
                Function::Changes => window.count_pairs(mixed::is_change),
                function => {
                    let is_counter = function != Function::Delta;
                    let change = window.change(is_counter, &mut note);
                    change.map(|change| match function {
                        Function::Rate => divided(change, windows.range_millis as f64 / 1000.0),
                        _ => change,
                    })
                }
            };
            if let Some(point) = point {
                row.set(step, point);
            }
        }
        Ok(())
    })
}

/// `metric smoothed`: interpolated between the samples around each step.
pub(crate) fn instants(
    evaluator: &mut Evaluator<'_>,
    selector: &Selector,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let found = evaluator.instant_series(selector, steps)?;
    let windows = &found.windows;
    let (lookback, annotations) = (crate::eval::millis(evaluator.engine.lookback), &evaluator.annotations);
    evaluator.map_series(&found, false, Markers::Dropped, |reader, row| {
        let samples = in_order(&reader.samples);
        let name = row.labels.metric_name().to_owned();
        let mut note = |note| annotations.add(note, &name, selector.span);
        for step in 0..windows.len() {
            let (after, until) = windows.of(step);
            let within = within(&samples, after, until.saturating_add(lookback));
            reader.count_work(1 + within.len())?;
            if is_mixed(within) {
                note(Note::MixedRange);
                continue;
            }
            let next = within.partition_point(|(time, _)| *time <= until);
            let Some(before) = next.checked_sub(1).map(|at| &within[at]) else { continue };
            let point = match within.get(next) {
                Some(after) if before.0 < until => {
                    let is_counter =
                        matches!(&after.1, Point::Histogram(of) if of.reset_hint != ResetHint::Gauge);
                    interpolated(before, after, until, is_counter, &mut note)
                }
                _ => Some(before.1.clone()),
            };
            if let Some(point) = point {
                row.set(step, point);
            }
        }
        Ok(())
    })
}

/// Numbers and histograms in the order of their times.
fn in_order(samples: &Samples) -> Vec<Sample> {
    let numbers =
        samples.times.iter().zip(&samples.values).map(|(time, value)| (*time, Point::Number(*value)));
    let histograms = samples.histograms.iter().map(|(time, histogram): &(Timestamp, Arc<Histogram>)| {
        (time.as_millis(), Point::Histogram(histogram.clone()))
    });
    let mut all: Vec<Sample> = numbers.chain(histograms).collect();
    if !samples.histograms.is_empty() {
        all.sort_by_key(|(time, _)| *time);
    }
    all
}

/// Samples later than the one time, up to the other.
fn within(samples: &[Sample], after: i64, until: i64) -> &[Sample] {
    let start = samples.partition_point(|(time, _)| *time <= after);
    let end = samples.partition_point(|(time, _)| *time <= until);
    &samples[start..end.max(start)]
}

fn is_mixed(samples: &[Sample]) -> bool {
    let histograms = samples.iter().filter(|(_, point)| matches!(point, Point::Histogram(_))).count();
    histograms > 0 && histograms < samples.len()
}

/// Samples around a window and in it.
struct Window<'a> {
    samples: &'a [Sample],
    after: i64,
    until: i64,
    extension: Extension,
}

impl Window<'_> {
    /// From the sample that stands for the window's beginning to the one that
    /// stands for its end. `None` if all are before the window, or behind it.
    fn relevant(&self) -> Option<&[Sample]> {
        let samples = self.samples;
        if samples.first()?.0 > self.until || samples.last()?.0 <= self.after {
            return None;
        }
        let first = samples.partition_point(|(time, _)| *time <= self.after).saturating_sub(1);
        let end = match self.extension {
            Extension::Anchored => samples.len(),
            Extension::Smoothed => {
                (samples.partition_point(|(time, _)| *time < self.until) + 1).min(samples.len())
            }
        };
        let relevant = &samples[first..end];
        // With nothing in the window, there must be something on both sides of it.
        (relevant.last()?.0 > self.after).then_some(relevant)
    }

    fn count_pairs(&self, counts: impl Fn(&Point, &Point) -> bool) -> Option<Point> {
        let samples = self.relevant()?;
        let count = samples.windows(2).filter(|pair| counts(&pair[0].1, &pair[1].1)).count();
        Some(Point::Number(count as f64))
    }

    /// The change over the window, of a counter with its resets.
    fn change(&self, is_counter: bool, note: &mut impl FnMut(Note)) -> Option<Point> {
        let samples = self.relevant()?;
        if is_mixed(samples) {
            note(Note::MixedRange);
            return None;
        }
        note_hints(samples, is_counter, note);
        let is_smoothed = self.extension == Extension::Smoothed;
        let (first, last) = (&samples[0], &samples[samples.len() - 1]);
        let cuts_left = is_smoothed && first.0 < self.after && samples.len() > 1;
        let left = match cuts_left {
            true => interpolated(first, &samples[1], self.after, is_counter, note)?,
            false => first.1.clone(),
        };
        let cuts_right = is_smoothed && last.0 > self.until && samples.len() > 1;
        let right = match cuts_right {
            true => interpolated(&samples[samples.len() - 2], last, self.until, is_counter, note)?,
            false => last.1.clone(),
        };
        let mut lost: Vec<&Point> = Vec::new();
        if is_counter {
            // What is cut on the left has its reset taken into account.
            let start = usize::from(cuts_left);
            let resets = samples[start..].windows(2).filter(|pair| mixed::is_reset(&pair[0].1, &pair[1].1));
            lost.extend(resets.map(|pair| &pair[0].1));
        }
        difference(&right, &left, &lost, note)
    }
}

fn note_hints(samples: &[Sample], is_counter: bool, note: &mut impl FnMut(Note)) {
    let is = |(_, point): &Sample, gauge: bool| matches!(point, Point::Histogram(of) if (of.reset_hint == ResetHint::Gauge) == gauge);
    if is_counter && samples.iter().any(|sample| is(sample, true)) {
        note(Note::NotCounter);
    }
    if !is_counter && [samples.first(), samples.last()].into_iter().flatten().any(|sample| is(sample, false))
    {
        note(Note::NotGauge);
    }
}

/// The value at a time between two samples of the same type. A counter that was
/// reset between them rises from zero.
fn interpolated(
    before: &Sample,
    after: &Sample,
    time: i64,
    is_counter: bool,
    note: &mut impl FnMut(Note),
) -> Option<Point> {
    let fraction = (time - before.0) as f64 / (after.0 - before.0) as f64;
    let starts_anew = is_counter && mixed::is_reset(&before.1, &after.1);
    match (&before.1, &after.1) {
        (Point::Number(before), Point::Number(after)) => {
            let before = if starts_anew { 0.0 } else { *before };
            Some(Point::Number(before + (after - before) * fraction))
        }
        (Point::Histogram(before), Point::Histogram(after)) => {
            let part = |of: &Histogram, factor: f64| {
                let mut part = of.clone();
                native::multiply(&mut part, factor);
                part
            };
            if native::is_custom(before) != native::is_custom(after) {
                note(Note::MixedSchemas);
                return None;
            }
            let end = part(after, fraction);
            if starts_anew {
                return Some(Point::Histogram(Arc::new(end)));
            }
            let mut total = Total::new(&end);
            total.add(&part(before, 1.0 - fraction)).ok()?;
            Some(Point::Histogram(Arc::new(total.finish())))
        }
        _ => None,
    }
}

/// `right - left`, and what was lost at resets.
fn difference(right: &Point, left: &Point, lost: &[&Point], note: &mut impl FnMut(Note)) -> Option<Point> {
    match (right, left) {
        (Point::Number(right), Point::Number(left)) => {
            let number = |point: &&Point| if let Point::Number(value) = point { *value } else { 0.0 };
            Some(Point::Number(right - left + lost.iter().map(number).sum::<f64>()))
        }
        (Point::Histogram(right), Point::Histogram(left)) => {
            let mut total = Total::new(right);
            let mut result = total.sub(left);
            let mut events = vec![(total.events, Operation::Subtraction)];
            total.events = native::Events::default();
            for point in lost {
                if let (Ok(()), Point::Histogram(histogram)) = (result, point) {
                    result = total.add(histogram);
                }
            }
            events.push((total.events, Operation::Addition));
            if result == Err(Incompatible) {
                note(Note::MixedSchemas);
                return None;
            }
            for (_, operation) in events.iter().filter(|(events, _)| events.bounds_differed) {
                note(Note::ReconciledBounds(*operation));
            }
            let mut change = total.finish();
            change.reset_hint = ResetHint::Gauge;
            Some(Point::Histogram(Arc::new(change)))
        }
        _ => None,
    }
}

fn divided(point: Point, divisor: f64) -> Point {
    match point {
        Point::Number(value) => Point::Number(value / divisor),
        Point::Histogram(mut histogram) => {
            native::divide(Arc::make_mut(&mut histogram), divisor);
            Point::Histogram(histogram)
        }
    }
}
