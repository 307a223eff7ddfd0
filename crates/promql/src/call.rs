//! Calls of functions.

use std::cmp::Ordering;

use lm_model::Labels;

use crate::annotations::Note;
use crate::ast::{Call, Expr, Extension, Function, Span, ValueType};
use crate::dates::Date;
use crate::engine::Error;
use crate::eval::{Evaluator, Output, absence, keeps_name, labels_of_absence, single_values};
use crate::histogram::{Histograms, Spans};
use crate::maker::{Make, RowMaker};
use crate::range_functions;
use crate::rows::{ABSENT, Row, is_present, present, unite};
use crate::series::Series;
use crate::windows::Steps;
use crate::{extended, histogram, info, label_functions, native, text};

pub(crate) fn eval(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Output, Error> {
    use Function::*;
    let args = &call.args;
    let rows = match call.function {
        Time => return Ok(Output::Scalar(times(evaluator, steps)?)),
        Pi => return constant(evaluator, std::f64::consts::PI, steps),
        Start => return constant(evaluator, evaluator.query_start.as_seconds_f64(), steps),
        End => return constant(evaluator, evaluator.query_end.as_seconds_f64(), steps),
        Step => return constant(evaluator, evaluator.times.step as f64 / 1000.0, steps),
        Range => return constant(evaluator, evaluator.times.range as f64 / 1000.0, steps),
        MinOf | MaxOf => {
            let left = evaluator.eval_scalar(arg(args, 0)?, steps)?;
            let right = evaluator.eval_scalar(arg(args, 1)?, steps)?;
            let pick = if call.function == MinOf { min } else { max };
            return Ok(Output::Scalar(left.into_iter().zip(right).map(|(a, b)| pick(a, b)).collect()));
        }
        Scalar => {
            let rows = evaluator.eval_vector(arg(args, 0)?, steps)?;
            evaluator.charge(steps.len)?;
            return Ok(Output::Scalar(single_values(&rows, steps)));
        }
        Vector => {
            let values = evaluator.eval_scalar(arg(args, 0)?, steps)?;
            vec![Row::new(Default::default(), false, values)]
        }
        Timestamp => timestamp(evaluator, arg(args, 0)?, steps)?,
        Absent => {
            let matchers = match arg(args, 0)? {
                Expr::Selector(selector) => selector.matchers.as_slice(),
                _ => &[],
            };
            let rows = evaluator.eval_vector(arg(args, 0)?, steps)?;
            evaluator.charge(steps.len)?;
            vec![absence(&rows, labels_of_absence(matchers), steps)]
        }
        Sort | SortDesc => sort(evaluator, call, steps)?,
        Clamp | ClampMin | ClampMax | Round => with_scalars(evaluator, call, steps)?,
        DayOfMonth | DayOfWeek | DayOfYear | DaysInMonth | Hour | Minute | Month | Year => {
            date(evaluator, call, steps)?
        }
        SortByLabel | SortByLabelDesc => sort_by_label(evaluator, call, steps)?,
        HistogramQuantile => {
            let q = evaluator.eval_scalar(arg(args, 0)?, steps)?;
            let rows = evaluator.eval_vector(arg(args, 1)?, steps)?;
            note_quantiles(evaluator, &q, call.arg_span(0));
            let histograms = Histograms::new(&evaluator.annotations, rows, call.arg_span(1));
            let spans = Spans { native: call.arg_span(1), classic: Some(call.arg_span(1)) };
            let native = |of: &lm_model::Histogram, step: usize| histogram::native_quantile(q[step], of);
            histograms.map(evaluator, steps, spans, native, |buckets, step| buckets.quantile(q[step]))?
        }
        HistogramQuantiles => histogram_quantiles(evaluator, call, steps)?,
        HistogramFraction => {
            let lower = evaluator.eval_scalar(arg(args, 0)?, steps)?;
            let upper = evaluator.eval_scalar(arg(args, 1)?, steps)?;
            let rows = evaluator.eval_vector(arg(args, 2)?, steps)?;
            let histograms = Histograms::new(&evaluator.annotations, rows, call.arg_span(2));
            let spans = Spans { native: call.arg_span(2), classic: None };
            let native = |of: &lm_model::Histogram, step: usize| {
                histogram::native_fraction(lower[step], upper[step], of)
            };
            histograms.map(evaluator, steps, spans, native, |buckets, step| {
                buckets.fraction(lower[step], upper[step])
            })?
        }
        HistogramAvg | HistogramCount | HistogramStddev | HistogramStdvar | HistogramSum => {
            let resolves = std::mem::replace(&mut evaluator.resolves_hints, true);
            let rows = evaluator.eval_vector(arg(args, 0)?, steps);
            evaluator.resolves_hints = resolves;
            let rows = rows?;
            of_histograms(evaluator, call.function, rows)?
        }
        Info => info::eval(evaluator, call, steps)?,
        // Our store keeps no start timestamps.
        StartTimestamp => {
            evaluator.eval_vector(arg(args, 0)?, steps)?;
            Vec::new()
        }
        LabelReplace => {
            let rows = evaluator.eval_vector(arg(args, 0)?, steps)?;
            let texts = texts(args, 1)?;
            let [destination, replacement, source, pattern] = texts[..] else { return Err(bad_call(call)) };
            label_functions::replace(evaluator, rows, destination, replacement, source, pattern)?
        }
        LabelJoin => {
            let rows = evaluator.eval_vector(arg(args, 0)?, steps)?;
            let texts = texts(args, 1)?;
            let [destination, separator, sources @ ..] = &texts[..] else { return Err(bad_call(call)) };
            label_functions::join(evaluator, rows, destination, separator, sources)?
        }
        Abs | Acos | Acosh | Asin | Asinh | Atan | Atanh | Ceil | Cos | Cosh | Deg | Exp | Floor | Ln
        | Log10 | Log2 | Rad | Sgn | Sin | Sinh | Sqrt | Tan | Tanh => {
            let mut rows = numbers(evaluator.eval_vector(arg(args, 0)?, steps)?);
            for row in &mut rows {
                evaluator.count_work(row.values.len())?;
                row.map(|value| math(call.function, value));
                row.drops_name = true;
            }
            rows
        }
        AbsentOverTime => absent_over_time(evaluator, call, steps)?,
        AvgOverTime
        | Changes
        | CountOverTime
        | Delta
        | Deriv
        | FirstOverTime
        | Idelta
        | Increase
        | Irate
        | DoubleExponentialSmoothing
        | LastOverTime
        | MadOverTime
        | MaxOverTime
        | MinOverTime
        | PredictLinear
        | PresentOverTime
        | QuantileOverTime
        | Rate
        | Resets
        | StddevOverTime
        | StdvarOverTime
        | SumOverTime
        | TsOfFirstOverTime
        | TsOfLastOverTime
        | TsOfMaxOverTime
        | TsOfMinOverTime => range(evaluator, call, steps)?,
    };
    Ok(Output::Vector(rows))
}

fn arg(args: &[Expr], index: usize) -> Result<&Expr, Error> {
    args.get(index).ok_or_else(|| Error::BadData("too few arguments in a call".into()))
}

fn constant(evaluator: &mut Evaluator<'_>, value: f64, steps: &Steps) -> Result<Output, Error> {
    evaluator.charge(steps.len)?;
    Ok(Output::Scalar(vec![value; steps.len]))
}

/// Rows without their histograms, for functions of numbers.
fn numbers(mut rows: Vec<Row>) -> Vec<Row> {
    rows.retain_mut(|row| {
        if row.histograms.is_empty() {
            return true;
        }
        row.histograms = Vec::new();
        !row.is_empty()
    });
    rows
}

/// Functions of native histograms; numbers are left out.
fn of_histograms(
    evaluator: &mut Evaluator<'_>,
    function: Function,
    rows: Vec<Row>,
) -> Result<Vec<Row>, Error> {
    let mut results = Vec::new();
    for mut row in rows {
        let histograms = std::mem::take(&mut row.histograms);
        if histograms.is_empty() {
            continue;
        }
        row.values.fill(ABSENT);
        row.drops_name = true;
        for (step, histogram) in histograms {
            evaluator.count_work(histogram.positive_counts.len() + histogram.negative_counts.len() + 1)?;
            row.values[step as usize] = match function {
                Function::HistogramAvg => native::mean(&histogram),
                Function::HistogramCount => histogram.count,
                Function::HistogramStddev => native::variance(&histogram).sqrt(),
                Function::HistogramStdvar => native::variance(&histogram),
                _ => histogram.sum,
            };
        }
        results.push(row);
    }
    Ok(results)
}

fn histogram_quantiles(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let rows = evaluator.eval_vector(arg(&call.args, 0)?, steps)?;
    let Expr::String(label) = arg(&call.args, 1)? else { return Err(bad_call(call)) };
    let histograms = Histograms::new(&evaluator.annotations, rows, call.arg_span(0));
    let spans = Spans { native: call.arg_span(0), classic: Some(call.arg_span(0)) };
    let mut results = Vec::new();
    for (index, arg) in call.args.iter().enumerate().skip(2) {
        let q = evaluator.eval_scalar(arg, steps)?;
        note_quantiles(evaluator, &q, call.arg_span(index));
        let native = |of: &lm_model::Histogram, step: usize| histogram::native_quantile(q[step], of);
        let rows =
            histograms.map(evaluator, steps, spans, native, |buckets, step| buckets.quantile(q[step]))?;
        for row in rows {
            by_quantile(evaluator, row, label, &q, &mut results)?;
        }
    }
    unite(results)
}

/// Gives a row the label of its quantile; one row for each of the quantile's values.
fn by_quantile(
    evaluator: &mut Evaluator<'_>,
    row: Row,
    label: &str,
    q: &[f64],
    to: &mut Vec<Row>,
) -> Result<(), Error> {
    let mut distinct: Vec<f64> = Vec::new();
    for q in q {
        if !distinct.iter().any(|known| known.to_bits() == q.to_bits()) {
            evaluator.charge(row.values.len())?;
            distinct.push(*q);
        }
    }
    for wanted in distinct {
        let mut builder = row.labels.to_builder();
        builder.set(label, text::open_metrics(wanted));
        let at = |(value, q): (&f64, &f64)| if q.to_bits() == wanted.to_bits() { *value } else { ABSENT };
        let values = row.values.iter().zip(q).map(at).collect();
        to.push(Row::new(builder.build(), row.drops_name, values));
    }
    Ok(())
}

fn sort_by_label(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let mut rows = evaluator.eval_vector(arg(&call.args, 0)?, steps)?;
    if !steps.is_single() {
        evaluator.annotations.add(Note::IneffectiveSort, "", call.span);
        return Ok(rows);
    }
    let names = texts(&call.args, 1)?;
    rows.retain(|row| !row.is_empty());
    rows.sort_by(|a, b| {
        let value = |row: &Row, name: &str| row.labels.get(name).unwrap_or("").to_owned();
        let by_names = names.iter().map(|name| text::natural_order(&value(a, name), &value(b, name)));
        let order = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
        if call.function == Function::SortByLabelDesc { order.reverse() } else { order }
    });
    Ok(rows)
}

fn bad_call(call: &Call) -> Error {
    Error::BadData(format!("wrong arguments in call to function {:?}", call.function.name()))
}

fn texts<'a>(args: &'a [Expr], first: usize) -> Result<Vec<&'a str>, Error> {
    let text = |arg: &'a Expr| match arg {
        Expr::String(text) => Ok(text.as_str()),
        _ => Err(Error::BadData("expected a string in a call".into())),
    };
    args[first..].iter().map(text).collect()
}

fn times(evaluator: &mut Evaluator<'_>, steps: &Steps) -> Result<Vec<f64>, Error> {
    evaluator.charge(steps.len)?;
    Ok((0..steps.len).map(|step| steps.time(step) as f64 / 1000.0).collect())
}

/// Of a selector the samples' own times, of anything else the steps'.
fn timestamp(evaluator: &mut Evaluator<'_>, arg: &Expr, steps: &Steps) -> Result<Vec<Row>, Error> {
    let mut rows = match arg {
        Expr::Selector(selector) => evaluator.sample_times(selector, steps)?,
        _ => {
            let mut rows = evaluator.eval_vector(arg, steps)?;
            for row in &mut rows {
                let (values, histograms) = (&mut row.values, std::mem::take(&mut row.histograms));
                histograms.iter().for_each(|(step, _)| values[*step as usize] = 0.0);
                for (step, value) in values.iter_mut().enumerate() {
                    if is_present(*value) {
                        *value = steps.time(step) as f64 / 1000.0;
                    }
                }
            }
            rows
        }
    };
    rows.iter_mut().for_each(|row| row.drops_name = true);
    Ok(rows)
}

fn sort(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let mut rows = numbers(evaluator.eval_vector(arg(&call.args, 0)?, steps)?);
    if !steps.is_single() {
        evaluator.annotations.add(Note::IneffectiveSort, "", call.span);
        return Ok(rows);
    }
    let is_descending = call.function == Function::SortDesc;
    rows.retain(|row| !row.is_empty());
    // NaN comes last, whatever the direction.
    rows.sort_by(|a, b| {
        let (a, b) = (a.values[0], b.values[0]);
        let order = if is_descending { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
        order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
    });
    Ok(rows)
}

fn with_scalars(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let mut rows = numbers(evaluator.eval_vector(arg(&call.args, 0)?, steps)?);
    let mut scalars = Vec::new();
    for arg in &call.args[1..] {
        scalars.push(evaluator.eval_scalar(arg, steps)?);
    }
    let scalar = |index: usize, step: usize| scalars.get(index).map(|values: &Vec<f64>| values[step]);
    for row in &mut rows {
        evaluator.count_work(row.values.len())?;
        row.drops_name = true;
        for (step, value) in row.values.iter_mut().enumerate() {
            if !is_present(*value) {
                continue;
            }
            let first = scalar(0, step);
            *value = match call.function {
                Function::ClampMin => max(*value, first.unwrap_or(f64::NAN)),
                Function::ClampMax => min(*value, first.unwrap_or(f64::NAN)),
                Function::Clamp => {
                    let (low, high) = (first.unwrap_or(f64::NAN), scalar(1, step).unwrap_or(f64::NAN));
                    if low > high { crate::rows::ABSENT } else { max(low, min(high, *value)) }
                }
                _ => {
                    // Dividing by the inverse keeps 0.1 steps exact.
                    let inverse = 1.0 / first.unwrap_or(1.0);
                    (*value * inverse + 0.5).floor() / inverse
                }
            };
        }
    }
    rows.retain(|row| !row.is_empty());
    Ok(rows)
}

/// Unlike [`f64::max`], NaN wins.
fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Unlike [`f64::min`], NaN wins.
fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn date(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let mut rows = match call.args.first() {
        Some(arg) => numbers(evaluator.eval_vector(arg, steps)?),
        None => {
            let values = times(evaluator, steps)?;
            vec![Row::new(Default::default(), false, values)]
        }
    };
    for row in &mut rows {
        row.drops_name = true;
        row.map(|seconds| {
            let date = Date::from_seconds(seconds);
            (match call.function {
                Function::DayOfMonth => date.day,
                Function::DayOfWeek => date.weekday,
                Function::DayOfYear => date.day_of_year,
                Function::DaysInMonth => date.days_in_month,
                Function::Hour => date.hour,
                Function::Minute => date.minute,
                Function::Month => date.month,
                _ => date.year,
            }) as f64
        });
    }
    Ok(rows)
}

fn math(function: Function, value: f64) -> f64 {
    match function {
        Function::Abs => value.abs(),
        Function::Acos => value.acos(),
        Function::Acosh => value.acosh(),
        Function::Asin => value.asin(),
        Function::Asinh => value.asinh(),
        Function::Atan => value.atan(),
        Function::Atanh => value.atanh(),
        Function::Ceil => value.ceil(),
        Function::Cos => value.cos(),
        Function::Cosh => value.cosh(),
        Function::Deg => value * 180.0 / std::f64::consts::PI,
        Function::Exp => value.exp(),
        Function::Floor => value.floor(),
        Function::Ln => value.ln(),
        Function::Log10 => value.log10(),
        Function::Log2 => value.log2(),
        Function::Rad => value * std::f64::consts::PI / 180.0,
        Function::Sgn if value > 0.0 => 1.0,
        Function::Sgn if value < 0.0 => -1.0,
        Function::Sin => value.sin(),
        Function::Sinh => value.sinh(),
        Function::Sqrt => value.sqrt(),
        Function::Tan => value.tan(),
        Function::Tanh => value.tanh(),
        _ => value,
    }
}

pub(crate) fn note_quantiles(evaluator: &mut Evaluator<'_>, quantiles: &[f64], span: Span) {
    for q in quantiles {
        if !(0.0..=1.0).contains(q) {
            evaluator.annotations.add(Note::InvalidQuantile(*q), "", span);
        }
    }
}

/// Suffixes that promise a counter.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// A call of a function of a range, its arguments evaluated.
pub(crate) struct RangeCall<'q, 'a> {
    call: &'q Call,
    series: Series<'a>,
    make: Make,
}

impl<'q, 'a> RangeCall<'q, 'a> {
    /// Whether a call makes a row of each series of its range, from what lies in
    /// the windows.
    pub fn is_one(call: &Call) -> bool {
        call.function != Function::AbsentOverTime
            && extension(call).is_none()
            && call.args.iter().any(|arg| arg.value_type() == ValueType::Matrix)
    }

    pub fn new(evaluator: &mut Evaluator<'a>, call: &'q Call, steps: &Steps) -> Result<Self, Error> {
        let (series_at, param_ats): (usize, &[usize]) = match call.function {
            Function::QuantileOverTime => (1, &[0]),
            Function::PredictLinear => (0, &[1]),
            Function::DoubleExponentialSmoothing => (0, &[1, 2]),
            _ => (0, &[]),
        };
        let mut params = Vec::new();
        for at in param_ats {
            params.push(evaluator.eval_scalar(arg(&call.args, *at)?, steps)?);
        }
        let around = evaluator.around.replace(call.function.name());
        let series = evaluator.range_series(arg(&call.args, series_at)?, steps)?;
        evaluator.around = around;
        if series.len() > 0 {
            match call.function {
                Function::QuantileOverTime => note_quantiles(evaluator, &params[0], call.arg_span(0)),
                Function::DoubleExponentialSmoothing => check_smoothing(&params)?,
                _ => {}
            }
        }
        Ok(RangeCall { call, series, make: Make::Function(call.function, params) })
    }

    pub fn maker(&self) -> RowMaker<'_, 'a> {
        let drops_name = !keeps_name(self.call.function);
        RowMaker { series: &self.series, make: &self.make, drops_name }
    }

    /// Tells of metrics that seem not to be of the kind that the function is for.
    pub fn note<'l>(&self, evaluator: &Evaluator<'_>, metrics: impl Iterator<Item = &'l Labels>) {
        note_non_counters(evaluator, self.call, metrics);
    }

    fn rows(&self, evaluator: &mut Evaluator<'_>) -> Result<Vec<Row>, Error> {
        let maker = self.maker();
        let rows = match evaluator.collect(&maker)? {
            Some(rows) => rows,
            None => evaluator.map_windows(&self.series, maker.drops_name, self.call, |window, step| {
                range_functions::apply(self.call.function, window, maker.make.params(step))
            })?,
        };
        self.note(evaluator, with_numbers(&rows));
        Ok(rows)
    }
}

/// Labels of the rows that have a number at some step.
fn with_numbers(rows: &[Row]) -> impl Iterator<Item = &Labels> {
    rows.iter().filter(|row| present(&row.values).next().is_some()).map(|row| &row.labels)
}

/// The modifier of a call's range.
fn extension(call: &Call) -> Option<Extension> {
    match call.args.first() {
        Some(Expr::Range(range)) => range.selector.extension,
        _ => None,
    }
}

fn range(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let (Some(Expr::Range(range)), Some(extension)) = (call.args.first(), extension(call)) else {
        return RangeCall::new(evaluator, call, steps)?.rows(evaluator);
    };
    let rows = extended::range(evaluator, call, range, extension, steps)?;
    note_non_counters(evaluator, call, with_numbers(&rows));
    Ok(rows)
}

fn note_non_counters<'l>(evaluator: &Evaluator<'_>, call: &Call, metrics: impl Iterator<Item = &'l Labels>) {
    if matches!(call.function, Function::Rate | Function::Increase) {
        metrics.for_each(|labels| note_non_counter(evaluator, labels, call.arg_span(0)));
    }
}

fn check_smoothing(params: &[Vec<f64>]) -> Result<(), Error> {
    for (name, values) in ["smoothing", "trend"].into_iter().zip(params) {
        if let Some(wrong) = values.iter().find(|factor| !(**factor > 0.0 && **factor < 1.0)) {
            let (short, wrong) = (if name == "smoothing" { "sf" } else { "tf" }, text::number(*wrong));
            let message = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {wrong}");
            return Err(Error::Execution(message));
        }
    }
    Ok(())
}

/// What is no counter by its name, or its type, where labels have that.
fn note_non_counter(evaluator: &Evaluator<'_>, labels: &Labels, span: Span) {
    let name = labels.metric_name();
    if name.is_empty() {
        return;
    }
    if evaluator.engine.type_and_unit_labels {
        let found = labels.get("__type__").unwrap_or("");
        if !matches!(found, "counter" | "histogram") {
            evaluator.annotations.add(Note::PossibleNonCounterType(found.to_owned()), name, span);
        }
    } else if !COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        evaluator.annotations.add(Note::PossibleNonCounter, name, span);
    }
}

fn absent_over_time(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let arg = arg(&call.args, 0)?;
    let matchers = match arg {
        Expr::Range(range) => range.selector.matchers.as_slice(),
        _ => &[],
    };
    let found = evaluator.range_series(arg, steps)?;
    let rows = evaluator.map_windows(&found, true, call, |_, _| Some(1.0))?;
    evaluator.charge(steps.len)?;
    Ok(vec![absence(&rows, labels_of_absence(matchers), steps)])
}
