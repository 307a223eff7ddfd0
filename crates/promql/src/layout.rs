//! Where the windows of all steps lie in a column of times.
//!
//! Series that were scraped together share their times, and then share the
//! layout: neither the search for the windows nor the part of a rate that
//! depends on times alone is done again for the next of them. As the next of
//! them may come after series of other hosts, several layouts are kept.

use crate::budget::Budget;
use crate::engine::Error;
use crate::range_functions::Reach;
use crate::windows::{Span, Windows};

/// The samples of one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub span: Span,
    /// By what a change is multiplied that is not cut off at zero; made for
    /// rates only, and for at least two samples.
    pub factor: f64,
}

/// Steps of all the layouts that one thread keeps.
const STEPS_KEPT_MAX: usize = 1 << 16;

/// Layouts of fewer steps are made as fast as they are found again.
const STEPS_KEPT_MIN: usize = 16;

/// The windows of all steps over one column of times after another.
pub(crate) struct Layout<'q> {
    pub windows: &'q Windows,
    /// Of rates and their like.
    factors: Option<Factors>,
    budget: &'q Budget<'q>,
    times: Vec<i64>,
    pub steps: Vec<Placed>,
    /// The first time and the number of times of each layout that is kept.
    keys: Vec<(i64, usize)>,
    /// Their times and steps; those of the current one are out.
    kept: Vec<(Vec<i64>, Vec<Placed>)>,
    current: usize,
}

/// What [`Placed::factor`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    PerWindow,
    PerSecond,
}

impl Factors {
    /// What a change over a window is divided by.
    pub fn divisor(self, range_millis: i64) -> f64 {
        match self {
            Factors::PerWindow => 1.0,
            Factors::PerSecond => range_millis as f64 / 1000.0,
        }
    }
}

impl<'q> Layout<'q> {
    pub fn new(windows: &'q Windows, factors: Option<Factors>, budget: &'q Budget<'q>) -> Self {
        Layout {
            windows,
            factors,
            budget,
            times: Vec::new(),
            steps: Vec::new(),
            keys: Vec::new(),
            kept: Vec::new(),
            current: 0,
        }
    }

    /// What a change over a window is divided by.
    pub fn divisor(&self) -> f64 {
        self.factors.map_or(1.0, |factors| factors.divisor(self.windows.range_millis))
    }

    /// Makes it that of `times`, if it is not.
    pub fn place(&mut self, times: &[i64]) -> Result<(), Error> {
        if self.is_of(times) {
            return Ok(());
        }
        self.change_to(times)?;
        if self.is_of(times) {
            return Ok(());
        }
        self.times.clear();
        self.times.extend_from_slice(times);
        self.steps.clear();
        let mut span = Span::default();
        for step in 0..self.windows.len() {
            let window = self.windows.of(step);
            span.advance(times, window);
            let factor = self.factors.map_or(1.0, |factors| {
                let reach = Reach::new(&times[span.start..span.end], window);
                reach.map_or(1.0, |reach| {
                    reach.factor(reach.to_start, factors.divisor(self.windows.range_millis))
                })
            });
            self.steps.push(Placed { span, factor });
        }
        Ok(())
    }

    fn is_of(&self, times: &[i64]) -> bool {
        self.times == times && !self.steps.is_empty()
    }

    /// Puts the current layout away and takes out the one that may be that of
    /// `times`, or one to be made anew.
    fn change_to(&mut self, times: &[i64]) -> Result<(), Error> {
        let key = (times.first().copied().unwrap_or(0), times.len());
        let steps = self.windows.len();
        let size = steps * size_of::<Placed>() / size_of::<f64>() + times.len();
        let found = self.keys.iter().position(|kept| *kept == key);
        let is_room = self.kept.len() < STEPS_KEPT_MAX / steps.max(1)
            && steps >= STEPS_KEPT_MIN
            && size.saturating_mul(4) < self.budget.room();
        let next = match found {
            Some(found) => found,
            None if is_room || self.kept.is_empty() => {
                self.budget.charge(size)?;
                self.keys.push(key);
                self.kept.push((Vec::new(), Vec::new()));
                self.kept.len() - 1
            }
            // In turn, so that each stays as long as the others.
            None => (self.current + 1) % self.kept.len(),
        };
        self.keys[next] = key;
        self.swap_current();
        self.current = next;
        self.swap_current();
        Ok(())
    }

    fn swap_current(&mut self) {
        let (times, steps) = &mut self.kept[self.current];
        std::mem::swap(times, &mut self.times);
        std::mem::swap(steps, &mut self.steps);
    }

    /// Samples of all windows together.
    pub fn samples_in_windows(&self) -> usize {
        self.steps.iter().map(|placed| placed.span.len()).sum()
    }
}
