//! The grammar of `.test` files.

use lm_model::{Labels, MatchOp, Sample, Timestamp, stale_nan};
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
}

/// A point of a series description; gaps are left out by their index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    Value(f64),
    Gap,
    Native,
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
                series: block.iter().map(|line| series(line)).collect(),
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
        let times = token.rsplit_once("}}x").map_or(0, |(_, n)| n.parse().expect("a repetition"));
        points.extend(std::iter::repeat_n(Point::Native, times + 1));
        return;
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
