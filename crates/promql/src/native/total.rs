//! [`Total`]: histograms added up or subtracted, whatever their layout.

use lm_model::buckets::{exponential_bound, indexed};
use lm_model::{CUSTOM_BUCKETS_SCHEMA, Histogram, ResetHint};

use super::{coarser, packed};
use crate::sums::Sum;

/// Exponential and custom buckets do not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incompatible;

/// What happened while histograms were added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Events {
    /// One said that it follows a reset, another that it does not.
    pub hints_collide: bool,
    /// Custom bounds differed; those that all have are left.
    pub bounds_differed: bool,
}

/// A sum of histograms (`Add`, `Sub` and `KahanAdd` of `float_histogram.go`).
///
/// The result has the coarsest schema and the widest zero bucket of all, of
/// custom buckets the bounds that all have. Every count keeps what plain
/// addition would round away.
#[derive(Clone, Debug)]
pub(crate) struct Total {
    schema: i8,
    reset_hint: ResetHint,
    zero_threshold: f64,
    custom_bounds: Vec<f64>,
    zero: Sum,
    count: Sum,
    sum: Sum,
    positive: Vec<(i32, Sum)>,
    negative: Vec<(i32, Sum)>,
    pub events: Events,
}

impl Total {
    pub fn new(first: &Histogram) -> Self {
        let summed = |(index, count)| (index, Sum::from(count));
        Total {
            schema: first.schema,
            reset_hint: first.reset_hint,
            zero_threshold: first.zero_threshold,
            custom_bounds: first.custom_bounds.clone(),
            zero: first.zero_count.into(),
            count: first.count.into(),
            sum: first.sum.into(),
            positive: indexed(&first.positive_spans, &first.positive_counts).map(summed).collect(),
            negative: indexed(&first.negative_spans, &first.negative_counts).map(summed).collect(),
            events: Events::default(),
        }
    }

    pub fn add(&mut self, other: &Histogram) -> Result<(), Incompatible> {
        self.add_signed(other, 1.0)
    }

    pub fn sub(&mut self, other: &Histogram) -> Result<(), Incompatible> {
        self.add_signed(other, -1.0)
    }

    fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    fn add_signed(&mut self, other: &Histogram, sign: f64) -> Result<(), Incompatible> {
        if self.is_custom() != super::is_custom(other) {
            return Err(Incompatible);
        }
        self.adjust_hint(other.reset_hint);
        self.count.add(sign * other.count);
        self.sum.add(sign * other.sum);
        if self.is_custom() {
            self.add_custom(other, sign);
            return Ok(());
        }
        let mut theirs = Sides::new(other);
        self.reconcile_zero_buckets(&mut theirs);
        self.zero.add(sign * theirs.zero_count);
        if theirs.schema < self.schema {
            let levels = u32::from(self.schema.abs_diff(theirs.schema));
            self.positive = merged(self.positive.drain(..), levels);
            self.negative = merged(self.negative.drain(..), levels);
            self.schema = theirs.schema;
        }
        let levels = u32::from(theirs.schema.abs_diff(self.schema));
        let (schema, threshold) = (self.schema, self.zero_threshold);
        // What now lies in the zero bucket has been counted there.
        let outside =
            |(index, _): &(i32, f64)| threshold == 0.0 || exponential_bound(*index, schema) > threshold;
        let reduced = |side: Vec<(i32, f64)>| {
            side.into_iter()
                .map(move |(index, count)| (coarser_or_same(index, levels), sign * count))
                .filter(outside)
        };
        add_buckets(&mut self.positive, reduced(theirs.positive));
        add_buckets(&mut self.negative, reduced(theirs.negative));
        Ok(())
    }

    /// `adjustCounterReset`
    fn adjust_hint(&mut self, other: ResetHint) {
        use ResetHint::{Gauge, Unknown};
        self.reset_hint = match (self.reset_hint, other) {
            (a, b) if a == b => a,
            (Gauge, _) | (_, Gauge) => Gauge,
            (Unknown, _) | (_, Unknown) => Unknown,
            _ => {
                self.events.hints_collide = true;
                Unknown
            }
        };
    }

    /// `reconcileZeroBuckets`: the smallest zero bucket that holds both, and no
    /// populated bucket in part.
    fn reconcile_zero_buckets(&mut self, other: &mut Sides) {
        while other.zero_threshold != self.zero_threshold {
            if self.zero_threshold > other.zero_threshold {
                other.widen_zero_bucket(self.zero_threshold);
            } else {
                let mut own = Sides {
                    schema: self.schema,
                    zero_threshold: self.zero_threshold,
                    zero_count: 0.0,
                    positive: self.positive.iter().map(|(i, sum)| (*i, sum.value())).collect(),
                    negative: self.negative.iter().map(|(i, sum)| (*i, sum.value())).collect(),
                };
                own.widen_zero_bucket(other.zero_threshold);
                self.zero.add(own.zero_count);
                self.zero_threshold = own.zero_threshold;
                let (schema, threshold) = (self.schema, self.zero_threshold);
                let is_outside =
                    |(index, _): &(i32, Sum)| exponential_bound(index.saturating_sub(1), schema) >= threshold;
                self.positive.retain(is_outside);
                self.negative.retain(is_outside);
            }
            if self.zero_threshold.is_nan() || other.zero_threshold.is_nan() {
                return;
            }
        }
    }

    /// `addCustomBucketsWithMismatches`: buckets between two bounds that both
    /// have are added up.
    fn add_custom(&mut self, other: &Histogram, sign: f64) {
        let theirs = indexed(&other.positive_spans, &other.positive_counts);
        if self.custom_bounds == other.custom_bounds {
            add_buckets(&mut self.positive, theirs.map(|(index, count)| (index, sign * count)));
            return;
        }
        self.events.bounds_differed = true;
        let common = common_bounds(&self.custom_bounds, &other.custom_bounds);
        let place = |bounds: &[f64], index: i32| place_in(&common, bounds, index);
        let mut united: Vec<(i32, Sum)> = Vec::new();
        for (index, sum) in self.positive.drain(..) {
            let index = place(&self.custom_bounds, index);
            match united.last_mut() {
                Some((last, total)) if *last == index => total.add_sum(sum),
                _ => united.push((index, sum)),
            }
        }
        self.positive = united;
        let theirs = theirs.map(|(index, count)| (place(&other.custom_bounds, index), sign * count));
        add_buckets(&mut self.positive, theirs);
        self.custom_bounds = common;
    }

    /// Whether some count or the sum is not finite (`HasOverflow`).
    pub fn overflows(&self) -> bool {
        let sums = [&self.zero, &self.count, &self.sum].into_iter();
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, sum)| sum);
        sums.chain(buckets).any(|sum| sum.value().is_infinite())
    }

    /// The sum, each number mapped, without empty buckets.
    pub fn finish_with(self, f: impl Fn(Sum) -> f64) -> Histogram {
        let filled = |side: Vec<(i32, Sum)>| {
            packed(side.into_iter().map(|(index, sum)| (index, f(sum))).filter(|(_, count)| *count != 0.0))
        };
        let (positive_spans, positive_counts) = filled(self.positive);
        let (negative_spans, negative_counts) = filled(self.negative);
        Histogram {
            schema: self.schema,
            reset_hint: self.reset_hint,
            zero_threshold: self.zero_threshold,
            zero_count: f(self.zero),
            count: f(self.count),
            sum: f(self.sum),
            positive_spans,
            positive_counts,
            negative_spans,
            negative_counts,
            custom_bounds: self.custom_bounds,
        }
    }

    pub fn finish(self) -> Histogram {
        self.finish_with(Sum::value)
    }
}

/// The buckets of an exponential histogram, for a zero bucket to grow.
pub(super) struct Sides {
    pub schema: i8,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub positive: Vec<(i32, f64)>,
    pub negative: Vec<(i32, f64)>,
}

impl Sides {
    pub fn new(of: &Histogram) -> Self {
        Sides {
            schema: of.schema,
            zero_threshold: of.zero_threshold,
            zero_count: of.zero_count,
            positive: indexed(&of.positive_spans, &of.positive_counts).collect(),
            negative: indexed(&of.negative_spans, &of.negative_counts).collect(),
        }
    }

    /// `zeroCountForLargerThreshold`: buckets below the threshold go to the zero
    /// bucket; a threshold within a populated bucket moves to its end.
    pub fn widen_zero_bucket(&mut self, mut threshold: f64) {
        let schema = self.schema;
        let bounds = |index: i32| {
            (exponential_bound(index.saturating_sub(1), schema), exponential_bound(index, schema))
        };
        let cuts = |side: &[(i32, f64)], threshold: f64| {
            let cut = side.iter().find(|(index, count)| {
                let (lower, upper) = bounds(*index);
                lower < threshold && threshold < upper && *count != 0.0
            });
            cut.map(|(index, _)| bounds(*index).1)
        };
        while let Some(end) = cuts(&self.positive, threshold).or_else(|| cuts(&self.negative, threshold)) {
            threshold = end;
        }
        for side in [&mut self.positive, &mut self.negative] {
            let inside = side.iter().take_while(|(index, _)| bounds(*index).0 < threshold).count();
            self.zero_count += side.drain(..inside).map(|(_, count)| count).sum::<f64>();
        }
        self.zero_threshold = threshold;
    }
}

pub(super) fn coarser_or_same(index: i32, levels: u32) -> i32 {
    if levels == 0 { index } else { coarser(index, levels) }
}

/// The same buckets in a schema that is coarser by some levels
/// (`reduceResolution`).
fn merged(buckets: impl Iterator<Item = (i32, Sum)>, levels: u32) -> Vec<(i32, Sum)> {
    let mut united: Vec<(i32, Sum)> = Vec::new();
    for (index, sum) in buckets {
        let index = coarser(index, levels);
        match united.last_mut() {
            Some((last, total)) if *last == index => total.add_sum(sum),
            _ => united.push((index, sum)),
        }
    }
    united
}

/// Adds buckets that ascend, or stay, by index.
fn add_buckets(to: &mut Vec<(i32, Sum)>, from: impl Iterator<Item = (i32, f64)>) {
    let mut at = 0;
    let mut missing: Vec<(i32, Sum)> = Vec::new();
    for (index, count) in from {
        while to.get(at).is_some_and(|(known, _)| *known < index) {
            at += 1;
        }
        match (to.get_mut(at), missing.last_mut()) {
            (Some((known, sum)), _) if *known == index => sum.add(count),
            (_, Some((last, sum))) if *last == index => sum.add(count),
            _ => missing.push((index, count.into())),
        }
    }
    if !missing.is_empty() {
        to.append(&mut missing);
        to.sort_by_key(|(index, _)| *index);
    }
}

/// `intersectCustomBucketBounds`
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let (mut i, mut j) = (0, 0);
    let mut common = Vec::new();
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x == y {
            common.push(*x);
        }
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    common
}

/// The bucket among `common` bounds that the bucket `index` of `bounds` lies in.
pub(super) fn place_in(common: &[f64], bounds: &[f64], index: i32) -> i32 {
    let upper = usize::try_from(index).ok().and_then(|index| bounds.get(index));
    let place = upper.map_or(common.len(), |upper| common.partition_point(|bound| bound < upper));
    i32::try_from(place).unwrap_or(i32::MAX)
}
