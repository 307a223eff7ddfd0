//! Evaluation of a tree over all steps at once, and of selectors.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lm_model::{
    Histogram, Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, ResetHint, Samples, Timestamp, is_stale,
};

use crate::annotations::Annotations;
use crate::answer::Point;
use crate::ast::{Call, Expr, Function, Selector};
use crate::budget::{Ask, Budget, WorkCount};
use crate::durations::QueryTimes;
use crate::engine::{Engine, Error};
use crate::maker::{Make, RowMaker};
use crate::mixed::{self, MixedWindow};
use crate::range_functions::Window;
use crate::rows::{ABSENT, Row, is_present, present};
use crate::series::{Markers, Reader, Series};
use crate::storage::Storage;
use crate::windows::{Span, Steps, Windows, first_after};
use crate::{aggregate, binary, call, extended, native};

/// The value of an expression at every step.
pub(crate) enum Output {
    Scalar(Vec<f64>),
    Vector(Vec<Row>),
    String(String),
}

impl Output {
    /// What it holds, in units of one value. Labels count, as functions can
    /// make long ones.
    fn size(&self) -> usize {
        let text = |row: &Row| row.labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        match self {
            Output::Scalar(values) => values.len(),
            Output::Vector(rows) => rows
                .iter()
                .map(|row| row.values.len() + text(row) / size_of::<f64>() + row.histograms.len())
                .sum(),
            Output::String(_) => 0,
        }
    }
}

pub(crate) struct Evaluator<'a> {
    pub engine: &'a Engine,
    pub annotations: Annotations,
    pub budget: Budget<'a>,
    pub storage: &'a dyn Storage,
    /// Bounds of the whole query, for `@ start()` and `@ end()`.
    pub query_start: Timestamp,
    pub query_end: Timestamp,
    /// For `step()` and `range()`.
    pub times: QueryTimes,
    /// Whether histograms that say nothing about a reset are compared with the
    /// one before, so that sums of them notice a collision. Prometheus does so
    /// where only counts and sums are asked for (`HistogramStatsIterator`).
    pub resolves_hints: bool,
    /// The function or aggregation right around what is evaluated.
    pub around: Option<&'static str>,
    work: WorkCount,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    pub fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        interrupt: Ask<'a>,
        query_start: Timestamp,
        query_end: Timestamp,
        times: QueryTimes,
    ) -> Self {
        Evaluator {
            engine,
            annotations: Annotations::default(),
            budget: Budget::new(&engine.limits, interrupt),
            storage,
            query_start,
            query_end,
            times,
            resolves_hints: false,
            around: None,
            work: WorkCount::default(),
            depth: 0,
        }
    }

    pub fn eval(&mut self, expr: &Expr, steps: &Steps) -> Result<Output, Error> {
        if self.depth >= self.engine.limits.depth_max {
            return Err(Error::Limit(format!(
                "expression is nested deeper than {}",
                self.engine.limits.depth_max
            )));
        }
        self.depth += 1;
        let held = self.budget.held();
        let around = self.around;
        self.around = match expr {
            Expr::Selector(_) => around,
            Expr::Call(call) => Some(call.function.name()),
            Expr::Aggregate(aggregate) => Some(aggregate.op.name()),
            _ => None,
        };
        let output = self.eval_node(expr, steps)?;
        self.around = around;
        // What the node needed on its way is gone by now.
        self.budget.set_held(held + output.size());
        self.depth -= 1;
        self.check_interrupt()?;
        Ok(output)
    }

    fn eval_node(&mut self, expr: &Expr, steps: &Steps) -> Result<Output, Error> {
        Ok(match expr {
            Expr::Number(value) => {
                self.charge(steps.len)?;
                Output::Scalar(vec![*value; steps.len])
            }
            Expr::String(text) => Output::String(text.clone()),
            Expr::Selector(selector) if selector.extension.is_some() => {
                Output::Vector(extended::instants(self, selector, steps)?)
            }
            Expr::Selector(selector) => Output::Vector(self.instant_rows(selector, steps, Take::Value)?),
            Expr::Range(_) | Expr::Subquery(_) => {
                return Err(Error::BadData("a range vector is not allowed here".into()));
            }
            Expr::Negate(inner) => match self.eval(inner, steps)? {
                Output::Scalar(values) => Output::Scalar(values.into_iter().map(|value| -value).collect()),
                Output::Vector(mut rows) => {
                    for row in &mut rows {
                        row.map(|value| -value);
                        for (_, histogram) in &mut row.histograms {
                            native::multiply(Arc::make_mut(histogram), -1.0);
                        }
                        row.drops_name = true;
                    }
                    Output::Vector(rows)
                }
                Output::String(_) => return Err(Error::BadData("a string has no sign".into())),
            },
            Expr::Binary(binary) => binary::eval(self, binary, steps)?,
            Expr::Aggregate(aggregate) => Output::Vector(aggregate::eval(self, aggregate, steps)?),
            Expr::Call(call) => call::eval(self, call, steps)?,
        })
    }

    pub fn eval_vector(&mut self, expr: &Expr, steps: &Steps) -> Result<Vec<Row>, Error> {
        match self.eval(expr, steps)? {
            Output::Vector(rows) => Ok(rows),
            _ => Err(Error::BadData("expected an instant vector".into())),
        }
    }

    pub fn eval_scalar(&mut self, expr: &Expr, steps: &Steps) -> Result<Vec<f64>, Error> {
        match self.eval(expr, steps)? {
            Output::Scalar(values) => Ok(values),
            _ => Err(Error::BadData("expected a scalar".into())),
        }
    }

    /// Times of the samples that a selector finds, in seconds.
    pub fn sample_times(&mut self, selector: &Selector, steps: &Steps) -> Result<Vec<Row>, Error> {
        self.instant_rows(selector, steps, Take::Time)
    }

    fn instant_rows(&mut self, selector: &Selector, steps: &Steps, take: Take) -> Result<Vec<Row>, Error> {
        let found = self.instant_series(selector, steps)?;
        let make = match take {
            Take::Value => Make::Values,
            Take::Time => Make::Times,
        };
        let maker = RowMaker { series: &found, make: &make, drops_name: false };
        if let Some(rows) = self.collect(&maker)? {
            return Ok(rows);
        }
        let windows = &found.windows;
        self.map_series(&found, false, Markers::Kept, |reader, row| {
            if !reader.samples.histograms.is_empty() {
                mixed_instants(&reader.samples, windows, take, row);
                return Ok(());
            }
            let (times, samples) = (&reader.samples.times, &reader.samples.values);
            let mut end = 0;
            for (step, value) in row.values.iter_mut().enumerate() {
                let (after, until) = windows.of(step);
                end = first_after(times, end, until);
                if let Some(last) = end.checked_sub(1)
                    && times[last] > after
                    && !is_stale(samples[last])
                {
                    *value = match take {
                        Take::Value => samples[last],
                        Take::Time => Timestamp::from_millis(times[last]).as_seconds_f64(),
                    };
                }
            }
            Ok(())
        })
    }

    /// Counts samples or values that are about to be held.
    pub fn charge(&mut self, samples: usize) -> Result<(), Error> {
        self.budget.charge(samples)
    }

    /// Counts work, and now and then asks whether to go on.
    pub fn count_work(&mut self, work: usize) -> Result<(), Error> {
        self.work.add(work, &self.budget)
    }

    pub fn check_interrupt(&mut self) -> Result<(), Error> {
        self.budget.check_interrupt()
    }

    /// Makes a row of each series by `f(reader, row)`, which finds the samples in
    /// the reader and nothing in any step of the row. Rows that stay empty are
    /// left out.
    pub fn map_series(
        &self,
        found: &Series<'_>,
        drops_name: bool,
        markers: Markers,
        mut f: impl FnMut(&mut Reader<'_>, &mut Row) -> Result<(), Error>,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        let mut reader = Reader::new(&self.budget);
        for place in 0..found.len() {
            found.read(place, markers, &mut reader)?;
            if reader.samples.is_empty() {
                continue;
            }
            if self.resolves_hints && found.is_stored() {
                resolve_hints(&mut reader.samples.histograms);
            }
            self.budget.charge(found.windows.len())?;
            let values = vec![ABSENT; found.windows.len()];
            let drops_name = drops_name || found.drops_name(place);
            let mut row = Row::new(found.labels(place).clone(), drops_name, values);
            f(&mut reader, &mut row)?;
            if row.is_empty() {
                self.budget.release(found.windows.len());
            } else {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Calls `f(window, step)` for every series and step with at least one
    /// sample, and makes a row of what it returns. Where there are histograms, the
    /// called function says what becomes of them.
    pub fn map_windows(
        &self,
        found: &Series<'_>,
        drops_name: bool,
        call: &Call,
        mut f: impl FnMut(&Window<'_>, usize) -> Option<f64>,
    ) -> Result<Vec<Row>, Error> {
        let windows = &found.windows;
        self.map_series(found, drops_name, Markers::Dropped, |reader, row| {
            let has_histograms = !reader.samples.histograms.is_empty();
            let (mut span, mut native) = (Span::default(), Span::default());
            for step in 0..windows.len() {
                let bounds = windows.of(step);
                span.advance(&reader.samples.times, bounds);
                reader.count_work(1 + span.end - span.start)?;
                let Samples { times, values, histograms } = &reader.samples;
                let window = Window {
                    times: &times[span.start..span.end],
                    values: &values[span.start..span.end],
                    after: bounds.0,
                    until: bounds.1,
                    range_millis: windows.range_millis,
                    now: windows.steps.time(step),
                };
                if has_histograms {
                    native.start += within(&histograms[native.start..], bounds.0);
                    native.end = native.end.max(native.start);
                    native.end += within(&histograms[native.end..], bounds.1);
                    let histograms = &histograms[native.start..native.end];
                    if !histograms.is_empty() {
                        let point = self.mixed(call, row, &window, histograms, || f(&window, step));
                        let buckets = |(_, of): &(Timestamp, Arc<Histogram>)| of.positive_counts.len() + 1;
                        let work = histograms.iter().map(buckets).sum();
                        reader.count_work(work)?;
                        if let Some(point) = point {
                            row.set(step, point);
                        }
                        continue;
                    }
                }
                if !window.times.is_empty()
                    && let Some(result) = f(&window, step)
                {
                    row.values[step] = result;
                }
            }
            Ok(())
        })
    }

    /// A function's value for a window with histograms.
    fn mixed(
        &self,
        call: &Call,
        row: &Row,
        window: &Window<'_>,
        histograms: &[(Timestamp, Arc<Histogram>)],
        numbers: impl FnOnce() -> Option<f64>,
    ) -> Option<Point> {
        let window = MixedWindow {
            times: window.times,
            values: window.values,
            histograms,
            after: window.after,
            until: window.until,
            range_millis: window.range_millis,
        };
        let name = row.labels.metric_name();
        mixed::apply(call.function, &window, numbers, &mut |note| {
            self.annotations.add(note, name, call.arg_span(0));
        })
    }
}

fn resolve_hints(histograms: &mut [(Timestamp, Arc<Histogram>)]) {
    for index in 1..histograms.len() {
        let (before, now) = (&histograms[index - 1].1, &histograms[index].1);
        if now.reset_hint != ResetHint::Unknown || now.is_stale() {
            continue;
        }
        let hint = if native::is_reset(now, before) { ResetHint::Reset } else { ResetHint::NotReset };
        Arc::make_mut(&mut histograms[index].1).reset_hint = hint;
    }
}

/// How many histograms at the front are no later than a time.
fn within(histograms: &[(Timestamp, Arc<Histogram>)], time: i64) -> usize {
    histograms.iter().take_while(|(at, _)| at.as_millis() <= time).count()
}

/// The latest sample of each step, of a series with histograms.
fn mixed_instants(samples: &Samples, windows: &Windows, take: Take, row: &mut Row) {
    let (mut end, mut native_end) = (0, 0);
    for step in 0..windows.len() {
        let (after, until) = windows.of(step);
        end = first_after(&samples.times, end, until);
        native_end += within(&samples.histograms[native_end..], until);
        let number = end.checked_sub(1).map(|at| (samples.times[at], samples.values[at]));
        let native = native_end.checked_sub(1).map(|at| &samples.histograms[at]);
        let (time, point) = match (number, native) {
            (Some((time, value)), Some((at, _))) if time > at.as_millis() => (time, Point::Number(value)),
            (_, Some((at, histogram))) => (at.as_millis(), Point::Histogram(histogram.clone())),
            (Some((time, value)), None) => (time, Point::Number(value)),
            (None, None) => continue,
        };
        let is_stale = match &point {
            Point::Number(value) => is_stale(*value),
            Point::Histogram(histogram) => histogram.is_stale(),
        };
        if time <= after || is_stale {
            continue;
        }
        row.set(
            step,
            match take {
                Take::Value => point,
                Take::Time => Point::Number(Timestamp::from_millis(time).as_seconds_f64()),
            },
        );
    }
}

#[derive(Clone, Copy)]
enum Take {
    Value,
    Time,
}

/// Labels that `absent` gives its result: those of the equality matchers, but
/// not where a name has several matchers.
pub(crate) fn labels_of_absence(matchers: &[Matcher]) -> Labels {
    let mut labels = LabelsBuilder::default();
    let mut seen: HashSet<&str> = HashSet::new();
    for matcher in matchers.iter().filter(|matcher| *matcher.name != *METRIC_NAME) {
        if matcher.op == MatchOp::Eq && seen.insert(&matcher.name) {
            labels.set(matcher.name.clone(), matcher.value.clone());
        } else {
            labels.remove(&matcher.name);
        }
    }
    labels.build()
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// One value at each step that no row has.
pub(crate) fn absence(rows: &[Row], labels: Labels, steps: &Steps) -> Row {
    let mut values = vec![1.0; steps.len];
    for row in rows {
        row.for_each_present(|step| values[step] = ABSENT);
    }
    Row::new(labels, false, values)
}

/// The only value of each step, or NaN.
pub(crate) fn single_values(rows: &[Row], steps: &Steps) -> Vec<f64> {
    let mut values = vec![ABSENT; steps.len];
    for row in rows {
        for (step, value) in present(&row.values) {
            values[step] = if is_present(values[step]) { f64::NAN } else { value };
        }
    }
    values.into_iter().map(|value| if is_present(value) { value } else { f64::NAN }).collect()
}

/// Whether a function of a range keeps the name.
pub(crate) fn keeps_name(function: Function) -> bool {
    matches!(function, Function::LastOverTime | Function::FirstOverTime)
}
