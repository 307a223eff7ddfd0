//! [`Engine`]: limits, and the two kinds of query.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use lm_model::{Sample, Timestamp};

use crate::answer::{Answer, Element, SeriesData, Value};
use crate::ast::{Expr, ValueType};
use crate::durations::{self, QueryTimes};
use crate::eval::{Evaluator, Output};
use crate::parse::{Features, ParseError, parse_with};
use crate::rows::{self, Row, present};
use crate::series::{Markers, Reader, Series};
use crate::storage::{Storage, StorageError};
use crate::windows::{Span, Steps};
use crate::workers::{Alone, Workers};

/// Bounds of one evaluation.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Samples and results held at once. Each takes 8 to 16 bytes.
    ///
    /// Default 50,000,000.
    pub samples_max: usize,
    /// Series that one selector may match. Default 1,000,000.
    pub series_max: usize,
    /// Steps of a range query. Default 11,000.
    pub points_max: usize,
    /// Nesting of expressions. Default 250.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { samples_max: 50_000_000, series_max: 1_000_000, points_max: 11_000, depth_max: 250 }
    }
}

/// Why the caller wants an evaluation to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Nobody waits for the answer.
    Canceled,
    /// It took too long.
    Timeout,
}

/// A query that could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The query or its parameters make no sense.
    #[error("{0}")]
    BadData(String),
    /// The query fails on this data.
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Limit(String),
    #[error("query was canceled")]
    Canceled,
    #[error("query timed out")]
    Timeout,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The kinds of error that the Prometheus API tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    /// The API reports it as an execution error.
    Limit,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Parse(_) | Error::BadData(_) => ErrorKind::BadData,
            Error::Execution(_) => ErrorKind::Execution,
            Error::Limit(_) => ErrorKind::Limit,
            Error::Canceled => ErrorKind::Canceled,
            Error::Timeout => ErrorKind::Timeout,
            Error::Storage(StorageError::Limit(_)) => ErrorKind::Limit,
            Error::Storage(StorageError::Invalid(_)) => ErrorKind::BadData,
            Error::Storage(StorageError::Unavailable(_)) => ErrorKind::Execution,
        }
    }
}

/// Evaluates queries. Holds settings only; one engine serves any number of
/// queries at a time.
#[derive(Clone, Debug)]
pub struct Engine {
    pub limits: Limits,
    /// How long a sample stands for its series. Default 5 min.
    pub lookback: Duration,
    /// Step of subqueries that name none. Default 1 min.
    pub subquery_step: Duration,
    /// Who helps where series are many. Default: nobody.
    pub workers: Arc<dyn Workers>,
    /// Experimental parts of the language that [`Engine::parse`] takes. Default:
    /// none.
    pub features: Features,
    /// Whether `__type__` says what a counter is, rather than the name's ending.
    /// Default: no.
    pub type_and_unit_labels: bool,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            limits: Limits::default(),
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            workers: Arc::new(Alone),
            features: Features::default(),
            type_and_unit_labels: false,
        }
    }
}

impl Engine {
    /// Parses and checks a query of the language that this engine takes.
    pub fn parse(&self, query: &str) -> Result<Expr, ParseError> {
        parse_with(query, self.features)
    }

    /// Evaluates at one time. `interrupt` is asked regularly.
    pub fn instant(
        &self,
        expr: &Expr,
        storage: &dyn Storage,
        at: Timestamp,
        interrupt: &(dyn Fn() -> Option<Interrupt> + Sync),
    ) -> Result<Answer, Error> {
        let times = QueryTimes::default();
        let expr = &*resolved(expr, times)?;
        let mut evaluator = Evaluator::new(self, storage, interrupt, at, at, times);
        let steps = Steps { start: at.as_millis(), step: 1, len: 1 };
        let value = if expr.value_type() == ValueType::Matrix {
            let series = evaluator.range_series(expr, &steps)?;
            Value::Matrix(matrix(&evaluator, &series)?)
        } else {
            match evaluator.eval(expr, &steps)? {
                Output::Scalar(values) => Value::Scalar(Sample { time: at, value: values[0] }),
                Output::String(text) => Value::String(at, text),
                Output::Vector(rows) => {
                    let rows = rows::finish(rows)?;
                    let element = |row: Row| {
                        let point = row.point(0)?;
                        Some(Element { labels: row.labels, time: at, point })
                    };
                    Value::Vector(rows.into_iter().filter_map(element).collect())
                }
            }
        };
        Ok(answer(evaluator, value))
    }

    /// Evaluates at `start`, `start + step`, and so on up to `end`.
    pub fn range(
        &self,
        expr: &Expr,
        storage: &dyn Storage,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        interrupt: &(dyn Fn() -> Option<Interrupt> + Sync),
    ) -> Result<Answer, Error> {
        let steps = self.steps(start, end, step)?;
        if !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector) {
            return Err(Error::BadData(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                expr.value_type().name()
            )));
        }
        let times = QueryTimes { step: steps.step, range: end.as_millis().saturating_sub(start.as_millis()) };
        let expr = &*resolved(expr, times)?;
        let mut evaluator = Evaluator::new(self, storage, interrupt, start, end, times);
        let rows = match evaluator.eval(expr, &steps)? {
            Output::Vector(rows) => rows,
            Output::Scalar(values) => vec![Row::new(Default::default(), false, values)],
            Output::String(_) => unreachable!("the type was checked above"),
        };
        let mut series: Vec<SeriesData> = rows::finish(rows)?
            .into_iter()
            .map(|row| {
                let time = |step: usize| Timestamp::from_millis(steps.time(step));
                let sample = |(step, value)| Sample { time: time(step), value };
                let histogram = |(step, histogram)| (time(step as usize), histogram);
                SeriesData {
                    samples: present(&row.values).map(sample).collect(),
                    labels: row.labels,
                    histograms: row.histograms.into_iter().map(histogram).collect(),
                }
            })
            .collect();
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(answer(evaluator, Value::Matrix(series)))
    }

    fn steps(&self, start: Timestamp, end: Timestamp, step: Duration) -> Result<Steps, Error> {
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step <= 0 {
            return Err(Error::BadData(
                "zero or negative query resolution step widths are not accepted. Try a positive integer"
                    .into(),
            ));
        }
        if end < start {
            return Err(Error::BadData("end timestamp must not be before start time".into()));
        }
        let len = (i128::from(end.as_millis()) - i128::from(start.as_millis())) / i128::from(step) + 1;
        match usize::try_from(len) {
            // As Prometheus counts: both ends are points, the steps between are bounded.
            Ok(len) if len <= self.limits.points_max.saturating_add(1) => {
                Ok(Steps { start: start.as_millis(), step, len })
            }
            _ => Err(Error::BadData(format!(
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution (?step=XX)",
                self.limits.points_max
            ))),
        }
    }
}

/// The tree with durations that depend on the query's times computed.
fn resolved(expr: &Expr, times: QueryTimes) -> Result<Cow<'_, Expr>, Error> {
    if !durations::depends_on_times(expr) {
        return Ok(Cow::Borrowed(expr));
    }
    let mut expr = expr.clone();
    durations::resolve(&mut expr, times)?;
    Ok(Cow::Owned(expr))
}

fn answer(evaluator: Evaluator<'_>, value: Value) -> Answer {
    let stats = evaluator.budget.stats();
    let (warnings, infos) = evaluator.annotations.finish();
    Answer { value, warnings, infos, stats }
}

/// The answer to `metric[5m]` itself.
fn matrix(evaluator: &Evaluator<'_>, series: &Series<'_>) -> Result<Vec<SeriesData>, Error> {
    let mut finished: Vec<SeriesData> = Vec::new();
    let mut reader = Reader::new(&evaluator.budget);
    for place in 0..series.len() {
        series.read(place, Markers::Dropped, &mut reader)?;
        let (times, values) = (&reader.samples.times, &reader.samples.values);
        let mut span = Span::default();
        span.advance(times, series.windows.of(0));
        let (after, until) = series.windows.of(0);
        let within = |(time, _): &&(Timestamp, _)| after < time.as_millis() && time.as_millis() <= until;
        let histograms: Vec<_> = reader.samples.histograms.iter().filter(within).cloned().collect();
        if span.start == span.end && histograms.is_empty() {
            continue;
        }
        evaluator.budget.charge(2 * (span.end - span.start + histograms.len()))?;
        let sample =
            |index: usize| Sample { time: Timestamp::from_millis(times[index]), value: values[index] };
        let labels = series.labels(place);
        let drops_name = series.drops_name(place);
        let labels = if drops_name { rows::without_name(labels) } else { labels.clone() };
        let samples = (span.start..span.end).map(sample).collect();
        finished.push(SeriesData { labels, samples, histograms });
    }
    finished.sort_by(|a, b| a.labels.cmp(&b.labels));
    if finished.windows(2).any(|pair| pair[0].labels == pair[1].labels) {
        return Err(Error::Execution("vector cannot contain metrics with the same labelset".into()));
    }
    Ok(finished)
}
