//! Functions of a window that holds native histograms, alone or among numbers
//! (`promql/functions.go` of Prometheus). Windows of numbers only never come here.

use std::sync::Arc;

use lm_model::{Histogram, ResetHint, Timestamp};

use crate::annotations::{Note, Operation};
use crate::answer::Point;
use crate::ast::Function;
use crate::native::{self, Incompatible, Total};

type HistogramSample = (Timestamp, Arc<Histogram>);

/// A window with at least one histogram.
#[derive(Clone, Copy)]
pub(crate) struct MixedWindow<'a> {
    /// Of the numbers, in milliseconds.
    pub times: &'a [i64],
    pub values: &'a [f64],
    pub histograms: &'a [HistogramSample],
    /// The window's bounds in milliseconds: later than, up to.
    pub after: i64,
    pub until: i64,
    pub range_millis: i64,
}

/// The function's value. `numbers` computes it from the numbers alone, where
/// there are any.
pub(crate) fn apply(
    function: Function,
    window: &MixedWindow<'_>,
    numbers: impl FnOnce() -> Option<f64>,
    note: &mut impl FnMut(Note),
) -> Option<Point> {
    use Function::*;
    let has_numbers = !window.times.is_empty();
    match function {
        Rate | Increase | Delta | SumOverTime | AvgOverTime if has_numbers => {
            note(Note::MixedRange);
            None
        }
        Rate => extrapolated(window, true, true, note),
        Increase => extrapolated(window, true, false, note),
        Delta => extrapolated(window, false, false, note),
        Irate => instant_change(window, true, note),
        Idelta => instant_change(window, false, note),
        SumOverTime => summed(window.histograms, note, sum).map(point),
        AvgOverTime => summed(window.histograms, note, mean).map(point),
        CountOverTime => Some(Point::Number((window.times.len() + window.histograms.len()) as f64)),
        PresentOverTime | AbsentOverTime => Some(Point::Number(1.0)),
        FirstOverTime | LastOverTime => Some(edge(window, function == FirstOverTime).1),
        TsOfFirstOverTime | TsOfLastOverTime => {
            let time = edge(window, function == TsOfFirstOverTime).0;
            Some(Point::Number(time as f64 / 1000.0))
        }
        Resets => Some(Point::Number(count_pairs(window, is_reset))),
        Changes => Some(Point::Number(count_pairs(window, is_change))),
        _ => {
            if !has_numbers {
                return None;
            }
            // What needs two numbers and has one says so, too.
            note(Note::IgnoredInMixedRange);
            numbers().map(Point::Number)
        }
    }
}

fn point(histogram: Histogram) -> Point {
    Point::Histogram(Arc::new(histogram))
}

/// The first or the last sample, and its time.
fn edge(window: &MixedWindow<'_>, is_first: bool) -> (i64, Point) {
    let index = |len: usize| if is_first { 0 } else { len.saturating_sub(1) };
    let number = window.times.get(index(window.times.len())).copied();
    let (histogram_time, histogram) = &window.histograms[index(window.histograms.len())];
    let histogram_time = histogram_time.as_millis();
    match number {
        Some(time) if (time < histogram_time) == is_first && time != histogram_time => {
            (time, Point::Number(window.values[index(window.values.len())]))
        }
        _ => (histogram_time, Point::Histogram(histogram.clone())),
    }
}

/// All samples in the order of their times.
fn in_order(window: &MixedWindow<'_>) -> Vec<Point> {
    let mut all = Vec::with_capacity(window.times.len() + window.histograms.len());
    let mut numbers = window.times.iter().zip(window.values).peekable();
    for (time, histogram) in window.histograms {
        while let Some((_, value)) = numbers.next_if(|(at, _)| **at < time.as_millis()) {
            all.push(Point::Number(*value));
        }
        all.push(Point::Histogram(histogram.clone()));
    }
    all.extend(numbers.map(|(_, value)| Point::Number(*value)));
    all
}

fn count_pairs(window: &MixedWindow<'_>, counts: impl Fn(&Point, &Point) -> bool) -> f64 {
    in_order(window).windows(2).filter(|pair| counts(&pair[0], &pair[1])).count() as f64
}

/// Whether a counter was reset between two neighbours; a change of type is one.
pub(crate) fn is_reset(before: &Point, after: &Point) -> bool {
    match (before, after) {
        (Point::Number(before), Point::Number(after)) => after < before,
        (Point::Histogram(before), Point::Histogram(after)) => native::is_reset(after, before),
        _ => true,
    }
}

pub(crate) fn is_change(before: &Point, after: &Point) -> bool {
    match (before, after) {
        (Point::Number(a), Point::Number(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Point::Histogram(a), Point::Histogram(b)) => !native::is_equal(a, b),
        _ => true,
    }
}

fn note_schemas(note: &mut impl FnMut(Note)) -> impl FnOnce(Incompatible) + '_ {
    move |Incompatible| note(Note::MixedSchemas)
}

/// The change over the window, as [`crate::range_functions`] extrapolates it.
fn extrapolated(
    window: &MixedWindow<'_>,
    is_counter: bool,
    is_rate: bool,
    note: &mut impl FnMut(Note),
) -> Option<Point> {
    let [first, .., last] = window.histograms else { return None };
    let mut change = change(window.histograms, is_counter, note)?;
    let seconds = |millis: i64| millis as f64 / 1000.0;
    let (first_time, last_time) = (first.0.as_millis(), last.0.as_millis());
    let sampled = seconds(last_time - first_time);
    let average = sampled / (window.histograms.len() - 1) as f64;
    let threshold = average * 1.1;
    let mut to_start = seconds(first_time.saturating_sub(window.after));
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if is_counter && change.count > 0.0 && first.1.count >= 0.0 {
        to_start = to_start.min(sampled * (first.1.count / change.count));
    }
    let mut to_end = seconds(window.until.saturating_sub(last_time));
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if is_rate {
        factor /= seconds(window.range_millis);
    }
    native::multiply(&mut change, factor);
    Some(point(change))
}

/// The change from the first to the last of at least two histograms, resets
/// taken into account for a counter (`histogramRate`).
fn change(samples: &[HistogramSample], is_counter: bool, note: &mut impl FnMut(Note)) -> Option<Histogram> {
    let [(_, first), (_, second), ..] = samples else { return None };
    let last = &samples[samples.len() - 1].1;
    let is_gauge = |histogram: &Histogram| histogram.reset_hint == ResetHint::Gauge;
    if is_counter && samples.iter().any(|(_, histogram)| is_gauge(histogram)) {
        note(Note::NotCounter);
    }
    let has_gauge_ends = is_gauge(first) && is_gauge(last);
    if !is_counter && !has_gauge_ends {
        note(Note::NotGauge);
    }
    // What was before a reset need not fit: it is not looked at.
    let starts_anew = is_counter && native::is_reset(second, first);
    let start = if starts_anew { nothing_like(second) } else { (**first).clone() };
    let counted = if is_counter { &samples[1..] } else { &samples[samples.len() - 1..] };
    if counted.iter().any(|(_, histogram)| native::is_custom(histogram) != native::is_custom(&start)) {
        note(Note::MixedSchemas);
        return None;
    }
    let mut total = Total::new(last);
    total.sub(&start).map_err(note_schemas(note)).ok()?;
    if total.events.bounds_differed {
        note(Note::ReconciledBounds(Operation::Subtraction));
    }
    if is_counter {
        total.events.bounds_differed = false;
        let mut before = &start;
        for (_, now) in &samples[1..] {
            if native::is_reset(now, before) {
                total.add(before).map_err(note_schemas(note)).ok()?;
            }
            before = now;
        }
        if total.events.bounds_differed {
            note(Note::ReconciledBounds(Operation::Addition));
        }
    }
    let mut change = total.finish();
    change.reset_hint = ResetHint::Gauge;
    Some(change)
}

/// No observations, in the layout of a histogram.
pub(crate) fn nothing_like(histogram: &Histogram) -> Histogram {
    Histogram {
        schema: histogram.schema,
        custom_bounds: histogram.custom_bounds.clone(),
        ..Histogram::default()
    }
}

/// The change between the last two samples; of a counter, per second
/// (`instantValue`).
fn instant_change(window: &MixedWindow<'_>, is_rate: bool, note: &mut impl FnMut(Note)) -> Option<Point> {
    let numbers = window.times.iter().zip(window.values).map(|(time, value)| (*time, Point::Number(*value)));
    let histograms =
        window.histograms.iter().map(|(time, of)| (time.as_millis(), Point::Histogram(of.clone())));
    let tail = |len: usize| len.saturating_sub(2);
    let mut last: Vec<(i64, Point)> = numbers
        .skip(tail(window.times.len()))
        .chain(histograms.skip(tail(window.histograms.len())))
        .collect();
    last.sort_by_key(|(time, _)| *time);
    let [.., (before_time, before), (time, now)] = &last[..] else { return None };
    let elapsed = (time - before_time) as f64 / 1000.0;
    match (before, now) {
        (Point::Number(before), Point::Number(now)) => Some(Point::Number(match is_rate {
            true if now < before => now / elapsed,
            true => (now - before) / elapsed,
            false => now - before,
        })),
        (Point::Histogram(before), Point::Histogram(now)) => {
            let gauges = [before, now].into_iter().filter(|of| of.reset_hint == ResetHint::Gauge).count();
            if is_rate && gauges > 0 {
                note(Note::NotCounter);
            }
            if !is_rate && gauges < 2 {
                note(Note::NotGauge);
            }
            let mut total = Total::new(now);
            if !is_rate || !native::is_reset(now, before) {
                total.sub(before).map_err(note_schemas(note)).ok()?;
                if total.events.bounds_differed {
                    note(Note::ReconciledBounds(Operation::Subtraction));
                }
            }
            let mut change = total.finish();
            change.reset_hint = ResetHint::Gauge;
            if is_rate {
                native::divide(&mut change, elapsed);
            }
            Some(point(change))
        }
        _ => {
            note(Note::MixedRange);
            None
        }
    }
}

/// Sum or mean of histograms, with what is to be said about it.
fn summed(
    samples: &[HistogramSample],
    note: &mut impl FnMut(Note),
    f: impl FnOnce(&[&Histogram]) -> Result<(Histogram, native::Events), Incompatible>,
) -> Option<Histogram> {
    let all: Vec<&Histogram> = samples.iter().map(|(_, histogram)| &**histogram).collect();
    let (result, events) = f(&all).map_err(note_schemas(note)).ok()?;
    if hints_collide(&all) {
        note(Note::CollidingResets(Operation::Aggregation));
    }
    if events.bounds_differed {
        note(Note::ReconciledBounds(Operation::Aggregation));
    }
    Some(result)
}

/// Whether some of them follow a reset and others say that they do not.
pub(crate) fn hints_collide(all: &[&Histogram]) -> bool {
    let has = |hint: ResetHint| all.iter().any(|histogram| histogram.reset_hint == hint);
    has(ResetHint::Reset) && has(ResetHint::NotReset)
}

fn total_of(all: &[&Histogram], divisor: Option<f64>) -> Result<Total, Incompatible> {
    let part = |histogram: &Histogram| {
        let mut part = histogram.clone();
        if let Some(divisor) = divisor {
            native::divide(&mut part, divisor);
        }
        part
    };
    let mut total = Total::new(&part(all[0]));
    for histogram in &all[1..] {
        match divisor {
            None => total.add(histogram)?,
            Some(_) => total.add(&part(histogram))?,
        }
    }
    Ok(total)
}

/// The sum of at least one histogram.
pub(crate) fn sum(all: &[&Histogram]) -> Result<(Histogram, native::Events), Incompatible> {
    let total = total_of(all, None)?;
    let events = total.events;
    Ok((total.finish(), events))
}

/// The mean of at least one histogram. Where the sum is too large for a number,
/// the parts are divided first.
pub(crate) fn mean(all: &[&Histogram]) -> Result<(Histogram, native::Events), Incompatible> {
    let count = all.len() as f64;
    let total = total_of(all, None)?;
    let events = total.events;
    if total.overflows() && all.len() > 1 {
        return Ok((total_of(all, Some(count))?.finish(), events));
    }
    Ok((total.finish_with(|sum| sum.divided(count)), events))
}
