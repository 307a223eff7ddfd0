//! What has been taken up of a group of rows so far.

use crate::ast::AggregateOp;
use crate::rows::{ABSENT, is_present};
use crate::sums::Sum;

/// Aggregations that need to see each value only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stdvar,
    Stddev,
}

impl Fold {
    pub fn of(op: AggregateOp) -> Option<Self> {
        Some(match op {
            AggregateOp::Sum => Fold::Sum,
            AggregateOp::Avg => Fold::Avg,
            AggregateOp::Min => Fold::Min,
            AggregateOp::Max => Fold::Max,
            AggregateOp::Count => Fold::Count,
            AggregateOp::Group => Fold::Group,
            AggregateOp::Stdvar => Fold::Stdvar,
            AggregateOp::Stddev => Fold::Stddev,
            _ => return None,
        })
    }

    /// Whether two partial results make one.
    pub fn has_parts(self) -> bool {
        !matches!(self, Fold::Stdvar | Fold::Stddev)
    }

    /// What a partial result holds, in values.
    pub fn size(self, steps: usize) -> usize {
        let columns = 1 + usize::from(self.has_rests()) + usize::from(self.has_counts());
        steps.saturating_mul(columns)
    }

    fn has_rests(self) -> bool {
        matches!(self, Fold::Sum | Fold::Avg | Fold::Stdvar | Fold::Stddev)
    }

    fn has_counts(self) -> bool {
        matches!(self, Fold::Avg | Fold::Stdvar | Fold::Stddev)
    }
}

/// Values of the rows of one group, folded at each step.
pub(crate) struct Partial {
    fold: Fold,
    /// Sums, means, extremes or counts.
    values: Vec<f64>,
    /// What was rounded away of sums; of variances the sum of squares.
    rests: Vec<f64>,
    counts: Vec<f64>,
    drops_name: bool,
    is_empty: bool,
}

impl Partial {
    pub fn new(fold: Fold, steps: usize) -> Self {
        let column = |is_needed: bool, value: f64| if is_needed { vec![value; steps] } else { Vec::new() };
        Partial {
            fold,
            values: vec![ABSENT; steps],
            rests: column(fold.has_rests(), 0.0),
            counts: column(fold.has_counts(), 0.0),
            drops_name: false,
            is_empty: true,
        }
    }

    /// Takes up a row that has a value at some step. `false` if a mean cannot be
    /// made so, as its sum overflows.
    pub fn add(&mut self, row: &[f64], drops_name: bool) -> bool {
        self.drops_name |= drops_name;
        self.is_empty = false;
        let present = self.values.iter_mut().zip(row).filter(|(_, value)| is_present(**value));
        match self.fold {
            Fold::Sum | Fold::Avg => return self.add_to_sums(row),
            Fold::Min => present.for_each(|(min, value)| {
                if *value < *min || min.is_nan() {
                    *min = *value;
                }
            }),
            Fold::Max => present.for_each(|(max, value)| {
                if *value > *max || max.is_nan() {
                    *max = *value;
                }
            }),
            Fold::Count => {
                present.for_each(|(count, _)| *count = if is_present(*count) { *count + 1.0 } else { 1.0 })
            }
            Fold::Group => present.for_each(|(group, _)| *group = 1.0),
            Fold::Stdvar | Fold::Stddev => self.add_to_squares(row),
        }
        true
    }

    fn add_to_sums(&mut self, row: &[f64]) -> bool {
        let mut has_overflown = false;
        for ((total, rest), value) in self.values.iter_mut().zip(&mut self.rests).zip(row) {
            if !is_present(*value) {
                continue;
            }
            if !is_present(*total) {
                *total = *value;
                continue;
            }
            let mut sum = Sum::from_parts(*total, *rest);
            sum.add(*value);
            (*total, *rest) = sum.parts();
            has_overflown |= total.is_infinite();
        }
        for (count, value) in self.counts.iter_mut().zip(row) {
            *count += f64::from(u8::from(is_present(*value)));
        }
        self.fold == Fold::Sum || !has_overflown
    }

    /// Welford's variance, as Prometheus computes it across series.
    fn add_to_squares(&mut self, row: &[f64]) {
        let columns = self.values.iter_mut().zip(&mut self.rests).zip(&mut self.counts);
        for (((mean, squares), count), value) in columns.zip(row) {
            if !is_present(*value) {
                continue;
            }
            *count += 1.0;
            if !is_present(*mean) {
                (*mean, *squares) = (*value, if value.is_finite() { 0.0 } else { f64::NAN });
                continue;
            }
            let delta = *value - *mean;
            *mean += delta / *count;
            *squares += delta * (*value - *mean);
        }
    }

    /// Takes up what came after it. `false` as of [`Partial::add`].
    pub fn merge(&mut self, later: &Partial) -> bool {
        self.drops_name |= later.drops_name;
        self.is_empty &= later.is_empty;
        let mut has_overflown = false;
        for step in 0..self.values.len() {
            let (value, other) = (self.values[step], later.values[step]);
            if !is_present(other) {
                continue;
            }
            self.values[step] = match self.fold {
                _ if !is_present(value) => {
                    if self.fold.has_rests() {
                        self.rests[step] = later.rests[step];
                    }
                    other
                }
                Fold::Sum | Fold::Avg => {
                    let mut sum = Sum::from_parts(value, self.rests[step]);
                    sum.add_sum(Sum::from_parts(other, later.rests[step]));
                    let (total, rest) = sum.parts();
                    self.rests[step] = rest;
                    has_overflown |= total.is_infinite();
                    total
                }
                Fold::Min if other < value || value.is_nan() => other,
                Fold::Max if other > value || value.is_nan() => other,
                Fold::Count => value + other,
                Fold::Min | Fold::Max | Fold::Group => value,
                Fold::Stdvar | Fold::Stddev => unreachable!("they have no parts"),
            };
        }
        for (count, other) in self.counts.iter_mut().zip(&later.counts) {
            *count += other;
        }
        self.fold == Fold::Sum || !has_overflown
    }

    /// The value of each step, and whether the name goes. `None` if there were no
    /// rows.
    pub fn finish(mut self) -> Option<(Vec<f64>, bool)> {
        if self.is_empty {
            return None;
        }
        for (step, value) in self.values.iter_mut().enumerate().filter(|(_, value)| is_present(**value)) {
            *value = match self.fold {
                Fold::Sum => Sum::from_parts(*value, self.rests[step]).value(),
                Fold::Avg => Sum::from_parts(*value, self.rests[step]).divided(self.counts[step]),
                Fold::Stdvar => self.rests[step] / self.counts[step],
                Fold::Stddev => (self.rests[step] / self.counts[step]).sqrt(),
                Fold::Min | Fold::Max | Fold::Count | Fold::Group => *value,
            };
        }
        Some((self.values, self.drops_name))
    }
}
