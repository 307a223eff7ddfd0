//! Operators between two sides.

use std::collections::{HashMap, HashSet};

use lm_model::{Labels, METRIC_NAME};

use crate::ast::{Binary, BinaryOp, Cardinality, Matching};
use crate::engine::Error;
use crate::eval::{Evaluator, Output};
use crate::rows::{ABSENT, Row, is_present, present, unite};
use crate::windows::Steps;

pub(crate) fn eval(evaluator: &mut Evaluator<'_>, binary: &Binary, steps: &Steps) -> Result<Output, Error> {
    let left = evaluator.eval(&binary.left, steps)?;
    let right = evaluator.eval(&binary.right, steps)?;
    Ok(match (left, right) {
        (Output::Scalar(left), Output::Scalar(right)) => {
            // The parser asks for `bool` here, so a comparison is 0 or 1.
            let result = |(left, right)| elementary(binary.op, left, right, true).unwrap_or(f64::NAN);
            Output::Scalar(left.into_iter().zip(right).map(result).collect())
        }
        (Output::Vector(rows), Output::Scalar(scalars)) => {
            Output::Vector(with_scalar(evaluator, binary, rows, &scalars, false)?)
        }
        (Output::Scalar(scalars), Output::Vector(rows)) => {
            Output::Vector(with_scalar(evaluator, binary, rows, &scalars, true)?)
        }
        (Output::Vector(left), Output::Vector(right)) if binary.op.is_set() => {
            Output::Vector(sets(evaluator, binary, left, right, steps)?)
        }
        (Output::Vector(left), Output::Vector(right)) => {
            Output::Vector(match_rows(evaluator, binary, left, right, steps)?)
        }
        _ => return Err(Error::BadData("operators need scalars or instant vectors".into())),
    })
}

/// `None` if a comparison filters the value away.
fn elementary(op: BinaryOp, left: f64, right: f64, returns_bool: bool) -> Option<f64> {
    let holds = match op {
        BinaryOp::Add => return Some(left + right),
        BinaryOp::Sub => return Some(left - right),
        BinaryOp::Mul => return Some(left * right),
        BinaryOp::Div => return Some(left / right),
        BinaryOp::Mod => return Some(left % right),
        BinaryOp::Pow => return Some(left.powf(right)),
        BinaryOp::Atan2 => return Some(left.atan2(right)),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => return None,
        BinaryOp::Eq => left == right,
        BinaryOp::Ne => left != right,
        BinaryOp::Gt => left > right,
        BinaryOp::Lt => left < right,
        BinaryOp::Ge => left >= right,
        BinaryOp::Le => left <= right,
    };
    match (returns_bool, holds) {
        (true, _) => Some(f64::from(u8::from(holds))),
        (false, true) => Some(left),
        (false, false) => None,
    }
}

fn with_scalar(
    evaluator: &mut Evaluator<'_>,
    binary: &Binary,
    mut rows: Vec<Row>,
    scalars: &[f64],
    is_scalar_left: bool,
) -> Result<Vec<Row>, Error> {
    let is_filter = binary.op.is_comparison() && !binary.returns_bool;
    for row in &mut rows {
        evaluator.count_work(row.values.len())?;
        row.drops_name |= !is_filter;
        for (value, scalar) in row.values.iter_mut().zip(scalars) {
            if !is_present(*value) {
                continue;
            }
            let (left, right) = if is_scalar_left { (*scalar, *value) } else { (*value, *scalar) };
            *value = match elementary(binary.op, left, right, binary.returns_bool) {
                // A filter keeps the vector's value, whichever side it is on.
                Some(_) if is_filter => *value,
                Some(result) => result,
                None => ABSENT,
            };
        }
    }
    rows.retain(|row| !row.is_empty());
    Ok(rows)
}

/// The labels by which both sides are matched.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let mut builder = labels.to_builder();
    builder.retain(|name| {
        let is_listed = matching.labels.iter().any(|label| label == name);
        if matching.is_on { is_listed } else { !is_listed && name != METRIC_NAME }
    });
    builder.build()
}

fn by_signature(rows: &[Row], matching: &Matching) -> HashMap<Labels, Vec<usize>> {
    let mut places: HashMap<Labels, Vec<usize>> = HashMap::new();
    for (index, row) in rows.iter().enumerate() {
        places.entry(signature(&row.labels, matching)).or_default().push(index);
    }
    places
}

fn sets(
    evaluator: &mut Evaluator<'_>,
    binary: &Binary,
    mut left: Vec<Row>,
    mut right: Vec<Row>,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    // Per signature, the steps at which the side that decides has something.
    let (deciding, decided) = match binary.op {
        BinaryOp::Or => (&left, &mut right),
        _ => (&right, &mut left),
    };
    let keeps_present = binary.op == BinaryOp::And;
    let mut presence: HashMap<Labels, Vec<bool>> = HashMap::new();
    for row in deciding {
        evaluator.count_work(steps.len)?;
        let sig = signature(&row.labels, &binary.matching);
        let steps_present = match presence.get_mut(&sig) {
            Some(steps_present) => steps_present,
            None => {
                evaluator.charge(steps.len / 8 + 1)?;
                presence.entry(sig).or_insert_with(|| vec![false; steps.len])
            }
        };
        present(&row.values).for_each(|(step, _)| steps_present[step] = true);
    }
    for row in decided.iter_mut() {
        evaluator.count_work(steps.len)?;
        let steps_present = presence.get(&signature(&row.labels, &binary.matching));
        for (step, value) in row.values.iter_mut().enumerate() {
            let is_there = steps_present.is_some_and(|steps_present| steps_present[step]);
            if is_there != keeps_present {
                *value = ABSENT;
            }
        }
    }
    let mut rows = left;
    if binary.op == BinaryOp::Or {
        rows.append(&mut right);
    }
    rows.retain(|row| !row.is_empty());
    unite(rows)
}

fn match_rows(
    evaluator: &mut Evaluator<'_>,
    binary: &Binary,
    left: Vec<Row>,
    right: Vec<Row>,
    steps: &Steps,
) -> Result<Vec<Row>, Error> {
    let matching = &binary.matching;
    let is_swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if is_swapped { (right, left) } else { (left, right) };
    let mut many_present = vec![false; steps.len];
    for row in &many {
        evaluator.count_work(steps.len)?;
        present(&row.values).for_each(|(step, _)| many_present[step] = true);
    }
    let ones = one_per_step(evaluator, matching, &one, &many_present, is_swapped, steps)?;

    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut results: Vec<Row> = Vec::new();
    // Steps at which a signature (and in many-to-one matching, a result) has been matched.
    let mut matched: HashSet<(Labels, Labels, usize)> = HashSet::new();
    let many_places = by_signature(&many, matching);
    for (many_index, many_row) in many.iter().enumerate() {
        let sig = signature(&many_row.labels, matching);
        let Some(one_at) = ones.get(&sig) else { continue };
        // Two rows can only clash when there are two of the signature.
        let may_clash = many_places.get(&sig).is_some_and(|rows| rows.len() > 1);
        let mut place: Option<(u32, usize)> = None;
        for (step, many_value) in present(&many_row.values) {
            evaluator.count_work(1)?;
            let one_index = one_at[step];
            if one_index == NONE {
                continue;
            }
            let one_row = &one[one_index as usize];
            let slot = match place {
                Some((index, slot)) if index == one_index => slot,
                _ => {
                    let labels = result_labels(binary, &many_row.labels, &one_row.labels);
                    let slot = match places.get(&labels) {
                        Some(slot) => *slot,
                        None => {
                            evaluator.charge(steps.len)?;
                            places.insert(labels.clone(), results.len());
                            let values = vec![ABSENT; steps.len];
                            results.push(Row::new(labels, binary.returns_bool, values));
                            results.len() - 1
                        }
                    };
                    place = Some((one_index, slot));
                    slot
                }
            };
            if may_clash {
                let result = match matching.cardinality {
                    Cardinality::OneToOne => Labels::empty(),
                    _ => results[slot].labels.clone(),
                };
                if !matched.insert((sig.clone(), result, step)) {
                    return Err(Error::Execution(match matching.cardinality {
                        Cardinality::OneToOne => "multiple matches for labels: many-to-one matching must be \
                                                  explicit (group_left/group_right)"
                            .into(),
                        _ => "multiple matches for labels: grouping labels must ensure unique matches".into(),
                    }));
                }
                evaluator.charge(4)?;
            }
            let one_value = one_row.values[step];
            let (l, r) = if is_swapped { (one_value, many_value) } else { (many_value, one_value) };
            let Some(value) = elementary(binary.op, l, r, binary.returns_bool) else { continue };
            let target = &mut results[slot];
            if is_present(target.values[step]) {
                return Err(Error::Execution("vector cannot contain metrics with the same labelset".into()));
            }
            target.drops_name |= many.get(many_index).is_some_and(|row| row.drops_name);
            target.values[step] = value;
        }
    }
    results.retain(|row| !row.is_empty());
    Ok(results)
}

/// No row at this step.
const NONE: u32 = u32::MAX;

/// Per signature and step, which row of the "one" side is there.
fn one_per_step(
    evaluator: &mut Evaluator<'_>,
    matching: &Matching,
    one: &[Row],
    many_present: &[bool],
    is_swapped: bool,
    steps: &Steps,
) -> Result<HashMap<Labels, Vec<u32>>, Error> {
    let mut ones: HashMap<Labels, Vec<u32>> = HashMap::new();
    for (index, row) in one.iter().enumerate() {
        evaluator.count_work(steps.len)?;
        let sig = signature(&row.labels, matching);
        let at = match ones.get_mut(&sig) {
            Some(at) => at,
            None => {
                evaluator.charge(steps.len / 2 + 1)?;
                ones.entry(sig.clone()).or_insert_with(|| vec![NONE; steps.len])
            }
        };
        for (step, _) in present(&row.values) {
            if at[step] == NONE {
                at[step] = u32::try_from(index).unwrap_or(NONE);
            } else if many_present[step] {
                let mut duplicates = [&one[at[step] as usize].labels, &row.labels];
                duplicates.sort();
                let side = if is_swapped { "left" } else { "right" };
                return Err(Error::Execution(format!(
                    "found duplicate series for the match group {sig} on the {side} hand-side of the operation: \
                     [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                    duplicates[0], duplicates[1],
                )));
            }
        }
    }
    Ok(ones)
}

fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let matching = &binary.matching;
    let mut builder = many.to_builder();
    if !binary.op.is_comparison() {
        builder.remove(METRIC_NAME);
    }
    if matching.cardinality == Cardinality::OneToOne {
        builder.retain(|name| matching.labels.iter().any(|label| label == name) == matching.is_on);
    }
    for name in &matching.include {
        builder.set(name.as_str(), one.get(name).unwrap_or(""));
    }
    builder.build()
}
