//! When an expression is evaluated, and where it then looks.

/// The times at which an expression is evaluated: `start + i * step`.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    pub start: i64,
    pub step: i64,
    pub len: usize,
}

impl Steps {
    pub fn time(&self, index: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i64::try_from(index).unwrap_or(i64::MAX)))
    }

    pub fn is_single(&self) -> bool {
        self.len == 1
    }
}

/// The window of each step. Both ends only ever advance.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    pub range_millis: i64,
    pub steps: Steps,
    /// Where each step looks: its own time moved back by this, or one time.
    pub offset_millis: i64,
    pub at: Option<i64>,
}

impl Windows {
    pub fn len(&self) -> usize {
        self.steps.len
    }

    /// The window of a step in milliseconds: later than the first, up to the
    /// second.
    pub fn of(&self, step: usize) -> (i64, i64) {
        let until = self.at.unwrap_or_else(|| self.steps.time(step)).saturating_sub(self.offset_millis);
        (until.saturating_sub(self.range_millis), until)
    }

    /// What all windows together cover: later than the first, up to the second.
    pub fn cover(&self) -> (i64, i64) {
        (self.of(0).0, self.of(self.len().saturating_sub(1)).1)
    }
}

/// Which samples of a series lie in the window, found by walking along.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Index of the last sample, if there is one.
    pub fn last(&self) -> Option<usize> {
        if self.end > self.start { Some(self.end - 1) } else { None }
    }

    /// Moves to a window that begins and ends no earlier than the last one.
    pub fn advance(&mut self, times: &[i64], (after, until): (i64, i64)) {
        self.start = first_after(times, self.start, after);
        self.end = first_after(times, self.end.max(self.start), until);
    }
}

/// The first index from `from` on whose time is later than `time`.
pub(crate) fn first_after(times: &[i64], from: usize, time: i64) -> usize {
    // Most moves are by a few samples; a long one is made by bisection.
    const WALK_MAX: usize = 16;
    let walk = times[from..].iter().take(WALK_MAX).take_while(|t| **t <= time).count();
    if walk < WALK_MAX {
        return from + walk;
    }
    from + walk + times[from + walk..].partition_point(|t| *t <= time)
}
