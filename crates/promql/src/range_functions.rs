//! Functions of one series' samples in one window.

use crate::ast::Function;
use crate::layout::Factors;
use crate::sums::{self, Sum};

/// What a function of a range may look at. There is at least one sample.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    /// In milliseconds, ascending, one for each of the values.
    pub times: &'a [i64],
    pub values: &'a [f64],
    /// The window's bounds in milliseconds: later than, up to.
    pub after: i64,
    pub until: i64,
    pub range_millis: i64,
    /// Time of the step, in milliseconds (the window may lie elsewhere).
    pub now: i64,
}

impl Window<'_> {
    fn values(&self) -> impl DoubleEndedIterator<Item = f64> + '_ {
        self.values.iter().copied()
    }

    /// Pairs of neighbours: the value before, the value after.
    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.values.windows(2).map(|pair| (pair[0], pair[1]))
    }
}

/// `None` where the function has no value for so few samples. `params` are the
/// scalar arguments, where there are any.
pub(crate) fn apply(function: Function, window: &Window<'_>, params: [f64; 2]) -> Option<f64> {
    use Function::*;
    Some(match function {
        Rate => extrapolated(window, true, Factors::PerSecond)?,
        Increase => extrapolated(window, true, Factors::PerWindow)?,
        Delta => extrapolated(window, false, Factors::PerWindow)?,
        Irate => instant_change(window, true)?,
        Idelta => instant_change(window, false)?,
        Deriv => linear_regression(window, window.times[0])?.0,
        PredictLinear => {
            let (slope, intercept) = linear_regression(window, window.now)?;
            slope * params[0] + intercept
        }
        Changes => window.pairs().filter(|(a, b)| a != b && !(a.is_nan() && b.is_nan())).count() as f64,
        Resets => window.pairs().filter(|(a, b)| b < a).count() as f64,
        SumOverTime => Sum::of(window.values()),
        AvgOverTime => sums::mean(window.values())?,
        CountOverTime => window.values.len() as f64,
        MinOverTime => window.values().reduce(|min, v| if v < min || min.is_nan() { v } else { min })?,
        MaxOverTime => window.values().reduce(|max, v| if v > max || max.is_nan() { v } else { max })?,
        FirstOverTime => *window.values.first()?,
        LastOverTime => *window.values.last()?,
        PresentOverTime => 1.0,
        StdvarOverTime => sums::variance(window.values())?,
        StddevOverTime => sums::variance(window.values())?.sqrt(),
        QuantileOverTime => sums::quantile(params[0], &mut window.values.to_vec()),
        MadOverTime => {
            if window.values.iter().any(|value| value.is_nan()) {
                return Some(f64::NAN);
            }
            let median = sums::quantile(0.5, &mut window.values.to_vec());
            sums::quantile(0.5, &mut window.values().map(|value| (value - median).abs()).collect::<Vec<_>>())
        }
        DoubleExponentialSmoothing => smoothed(window.values, params[0], params[1])?,
        TsOfFirstOverTime => seconds(*window.times.first()?),
        TsOfLastOverTime => seconds(*window.times.last()?),
        TsOfMaxOverTime => seconds(time_of(window, |value, max| value >= max)?),
        TsOfMinOverTime => seconds(time_of(window, |value, min| value <= min)?),
        _ => return None,
    })
}

/// The last time at which a value was the extreme one.
fn time_of(window: &Window<'_>, replaces: impl Fn(f64, f64) -> bool) -> Option<i64> {
    let samples = window.times.iter().copied().zip(window.values());
    let extreme = |best: (i64, f64), next: (i64, f64)| {
        if replaces(next.1, best.1) || best.1.is_nan() { next } else { best }
    };
    samples.reduce(extreme).map(|(time, _)| time)
}

/// Double exponential smoothing (Holt's linear method).
fn smoothed(values: &[f64], smoothing_factor: f64, trend_factor: f64) -> Option<f64> {
    let [first, second, ..] = values else { return None };
    let (mut before, mut level, mut trend) = (0.0, *first, second - first);
    for (index, value) in values[1..].iter().enumerate() {
        if index > 0 {
            trend = trend_factor * (level - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing_factor * value + (1.0 - smoothing_factor) * (level + trend);
        (before, level) = (level, next);
    }
    Some(level)
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

/// How far the samples of a window reach, and how far beyond them their
/// change is extended: to the window's ends where they come close to them
/// (within 1.1 times their average distance), else by half that distance.
pub(crate) struct Reach {
    pub sampled: f64,
    pub to_start: f64,
    pub to_end: f64,
}

impl Reach {
    /// `None` for fewer than two samples.
    pub fn new(times: &[i64], (after, until): (i64, i64)) -> Option<Self> {
        let [first, .., last] = times else { return None };
        let sampled = seconds(last - first);
        let average = sampled / (times.len() - 1) as f64;
        let threshold = average * 1.1;
        let bounded = |distance: f64| if distance >= threshold { average / 2.0 } else { distance };
        Some(Reach {
            sampled,
            to_start: bounded(seconds(first.saturating_sub(after))),
            to_end: bounded(seconds(until.saturating_sub(*last))),
        })
    }

    /// What a counter with this first value and change is extended by at its
    /// start: it was not below zero.
    pub fn to_start_above_zero(&self, first: f64, change: f64) -> f64 {
        if change > 0.0 && first >= 0.0 {
            self.to_start.min(self.sampled * (first / change))
        } else {
            self.to_start
        }
    }

    /// What the change between first and last sample is multiplied by. In this
    /// order of operations, for the rounding of Prometheus.
    pub fn factor(&self, to_start: f64, divisor: f64) -> f64 {
        (self.sampled + to_start + self.to_end) / self.sampled / divisor
    }
}

/// The change over the whole window, estimated from the samples in it.
fn extrapolated(window: &Window<'_>, is_counter: bool, factors: Factors) -> Option<f64> {
    let reach = Reach::new(window.times, (window.after, window.until))?;
    let (first, last) = (*window.values.first()?, *window.values.last()?);
    let mut change = last - first;
    let mut to_start = reach.to_start;
    if is_counter {
        // A counter that decreases was reset, and starts again at zero.
        for (before, after) in window.pairs() {
            if after < before {
                change += before;
            }
        }
        to_start = reach.to_start_above_zero(first, change);
    }
    Some(change * reach.factor(to_start, factors.divisor(window.range_millis)))
}

/// The change between the last two samples; of a counter, per second.
fn instant_change(window: &Window<'_>, is_rate: bool) -> Option<f64> {
    let ([.., before, last], [.., before_time, last_time]) = (window.values, window.times) else {
        return None;
    };
    if !is_rate {
        return Some(last - before);
    }
    let change = if last < before { *last } else { last - before };
    Some(change / seconds(last_time - before_time))
}

/// Slope per second, and the value at `intercept_millis`, of the straight line
/// with least squares.
fn linear_regression(window: &Window<'_>, intercept_millis: i64) -> Option<(f64, f64)> {
    let [first, _, ..] = window.values else { return None };
    if window.values.iter().all(|value| value == first) {
        return Some(if first.is_finite() { (0.0, *first) } else { (f64::NAN, f64::NAN) });
    }
    let n = window.values.len() as f64;
    let xs = || window.times.iter().map(|time| seconds(time.saturating_sub(intercept_millis)));
    let points = || xs().zip(window.values());
    let x = Sum::of(points().map(|(x, _)| x));
    let y = Sum::of(points().map(|(_, y)| y));
    let xy = Sum::of(points().map(|(x, y)| x * y));
    let xx = Sum::of(points().map(|(x, _)| x * x));
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Some((slope, y / n - slope * x / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a function to samples of the window (0 s, 60 s].
    fn check(function: Function, samples: &[(i64, f64)], expected: Option<f64>) {
        let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        let (after, until) = (0, 60_000);
        let window =
            Window { times: &times, values: &values, after, until, range_millis: 60_000, now: until };
        assert_eq!(apply(function, &window, [f64::NAN; 2]), expected, "{function:?} {samples:?}");
    }

    #[test]
    fn close_ends_are_extended_to() {
        use Function::{Delta, Increase, Rate};
        // Samples 20 s apart, 20 s and 0 s from the ends.
        check(Increase, &[(20_000, 100.0), (40_000, 110.0), (60_000, 120.0)], Some(30.0));
        check(Rate, &[(20_000, 100.0), (40_000, 110.0), (60_000, 120.0)], Some(0.5));
        // 21 s is within 1.1 times 19 s...
        check(Delta, &[(20_899, 0.0), (39_899, 19.0), (58_899, 38.0)], Some(60.0));
        // ... 23 s is not, and half of 19 s is added.
        check(Delta, &[(22_000, 0.0), (41_000, 19.0), (60_000, 38.0)], Some(47.5));
        // Nor is the other end.
        check(Delta, &[(100, 0.0), (19_100, 19.0), (38_100, 38.0)], Some(47.6));
    }

    #[test]
    fn counters_start_at_zero_and_reset() {
        use Function::{Delta, Increase, Irate, Resets};
        // Zero was 2 s before the first sample, though the window reaches 10 s back.
        check(Increase, &[(10_000, 2.0), (60_000, 52.0)], Some(52.0));
        check(Delta, &[(10_000, 2.0), (60_000, 52.0)], Some(60.0));
        check(Increase, &[(20_000, 100.0), (40_000, 10.0), (60_000, 20.0)], Some(30.0));
        check(Resets, &[(20_000, 100.0), (40_000, 10.0), (60_000, 20.0)], Some(1.0));
        check(Irate, &[(20_000, 100.0), (40_000, 10.0)], Some(0.5));
        check(Increase, &[(20_000, 100.0)], None);
        check(Irate, &[(20_000, 100.0)], None);
    }
}
