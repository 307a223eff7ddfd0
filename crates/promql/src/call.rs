//! Calls of functions.

use lm_model::Labels;

use crate::ast::{Call, Expr, Function, ValueType};
use crate::dates::Date;
use crate::engine::Error;
use crate::eval::{Evaluator, Output, absence, keeps_name, labels_of_absence, single_values};
use crate::maker::{Make, RowMaker};
use crate::range_functions;
use crate::rows::{Row, is_present};
use crate::series::Series;
use crate::windows::Steps;
use crate::{histogram, label_functions};

pub(crate) fn eval(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Output, Error> {
    use Function::*;
    let args = &call.args;
    let rows = match call.function {
        Time => return Ok(Output::Scalar(times(evaluator, steps)?)),
        Pi => {
            evaluator.charge(steps.len)?;
            return Ok(Output::Scalar(vec![std::f64::consts::PI; steps.len]));
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
        HistogramQuantile => {
            let q = evaluator.eval_scalar(arg(args, 0)?, steps)?;
            let rows = evaluator.eval_vector(arg(args, 1)?, steps)?;
            warn_quantiles(evaluator, &q);
            histogram::map(evaluator, rows, steps, |buckets, step| buckets.quantile(q[step]))?
        }
        HistogramFraction => {
            let lower = evaluator.eval_scalar(arg(args, 0)?, steps)?;
            let upper = evaluator.eval_scalar(arg(args, 1)?, steps)?;
            let rows = evaluator.eval_vector(arg(args, 2)?, steps)?;
            histogram::map(evaluator, rows, steps, |buckets, step| {
                buckets.fraction(lower[step], upper[step])
            })?
        }
        // Of native histograms only, and there are none.
        HistogramAvg | HistogramCount | HistogramStddev | HistogramStdvar | HistogramSum => {
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
            let mut rows = evaluator.eval_vector(arg(args, 0)?, steps)?;
            for row in &mut rows {
                evaluator.count_work(row.values.len())?;
                row.map(|value| math(call.function, value));
                row.drops_name = true;
            }
            rows
        }
        AbsentOverTime => absent_over_time(evaluator, arg(args, 0)?, steps)?,
        AvgOverTime | Changes | CountOverTime | Delta | Deriv | FirstOverTime | Idelta | Increase | Irate
        | LastOverTime | MaxOverTime | MinOverTime | PredictLinear | PresentOverTime | QuantileOverTime
        | Rate | Resets | StddevOverTime | StdvarOverTime | SumOverTime => {
            RangeCall::new(evaluator, call, steps)?.rows(evaluator)?
        }
    };
    Ok(Output::Vector(rows))
}

fn arg(args: &[Expr], index: usize) -> Result<&Expr, Error> {
    args.get(index).ok_or_else(|| Error::BadData("too few arguments in a call".into()))
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
                for (step, value) in row.values.iter_mut().enumerate() {
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
    let mut rows = evaluator.eval_vector(arg(&call.args, 0)?, steps)?;
    if !steps.is_single() {
        evaluator
            .annotations
            .warn("sort is ineffective for range queries since results are always ordered by labels".into());
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
    let mut rows = evaluator.eval_vector(arg(&call.args, 0)?, steps)?;
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
        Some(arg) => evaluator.eval_vector(arg, steps)?,
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

pub(crate) fn warn_quantiles(evaluator: &mut Evaluator<'_>, quantiles: &[f64]) {
    for q in quantiles {
        if !(0.0..=1.0).contains(q) {
            let q = crate::text::number(*q);
            evaluator.annotations.warn(format!("quantile value should be between 0 and 1, got {q}"));
        }
    }
}

/// Suffixes that promise a counter.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// A call of a function of a range, its arguments evaluated.
pub(crate) struct RangeCall<'a> {
    function: Function,
    series: Series<'a>,
    make: Make,
}

impl<'a> RangeCall<'a> {
    /// Whether a call makes a row of each series of its range.
    pub fn is_one(call: &Call) -> bool {
        call.function != Function::AbsentOverTime
            && call.args.iter().any(|arg| arg.value_type() == ValueType::Matrix)
    }

    pub fn new(evaluator: &mut Evaluator<'a>, call: &Call, steps: &Steps) -> Result<Self, Error> {
        let function = call.function;
        let (series_arg, param_arg) = match function {
            Function::QuantileOverTime => (arg(&call.args, 1)?, Some(arg(&call.args, 0)?)),
            Function::PredictLinear => (arg(&call.args, 0)?, Some(arg(&call.args, 1)?)),
            _ => (arg(&call.args, 0)?, None),
        };
        let params = param_arg.map(|param| evaluator.eval_scalar(param, steps)).transpose()?;
        let series = evaluator.range_series(series_arg, steps)?;
        if let (Function::QuantileOverTime, Some(quantiles)) = (function, &params)
            && series.len() > 0
        {
            warn_quantiles(evaluator, quantiles);
        }
        Ok(RangeCall { function, series, make: Make::Function(function, params) })
    }

    pub fn maker(&self) -> RowMaker<'_, 'a> {
        RowMaker { series: &self.series, make: &self.make, drops_name: !keeps_name(self.function) }
    }

    /// Tells of metrics whose name says that they are not of the kind that the
    /// function is for.
    pub fn note<'l>(&self, evaluator: &mut Evaluator<'_>, metrics: impl Iterator<Item = &'l Labels>) {
        if !matches!(self.function, Function::Rate | Function::Increase) {
            return;
        }
        for labels in metrics {
            let name = labels.metric_name();
            if !name.is_empty() && !COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                evaluator.annotations.info(format!(
                    "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"
                ));
            }
        }
    }

    fn rows(&self, evaluator: &mut Evaluator<'_>) -> Result<Vec<Row>, Error> {
        let maker = self.maker();
        let rows = match evaluator.collect(&maker)? {
            Some(rows) => rows,
            None => evaluator.map_windows(&self.series, maker.drops_name, |window, step| {
                range_functions::apply(self.function, window, maker.make.param(step))
            })?,
        };
        self.note(evaluator, rows.iter().map(|row| &row.labels));
        Ok(rows)
    }
}

fn absent_over_time(evaluator: &mut Evaluator<'_>, arg: &Expr, steps: &Steps) -> Result<Vec<Row>, Error> {
    let matchers = match arg {
        Expr::Range(range) => range.selector.matchers.as_slice(),
        _ => &[],
    };
    let found = evaluator.range_series(arg, steps)?;
    let rows = evaluator.map_windows(&found, true, |_, _| Some(1.0))?;
    evaluator.charge(steps.len)?;
    Ok(vec![absence(&rows, labels_of_absence(matchers), steps)])
}
