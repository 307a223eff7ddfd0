//! Samples of one series from several sources.

use std::cmp::Ordering;

use lm_model::{Histogram, Samples, TimeRange, Timestamp};
use std::sync::Arc;

/// Merges the samples of one series from several sources, oldest source first, into `into`, which is emptied before.
/// Of samples at one time the oldest source's wins. Returns (duplicates, conflicts): samples left out that had the
/// same value, and another.
pub fn merge_samples(sources: &[&Samples], into: &mut Samples) -> (u64, u64) {
    into.clear();
    let mut by_time: Vec<(&Samples, i64, i64)> = sources
        .iter()
        .filter_map(|samples| extent(samples).map(|(first, last)| (*samples, first, last)))
        .collect();
    by_time.sort_by_key(|(_, first, _)| *first);
    if by_time.windows(2).all(|pair| pair[0].2 < pair[1].1) {
        by_time.iter().for_each(|(samples, ..)| append(samples, into));
        return (0, 0);
    }
    let (mut duplicates, mut conflicts) = (0, 0);
    let mut older = Samples::default();
    for newer in sources {
        std::mem::swap(&mut older, into);
        let (same, other) = merge_two(&older, newer, into);
        duplicates += same;
        conflicts += other;
    }
    (duplicates, conflicts)
}

/// The times of the first and the last sample.
pub(super) fn extent(samples: &Samples) -> Option<(i64, i64)> {
    let histogram = |at: Option<&(Timestamp, Arc<Histogram>)>| at.map(|(time, _)| time.as_millis());
    let firsts = [samples.times.first().copied(), histogram(samples.histograms.first())];
    let lasts = [samples.times.last().copied(), histogram(samples.histograms.last())];
    Some((firsts.into_iter().flatten().min()?, lasts.into_iter().flatten().max()?))
}

fn append(samples: &Samples, into: &mut Samples) {
    into.times.extend_from_slice(&samples.times);
    into.values.extend_from_slice(&samples.values);
    into.histograms.extend_from_slice(&samples.histograms);
}

fn merge_two(older: &Samples, newer: &Samples, into: &mut Samples) -> (u64, u64) {
    into.clear();
    let (mut old, mut new) = (Cursor::new(older), Cursor::new(newer));
    let (mut duplicates, mut conflicts) = (0, 0);
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return (duplicates, conflicts),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.time().cmp(&b.time()),
        };
        if order.is_eq() {
            let is_same = old.peek().zip(new.peek()).is_some_and(|(a, b)| a.is_same(b));
            duplicates += u64::from(is_same);
            conflicts += u64::from(!is_same);
            new.next();
        }
        let taken = if order.is_gt() { new.next() } else { old.next() };
        match taken {
            Some(One::Number(time, value)) => into.push(Timestamp::from_millis(time), value),
            Some(One::Histogram(time, histogram)) => into.histograms.push((time, histogram.clone())),
            None => {}
        }
    }
}

#[derive(Clone, Copy)]
enum One<'a> {
    Number(i64, f64),
    Histogram(Timestamp, &'a Arc<Histogram>),
}

impl One<'_> {
    fn time(self) -> i64 {
        match self {
            One::Number(time, _) => time,
            One::Histogram(time, _) => time.as_millis(),
        }
    }

    fn is_same(self, other: One<'_>) -> bool {
        match (self, other) {
            (One::Number(_, a), One::Number(_, b)) => a.to_bits() == b.to_bits(),
            // A staleness marker is a NaN, which does not equal itself.
            (One::Histogram(_, a), One::Histogram(_, b)) => a == b || (a.is_stale() && b.is_stale()),
            _ => false,
        }
    }
}

/// Both columns in order of time.
struct Cursor<'a> {
    samples: &'a Samples,
    number: usize,
    histogram: usize,
}

impl<'a> Cursor<'a> {
    fn new(samples: &'a Samples) -> Self {
        Cursor { samples, number: 0, histogram: 0 }
    }

    fn peek(&self) -> Option<One<'a>> {
        let Samples { times, values, histograms } = self.samples;
        let number = times.get(self.number).map(|time| One::Number(*time, values[self.number]));
        let histogram = histograms.get(self.histogram).map(|(time, one)| One::Histogram(*time, one));
        match (number, histogram) {
            (Some(a), Some(b)) => Some(if a.time() <= b.time() { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    fn next(&mut self) -> Option<One<'a>> {
        let one = self.peek();
        match one {
            Some(One::Number(..)) => self.number += 1,
            Some(One::Histogram(..)) => self.histogram += 1,
            None => {}
        }
        one
    }
}

/// Removes the samples in `range`; returns how many.
pub(super) fn remove(samples: &mut Samples, range: TimeRange) -> u64 {
    let before = samples.len();
    let (start, end) = (range.start.as_millis(), range.end.as_millis());
    let numbers = places(&samples.times, |time| *time, start, end);
    samples.times.drain(numbers.clone());
    samples.values.drain(numbers);
    let histograms = places(&samples.histograms, |(time, _)| time.as_millis(), start, end);
    samples.histograms.drain(histograms);
    (before - samples.len()) as u64
}

/// Fills `into` with the samples in `range`.
pub(super) fn cut(samples: &Samples, range: TimeRange, into: &mut Samples) {
    into.clear();
    let (start, end) = (range.start.as_millis(), range.end.as_millis());
    let numbers = places(&samples.times, |time| *time, start, end);
    into.times.extend_from_slice(&samples.times[numbers.clone()]);
    into.values.extend_from_slice(&samples.values[numbers]);
    let histograms = places(&samples.histograms, |(time, _)| time.as_millis(), start, end);
    into.histograms.extend_from_slice(&samples.histograms[histograms]);
}

fn places<T>(column: &[T], time: impl Fn(&T) -> i64, start: i64, end: i64) -> std::ops::Range<usize> {
    let from = column.partition_point(|one| time(one) < start);
    let to = column.partition_point(|one| time(one) < end);
    from..to.max(from)
}
