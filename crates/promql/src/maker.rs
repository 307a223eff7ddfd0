//! Rows of selectors and of functions of ranges, made one series at a time and
//! on any thread.

use lm_model::{Timestamp, is_stale};

use crate::ast::Function;
use crate::budget::Budget;
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::layout::Layout;
use crate::range_functions::{self, Window};
use crate::rolling::Rolling;
use crate::rows::{ABSENT, Row, is_present};
use crate::series::{Markers, Reader, Series};
use crate::workers::{self, Alone, Workers};

/// Series that a thread makes rows of before it looks for more.
const PART_SERIES: usize = 256;

/// Values that take longer to make than threads take to start.
const VALUES_MANY: usize = 1 << 15;

/// What becomes of each series.
#[derive(Clone, Debug)]
pub(crate) enum Make {
    /// The last sample of each window.
    Values,
    /// Its time, in seconds.
    Times,
    /// A function of the windows, and its scalar arguments at each step.
    Function(Function, Vec<Vec<f64>>),
}

pub(crate) struct RowMaker<'s, 'a> {
    pub series: &'s Series<'a>,
    pub make: &'s Make,
    pub drops_name: bool,
}

impl Make {
    /// The scalar arguments at a step.
    pub fn params(&self, step: usize) -> [f64; 2] {
        let param = |index: usize| match self {
            Make::Function(_, params) => params.get(index).map_or(f64::NAN, |values| values[step]),
            _ => f64::NAN,
        };
        [param(0), param(1)]
    }
}

/// What a series has in the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Nothing,
    Numbers,
    /// No row was made.
    Histograms,
}

impl RowMaker<'_, '_> {
    pub fn drops_name(&self, place: usize) -> bool {
        self.drops_name || self.series.drops_name(place)
    }

    /// The tools of one thread.
    pub fn bench<'m>(&'m self, budget: &'m Budget<'m>) -> Bench<'m> {
        let windows = &self.series.windows;
        let tool = match self.make {
            Make::Values => Tool::Values(Layout::new(windows, None, budget)),
            Make::Times => Tool::Times(Layout::new(windows, None, budget)),
            Make::Function(function, _) => {
                Tool::Function(*function, Rolling::new(*function, windows, budget))
            }
        };
        Bench { series: self.series, make: self.make, reader: Reader::new(budget), tool }
    }
}

/// What one thread needs to make rows.
pub(crate) struct Bench<'m> {
    series: &'m Series<'m>,
    make: &'m Make,
    pub reader: Reader<'m>,
    tool: Tool<'m>,
}

enum Tool<'m> {
    Values(Layout<'m>),
    Times(Layout<'m>),
    Function(Function, Rolling<'m>),
}

impl Bench<'_> {
    /// Makes the row of a series in place of what `row` held before.
    pub fn make(&mut self, place: usize, row: &mut [f64]) -> Result<Content, Error> {
        row.fill(ABSENT);
        let markers = match self.tool {
            Tool::Function(..) => Markers::Dropped,
            // A marker hides the sample before it.
            _ => Markers::Kept,
        };
        self.series.read(place, markers, &mut self.reader)?;
        let samples = &self.reader.samples;
        if !samples.histograms.is_empty() {
            return Ok(Content::Histograms);
        }
        if samples.is_empty() {
            return Ok(Content::Nothing);
        }
        match &mut self.tool {
            Tool::Values(layout) => {
                layout.place(&samples.times)?;
                for (value, placed) in row.iter_mut().zip(&layout.steps) {
                    if let Some(last) = placed.span.last() {
                        // A marker has the bits of an absent value.
                        *value = samples.values[last];
                    }
                }
            }
            Tool::Times(layout) => {
                layout.place(&samples.times)?;
                for (value, placed) in row.iter_mut().zip(&layout.steps) {
                    if let Some(last) = placed.span.last().filter(|last| !is_stale(samples.values[*last])) {
                        *value = Timestamp::from_millis(samples.times[last]).as_seconds_f64();
                    }
                }
            }
            Tool::Function(function, rolling) => {
                if !rolling.fill(samples, row)? {
                    each_window(*function, self.make, &rolling.layout, &mut self.reader, row)?;
                }
            }
        }
        let is_empty = !row.iter().any(|value| is_present(*value));
        Ok(if is_empty { Content::Nothing } else { Content::Numbers })
    }
}

/// Computes a function window by window.
fn each_window(
    function: Function,
    make: &Make,
    layout: &Layout<'_>,
    reader: &mut Reader<'_>,
    row: &mut [f64],
) -> Result<(), Error> {
    let windows = layout.windows;
    for (step, (value, placed)) in row.iter_mut().zip(&layout.steps).enumerate() {
        let span = placed.span;
        reader.count_work(1 + span.len())?;
        if span.len() == 0 {
            continue;
        }
        let (after, until) = windows.of(step);
        let window = Window {
            times: &reader.samples.times[span.start..span.end],
            values: &reader.samples.values[span.start..span.end],
            after,
            until,
            range_millis: windows.range_millis,
            now: windows.steps.time(step),
        };
        if let Some(result) = range_functions::apply(function, &window, make.params(step)) {
            *value = result;
        }
    }
    Ok(())
}

impl Evaluator<'_> {
    /// Who helps to make so many rows: threads cost more than a few are worth.
    pub fn workers(&self, rows: usize, steps: usize) -> &dyn Workers {
        let is_much = rows > PART_SERIES && rows.saturating_mul(steps) > VALUES_MANY;
        if is_much { &*self.engine.workers } else { &Alone }
    }

    /// All rows, without those that have nothing in any step. `None` if there
    /// are histograms.
    pub fn collect(&self, maker: &RowMaker<'_, '_>) -> Result<Option<Vec<Row>>, Error> {
        let parts = maker.series.len().div_ceil(PART_SERIES);
        let budget = &self.budget;
        let (rows, _) = workers::in_parts(
            self.workers(maker.series.len(), maker.series.windows.len()),
            parts,
            || Ok(maker.bench(budget)),
            |bench, part| {
                let first = part * PART_SERIES;
                let places = first..maker.series.len().min(first + PART_SERIES);
                let mut rows = Vec::new();
                for place in places {
                    let steps = maker.series.windows.len();
                    budget.charge(steps)?;
                    let mut values = vec![ABSENT; steps];
                    match bench.make(place, &mut values)? {
                        Content::Numbers => {
                            let labels = maker.series.labels(place).clone();
                            rows.push(Row::new(labels, maker.drops_name(place), values));
                        }
                        Content::Nothing => budget.release(steps),
                        Content::Histograms => return Ok(None),
                    }
                }
                Ok(Some(rows))
            },
        )?;
        let rows: Option<Vec<Vec<Row>>> = rows.into_iter().collect();
        Ok(rows.map(|rows| rows.into_iter().flatten().collect()))
    }
}
