//! Whether an answer is the expected one.

use lm_model::buckets::all as all_buckets;
use lm_model::{Histogram, Labels, ResetHint, Timestamp, is_stale};
use lm_promql::{Answer, Element, Error, Point, SeriesData, Value};
use regex::Regex;

use crate::script::{self, Case, Expected, Message, Times};

pub fn check(case: &Case, answer: &Result<Answer, Error>) -> Result<(), String> {
    let failure = case.expected.iter().find_map(|expected| match expected {
        Expected::Fail(message) => Some(message),
        _ => None,
    });
    let answer = match (failure, answer) {
        (Some(message), Err(error)) => {
            // The script has errors without their place.
            let text = error.to_string();
            let text = text.split_once("parse error: ").map_or(&*text, |(_, message)| message);
            return check_message("error", message, &[text.to_owned()]);
        }
        (Some(_), Ok(answer)) => return Err(format!("expected an error, found {answer:?}")),
        (None, Err(error)) => return Err(error.to_string()),
        (None, Ok(answer)) => answer,
    };
    for expected in &case.expected {
        match expected {
            Expected::Warn(message) => check_message("warning", message, &answer.warnings)?,
            Expected::Info(message) => check_message("info", message, &answer.infos)?,
            Expected::NoWarn if !answer.warnings.is_empty() => return Err(format!("{:?}", answer.warnings)),
            Expected::NoInfo if !answer.infos.is_empty() => return Err(format!("{:?}", answer.infos)),
            _ => {}
        }
    }
    check_value(case, &answer.value).map_err(|reason| format!("{reason}; found {:?}", answer.value))
}

fn check_message(what: &str, expected: &Message, found: &[String]) -> Result<(), String> {
    let is_found = match expected {
        Message::Any => !found.is_empty(),
        Message::Text(text) => found.contains(text),
        Message::Regex(pattern) => {
            let regex = Regex::new(pattern).expect("the script's expression is valid");
            found.iter().any(|found| regex.is_match(found))
        }
    };
    if is_found { Ok(()) } else { Err(format!("expected {what} {expected:?}, found {found:?}")) }
}

fn check_value(case: &Case, value: &Value) -> Result<(), String> {
    if let Some(Expected::String(text)) = case.expected.iter().find(|e| matches!(e, Expected::String(_))) {
        return match value {
            Value::String(_, found) if found == text => Ok(()),
            _ => Err(format!("expected the string {text:?}")),
        };
    }
    match value {
        Value::String(..) => Err("expected no string".into()),
        Value::Scalar(sample) => match case.lines.as_slice() {
            [line] if line.parse().is_ok_and(|expected| equal(expected, sample.value)) => Ok(()),
            lines => Err(format!("expected {lines:?}")),
        },
        Value::Vector(found) => {
            let is_ordered = case.expected.contains(&Expected::Ordered);
            let expected = case.lines.iter().filter_map(|line| {
                let (labels, points) = script::series(line);
                let point = match points.into_iter().next()? {
                    script::Point::Value(value) => Point::Number(value),
                    script::Point::Native(histogram) => Point::Histogram(histogram),
                    script::Point::Gap => return None,
                };
                Some((labels, point))
            });
            same_elements(expected.collect(), elements(found), is_ordered)
        }
        Value::Matrix(found) => {
            let range = case.expected.iter().find_map(|expected| match expected {
                Expected::RangeVector { start, step, .. } => Some((*start, *step)),
                _ => None,
            });
            let (start, step) = match (range, case.times) {
                (Some(range), _) => range,
                (None, Times::Range { start, step, .. }) => (start, step),
                (None, Times::Instant(_)) => return Err("expected no range vector".into()),
            };
            let mut expected: Vec<SeriesData> = case
                .lines
                .iter()
                .map(|line| script::series(line))
                .map(|(labels, points)| SeriesData {
                    labels,
                    samples: script::samples(&points, start, step),
                    histograms: script::histograms(&points, start, step),
                })
                .filter(|series| !series.samples.is_empty() || !series.histograms.is_empty())
                .collect();
            expected.sort_by(|a, b| a.labels.cmp(&b.labels));
            same_series(&expected, found)
        }
    }
}

/// Whether both answers say the same, in whatever order.
pub fn same_value(expected: &Value, found: &Value) -> Result<(), String> {
    match (expected, found) {
        (Value::Scalar(a), Value::Scalar(b)) if equal(a.value, b.value) => Ok(()),
        (Value::String(_, a), Value::String(_, b)) if a == b => Ok(()),
        (Value::Vector(a), Value::Vector(b)) => {
            same_elements(elements(a), elements(b), false).map_err(|why| format!("{why}; found {b:?}"))
        }
        (Value::Matrix(a), Value::Matrix(b)) => same_series(a, b),
        _ => Err(format!("expected {expected:?}, found {found:?}")),
    }
}

/// What the series have at one time.
pub fn vector_at(series: &[SeriesData], time: Timestamp) -> Value {
    let element = |series: &SeriesData| {
        let number = series.samples.iter().find(|sample| sample.time == time);
        let histogram = series.histograms.iter().find(|(at, _)| *at == time);
        let point = match (number, histogram) {
            (Some(sample), _) => Point::Number(sample.value),
            (None, Some((_, histogram))) => Point::Histogram(histogram.clone()),
            (None, None) => return None,
        };
        Some(Element { labels: series.labels.clone(), time, point })
    };
    Value::Vector(series.iter().filter_map(element).collect())
}

fn elements(found: &[Element]) -> Vec<(Labels, Point)> {
    found.iter().map(|element| (element.labels.clone(), element.point.clone())).collect()
}

fn same_elements(
    mut expected: Vec<(Labels, Point)>,
    mut found: Vec<(Labels, Point)>,
    is_ordered: bool,
) -> Result<(), String> {
    if !is_ordered {
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        found.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let is_same = expected.len() == found.len()
        && expected.iter().zip(&found).all(|(e, f)| e.0 == f.0 && equal_points(&e.1, &f.1));
    if is_same { Ok(()) } else { Err(format!("expected {expected:?}")) }
}

fn same_series(expected: &[SeriesData], found: &[SeriesData]) -> Result<(), String> {
    let is_same = expected.len() == found.len()
        && expected.iter().zip(found).all(|(e, f)| {
            e.labels == f.labels
                && e.samples.len() == f.samples.len()
                && e.samples.iter().zip(&f.samples).all(|(e, f)| e.time == f.time && equal(e.value, f.value))
                && e.histograms.len() == f.histograms.len()
                && e.histograms
                    .iter()
                    .zip(&f.histograms)
                    .all(|(e, f)| e.0 == f.0 && equal_histograms(&e.1, &f.1))
        });
    if is_same { Ok(()) } else { Err(format!("expected {expected:?}")) }
}

fn equal_points(expected: &Point, found: &Point) -> bool {
    match (expected, found) {
        (Point::Number(expected), Point::Number(found)) => equal(*expected, *found),
        (Point::Histogram(expected), Point::Histogram(found)) => equal_histograms(expected, found),
        _ => false,
    }
}

/// Equal but for empty buckets, small errors, and a hint that is not expected.
fn equal_histograms(expected: &Histogram, found: &Histogram) -> bool {
    let filled =
        |of: &Histogram| all_buckets(of).into_iter().filter(|bucket| bucket.count != 0.0).collect::<Vec<_>>();
    let (a, b) = (filled(expected), filled(found));
    expected.schema == found.schema
        && (expected.reset_hint == ResetHint::Unknown || expected.reset_hint == found.reset_hint)
        && expected.zero_threshold == found.zero_threshold
        && expected.custom_bounds == found.custom_bounds
        && equal(expected.zero_count, found.zero_count)
        && equal(expected.count, found.count)
        && equal(expected.sum, found.sum)
        && a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| (a.lower, a.upper) == (b.lower, b.upper) && equal(a.count, b.count))
}

/// Equal but for a relative error of a millionth, as upstream compares.
fn equal(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 0.000_001;
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}
