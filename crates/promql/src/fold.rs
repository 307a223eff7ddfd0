//! Aggregations that take up each row as it is made, so that no more is held
//! than the results.
//!
//! The series of a group are taken up in the order of their labels, in parts
//! of a fixed size. Which thread does which part changes nothing, to the bit.

use lm_model::Labels;

use crate::ast::Grouping;
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::grouping::Groups;
use crate::maker::{Bench, Content, RowMaker};
use crate::partial::{Fold, Partial};
use crate::rows::{ABSENT, Row};
use crate::workers;

/// Series of one group that are taken up by one thread.
const PART_SERIES: usize = 512;

/// Places of series of one group.
struct Part<'g> {
    group: usize,
    places: &'g [u32],
}

/// What one thread needs.
struct Taker<'m> {
    bench: Bench<'m>,
    row: Vec<f64>,
    metrics: Vec<Labels>,
}

/// An aggregation's result.
pub(crate) struct Folded {
    pub rows: Vec<Row>,
    /// Of series that had something to take up, at least one of each metric.
    pub metrics: Vec<Labels>,
}

/// `None` where the aggregation has to see all rows at once: because of what
/// it is, or because of what the rows hold.
pub(crate) fn eval(
    evaluator: &Evaluator<'_>,
    fold: Fold,
    grouping: &Grouping,
    maker: &RowMaker<'_, '_>,
) -> Result<Option<Folded>, Error> {
    let steps = maker.series.windows.len();
    let budget = &evaluator.budget;
    budget.charge(maker.series.len())?;
    let groups = Groups::of((0..maker.series.len()).map(|place| maker.series.labels(place)), grouping);
    let part_series = if fold.has_parts() { PART_SERIES } else { usize::MAX };
    let parts: Vec<Part<'_>> = (0..groups.len())
        .flat_map(|group| groups.members(group).chunks(part_series).map(move |places| Part { group, places }))
        .collect();
    let (partials, takers) = workers::in_parts(
        evaluator.workers(maker.series.len(), steps),
        parts.len(),
        || {
            budget.charge(steps)?;
            Ok(Taker { bench: maker.bench(budget), row: vec![ABSENT; steps], metrics: Vec::new() })
        },
        |taker, part| {
            budget.charge(fold.size(steps))?;
            let mut partial = Partial::new(fold, steps);
            for place in parts[part].places {
                let place = *place as usize;
                match taker.bench.make(place, &mut taker.row)? {
                    Content::Nothing => {}
                    Content::Histograms => return Ok(None),
                    Content::Numbers => {
                        if !partial.add(&taker.row, maker.drops_name(place)) {
                            return Ok(None);
                        }
                        let labels = maker.series.labels(place);
                        if taker.metrics.last().is_none_or(|last| last.metric_name() != labels.metric_name())
                        {
                            taker.metrics.push(labels.clone());
                        }
                    }
                }
            }
            Ok(Some(partial))
        },
    )?;
    let mut results: Vec<Option<Partial>> = groups.labels.iter().map(|_| None).collect();
    for (part, partial) in parts.iter().zip(partials) {
        let Some(partial) = partial else { return Ok(None) };
        let result = &mut results[part.group];
        match result {
            None => *result = Some(partial),
            Some(result) => {
                if !result.merge(&partial) {
                    return Ok(None);
                }
            }
        }
    }
    let row = |(labels, result): (Labels, Option<Partial>)| {
        let (values, drops_name) = result?.finish()?;
        Some(Row::new(labels, drops_name, values))
    };
    let rows = groups.labels.into_iter().zip(results).filter_map(row).collect();
    let metrics = takers.into_iter().flat_map(|taker| taker.metrics).collect();
    Ok(Some(Folded { rows, metrics }))
}
