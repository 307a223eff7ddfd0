//! Runs the test scripts of Prometheus (see `testdata/README.md`).
//!
//! The table below is exact, so a case that starts to fail is noticed, and so
//! is one that starts to pass. Cases that need native histograms or
//! experimental functions count as unsupported. Positions in warnings are not
//! compared: our tree has none.

#[path = "official/script.rs"]
mod script;
#[path = "official/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use lm_model::{Labels, Timestamp, is_stale};
use lm_promql::{Answer, Engine, Error, SeriesData, Value};
use regex::Regex;
use script::{Case, Command, Expected, Message, Times};
use store::{NATIVE, Store};

/// Per file: passed, failed, unsupported.
const TABLE: [(&str, [usize; 3]); 13] = [
    ("aggregators", [124, 0, 36]),
    ("at_modifier", [77, 0, 1]),
    ("collision", [2, 0, 0]),
    ("functions", [262, 0, 169]),
    ("histograms", [83, 0, 102]),
    ("literals", [25, 0, 0]),
    ("name_label_dropping", [30, 0, 0]),
    ("operators", [142, 0, 72]),
    ("range_queries", [15, 0, 3]),
    ("selectors", [31, 0, 0]),
    ("staleness", [17, 0, 0]),
    ("subquery", [32, 0, 2]),
    ("trig_functions", [19, 0, 0]),
];

#[test]
fn official_scripts() {
    let mut differs = false;
    for (name, expected) in TABLE {
        let path = format!("{}/testdata/{name}.test", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).expect("the script is in testdata/");
        let mut counts = [0; 3];
        let mut unsupported: BTreeMap<String, usize> = BTreeMap::new();
        let mut store = Store::default();
        for command in script::parse(&text) {
            match command {
                Command::Clear => store = Store::default(),
                Command::Load(load) => store.load(&load),
                Command::Eval(case) => match run(&store, &case) {
                    Outcome::Passed => counts[0] += 1,
                    Outcome::Failed(reason) => {
                        counts[1] += 1;
                        println!("{name}.test:{}: {}\n    {reason}", case.line, case.query);
                    }
                    Outcome::Unsupported(reason) => {
                        counts[2] += 1;
                        *unsupported.entry(reason).or_default() += 1;
                    }
                },
            }
        }
        println!("    (\"{name}\", {counts:?}), unsupported: {unsupported:?}");
        differs |= counts != expected;
    }
    assert!(!differs, "the table in this file is out of date, or something broke: see above");
}

enum Outcome {
    Passed,
    Failed(String),
    Unsupported(String),
}

fn run(store: &Store, case: &Case) -> Outcome {
    if case.lines.iter().any(|line| line.contains("{{")) {
        return Outcome::Unsupported(NATIVE.into());
    }
    let answer = evaluate(store, case);
    if let Err(error) = &answer
        && let Some(reason) = unsupported(error)
    {
        return Outcome::Unsupported(reason);
    }
    match check(case, answer) {
        Ok(()) => Outcome::Passed,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn unsupported(error: &Error) -> Option<String> {
    let text = error.to_string();
    let is_experimental = text.contains("experimental and not enabled");
    (text == NATIVE || is_experimental).then(|| message(&text).to_owned())
}

/// An error without its place.
fn message(text: &str) -> &str {
    text.split_once("parse error: ").map_or(text, |(_, message)| message)
}

fn evaluate(store: &Store, case: &Case) -> Result<Answer, Error> {
    let engine = Engine::default();
    let expr = lm_promql::parse(&case.query)?;
    let time = Timestamp::from_millis;
    match case.times {
        Times::Instant(at) => engine.instant(&expr, store, time(at), &|| None),
        Times::Range { start, end, step } => {
            let step = Duration::from_millis(step as u64);
            engine.range(&expr, store, time(start), time(end), step, &|| None)
        }
    }
}

fn check(case: &Case, answer: Result<Answer, Error>) -> Result<(), String> {
    let failure = case.expected.iter().find_map(|expected| match expected {
        Expected::Fail(message) => Some(message),
        _ => None,
    });
    let answer = match (failure, answer) {
        (Some(message), Err(error)) => return check_message("error", message, &[error.to_string()]),
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
        Message::Text(text) => {
            let text = Regex::new(r" \(\d+:\d+\)$").unwrap().replace(text, "");
            found.iter().any(|found| message(found) == text)
        }
        Message::Regex(pattern) => {
            let pattern = pattern.rfind(r" \(").map_or(pattern.as_str(), |at| &pattern[..at]);
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
            [line] if equal(parse_number(line)?, sample.value) => Ok(()),
            lines => Err(format!("expected {lines:?}")),
        },
        Value::Vector(found) => {
            let expected: Vec<(Labels, f64)> = case
                .lines
                .iter()
                .map(|line| {
                    let (labels, points) = script::series(line);
                    (labels, script::samples(&points, 0, 1).first().map_or(f64::NAN, |sample| sample.value))
                })
                .collect();
            let mut expected = expected;
            let mut found: Vec<(Labels, f64)> = found.iter().map(|(l, s)| (l.clone(), s.value)).collect();
            if !case.expected.contains(&Expected::Ordered) {
                expected.sort_by(|a, b| a.0.cmp(&b.0));
                found.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let is_same = expected.len() == found.len()
                && expected.iter().zip(&found).all(|(e, f)| e.0 == f.0 && equal(e.1, f.1));
            if is_same { Ok(()) } else { Err(format!("expected {expected:?}")) }
        }
        Value::Matrix(found) => check_matrix(case, found),
    }
}

fn check_matrix(case: &Case, found: &[SeriesData]) -> Result<(), String> {
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
        .map(|(labels, points)| SeriesData { labels, samples: script::samples(&points, start, step) })
        .filter(|series| !series.samples.is_empty())
        .collect();
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    let is_same = expected.len() == found.len()
        && expected.iter().zip(found).all(|(e, f)| {
            e.labels == f.labels
                && e.samples.len() == f.samples.len()
                && e.samples.iter().zip(&f.samples).all(|(e, f)| e.time == f.time && equal(e.value, f.value))
        });
    if is_same { Ok(()) } else { Err(format!("expected {expected:?}")) }
}

fn parse_number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
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
