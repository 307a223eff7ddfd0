//! The grammar of `.test` files.

use std::sync::Arc;

use lm_model::{Histogram, Labels, MatchOp, ResetHint, Sample, Span, Timestamp, stale_nan};
use lm_promql::Expr;

/// One command of a script.
#[derive(Debug)]
pub enum Command {
    Clear,
    Load(Load),
    Eval(Case),
}

#[derive(Debug)]
pub struct Load {
    /// Also makes native histograms of the classic ones.
    pub with_native: bool,
    pub step_millis: i64,
    pub series: Vec<(Labels, Vec<Point>)>,
    /// Some series has start timestamps, which are left out.
    pub has_start_timestamps: bool,
}

/// A point of a series description; gaps are left out by their index.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Value(f64),
    Gap,
    Native(Arc<Histogram>),
}

#[derive(Debug)]
pub struct Case {
    pub line: usize,
    pub query: String,
    pub times: Times,
    pub expected: Vec<Expected>,
    pub lines: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub enum Times {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Fail(Message),
    Warn(Message),
    Info(Message),
    NoWarn,
    NoInfo,
    Ordered,
    String(String),
    RangeVector { start: i64, end: i64, step: i64 },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Any,
    Text(String),
    Regex(String),
}

/// Splits a script into commands.
pub fn parse(text: &str) -> Vec<Command> {
    let mut lines = text.lines().map(str::trim).map(|l| if l.starts_with('#') { "" } else { l }).enumerate();
    let mut commands = Vec::new();
    while let Some((index, line)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut block = Vec::new();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if word != "clear" {
            block = lines.by_ref().map(|(_, line)| line.to_owned()).take_while(|l| !l.is_empty()).collect();
        }
        commands.push(match word {
            "clear" => Command::Clear,
            "load" | "load_with_nhcb" => Command::Load(Load {
                with_native: word == "load_with_nhcb",
                step_millis: duration(rest),
                has_start_timestamps: block.iter().any(|line| is_start_timestamps(line)),
                series: block
                    .iter()
                    .filter(|line| !is_start_timestamps(line))
                    .map(|line| series(line))
                    .collect(),
            }),
            _ if word.starts_with("eval") => Command::Eval(eval(index + 1, word, rest, block)),
            _ => panic!("line {}: unknown command {word}", index + 1),
        });
    }
    commands
}

fn eval(line: usize, word: &str, rest: &str, block: Vec<String>) -> Case {
    let mut words = Words { rest };
    let times = match words.next() {
        "instant" => {
            let at = if words.peek() == "at" {
                words.next();
                duration(words.next())
            } else {
                0
            };
            Times::Instant(at)
        }
        "range" => {
            let mut keyed = |key| {
                assert_eq!(words.next(), key, "line {line}");
                duration(words.next())
            };
            Times::Range { start: keyed("from"), end: keyed("to"), step: keyed("step") }
        }
        other => panic!("line {line}: eval {other}"),
    };
    let mut expected = match word {
        "eval_fail" => vec![Expected::Fail(Message::Any)],
        "eval_warn" => vec![Expected::Warn(Message::Any)],
        "eval_info" => vec![Expected::Info(Message::Any)],
        "eval_ordered" => vec![Expected::Ordered],
        _ => Vec::new(),
    };
    let mut lines = Vec::new();
    for line in block {
        match line.strip_prefix("expect ") {
            Some(text) => expected.push(expectation(text.trim())),
            None => lines.push(line),
        }
    }
    Case { line, query: words.rest.trim().to_owned(), times, expected, lines }
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn peek(&self) -> &'a str {
        self.rest.split_whitespace().next().unwrap_or("")
    }

    fn next(&mut self) -> &'a str {
        let word = self.peek();
        self.rest = &self.rest.trim_start()[word.len()..];
        word
    }
}

fn expectation(text: &str) -> Expected {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let message = || {
        if let Some(text) = rest.strip_prefix("msg:") {
            Message::Text(text.trim().to_owned())
        } else if let Some(text) = rest.strip_prefix("regex:") {
            Message::Regex(text.trim().to_owned())
        } else {
            Message::Any
        }
    };
    match word {
        "fail" => Expected::Fail(message()),
        "warn" => Expected::Warn(message()),
        "info" => Expected::Info(message()),
        "no_warn" => Expected::NoWarn,
        "no_info" => Expected::NoInfo,
        "ordered" => Expected::Ordered,
        "string" => match lm_promql::parse(rest) {
            Ok(Expr::String(text)) => Expected::String(text),
            other => panic!("{rest}: {other:?}"),
        },
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", end, "step", step] = words[..] else { panic!("{text}") };
            Expected::RangeVector { start: duration(start), end: duration(end), step: duration(step) }
        }
        _ => panic!("unknown expectation {text}"),
    }
}

/// Milliseconds of `1h30m`, or of a number of seconds.
pub fn duration(text: &str) -> i64 {
    match lm_promql::parse(text) {
        Ok(Expr::Number(seconds)) => (seconds * 1000.0).round() as i64,
        other => panic!("{text}: {other:?}"),
    }
}

/// `name{...}@st point point ...`
fn is_start_timestamps(line: &str) -> bool {
    split_series(line).0.ends_with("@st")
}

/// `name{label="value"} point point ...`
pub fn series(line: &str) -> (Labels, Vec<Point>) {
    let (metric, points) = split_series(line);
    (labels(metric), self::points(points))
}

fn split_series(line: &str) -> (&str, &str) {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, c) if c.is_whitespace() && depth == 0 => {
                // A space may stand between the name and the brace.
                let rest = line[at..].trim_start();
                if !rest.starts_with('{') || rest.starts_with("{{") || line[..at].contains('{') {
                    return line.split_at(at);
                }
            }
            _ => {}
        }
    }
    (line, "")
}

fn labels(metric: &str) -> Labels {
    if metric == "{}" {
        return Labels::empty();
    }
    match lm_promql::parse(metric) {
        Ok(Expr::Selector(selector)) => Labels::from_pairs(selector.matchers.into_iter().map(|matcher| {
            assert_eq!(matcher.op, MatchOp::Eq, "{metric}");
            (matcher.name, matcher.value)
        })),
        other => panic!("{metric}: {other:?}"),
    }
}

/// Points, repetitions written out.
pub fn points(text: &str) -> Vec<Point> {
    let mut points = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = match rest.starts_with("{{") {
            true => rest.rfind("}}").map_or(rest.len(), |_| native_end(rest)),
            false => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        point(token, &mut points);
        rest = after.trim_start();
    }
    points
}

/// End of `{{...}}`, `{{...}}x5` or `{{...}}+{{...}}x5`.
fn native_end(text: &str) -> usize {
    let mut at = 0;
    loop {
        at += text[at..].find("}}").expect("a native histogram is closed") + 2;
        if !(text[at..].starts_with("+{{") || text[at..].starts_with("-{{")) {
            break;
        }
    }
    at + text[at..].find(char::is_whitespace).unwrap_or(text.len() - at)
}

fn point(token: &str, points: &mut Vec<Point>) {
    if token.starts_with("{{") {
        return natives(token, points);
    }
    let (value, times) = match token.rsplit_once('x') {
        Some((value, times)) => (value, Some(times.parse::<usize>().expect("a repetition"))),
        None => (token, None),
    };
    if value == "_" {
        points.extend(std::iter::repeat_n(Point::Gap, times.unwrap_or(1)));
    } else if value == "stale" {
        points.extend(std::iter::repeat_n(Point::Value(stale_nan()), times.map_or(1, |times| times + 1)));
    } else if let Some(times) = times {
        let operator = value
            .char_indices()
            .skip(1)
            .find(|(at, c)| matches!(c, '+' | '-') && !value[..*at].ends_with(['e', 'E']));
        let (start, step) = match operator {
            Some((at, _)) => (number(&value[..at]), number(&value[at..])),
            None => (number(value), 0.0),
        };
        // Added up as upstream does, for the same rounding.
        let mut next = start;
        for _ in 0..=times {
            points.push(Point::Value(next));
            next += step;
        }
    } else {
        points.push(Point::Value(number(value)));
    }
}

/// `{{...}}`, `{{...}}x5`, `{{...}}+{{...}}x5`
fn natives(token: &str, points: &mut Vec<Point>) {
    let (description, times) = match token.rsplit_once("}}x") {
        Some((description, times)) => (description, times.parse::<usize>().expect("a repetition")),
        None => (token.strip_suffix("}}").expect("a native histogram is closed"), 0),
    };
    let description = description.strip_prefix("{{").expect("the caller has seen it");
    let parts = |sign: &str| description.split_once(sign);
    let (first, step) = match (parts("}}+{{"), parts("}}-{{")) {
        (Some((first, step)), _) => (first, Some((native(step), 1.0))),
        (None, Some((first, step))) => (first, Some((native(step), -1.0))),
        (None, None) => (description, None),
    };
    let first = native(first);
    let step = step.map(|(step, sign)| (coarsened(step, first.schema), sign));
    for index in 0..=times {
        points.push(Point::Native(Arc::new(match &step {
            Some((step, sign)) => advanced(&first, step, *sign * index as f64),
            None => first.clone(),
        })));
    }
}

/// The histogram in a schema that is no finer than its own.
fn coarsened(mut histogram: Histogram, schema: i8) -> Histogram {
    let Ok(levels @ 1..) = u32::try_from(histogram.schema - schema) else { return histogram };
    let first = histogram.positive_spans.first().map_or(0, |span| span.offset);
    let target = |index: i32| ((index - 1) >> levels) + 1;
    let mut counts: Vec<f64> = Vec::new();
    for (index, count) in histogram.positive_counts.iter().enumerate() {
        let at = (target(first + index as i32) - target(first)) as usize;
        counts.resize(counts.len().max(at + 1), 0.0);
        counts[at] += count;
    }
    histogram.schema = schema;
    histogram.positive_spans = vec![Span { offset: target(first), length: counts.len() as u32 }];
    histogram.positive_counts = counts;
    histogram
}

/// `base` plus `factor` times `step`; both have one run of buckets on each side.
fn advanced(base: &Histogram, step: &Histogram, factor: f64) -> Histogram {
    let side = |spans: [&[Span]; 2], counts: [&[f64]; 2]| {
        let first = spans.iter().flat_map(|spans| spans.first()).map(|span| span.offset).min();
        let end = |side: usize| spans[side].first().map_or(i32::MIN, |span| span.offset + span.length as i32);
        let Some(first) = first else { return (Vec::new(), Vec::new()) };
        let end = end(0).max(end(1));
        let at = |side: usize, index: i32| {
            let offset = spans[side].first().map_or(0, |span| span.offset);
            usize::try_from(index - offset).ok().and_then(|at| counts[side].get(at)).copied().unwrap_or(0.0)
        };
        let counts: Vec<f64> = (first..end).map(|index| at(0, index) + factor * at(1, index)).collect();
        (vec![Span { offset: first, length: counts.len() as u32 }], counts)
    };
    let (positive_spans, positive_counts) =
        side([&base.positive_spans, &step.positive_spans], [&base.positive_counts, &step.positive_counts]);
    let (negative_spans, negative_counts) =
        side([&base.negative_spans, &step.negative_spans], [&base.negative_counts, &step.negative_counts]);
    Histogram {
        zero_threshold: base.zero_threshold.max(step.zero_threshold),
        zero_count: base.zero_count + factor * step.zero_count,
        count: base.count + factor * step.count,
        sum: base.sum + factor * step.sum,
        positive_spans,
        positive_counts,
        negative_spans,
        negative_counts,
        ..base.clone()
    }
}

/// What stands between `{{` and `}}`.
fn native(text: &str) -> Histogram {
    let mut histogram = Histogram::default();
    let (mut offset, mut negative_offset) = (0, 0);
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once(':') {
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']').expect("a list is closed"),
            None => after.split_at(after.find(char::is_whitespace).unwrap_or(after.len())),
        };
        let list = || value.split_whitespace().map(number).collect::<Vec<f64>>();
        match key.trim() {
            "schema" => histogram.schema = value.parse().expect("a schema"),
            "sum" => histogram.sum = number(value),
            "count" => histogram.count = number(value),
            "z_bucket" => histogram.zero_count = number(value),
            "z_bucket_w" => histogram.zero_threshold = number(value),
            "buckets" => histogram.positive_counts = list(),
            "n_buckets" => histogram.negative_counts = list(),
            "custom_values" => histogram.custom_bounds = list(),
            "offset" => offset = value.parse().expect("an offset"),
            "n_offset" => negative_offset = value.parse().expect("an offset"),
            "counter_reset_hint" => {
                histogram.reset_hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => panic!("{other}"),
                };
            }
            other => panic!("{other}"),
        }
        rest = after.trim_start();
    }
    let span = |offset: i32, counts: &[f64]| match counts.len() {
        0 => Vec::new(),
        len => vec![Span { offset, length: len as u32 }],
    };
    histogram.positive_spans = span(offset, &histogram.positive_counts);
    histogram.negative_spans = span(negative_offset, &histogram.negative_counts);
    histogram
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

/// The values of a description as samples.
pub fn samples(points: &[Point], start: i64, step: i64) -> Vec<Sample> {
    let sample = |(index, point): (usize, &Point)| match point {
        Point::Value(value) => {
            Some(Sample { time: Timestamp::from_millis(start + index as i64 * step), value: *value })
        }
        _ => None,
    };
    points.iter().enumerate().filter_map(sample).collect()
}

/// The histograms of a description with their times.
pub fn histograms(points: &[Point], start: i64, step: i64) -> Vec<(Timestamp, Arc<Histogram>)> {
    let sample = |(index, point): (usize, &Point)| match point {
        Point::Native(histogram) => {
            Some((Timestamp::from_millis(start + index as i64 * step), histogram.clone()))
        }
        _ => None,
    };
    points.iter().enumerate().filter_map(sample).collect()
}
