//! Aggregation of series into groups.

use std::collections::HashMap;

use lm_model::Labels;

use crate::annotations::Note;
use crate::answer::Point;
use crate::ast::{Aggregate, AggregateOp, Expr, Grouping};
use crate::call::{RangeCall, note_quantiles};
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::fold;
use crate::grouping::group_labels;
use crate::maker::{Make, RowMaker};
use crate::partial::Fold;
use crate::rows::{ABSENT, Row, is_present, unite};
use crate::sums::{self, Sum};
use crate::windows::Steps;
use crate::{limit, mixed_aggregate, native, text};

/// Series that are aggregated into one.
struct Group {
    labels: Labels,
    /// The name goes in the end if that of any member goes.
    drops_name: bool,
    rows: Vec<Row>,
}

impl Group {
    fn values(&self, step: usize) -> impl Iterator<Item = f64> + '_ {
        self.rows.iter().map(move |row| row.values[step]).filter(|value| is_present(*value))
    }
}

pub(crate) fn eval(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    if let Some(rows) = fused(evaluator, aggregate, steps)? {
        return Ok(rows);
    }
    let params = match &aggregate.param {
        Some(Expr::String(_)) | None => None,
        Some(param) => Some(evaluator.eval_scalar(param, steps)?),
    };
    let rows = evaluator.eval_vector(&aggregate.expr, steps)?;
    match (aggregate.op, params) {
        (AggregateOp::TopK | AggregateOp::BottomK, Some(counts)) => {
            let counts = counts.into_iter().map(count_of).collect::<Result<Vec<_>, _>>()?;
            ranked(evaluator, aggregate, group(rows, &aggregate.grouping), &counts, steps)
        }
        (AggregateOp::LimitK, Some(counts)) => {
            let counts = counts.into_iter().map(count_of).collect::<Result<Vec<_>, _>>()?;
            let groups = group(rows, &aggregate.grouping).into_iter().map(|group| group.rows);
            limit::first(evaluator, groups, &counts)
        }
        (AggregateOp::LimitRatio, Some(ratios)) => {
            limit::share(evaluator, rows, &ratios, aggregate.param_span)
        }
        (AggregateOp::CountValues, _) => {
            let Some(Expr::String(label)) = &aggregate.param else {
                return Err(Error::BadData("count_values needs the name of a label".into()));
            };
            count_values(evaluator, group(rows, &aggregate.grouping), label, steps)
        }
        (op, params) => {
            if let (AggregateOp::Quantile, Some(quantiles)) = (op, &params) {
                note_quantiles(evaluator, quantiles, aggregate.param_span);
            }
            let param = |step: usize| params.as_ref().map_or(f64::NAN, |params| params[step]);
            folded(evaluator, aggregate, group(rows, &aggregate.grouping), param, steps)
        }
    }
}

/// The aggregation of rows that need not all be held, where that can be.
fn fused(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    steps: &Steps,
) -> Result<Option<Vec<Row>>, Error> {
    let Some(fold) = Fold::of(aggregate.op) else { return Ok(None) };
    match &aggregate.expr {
        Expr::Selector(selector) if selector.extension.is_none() => {
            let series = evaluator.instant_series(selector, steps)?;
            let maker = RowMaker { series: &series, make: &Make::Values, drops_name: false };
            Ok(fold::eval(evaluator, fold, &aggregate.grouping, &maker)?.map(|folded| folded.rows))
        }
        Expr::Call(call) if RangeCall::is_one(call) => {
            let call = RangeCall::new(evaluator, call, steps)?;
            let folded = fold::eval(evaluator, fold, &aggregate.grouping, &call.maker())?;
            Ok(folded.map(|folded| {
                call.note(evaluator, folded.metrics.iter());
                folded.rows
            }))
        }
        _ => Ok(None),
    }
}

fn group(rows: Vec<Row>, grouping: &Grouping) -> Vec<Group> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let labels = group_labels(&row.labels, grouping);
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            groups.push(Group { labels, drops_name: false, rows: Vec::new() });
            groups.len() - 1
        });
        groups[place].drops_name |= row.drops_name;
        groups[place].rows.push(row);
    }
    groups
}

fn folded(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    groups: Vec<Group>,
    param: impl Fn(usize) -> f64,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let mut results = Vec::with_capacity(groups.len());
    for group in groups {
        evaluator.charge(steps.len)?;
        let op = aggregate.op;
        let has_histograms = group.rows.iter().any(|row| !row.histograms.is_empty());
        let mut result = Row::new(group.labels.clone(), group.drops_name, vec![ABSENT; steps.len]);
        for step in 0..steps.len {
            evaluator.count_work(group.rows.len())?;
            let numbers = || fold(op, group.values(step), || param(step));
            if has_histograms {
                if let Some(point) = mixed_aggregate::fold(evaluator, aggregate, &group.rows, step, numbers)?
                {
                    result.set(step, point);
                }
            } else if let Some(value) = numbers() {
                result.values[step] = value;
            }
        }
        results.push(result);
    }
    Ok(results)
}

fn fold(op: AggregateOp, values: impl Iterator<Item = f64>, param: impl Fn() -> f64) -> Option<f64> {
    let mut values = values.peekable();
    values.peek()?;
    Some(match op {
        AggregateOp::Sum => Sum::of(values),
        AggregateOp::Avg => sums::mean(values)?,
        AggregateOp::Count => values.count() as f64,
        AggregateOp::Group => 1.0,
        AggregateOp::Min => values.reduce(|min, v| if v < min || min.is_nan() { v } else { min })?,
        AggregateOp::Max => values.reduce(|max, v| if v > max || max.is_nan() { v } else { max })?,
        AggregateOp::Stdvar => variance(values)?,
        AggregateOp::Stddev => variance(values)?.sqrt(),
        AggregateOp::Quantile => sums::quantile(param(), &mut values.collect::<Vec<_>>()),
        AggregateOp::TopK
        | AggregateOp::BottomK
        | AggregateOp::CountValues
        | AggregateOp::LimitK
        | AggregateOp::LimitRatio => return None,
    })
}

/// Welford's variance, as Prometheus computes it across series.
fn variance(mut values: impl Iterator<Item = f64>) -> Option<f64> {
    let first = values.next()?;
    let (mut count, mut mean) = (1.0, first);
    let mut squares = if first.is_finite() { 0.0 } else { f64::NAN };
    for value in values {
        count += 1.0;
        let delta = value - mean;
        mean += delta / count;
        squares += delta * (value - mean);
    }
    Some(squares / count)
}

/// The `k` of a step.
fn count_of(value: f64) -> Result<usize, Error> {
    if value.is_nan() {
        return Err(Error::Execution("Parameter value is NaN".into()));
    }
    if value >= i64::MAX as f64 || value <= i64::MIN as f64 {
        return Err(Error::Execution(format!("Scalar value {} overflows int64", text::number(value))));
    }
    Ok(value.max(0.0) as usize)
}

fn ranked(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    groups: Vec<Group>,
    counts: &[usize],
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let is_top = aggregate.op == AggregateOp::TopK;
    let mut results = Vec::new();
    for mut group in groups {
        for row in &mut group.rows {
            if !std::mem::take(&mut row.histograms).is_empty() {
                let note = Note::IgnoredInAggregation(aggregate.op);
                evaluator.annotations.add(note, "", aggregate.span);
            }
        }
        // Of the last step; an instant query has only that one, and is ordered by it.
        let mut order: Vec<usize> = Vec::new();
        for (step, count) in counts.iter().enumerate() {
            evaluator.count_work(group.rows.len())?;
            let values: Vec<f64> = group.rows.iter().map(|row| row.values[step]).collect();
            order = (0..values.len()).filter(|row| is_present(values[*row])).collect();
            // Stable, so that of equal values the earlier series wins; NaN loses.
            order.sort_by(|a, b| {
                let (a, b) = (values[*a], values[*b]);
                let order = if is_top { b.partial_cmp(&a) } else { a.partial_cmp(&b) };
                order.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            });
            for row in order.drain((*count).min(values.len()).min(order.len())..) {
                group.rows[row].values[step] = ABSENT;
            }
        }
        if steps.is_single() {
            let mut rows: Vec<Option<Row>> = group.rows.into_iter().map(Some).collect();
            results.extend(order.into_iter().filter_map(|row| rows[row].take()));
        } else {
            results.extend(group.rows.into_iter().filter(|row| !row.is_empty()));
        }
    }
    Ok(results)
}

fn count_values(
    evaluator: &mut Evaluator<'_>,
    groups: Vec<Group>,
    label: &str,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    if label.is_empty() {
        return Err(Error::Execution(format!("invalid label name {label:?}")));
    }
    let mut places: HashMap<(usize, String), usize> = HashMap::new();
    let mut results: Vec<Row> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for step in 0..steps.len {
            evaluator.count_work(group.rows.len())?;
            for point in group.rows.iter().filter_map(|row| row.point(step)) {
                let text = match point {
                    Point::Number(value) => text::number(value),
                    Point::Histogram(histogram) => native::render(&histogram),
                };
                let place = match places.get(&(index, text.clone())) {
                    Some(place) => *place,
                    None => {
                        evaluator.charge(steps.len)?;
                        let mut builder = group.labels.to_builder();
                        builder.set(label, text.clone());
                        let values = vec![ABSENT; steps.len];
                        results.push(Row::new(builder.build(), group.drops_name, values));
                        places.insert((index, text), results.len() - 1);
                        results.len() - 1
                    }
                };
                let count = &mut results[place].values[step];
                *count = if is_present(*count) { *count + 1.0 } else { 1.0 };
            }
        }
    }
    add_up(results)
}

/// Unites rows of equal labels by adding: the label may have been overwritten.
fn add_up(rows: Vec<Row>) -> Result<Vec<Row>, Error> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut united: Vec<Row> = Vec::new();
    for row in rows {
        let Some(place) = places.get(&row.labels) else {
            places.insert(row.labels.clone(), united.len());
            united.push(row);
            continue;
        };
        for (step, value) in crate::rows::present(&row.values) {
            let sum = &mut united[*place].values[step];
            *sum = if is_present(*sum) { *sum + value } else { value };
        }
    }
    unite(united)
}
