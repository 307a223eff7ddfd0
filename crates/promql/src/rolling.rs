//! Functions of ranges over all steps of one series, in time that grows with
//! its samples and not with the overlap of the windows.
//!
//! A window only ever loses samples at its start and gains some at its end.
//! Nothing is subtracted from a running total, as that would keep what has
//! been rounded away: see [`fold`].

use lm_model::Samples;

use crate::ast::Function;
use crate::budget::Budget;
use crate::engine::Error;
use crate::layout::{Factors, Layout, Placed};
use crate::range_functions::Reach;
use crate::sums::Sum;
use crate::windows::{Span, Windows};

/// Larger numbers could overflow in one order of adding and not in another.
const ADDABLE_MAX: f64 = 1e290;

/// Where windows overlap less than this, each is computed by itself.
const OVERLAP_MIN: usize = 3;

/// Makes rows of one function. Its buffers are used again for every series.
pub(crate) struct Rolling<'q> {
    function: Function,
    pub layout: Layout<'q>,
    resets: Vec<usize>,
    counts: Vec<u32>,
    sums: Vec<Sum>,
    lowest: Vec<Lowest>,
    highest: Vec<Highest>,
}

impl<'q> Rolling<'q> {
    pub fn new(function: Function, windows: &'q Windows, budget: &'q Budget<'q>) -> Self {
        let factors = match function {
            Function::Rate => Some(Factors::PerSecond),
            Function::Increase | Function::Delta => Some(Factors::PerWindow),
            _ => None,
        };
        Rolling {
            function,
            layout: Layout::new(windows, factors, budget),
            resets: Vec::new(),
            counts: Vec::new(),
            sums: Vec::new(),
            lowest: Vec::new(),
            highest: Vec::new(),
        }
    }

    /// Sets the steps of `row` that have a value, and lays out the windows in
    /// any case. `false` if the function has to be computed window by window.
    pub fn fill(&mut self, samples: &Samples, row: &mut [f64]) -> Result<bool, Error> {
        use Function::*;
        let (times, values) = (samples.times.as_slice(), samples.values.as_slice());
        self.layout.place(times)?;
        match self.function {
            Rate | Increase => self.counter(times, values, row),
            Delta => self.gauge(values, row),
            Irate => self.last_two(times, values, row, |change, last, seconds| {
                (if change < 0.0 { last } else { change }) / seconds
            }),
            Idelta => self.last_two(times, values, row, |change, _, _| change),
            FirstOverTime => self.each(row, |span| values[span.start]),
            LastOverTime => self.each(row, |span| values[span.end - 1]),
            CountOverTime => self.each(row, |span| span.len() as f64),
            PresentOverTime => self.each(row, |_| 1.0),
            Changes => self.pairs(values, row, |a, b| a != b && !(a.is_nan() && b.is_nan())),
            Resets => self.pairs(values, row, |a, b| b < a),
            SumOverTime | AvgOverTime | MinOverTime | MaxOverTime => return Ok(self.folded(values, row)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn each(&self, row: &mut [f64], f: impl Fn(Span) -> f64) {
        for (value, placed) in row.iter_mut().zip(&self.layout.steps) {
            if placed.span.len() > 0 {
                *value = f(placed.span);
            }
        }
    }

    fn gauge(&self, values: &[f64], row: &mut [f64]) {
        for (value, placed) in row.iter_mut().zip(&self.layout.steps) {
            if placed.span.len() > 1 {
                *value = (values[placed.span.end - 1] - values[placed.span.start]) * placed.factor;
            }
        }
    }

    fn counter(&mut self, times: &[i64], values: &[f64], row: &mut [f64]) {
        self.resets.clear();
        // Most counters are never reset, which is found out without a branch a sample.
        if values.windows(2).fold(false, |any, pair| any | (pair[1] < pair[0])) {
            let is_reset = |index: &usize| values[*index] < values[*index - 1];
            self.resets.extend((1..values.len()).filter(is_reset));
        }
        let mut resets = self.resets.as_slice();
        for (step, (value, placed)) in row.iter_mut().zip(&self.layout.steps).enumerate() {
            let span = placed.span;
            if span.len() < 2 {
                continue;
            }
            let (first, last) = (values[span.start], values[span.end - 1]);
            let mut change = last - first;
            while let [reset, rest @ ..] = resets
                && *reset <= span.start
            {
                resets = rest;
            }
            for reset in resets.iter().take_while(|reset| **reset < span.end) {
                change += values[*reset - 1];
            }
            let mut factor = placed.factor;
            // Only a first value this small can mean that zero was not long ago:
            // a change is extended by at most 1.1 times the sampled time.
            if change > 0.0 && first >= 0.0 && first < 1.2 * change {
                let window = self.layout.windows.of(step);
                if let Some(reach) = Reach::new(&times[span.start..span.end], window) {
                    factor = reach.factor(reach.to_start_above_zero(first, change), self.layout.divisor());
                }
            }
            *value = change * factor;
        }
    }

    /// Applies `f(change, last, seconds)` to the last two samples.
    fn last_two(&self, times: &[i64], values: &[f64], row: &mut [f64], f: impl Fn(f64, f64, f64) -> f64) {
        for (value, placed) in row.iter_mut().zip(&self.layout.steps) {
            if placed.span.len() > 1 {
                let (before, last) = (placed.span.end - 2, placed.span.end - 1);
                let seconds = (times[last] - times[before]) as f64 / 1000.0;
                *value = f(values[last] - values[before], values[last], seconds);
            }
        }
    }

    /// Counts the neighbours for which `counts` holds.
    fn pairs(&mut self, values: &[f64], row: &mut [f64], counts: impl Fn(f64, f64) -> bool) {
        // How many there are up to each sample.
        self.counts.clear();
        let mut total = 0;
        self.counts.push(total);
        for pair in values.windows(2) {
            total += u32::from(counts(pair[0], pair[1]));
            self.counts.push(total);
        }
        let counts = &self.counts;
        self.each(row, |span| f64::from(counts[span.end - 1] - counts[span.start]));
    }

    fn folded(&mut self, values: &[f64], row: &mut [f64]) -> bool {
        if self.layout.samples_in_windows() < OVERLAP_MIN * values.len() {
            return false;
        }
        let steps = self.layout.steps.as_slice();
        match self.function {
            Function::MinOverTime => fold(steps, values, row, &mut self.lowest, |Lowest(value), _| value),
            Function::MaxOverTime => fold(steps, values, row, &mut self.highest, |Highest(value), _| value),
            _ if values.iter().any(|value| value.abs() > ADDABLE_MAX) => return false,
            Function::SumOverTime => fold(steps, values, row, &mut self.sums, |sum, _| sum.value()),
            _ => fold(steps, values, row, &mut self.sums, |sum, count| sum.divided(count as f64)),
        }
        true
    }
}

/// What can be made of parts that were made each by itself.
trait Total: Copy {
    fn of(value: f64) -> Self;
    fn join(self, later: Self) -> Self;
}

impl Total for Sum {
    fn of(value: f64) -> Self {
        Sum::from(value)
    }

    fn join(mut self, later: Self) -> Self {
        self.add_sum(later);
        self
    }
}

/// NaN only where there is nothing else.
#[derive(Clone, Copy)]
struct Lowest(f64);

impl Total for Lowest {
    fn of(value: f64) -> Self {
        Lowest(value)
    }

    fn join(self, later: Self) -> Self {
        if later.0 < self.0 || self.0.is_nan() { later } else { self }
    }
}

#[derive(Clone, Copy)]
struct Highest(f64);

impl Total for Highest {
    fn of(value: f64) -> Self {
        Highest(value)
    }

    fn join(self, later: Self) -> Self {
        if later.0 > self.0 || self.0.is_nan() { later } else { self }
    }
}

/// Sets the total of each window.
///
/// A window is two parts that meet at `turn`. Of the front, which loses samples,
/// the totals from each sample up to the turn are known; of the back, which
/// gains some, only the one. When the front is used up, all that is left becomes
/// the front: each sample is taken up twice in all.
fn fold<T: Total>(
    steps: &[Placed],
    values: &[f64],
    row: &mut [f64],
    front: &mut Vec<T>,
    finish: impl Fn(T, usize) -> f64,
) {
    let mut turn = 0;
    let mut end = 0;
    let mut back: Option<T> = None;
    for (value, placed) in row.iter_mut().zip(steps) {
        let span = placed.span;
        if span.len() == 0 {
            continue;
        }
        if span.start >= turn {
            turn = span.end;
            back = None;
            front.clear();
            for value in values[span.start..turn].iter().rev() {
                let total = T::of(*value);
                front.push(front.last().map_or(total, |later| total.join(*later)));
            }
        } else {
            for value in &values[end..span.end] {
                let total = T::of(*value);
                back = Some(back.map_or(total, |before| before.join(total)));
            }
        }
        end = span.end;
        let total = front[turn - 1 - span.start];
        *value = finish(back.map_or(total, |back| total.join(back)), span.len());
    }
}
