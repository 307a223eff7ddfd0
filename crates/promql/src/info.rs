//! `info()`: adds the labels of info series, such as `target_info`, to the
//! series of the same instance and job (Prometheus' `promql/info.go`).

use std::collections::HashMap;

use lm_model::{Labels, METRIC_NAME, MatchOp, Matcher};
use regex::Regex;

use crate::answer::Point;
use crate::ast::{Call, Expr, RangeSelector, Selector};
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::rows::{ABSENT, Row, is_present, same_labels};
use crate::text::anchored;
use crate::windows::Steps;

const TARGET_INFO: &str = "target_info";

/// Labels by which series and info series find each other.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Longest expression of identifying values that is given to the store; beyond
/// it the store answers all info series of the name.
const VALUES_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn eval(evaluator: &mut Evaluator<'_>, call: &Call, steps: &Steps) -> Result<Vec<Row>, Error> {
    let base = call.args.first().ok_or_else(|| Error::BadData("info() needs a vector".into()))?;
    let wanted = Wanted::new(call.args.get(1))?;
    let rows = evaluator.eval_vector(base, steps)?;
    let (plain, enriched): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| wanted.is_info(&row.labels));
    let infos = select(evaluator, base, &wanted, &enriched, steps)?;
    let latest = Latest::new(evaluator, &infos, steps)?;
    let mut output = Output { steps, places: HashMap::new(), rows: Vec::new() };
    for row in &plain {
        output.copy(evaluator, row)?;
    }
    for row in &enriched {
        enrich(evaluator, row, &wanted, &infos, &latest, &mut output)?;
    }
    Ok(output.rows)
}

/// What the second argument says.
struct Wanted {
    names: Vec<Test>,
    /// Of labels that are to be added; none: all are.
    labels: Vec<Test>,
}

struct Test {
    matcher: Matcher,
    regex: Option<Regex>,
}

impl Test {
    fn new(matcher: &Matcher) -> Result<Self, Error> {
        let regex = match matcher.op {
            MatchOp::Eq | MatchOp::Ne => None,
            MatchOp::Re | MatchOp::Nre => Some(anchored(&matcher.value).map_err(Error::Execution)?.regex),
        };
        Ok(Test { matcher: matcher.clone(), regex })
    }

    fn accepts(&self, value: &str) -> bool {
        let is_same = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => *self.matcher.value == *value,
        };
        is_same == self.is_positive()
    }

    fn is_positive(&self) -> bool {
        matches!(self.matcher.op, MatchOp::Eq | MatchOp::Re)
    }
}

impl Wanted {
    fn new(selector: Option<&Expr>) -> Result<Self, Error> {
        let matchers = match selector {
            Some(Expr::Selector(selector)) => selector.matchers.as_slice(),
            _ => &[],
        };
        let tests = matchers.iter().map(Test::new).collect::<Result<Vec<_>, _>>()?;
        let (mut names, labels): (Vec<Test>, Vec<Test>) =
            tests.into_iter().partition(|test| *test.matcher.name == *METRIC_NAME);
        if names.is_empty() {
            names.push(Test::new(&Matcher::new(METRIC_NAME, MatchOp::Eq, TARGET_INFO))?);
        }
        Ok(Wanted { names, labels })
    }

    fn has_name(&self) -> bool {
        self.names.iter().any(Test::is_positive)
    }

    /// Whether a series is itself one of the info series.
    fn is_info(&self, labels: &Labels) -> bool {
        self.has_name() && self.names.iter().all(|test| test.accepts(labels.metric_name()))
    }

    fn takes(&self, label: &str) -> bool {
        label != METRIC_NAME
            && (self.labels.is_empty() || self.labels.iter().any(|test| *test.matcher.name == *label))
    }
}

/// One info series: when each step's sample was taken, in seconds.
struct InfoSeries {
    labels: Labels,
    identity: Labels,
    times: Vec<f64>,
}

fn identity(labels: &Labels) -> Labels {
    let mut builder = labels.to_builder();
    builder.retain(|name| IDENTIFYING.contains(&name));
    builder.build()
}

fn select(
    evaluator: &mut Evaluator<'_>,
    base: &Expr,
    wanted: &Wanted,
    rows: &[Row],
    steps: &Steps,
) -> Result<Vec<InfoSeries>, Error> {
    let identifies = |row: &Row| IDENTIFYING.iter().any(|name| row.labels.get(name).is_some());
    if !rows.iter().any(identifies) {
        return Ok(Vec::new());
    }
    let mut matchers: Vec<Matcher> =
        wanted.names.iter().chain(&wanted.labels).map(|test| test.matcher.clone()).collect();
    if !wanted.has_name() {
        matchers.push(Matcher::new(METRIC_NAME, MatchOp::Re, ".+_info"));
    }
    matchers.extend(IDENTIFYING.iter().filter_map(|name| values_matcher(name, rows)));
    let selector = Selector { matchers, ..times_of(base) };
    let values = evaluator.eval_vector(&Expr::Selector(selector.clone()), steps)?;
    if values.iter().any(|row| !row.histograms.is_empty()) {
        return Err(Error::Execution("info sample should be float".into()));
    }
    let rows = evaluator.sample_times(&selector, steps)?;
    let series =
        |row: Row| InfoSeries { identity: identity(&row.labels), labels: row.labels, times: row.values };
    Ok(rows.into_iter().map(series).collect())
}

/// A matcher for all values that a label has, if that is worth it.
fn values_matcher(name: &str, rows: &[Row]) -> Option<Matcher> {
    let mut values = rows.iter().map(|row| row.labels.get(name)).collect::<Option<Vec<&str>>>()?;
    values.sort_unstable();
    values.dedup();
    let pattern = values.into_iter().map(regex::escape).collect::<Vec<_>>().join("|");
    (pattern.len() <= VALUES_BYTES_MAX).then(|| Matcher::new(name, MatchOp::Re, pattern))
}

/// Where the first selector of an expression looks, seen from the query.
fn times_of(expr: &Expr) -> Selector {
    let mut times = Selector::default();
    let mut next = Some(expr);
    while let Some(expr) = next {
        let (at, offset_millis) = match expr {
            Expr::Selector(selector) | Expr::Range(RangeSelector { selector, .. }) => {
                next = None;
                (selector.at, selector.offset_millis)
            }
            Expr::Subquery(subquery) => {
                next = Some(&subquery.expr);
                (subquery.at, subquery.offset_millis)
            }
            Expr::Number(_) | Expr::String(_) => return times,
            Expr::Negate(inner) => {
                next = Some(inner);
                continue;
            }
            Expr::Binary(binary) => {
                let is_scalar = matches!(binary.left, Expr::Number(_));
                next = Some(if is_scalar { &binary.right } else { &binary.left });
                continue;
            }
            Expr::Aggregate(aggregate) => {
                next = Some(&aggregate.expr);
                continue;
            }
            Expr::Call(call) => {
                next = call.args.iter().find(|arg| !matches!(arg, Expr::Number(_) | Expr::String(_)));
                continue;
            }
        };
        times.offset_millis =
            if at.is_some() { offset_millis } else { times.offset_millis.saturating_add(offset_millis) };
        times.at = at.or(times.at);
    }
    times
}

/// Per identity and name of info metric, which info series counts at each step:
/// the one whose sample is the latest.
struct Latest<'a> {
    places: HashMap<(&'a Labels, &'a str), Vec<u32>>,
    names: Vec<&'a str>,
}

const NONE: u32 = u32::MAX;

impl<'a> Latest<'a> {
    fn new(evaluator: &mut Evaluator<'_>, infos: &'a [InfoSeries], steps: &Steps) -> Result<Self, Error> {
        let mut places: HashMap<(&Labels, &str), Vec<u32>> = HashMap::new();
        let mut names: Vec<&str> = Vec::new();
        for (index, info) in infos.iter().enumerate() {
            evaluator.charge(steps.len / 2 + 1)?;
            evaluator.count_work(steps.len)?;
            let name = info.labels.metric_name();
            if !names.contains(&name) {
                names.push(name);
            }
            let at = places.entry((&info.identity, name)).or_insert_with(|| vec![NONE; steps.len]);
            for (step, time) in info.times.iter().enumerate().filter(|(_, time)| is_present(**time)) {
                let other = infos.get(at[step] as usize).map(|other| other.times[step]);
                if other.is_some_and(|other| other == *time) {
                    let message = format!("found duplicate series for info metric {name}");
                    return Err(Error::Execution(message));
                }
                if other.is_none_or(|other| other < *time) {
                    at[step] = u32::try_from(index).unwrap_or(NONE);
                }
            }
        }
        names.sort_unstable();
        Ok(Latest { places, names })
    }
}

fn enrich(
    evaluator: &mut Evaluator<'_>,
    row: &Row,
    wanted: &Wanted,
    infos: &[InfoSeries],
    latest: &Latest<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let identity = identity(&row.labels);
    let sources: Vec<&Vec<u32>> =
        latest.names.iter().filter_map(|name| latest.places.get(&(&identity, *name))).collect();
    let mut before: Option<(Vec<u32>, usize)> = None;
    for step in 0..row.values.len() {
        evaluator.count_work(1 + sources.len())?;
        let Some(point) = row.point(step) else { continue };
        let found: Vec<u32> = sources.iter().map(|at| at[step]).filter(|index| *index != NONE).collect();
        if found.is_empty() && !wanted.labels.iter().all(|test| test.accepts("")) {
            continue;
        }
        let slot = match &before {
            Some((combination, slot)) if *combination == found => *slot,
            _ => {
                let series = found.iter().filter_map(|index| infos.get(*index as usize));
                let labels = with_labels(&row.labels, series, wanted)?;
                output.slot(evaluator, labels, row.drops_name)?
            }
        };
        before = Some((found, slot));
        output.set(slot, step, point)?;
    }
    Ok(())
}

fn with_labels<'a>(
    base: &Labels,
    infos: impl Iterator<Item = &'a InfoSeries>,
    wanted: &Wanted,
) -> Result<Labels, Error> {
    let mut added: HashMap<&str, &str> = HashMap::new();
    for info in infos {
        for (name, value) in info.labels.iter().filter(|(name, _)| wanted.takes(name)) {
            if added.get(name).is_some_and(|other| *other != value) {
                return Err(Error::Execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.insert(name, value);
            }
        }
    }
    let mut builder = base.to_builder();
    for (name, value) in added {
        builder.set(name, value);
    }
    Ok(builder.build())
}

struct Output<'s> {
    steps: &'s Steps,
    places: HashMap<Labels, usize>,
    rows: Vec<Row>,
}

impl Output<'_> {
    fn slot(
        &mut self,
        evaluator: &mut Evaluator<'_>,
        labels: Labels,
        drops_name: bool,
    ) -> Result<usize, Error> {
        if let Some(slot) = self.places.get(&labels) {
            self.rows[*slot].drops_name |= drops_name;
            return Ok(*slot);
        }
        evaluator.charge(self.steps.len)?;
        self.places.insert(labels.clone(), self.rows.len());
        self.rows.push(Row::new(labels, drops_name, vec![ABSENT; self.steps.len]));
        Ok(self.rows.len() - 1)
    }

    fn set(&mut self, slot: usize, step: usize, point: Point) -> Result<(), Error> {
        let row = &mut self.rows[slot];
        if row.point(step).is_some() {
            return Err(same_labels());
        }
        row.set(step, point);
        row.histograms.sort_by_key(|(step, _)| *step);
        Ok(())
    }

    fn copy(&mut self, evaluator: &mut Evaluator<'_>, row: &Row) -> Result<(), Error> {
        let slot = self.slot(evaluator, row.labels.clone(), row.drops_name)?;
        for step in 0..row.values.len() {
            if let Some(point) = row.point(step) {
                self.set(slot, step, point)?;
            }
        }
        Ok(())
    }
}
