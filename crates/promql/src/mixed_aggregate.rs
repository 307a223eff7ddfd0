//! Aggregation of groups that hold native histograms at some step, alone or
//! among numbers (`aggregation` of Prometheus' `promql/engine.go`).

use std::sync::Arc;

use lm_model::Histogram;

use crate::annotations::{Note, Operation};
use crate::answer::Point;
use crate::ast::{Aggregate, AggregateOp};
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::mixed;
use crate::native::{Events, Incompatible};
use crate::rows::Row;

/// What a group of histograms makes of one step; `numbers` folds the numbers,
/// where there are any. `None` where there is no result.
pub(crate) fn fold(
    evaluator: &mut Evaluator<'_>,
    aggregate: &Aggregate,
    rows: &[Row],
    step: usize,
    numbers: impl FnOnce() -> Option<f64>,
) -> Result<Option<Point>, Error> {
    let found: Vec<(&Row, &Arc<Histogram>)> =
        rows.iter().filter_map(|row| Some((row, row.histogram(step)?))).collect();
    if found.is_empty() {
        return Ok(numbers().map(Point::Number));
    }
    let buckets = |(_, of): &(&Row, &Arc<Histogram>)| of.positive_counts.len() + of.negative_counts.len() + 1;
    evaluator.count_work(found.iter().map(buckets).sum())?;
    let annotations = &evaluator.annotations;
    let has_numbers = rows.iter().any(|row| crate::rows::is_present(row.values[step]));
    Ok(match aggregate.op {
        AggregateOp::Count => {
            let count = rows.iter().filter(|row| row.point(step).is_some()).count();
            Some(Point::Number(count as f64))
        }
        AggregateOp::Group => Some(Point::Number(1.0)),
        AggregateOp::Sum | AggregateOp::Avg if has_numbers => {
            annotations.add(Note::MixedAggregation, "", aggregate.expr_span);
            None
        }
        op @ (AggregateOp::Sum | AggregateOp::Avg) => {
            let all: Vec<&Histogram> = found.iter().map(|(_, histogram)| &***histogram).collect();
            let result = if op == AggregateOp::Sum { mixed::sum(&all) } else { mixed::mean(&all) };
            match result {
                Ok((histogram, events)) => {
                    let events = Events { hints_collide: mixed::hints_collide(&all), ..events };
                    annotations.add_events(events, Operation::Aggregation, aggregate.expr_span);
                    Some(Point::Histogram(Arc::new(histogram)))
                }
                Err(Incompatible) => {
                    // Named after the first that does not fit.
                    let is_custom = |(_, of): &(&Row, &Arc<Histogram>)| crate::native::is_custom(of);
                    let odd = found.iter().find(|one| is_custom(one) != is_custom(&found[0]));
                    let name = odd.map_or("", |(row, _)| row.labels.metric_name());
                    annotations.add(Note::MixedSchemas, name, aggregate.expr_span);
                    None
                }
            }
        }
        op => {
            annotations.add(Note::IgnoredInAggregation(op), "", aggregate.expr_span);
            numbers().map(Point::Number)
        }
    })
}
