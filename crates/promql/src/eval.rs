//! Evaluation of a tree over all steps at once, and of selectors.

use std::collections::HashSet;
use std::time::Duration;

use lm_model::{
    Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Sample, Samples, TimeRange, Timestamp, is_stale,
};

use crate::answer::Stats;
use crate::ast::{At, Expr, Function, Selector, Subquery};
use crate::engine::{Annotations, Engine, Error, Interrupt};
use crate::rows::{ABSENT, Row, is_present, present};
use crate::storage::{Hints, SelectRequest, Storage, StorageError};
use crate::{aggregate, binary, call};

/// Units of work (a sample looked at, a value computed) between two looks at
/// the caller's interrupt.
const WORK_BETWEEN_CHECKS: usize = 1 << 16;

/// The times at which an expression is evaluated: `start + i * step`.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    pub start: i64,
    pub step: i64,
    pub len: usize,
}

impl Steps {
    pub fn time(&self, index: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    pub fn is_single(&self) -> bool {
        self.len == 1
    }
}

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
            Output::Vector(rows) => {
                rows.iter().map(|row| row.values.len() + text(row) / size_of::<f64>()).sum()
            }
            Output::String(_) => 0,
        }
    }
}

/// Series for a function of a range, and the window of each step.
pub(crate) struct RangeSeries {
    pub series: Vec<RangeRow>,
    pub range: i64,
    /// Where each step looks: its own time moved by `offset`, or one time.
    steps: Steps,
    offset: i64,
    at: Option<i64>,
}

pub(crate) struct RangeRow {
    pub labels: Labels,
    pub drops_name: bool,
    /// Ascending, without staleness markers.
    pub samples: Vec<Sample>,
}

impl RangeSeries {
    /// The window of a step: later than the first, up to the second.
    pub fn window(&self, step: usize) -> (i64, i64) {
        let until = self.at.unwrap_or_else(|| self.steps.time(step)).saturating_sub(self.offset);
        (until.saturating_sub(self.range), until)
    }
}

pub(crate) struct Evaluator<'a> {
    pub engine: &'a Engine,
    pub annotations: Annotations,
    storage: &'a dyn Storage,
    interrupt: &'a dyn Fn() -> Option<Interrupt>,
    /// Bounds of the whole query, for `@ start()` and `@ end()`.
    query_start: Timestamp,
    query_end: Timestamp,
    pub stats: Stats,
    /// Samples and values held now.
    held: usize,
    work: usize,
    depth: usize,
}

impl<'a> Evaluator<'a> {
    pub fn new(
        engine: &'a Engine,
        storage: &'a dyn Storage,
        interrupt: &'a dyn Fn() -> Option<Interrupt>,
        query_start: Timestamp,
        query_end: Timestamp,
    ) -> Self {
        Evaluator {
            engine,
            annotations: Annotations::default(),
            storage,
            interrupt,
            query_start,
            query_end,
            stats: Stats::default(),
            held: 0,
            work: 0,
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
        let held = self.held;
        let output = self.eval_node(expr, steps)?;
        // What the node needed on its way is gone by now.
        self.held = held + output.size();
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
            Expr::Selector(selector) => Output::Vector(self.instant_rows(selector, steps, Take::Value)?),
            Expr::Range(_) | Expr::Subquery(_) => {
                return Err(Error::BadData("a range vector is not allowed here".into()));
            }
            Expr::Negate(inner) => match self.eval(inner, steps)? {
                Output::Scalar(values) => Output::Scalar(values.into_iter().map(|value| -value).collect()),
                Output::Vector(mut rows) => {
                    for row in &mut rows {
                        row.map(|value| -value);
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
        let range = millis(self.engine.lookback);
        let mut found = self.select(selector, range, steps)?;
        let series = std::mem::take(&mut found.series);
        let mut rows = Vec::with_capacity(series.len());
        for one in series {
            self.charge(steps.len)?;
            self.count_work(one.samples.len() + steps.len)?;
            let mut values = vec![ABSENT; steps.len];
            let mut end = 0;
            for (step, value) in values.iter_mut().enumerate() {
                let (after, until) = found.window(step);
                end += one.samples[end..].partition_point(|s| s.time.as_millis() <= until);
                if let Some(last) = end.checked_sub(1).map(|at| one.samples[at])
                    && last.time.as_millis() > after
                    && !is_stale(last.value)
                {
                    *value = match take {
                        Take::Value => last.value,
                        Take::Time => last.time.as_seconds_f64(),
                    };
                }
            }
            let row = Row::new(one.labels, false, values);
            if !row.is_empty() {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// The series of a range selector or subquery.
    pub fn range_series(&mut self, expr: &Expr, steps: &Steps) -> Result<RangeSeries, Error> {
        match expr {
            Expr::Range(range) => {
                let mut found = self.select(&range.selector, range.range_millis, steps)?;
                for one in &mut found.series {
                    one.samples.retain(|sample| !is_stale(sample.value));
                }
                Ok(found)
            }
            Expr::Subquery(subquery) => self.subquery(subquery, steps),
            _ => Err(Error::BadData("expected a range vector".into())),
        }
    }

    fn subquery(&mut self, subquery: &Subquery, steps: &Steps) -> Result<RangeSeries, Error> {
        let step = subquery.step_millis.unwrap_or_else(|| millis(self.engine.subquery_step)).max(1);
        let found = RangeSeries {
            series: Vec::new(),
            range: subquery.range_millis,
            steps: steps.clone(),
            offset: subquery.offset_millis,
            at: self.fixed_time(subquery.at),
        };
        let (after, _) = found.window(0);
        let (_, until) = found.window(steps.len.saturating_sub(1));
        // The first multiple of the step that lies in the first window.
        let mut start = after / step * step;
        if start <= after {
            start = start.saturating_add(step);
        }
        if start > until {
            return Ok(found);
        }
        let len = (i128::from(until) - i128::from(start)) / i128::from(step) + 1;
        let len = usize::try_from(len).ok().filter(|len| *len <= self.engine.limits.samples_max);
        let len = len.ok_or_else(|| self.too_many_samples())?;
        let inner = Steps { start, step, len };
        let rows = self.eval_vector(&subquery.expr, &inner)?;
        let mut series = Vec::with_capacity(rows.len());
        for row in rows {
            self.charge(row.values.len())?;
            let sample = |(i, value)| Sample { time: Timestamp::from_millis(inner.time(i)), value };
            let samples = present(&row.values).map(sample).collect();
            series.push(RangeRow { labels: row.labels, drops_name: row.drops_name, samples });
        }
        Ok(RangeSeries { series, ..found })
    }

    /// Series with all samples that some step's window holds, markers included,
    /// ordered by labels so that sums do not depend on the store.
    fn select(&mut self, selector: &Selector, range: i64, steps: &Steps) -> Result<RangeSeries, Error> {
        let mut found = RangeSeries {
            series: Vec::new(),
            range,
            steps: steps.clone(),
            offset: selector.offset_millis,
            at: self.fixed_time(selector.at),
        };
        let (after, _) = found.window(0);
        let (_, until) = found.window(steps.len.saturating_sub(1));
        let limits = &self.engine.limits;
        let request = SelectRequest {
            matchers: &selector.matchers,
            range: TimeRange {
                start: Timestamp::from_millis(after.saturating_add(1)),
                end: Timestamp::from_millis(until.saturating_add(1)),
            },
            series_max: limits.series_max,
            hints: Hints::default(),
        };
        let selected = match self.storage.select(request) {
            Err(StorageError::Limit(_)) => return Err(self.too_many_samples()),
            selected => selected?,
        };
        if selected.len() > limits.series_max {
            return Err(Error::Limit(format!("a selector matches more than {} series", limits.series_max)));
        }
        let mut columns = Samples::default();
        for index in 0..selected.len() {
            let room = self.engine.limits.samples_max.saturating_sub(self.held);
            selected.read(index, room, &mut columns)?;
            self.stats.samples_read += columns.len();
            self.charge(columns.len())?;
            self.count_work(columns.len())?;
            if columns.is_empty() {
                continue;
            }
            let samples = columns.times.iter().zip(&columns.values);
            let sample =
                |(time, value): (&i64, &f64)| Sample { time: Timestamp::from_millis(*time), value: *value };
            found.series.push(RangeRow {
                labels: selected.labels(index).clone(),
                drops_name: false,
                samples: samples.map(sample).collect(),
            });
        }
        found.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        self.check_interrupt()?;
        Ok(found)
    }

    fn fixed_time(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| {
            match at {
                At::Time(time) => time,
                At::Start => self.query_start,
                At::End => self.query_end,
            }
            .as_millis()
        })
    }

    /// Counts samples or values that are about to be held.
    pub fn charge(&mut self, samples: usize) -> Result<(), Error> {
        self.held = self.held.saturating_add(samples);
        self.stats.samples_peak = self.stats.samples_peak.max(self.held);
        if self.held > self.engine.limits.samples_max {
            return Err(self.too_many_samples());
        }
        Ok(())
    }

    fn too_many_samples(&self) -> Error {
        Error::Limit(format!(
            "query processing would load too many samples into memory: the limit is {}",
            self.engine.limits.samples_max
        ))
    }

    /// Counts work, and now and then asks whether to go on.
    pub fn count_work(&mut self, work: usize) -> Result<(), Error> {
        self.work += work;
        if self.work < WORK_BETWEEN_CHECKS {
            return Ok(());
        }
        self.check_interrupt()
    }

    fn check_interrupt(&mut self) -> Result<(), Error> {
        self.work = 0;
        match (self.interrupt)() {
            None => Ok(()),
            Some(Interrupt::Canceled) => Err(Error::Canceled),
            Some(Interrupt::Timeout) => Err(Error::Timeout),
        }
    }

    /// Calls `f(window, after, until, step)` for every series and step with at
    /// least one sample, and makes a row of what it returns.
    pub fn map_windows(
        &mut self,
        found: &RangeSeries,
        drops_name: bool,
        mut f: impl FnMut(&[Sample], (i64, i64), usize) -> Option<f64>,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::with_capacity(found.series.len());
        for one in &found.series {
            self.charge(found.steps.len)?;
            let mut values = vec![ABSENT; found.steps.len];
            let (mut start, mut end) = (0, 0);
            for (step, value) in values.iter_mut().enumerate() {
                let (after, until) = found.window(step);
                start += one.samples[start..].partition_point(|s| s.time.as_millis() <= after);
                end = end.max(start);
                end += one.samples[end..].partition_point(|s| s.time.as_millis() <= until);
                let window = &one.samples[start..end];
                self.count_work(1 + window.len())?;
                if !window.is_empty()
                    && let Some(result) = f(window, (after, until), step)
                {
                    *value = result;
                }
            }
            let drops_name = drops_name || one.drops_name;
            let row = Row::new(one.labels.clone(), drops_name, values);
            if !row.is_empty() {
                rows.push(row);
            }
        }
        Ok(rows)
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
        for (step, _) in present(&row.values) {
            values[step] = ABSENT;
        }
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
