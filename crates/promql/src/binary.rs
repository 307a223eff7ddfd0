//! Operators between two sides.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lm_model::{Histogram, Labels, METRIC_NAME, ResetHint};

use crate::annotations::{Note, Operation};
use crate::answer::Point;
use crate::ast::{Binary, BinaryOp, Cardinality, Matching};
use crate::engine::Error;
use crate::eval::{Evaluator, Output};
use crate::native::{self, Incompatible, Keep, Total};
use crate::rows::{ABSENT, METADATA_LABELS, Row, is_present, present, same_labels, unite};
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
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => {
            return None;
        }
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

/// An operator between numbers or histograms. `None` if there is no result;
/// `note` hears why where it is not for a filter (`vectorElemBinop` of
/// Prometheus' `promql/engine.go`).
fn combine(binary: &Binary, left: &Point, right: &Point, note: &mut impl FnMut(Note)) -> Option<Point> {
    use BinaryOp::{Add, Div, Eq, Mul, Ne, Sub, TrimLower, TrimUpper};
    let op = binary.op;
    let scaled = |histogram: &Histogram, scale: fn(&mut Histogram, f64), by: f64| {
        let mut scaled = histogram.clone();
        scale(&mut scaled, by);
        native::compact(&mut scaled);
        Some(Point::Histogram(Arc::new(scaled)))
    };
    match (left, op, right) {
        (Point::Number(left), op, Point::Number(right)) if !op.is_trim() => {
            elementary(op, *left, *right, binary.returns_bool).map(Point::Number)
        }
        (Point::Histogram(histogram), Mul, Point::Number(factor))
        | (Point::Number(factor), Mul, Point::Histogram(histogram)) => {
            scaled(histogram, native::multiply, *factor)
        }
        (Point::Histogram(histogram), Div, Point::Number(divisor)) => {
            scaled(histogram, native::divide, *divisor)
        }
        (Point::Histogram(histogram), TrimUpper | TrimLower, Point::Number(at)) => {
            let mut trimmed = (**histogram).clone();
            native::trim(&mut trimmed, *at, if op == TrimUpper { Keep::Below } else { Keep::Above });
            Some(Point::Histogram(Arc::new(trimmed)))
        }
        (Point::Histogram(left), Add | Sub, Point::Histogram(right)) => added(op, left, right, note),
        (Point::Histogram(left), Eq | Ne, Point::Histogram(right)) => {
            let holds = native::is_equal(left, right) == (op == Eq);
            if binary.returns_bool {
                return Some(Point::Number(f64::from(u8::from(holds))));
            }
            holds.then(|| Point::Histogram(left.clone()))
        }
        _ => {
            note(Note::IncompatibleTypes { left: left.type_name(), op, right: right.type_name() });
            None
        }
    }
}

fn added(op: BinaryOp, left: &Histogram, right: &Histogram, note: &mut impl FnMut(Note)) -> Option<Point> {
    let mut total = Total::new(left);
    let (result, operation) = match op {
        BinaryOp::Add => (total.add(right), Operation::Addition),
        _ => (total.sub(right), Operation::Subtraction),
    };
    if result == Err(Incompatible) {
        note(Note::IncompatibleLayout(op));
        return None;
    }
    if total.events.hints_collide {
        note(Note::CollidingResets(operation));
    }
    if total.events.bounds_differed {
        note(Note::ReconciledBounds(operation));
    }
    let mut sum = total.finish();
    if op == BinaryOp::Sub {
        // A difference may go down.
        sum.reset_hint = ResetHint::Gauge;
    }
    Some(Point::Histogram(Arc::new(sum)))
}

fn with_scalar(
    evaluator: &mut Evaluator<'_>,
    binary: &Binary,
    mut rows: Vec<Row>,
    scalars: &[f64],
    is_scalar_left: bool,
) -> Result<Vec<Row>, Error> {
    let is_filter = binary.op.is_comparison() && !binary.returns_bool;
    let has_numbers = |row: &Row| row.values.iter().any(|value| is_present(*value));
    if binary.op.is_trim() && rows.iter().any(has_numbers) {
        let note = Note::IncompatibleTypes { left: "float", op: binary.op, right: "float" };
        evaluator.annotations.add(note, "", binary.span);
    }
    for row in &mut rows {
        evaluator.count_work(row.values.len())?;
        row.drops_name |= !is_filter && !binary.op.is_trim();
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
        for (step, histogram) in std::mem::take(&mut row.histograms) {
            let (histogram, scalar) = (Point::Histogram(histogram), Point::Number(scalars[step as usize]));
            let (left, right) = if is_scalar_left { (&scalar, &histogram) } else { (&histogram, &scalar) };
            let annotations = &evaluator.annotations;
            let result = combine(binary, left, right, &mut |note| annotations.add(note, "", binary.span));
            if let Some(point) = result {
                row.set(step as usize, point);
            }
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
        row.for_each_present(|step| steps_present[step] = true);
    }
    for row in decided.iter_mut() {
        evaluator.count_work(steps.len)?;
        let steps_present = presence.get(&signature(&row.labels, &binary.matching));
        let is_kept =
            |step: usize| steps_present.is_some_and(|steps_present| steps_present[step]) == keeps_present;
        for (step, value) in row.values.iter_mut().enumerate() {
            if !is_kept(step) {
                *value = ABSENT;
            }
        }
        row.histograms.retain(|(step, _)| is_kept(*step as usize));
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
    // With group_right, too: the official scripts have it that way round.
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    // Sides that cannot be matched may hold duplicates, unless they are filled.
    let mut many_present = vec![fill_many.is_some(); steps.len];
    for row in &many {
        evaluator.count_work(steps.len)?;
        row.for_each_present(|step| many_present[step] = true);
    }
    let ones = one_per_step(evaluator, matching, &one, &many_present, is_swapped, steps)?;

    let mut results = Results::new(binary, steps, is_swapped);
    // Per signature, steps at which a row of the "many" side was there.
    let mut matched_many: HashMap<Labels, Vec<bool>> = HashMap::new();
    let many_places = by_signature(&many, matching);
    for many_row in &many {
        let sig = signature(&many_row.labels, matching);
        let one_at = ones.get(&sig);
        if one_at.is_none() && fill_one.is_none() {
            continue;
        }
        // Two rows can only clash when there are two of the signature.
        let may_clash = many_places.get(&sig).is_some_and(|rows| rows.len() > 1);
        if fill_many.is_some() {
            let matched = matched_many.entry(sig.clone()).or_insert_with(|| vec![false; steps.len]);
            many_row.for_each_present(|step| matched[step] = true);
        }
        let mut place: Option<(u32, usize)> = None;
        let mut visit = |step: usize, many_point: &Point| -> Result<(), Error> {
            evaluator.count_work(1)?;
            let one_index = one_at.map_or(NONE, |one_at| one_at[step]);
            let (one_labels, one_point) = match (one.get(one_index as usize), fill_one) {
                (Some(row), _) => (&row.labels, row.point(step)),
                (None, Some(fill)) => (&sig, Some(Point::Number(fill))),
                (None, None) => return Ok(()),
            };
            let Some(one_point) = one_point else { return Ok(()) };
            let slot = match place {
                Some((index, slot)) if index == one_index => slot,
                _ => results.slot(evaluator, &many_row.labels, one_labels)?,
            };
            place = Some((one_index, slot));
            results.add(evaluator, slot, &sig, may_clash, step, many_point, &one_point, many_row.drops_name)
        };
        for (step, value) in present(&many_row.values) {
            visit(step, &Point::Number(value))?;
        }
        for (step, histogram) in &many_row.histograms {
            visit(*step as usize, &Point::Histogram(histogram.clone()))?;
        }
    }
    if let Some(fill) = fill_many {
        for (sig, one_at) in &ones {
            for (step, one_index) in one_at.iter().enumerate() {
                evaluator.count_work(1)?;
                let is_matched = matched_many.get(sig).is_some_and(|matched| matched[step]);
                let Some(row) = one.get(*one_index as usize).filter(|_| !is_matched) else { continue };
                let Some(point) = row.point(step) else { continue };
                let slot = results.slot(evaluator, sig, &row.labels)?;
                results.add(evaluator, slot, sig, false, step, &Point::Number(fill), &point, false)?;
            }
        }
    }
    Ok(results.finish())
}

/// The rows that an operator between vectors makes.
struct Results<'b> {
    binary: &'b Binary,
    steps: &'b Steps,
    is_swapped: bool,
    places: HashMap<Labels, usize>,
    rows: Vec<Row>,
    /// Steps at which a signature (and in many-to-one matching, a result) has been matched.
    matched: HashSet<(Labels, Labels, usize)>,
    /// Rows and steps that have a histogram.
    with_histogram: HashSet<(usize, usize)>,
}

impl<'b> Results<'b> {
    fn new(binary: &'b Binary, steps: &'b Steps, is_swapped: bool) -> Self {
        Results {
            binary,
            steps,
            is_swapped,
            places: HashMap::new(),
            rows: Vec::new(),
            matched: HashSet::new(),
            with_histogram: HashSet::new(),
        }
    }

    /// The row for a pair of labels.
    fn slot(&mut self, evaluator: &mut Evaluator<'_>, many: &Labels, one: &Labels) -> Result<usize, Error> {
        let labels = result_labels(self.binary, many, one);
        if let Some(slot) = self.places.get(&labels) {
            return Ok(*slot);
        }
        evaluator.charge(self.steps.len)?;
        self.places.insert(labels.clone(), self.rows.len());
        self.rows.push(Row::new(labels, self.binary.returns_bool, vec![ABSENT; self.steps.len]));
        Ok(self.rows.len() - 1)
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact about the pair")]
    fn add(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        slot: usize,
        sig: &Labels,
        may_clash: bool,
        step: usize,
        many: &Point,
        one: &Point,
        drops_name: bool,
    ) -> Result<(), Error> {
        if may_clash {
            self.check_clash(slot, sig, step)?;
            evaluator.charge(4)?;
        }
        let (left, right) = if self.is_swapped { (one, many) } else { (many, one) };
        let (annotations, span) = (&evaluator.annotations, self.binary.span);
        let result = combine(self.binary, left, right, &mut |note| annotations.add(note, "", span));
        let Some(point) = result else { return Ok(()) };
        let target = &mut self.rows[slot];
        if is_present(target.values[step]) || self.with_histogram.contains(&(slot, step)) {
            return Err(same_labels());
        }
        if matches!(point, Point::Histogram(_)) {
            self.with_histogram.insert((slot, step));
        }
        target.drops_name |= drops_name;
        target.set(step, point);
        Ok(())
    }

    fn check_clash(&mut self, slot: usize, sig: &Labels, step: usize) -> Result<(), Error> {
        let cardinality = self.binary.matching.cardinality;
        let result = match cardinality {
            Cardinality::OneToOne => Labels::empty(),
            _ => self.rows[slot].labels.clone(),
        };
        if self.matched.insert((sig.clone(), result, step)) {
            return Ok(());
        }
        Err(Error::Execution(match cardinality {
            Cardinality::OneToOne => "multiple matches for labels: many-to-one matching must be explicit \
                                      (group_left/group_right)"
                .into(),
            _ => "multiple matches for labels: grouping labels must ensure unique matches".into(),
        }))
    }

    fn finish(mut self) -> Vec<Row> {
        self.rows.retain(|row| !row.is_empty());
        for row in &mut self.rows {
            row.histograms.sort_by_key(|(step, _)| *step);
        }
        self.rows
    }
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
        let mut duplicate = None;
        row.for_each_present(|step| {
            if at[step] == NONE {
                at[step] = u32::try_from(index).unwrap_or(NONE);
            } else if many_present[step] {
                duplicate = duplicate.or(Some(at[step]));
            }
        });
        if let Some(other) = duplicate {
            let mut duplicates = [&one[other as usize].labels, &row.labels];
            duplicates.sort();
            let side = if is_swapped { "left" } else { "right" };
            return Err(Error::Execution(format!(
                "found duplicate series for the match group {sig} on the {side} hand-side of the operation: \
                 [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                duplicates[0], duplicates[1],
            )));
        }
    }
    Ok(ones)
}

fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let matching = &binary.matching;
    let mut builder = many.to_builder();
    if binary.op.changes_metric() {
        METADATA_LABELS.iter().for_each(|name| {
            builder.remove(name);
        });
    }
    if matching.cardinality == Cardinality::OneToOne {
        builder.retain(|name| matching.labels.iter().any(|label| label == name) == matching.is_on);
    }
    for name in &matching.include {
        builder.set(name.as_str(), one.get(name).unwrap_or(""));
    }
    builder.build()
}
