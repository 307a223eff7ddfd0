//! Sums and means that keep what plain addition would round away.

/// Kahan's sum with Neumaier's correction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: f64,
    correction: f64,
}

impl Sum {
    pub fn add(&mut self, value: f64) {
        let total = self.sum + value;
        if total.is_infinite() {
            self.correction = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.correction += (self.sum - total) + value;
        } else {
            self.correction += (value - total) + self.sum;
        }
        self.sum = total;
    }

    /// From what [`Sum::parts`] gave.
    pub fn from_parts(sum: f64, correction: f64) -> Self {
        Sum { sum, correction }
    }

    pub fn parts(self) -> (f64, f64) {
        (self.sum, self.correction)
    }

    pub fn value(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.correction }
    }

    /// Divided in both parts, which loses less than dividing their sum.
    pub fn divided(self, divisor: f64) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum / divisor + self.correction / divisor }
    }

    /// Both parts, also where the sum overflowed.
    pub fn compensated(self) -> f64 {
        self.sum + self.correction
    }

    /// Adds another sum and what it has kept.
    pub fn add_sum(&mut self, other: Sum) {
        self.add(other.sum);
        self.add(other.correction);
    }

    pub fn of(values: impl IntoIterator<Item = f64>) -> f64 {
        let mut sum = Sum::default();
        values.into_iter().for_each(|value| sum.add(value));
        sum.value()
    }
}

impl From<f64> for Sum {
    fn from(sum: f64) -> Self {
        Sum { sum, correction: 0.0 }
    }
}

/// Mean of at least one value. Sums as long as that does not overflow, then
/// goes on incrementally.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values = values.into_iter();
    let mut sum = Sum { sum: values.next()?, correction: 0.0 };
    let mut count = 1.0;
    let mut is_incremental = false;
    for value in values {
        count += 1.0;
        if !is_incremental {
            let mut next = sum;
            next.add(value);
            if !next.sum.is_infinite() {
                sum = next;
                continue;
            }
            is_incremental = true;
            sum.sum /= count - 1.0;
            sum.correction /= count - 1.0;
        }
        let share = (count - 1.0) / count;
        sum = Sum { sum: share * sum.sum, correction: share * sum.correction };
        sum.add(value / count);
    }
    Some(if is_incremental { sum.sum + sum.correction } else { sum.sum / count + sum.correction / count })
}

/// Population variance of at least one value.
pub(crate) fn variance(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - (mean.sum + mean.correction);
        mean.add(delta / count);
        squares.add(delta * (value - (mean.sum + mean.correction)));
    }
    (count > 0.0).then(|| (squares.sum + squares.correction) / count)
}

/// The `q`-quantile, interpolated; NaN counts as smallest. Sorts `values`.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        (false, false) => a.total_cmp(b),
    });
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}
