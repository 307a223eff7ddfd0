//! Where the windows of all steps lie in a column of times.
//!
//! Series that were scraped together share their times, and then share the
//! layout: neither the search for the windows nor the part of a rate that
//! depends on times alone is done again for the next of them.

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

/// The windows of all steps over one column of times after another.
pub(crate) struct Layout<'q> {
    pub windows: &'q Windows,
    /// Of rates and their like.
    factors: Option<Factors>,
    times: Vec<i64>,
    pub steps: Vec<Placed>,
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
    pub fn new(windows: &'q Windows, factors: Option<Factors>) -> Self {
        Layout { windows, factors, times: Vec::new(), steps: Vec::new() }
    }

    /// What a change over a window is divided by.
    pub fn divisor(&self) -> f64 {
        self.factors.map_or(1.0, |factors| factors.divisor(self.windows.range_millis))
    }

    /// What its buffers hold beside the times of one series, in values.
    pub fn size(steps: usize) -> usize {
        steps.saturating_mul(size_of::<Placed>() / size_of::<f64>())
    }

    /// Makes it that of `times`, if it is not.
    pub fn place(&mut self, times: &[i64]) {
        if self.times == times && !self.steps.is_empty() {
            return;
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
    }

    /// Samples of all windows together.
    pub fn samples_in_windows(&self) -> usize {
        self.steps.iter().map(|placed| placed.span.len()).sum()
    }
}
