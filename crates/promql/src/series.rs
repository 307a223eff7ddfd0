//! The series that a selector or subquery finds, read one at a time.
//!
//! What a query holds of stored series is one series' samples per thread, in
//! buffers that are used again and again.

use std::sync::Arc;

use lm_model::{Histogram, Labels, ResetHint, Samples, TimeRange, Timestamp, is_stale};

use crate::ast::{At, Expr, Extension, Selector, Subquery};
use crate::budget::{Budget, WorkCount};
use crate::engine::Error;
use crate::eval::{Evaluator, millis};
use crate::rows::{Row, present};
use crate::storage::{Hints, SelectRequest, Selected, StorageError};
use crate::windows::{Steps, Windows};

/// Series and the windows in which their samples are looked at. A place is
/// the number of a series in the order of labels.
pub(crate) struct Series<'a> {
    pub windows: Windows,
    origin: Origin<'a>,
}

enum Origin<'a> {
    /// `order[place]` is the store's index.
    Stored { selected: Box<dyn Selected + 'a>, order: Vec<u32> },
    /// A subquery's.
    Computed { rows: Vec<Row>, steps: Steps },
}

/// Whether samples that mark the end of a series are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Markers {
    Kept,
    Dropped,
}

impl Series<'_> {
    pub fn len(&self) -> usize {
        match &self.origin {
            Origin::Stored { order, .. } => order.len(),
            Origin::Computed { rows, .. } => rows.len(),
        }
    }

    pub fn is_stored(&self) -> bool {
        matches!(self.origin, Origin::Stored { .. })
    }

    pub fn labels(&self, place: usize) -> &Labels {
        match &self.origin {
            Origin::Stored { selected, order } => selected.labels(order[place] as usize),
            Origin::Computed { rows, .. } => &rows[place].labels,
        }
    }

    pub fn drops_name(&self, place: usize) -> bool {
        match &self.origin {
            Origin::Stored { .. } => false,
            Origin::Computed { rows, .. } => rows[place].drops_name,
        }
    }

    /// Reads the samples of a series into `reader`.
    pub fn read(&self, place: usize, markers: Markers, reader: &mut Reader<'_>) -> Result<(), Error> {
        let budget = reader.budget;
        reader.let_go();
        let samples = &mut reader.samples;
        match &self.origin {
            Origin::Stored { selected, order } => {
                let room = budget.room();
                selected.read(order[place] as usize, room, samples)?;
                budget.count_read(samples.len());
                if markers == Markers::Dropped {
                    drop_markers(samples);
                }
            }
            Origin::Computed { rows, steps } => {
                samples.clear();
                for (step, value) in present(&rows[place].values) {
                    samples.times.push(steps.time(step));
                    samples.values.push(value);
                }
                for (step, histogram) in &rows[place].histograms {
                    let time = Timestamp::from_millis(steps.time(*step as usize));
                    samples.histograms.push((time, without_hint(histogram)));
                }
            }
        }
        reader.hold()?;
        reader.count_work(reader.samples.len() + self.windows.len())
    }
}

/// The buffers of one thread.
pub(crate) struct Reader<'b> {
    /// Of the series that was read last.
    pub samples: Samples,
    /// Samples that the budget counts as held.
    held: usize,
    budget: &'b Budget<'b>,
    work: WorkCount,
}

impl<'b> Reader<'b> {
    pub fn new(budget: &'b Budget<'b>) -> Self {
        Reader { samples: Samples::default(), held: 0, budget, work: WorkCount::default() }
    }

    /// Counts the samples as held until the next ones are read.
    fn hold(&mut self) -> Result<(), Error> {
        self.budget.charge(self.samples.len())?;
        self.held = self.samples.len();
        Ok(())
    }

    fn let_go(&mut self) {
        self.budget.release(std::mem::take(&mut self.held));
    }

    /// Counts work, and now and then asks whether to go on.
    pub fn count_work(&mut self, work: usize) -> Result<(), Error> {
        self.work.add(work, self.budget)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn drop_markers(samples: &mut Samples) {
    samples.histograms.retain(|(_, histogram)| !histogram.is_stale());
    if !samples.values.iter().any(|value| is_stale(*value)) {
        return;
    }
    let Samples { times, values, .. } = samples;
    let mut kept = 0;
    for index in 0..values.len() {
        if !is_stale(values[index]) {
            (times[kept], values[kept]) = (times[index], values[index]);
            kept += 1;
        }
    }
    times.truncate(kept);
    values.truncate(kept);
}

/// What a hint says is of the stored neighbour: a subquery may have left that
/// out, or have taken the same sample twice.
fn without_hint(histogram: &Arc<Histogram>) -> Arc<Histogram> {
    let mut histogram = histogram.clone();
    if matches!(histogram.reset_hint, ResetHint::Reset | ResetHint::NotReset) {
        Arc::make_mut(&mut histogram).reset_hint = ResetHint::Unknown;
    }
    histogram
}

impl<'a> Evaluator<'a> {
    /// The series of a range selector or subquery.
    pub fn range_series(&mut self, expr: &Expr, steps: &Steps) -> Result<Series<'a>, Error> {
        match expr {
            Expr::Range(range) => self.select(&range.selector, range.range_millis, range.range_millis, steps),
            Expr::Subquery(subquery) => self.subquery(subquery, steps),
            _ => Err(Error::BadData("expected a range vector".into())),
        }
    }

    /// The series of an instant selector.
    pub fn instant_series(&mut self, selector: &Selector, steps: &Steps) -> Result<Series<'a>, Error> {
        self.select(selector, millis(self.engine.lookback), 0, steps)
    }

    fn subquery(&mut self, subquery: &Subquery, steps: &Steps) -> Result<Series<'a>, Error> {
        let step = subquery.step_millis.unwrap_or_else(|| millis(self.engine.subquery_step)).max(1);
        let windows = Windows {
            range_millis: subquery.range_millis,
            steps: steps.clone(),
            offset_millis: subquery.offset_millis,
            at: self.fixed_time(subquery.at),
        };
        let (after, until) = windows.cover();
        // The first multiple of the step that lies in the first window.
        let mut start = after / step * step;
        if start <= after {
            start = start.saturating_add(step);
        }
        let len = (i128::from(until) - i128::from(start)) / i128::from(step) + 1;
        let len = if start > until { 0 } else { usize::try_from(len).unwrap_or(usize::MAX) };
        if len > self.engine.limits.samples_max {
            return Err(self.budget.too_many_samples());
        }
        let steps = Steps { start, step, len };
        let resolves = std::mem::replace(&mut self.resolves_hints, false);
        let around = self.around.take();
        let rows = if len == 0 { Ok(Vec::new()) } else { self.eval_vector(&subquery.expr, &steps) };
        self.resolves_hints = resolves;
        self.around = around;
        let rows = rows?;
        Ok(Series { windows, origin: Origin::Computed { rows, steps } })
    }

    /// Series with all samples that some step's window holds. They are ordered
    /// by labels so that sums do not depend on the store. `hinted_millis` is what
    /// the store learns of the range.
    fn select(
        &mut self,
        selector: &Selector,
        range_millis: i64,
        hinted_millis: i64,
        steps: &Steps,
    ) -> Result<Series<'a>, Error> {
        let windows = Windows {
            range_millis,
            steps: steps.clone(),
            offset_millis: selector.offset_millis,
            at: self.fixed_time(selector.at),
        };
        let (after, until) = windows.cover();
        // Modifiers look beyond both ends of the window, `anchored` only before it.
        let lookback = millis(self.engine.lookback);
        let (after, until) = match selector.extension {
            None => (after, until),
            Some(Extension::Anchored) => (after.saturating_sub(lookback), until),
            Some(Extension::Smoothed) => (after.saturating_sub(lookback), until.saturating_add(lookback)),
        };
        let series_max = self.engine.limits.series_max;
        let request = SelectRequest {
            matchers: &selector.matchers,
            range: TimeRange {
                start: Timestamp::from_millis(after.saturating_add(1)),
                end: Timestamp::from_millis(until.saturating_add(1)),
            },
            series_max,
            hints: Hints {
                step_millis: if steps.is_single() { 0 } else { steps.step },
                range_millis: hinted_millis,
                function: self.around,
            },
        };
        let too_many = || Error::Limit(format!("a selector matches more than {series_max} series"));
        let selected = match self.storage.select(request) {
            Err(StorageError::Limit(_)) => return Err(too_many()),
            selected => selected?,
        };
        if selected.len() > series_max {
            return Err(too_many());
        }
        let len = u32::try_from(selected.len()).map_err(|_| too_many())?;
        self.charge(selected.len() / 2)?;
        self.count_work(selected.len())?;
        let mut order: Vec<u32> = (0..len).collect();
        order.sort_by(|a, b| selected.labels(*a as usize).cmp(selected.labels(*b as usize)));
        self.check_interrupt()?;
        Ok(Series { windows, origin: Origin::Stored { selected, order } })
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
}
