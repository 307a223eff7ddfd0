//! Quantiles and shares of the histograms of a vector: classic ones, which are
//! counters with an `le` label, cumulative up to it, and native ones.

use std::collections::HashMap;

use lm_model::{Histogram, Labels};

use crate::annotations::{Annotations, Note, Raised};
use crate::ast::Span;
use crate::engine::Error;
use crate::eval::Evaluator;
use crate::native::{self, Nans};
use crate::rows::{ABSENT, Row, is_present};
use crate::text;
use crate::windows::Steps;

const BUCKET_LABEL: &str = "le";

/// Relative differences between neighbouring buckets up to this are noise of
/// floating point (Prometheus' `smallDeltaTolerance`).
const SMALL_DELTA: f64 = 1e-12;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub upper: f64,
    pub count: f64,
}

/// Buckets of one histogram, sorted, upper bounds distinct, counts ascending.
pub(crate) struct Buckets {
    buckets: Vec<Bucket>,
    /// Counts that had to be raised.
    raised: Option<RaisedBuckets>,
}

/// The lowest and the highest bucket that were raised, and by how much at most.
#[derive(Clone, Copy)]
struct RaisedBuckets {
    lowest: f64,
    highest: f64,
    by_at_most: f64,
}

impl Buckets {
    /// `None` if the bucket that counts everything is missing.
    pub fn new(mut buckets: Vec<Bucket>) -> Option<Self> {
        buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
        if buckets.last()?.upper != f64::INFINITY {
            return None;
        }
        buckets.dedup_by(|later, kept| {
            let is_same = later.upper == kept.upper;
            if is_same {
                kept.count += later.count;
            }
            is_same
        });
        let mut raised: Option<RaisedBuckets> = None;
        let mut before = buckets[0].count;
        for bucket in &mut buckets[1..] {
            if almost_equal(before, bucket.count) {
                bucket.count = before;
            } else if bucket.count < before {
                let by = before - bucket.count;
                let so_far = raised.unwrap_or(RaisedBuckets {
                    lowest: bucket.upper,
                    highest: bucket.upper,
                    by_at_most: by,
                });
                raised = Some(RaisedBuckets {
                    lowest: so_far.lowest.min(bucket.upper),
                    highest: so_far.highest.max(bucket.upper),
                    by_at_most: so_far.by_at_most.max(by),
                });
                bucket.count = before;
            } else {
                before = bucket.count;
            }
        }
        Some(Buckets { buckets, raised })
    }

    fn total(&self) -> f64 {
        self.buckets[self.buckets.len() - 1].count
    }

    /// The value below which the share `q` of the observations lies.
    pub fn quantile(&self, q: f64) -> f64 {
        let last = self.buckets.len() - 1;
        if q.is_nan() || last == 0 || self.total() == 0.0 {
            return f64::NAN;
        }
        if q < 0.0 {
            return f64::NEG_INFINITY;
        }
        if q > 1.0 {
            return f64::INFINITY;
        }
        let mut rank = q * self.total();
        let at = self.buckets[..last].partition_point(|bucket| bucket.count < rank);
        if at == last {
            return self.buckets[last - 1].upper;
        }
        let Bucket { upper, mut count } = self.buckets[at];
        let mut lower = 0.0;
        if at > 0 {
            let below = self.buckets[at - 1];
            lower = below.upper;
            count -= below.count;
            rank -= below.count;
        } else if upper <= 0.0 {
            return upper;
        }
        lower + (upper - lower) * (rank / count)
    }

    /// The share of the observations between two values.
    pub fn fraction(&self, lower: f64, upper: f64) -> f64 {
        let total = self.total();
        if total == 0.0 || lower.is_nan() || upper.is_nan() {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        (self.rank(upper) - self.rank(lower)) / total
    }

    /// How many observations lie below `value`, interpolated within buckets of
    /// finite width.
    fn rank(&self, value: f64) -> f64 {
        let mut below = 0.0;
        let first = self.buckets[0].upper;
        let mut lower = if first > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        for bucket in &self.buckets {
            if lower >= value {
                return below;
            }
            if bucket.upper > value {
                if lower == f64::NEG_INFINITY {
                    return bucket.count;
                }
                return below + (bucket.count - below) * (value - lower) / (bucket.upper - lower);
            }
            below = bucket.count;
            lower = bucket.upper;
        }
        self.total()
    }
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// The histograms of a vector: classic ones by their buckets, native ones.
pub(crate) struct Histograms {
    /// Labels without `le`; each bucket's bound and counts.
    classic: Vec<(Labels, Vec<(f64, Row)>)>,
    native: Vec<Row>,
}

impl Histograms {
    /// Where both kinds have the same labels at the same step, neither counts
    /// (`resetHistograms` of Prometheus' `promql/engine.go`).
    pub fn new(annotations: &Annotations, rows: Vec<Row>, span: Span) -> Self {
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut classic: Vec<(Labels, Vec<(f64, Row)>)> = Vec::new();
        let mut native: Vec<Row> = Vec::new();
        for mut row in rows {
            if !row.histograms.is_empty() {
                let histograms = std::mem::take(&mut row.histograms);
                native.push(Row { histograms, ..Row::new(row.labels.clone(), row.drops_name, Vec::new()) });
                if row.is_empty() {
                    continue;
                }
            }
            let le = row.labels.get(BUCKET_LABEL).unwrap_or("");
            let Some(upper) = text::bucket_bound(le) else {
                annotations.add(Note::BadBucketLabel(le.to_owned()), row.labels.metric_name(), span);
                continue;
            };
            let mut builder = row.labels.to_builder();
            builder.remove(BUCKET_LABEL);
            let labels = builder.build();
            let place = *places.entry(labels.clone()).or_insert_with(|| {
                classic.push((labels, Vec::new()));
                classic.len() - 1
            });
            classic[place].1.push((upper, row));
        }
        for row in &mut native {
            let Some(place) = places.get(&row.labels) else { continue };
            let buckets = &mut classic[*place].1;
            row.histograms.retain(|(step, _)| {
                let step = *step as usize;
                let conflicts = buckets.iter().any(|(_, bucket)| is_present(bucket.values[step]));
                buckets.iter_mut().for_each(|(_, bucket)| bucket.values[step] = ABSENT);
                if conflicts {
                    annotations.add(Note::MixedClassicAndNative, row.labels.metric_name(), span);
                }
                !conflicts
            });
        }
        Histograms { classic, native }
    }

    /// Rows of `of_native(histogram, step)` and `of_classic(buckets, step)`.
    pub fn map(
        &self,
        evaluator: &mut Evaluator<'_>,
        steps: &Steps,
        spans: Spans,
        of_native: impl Fn(&Histogram, usize) -> Estimated,
        of_classic: impl Fn(&Buckets, usize) -> f64,
    ) -> Result<Vec<Row>, Error> {
        let mut results = Vec::with_capacity(self.native.len() + self.classic.len());
        for row in &self.native {
            evaluator.charge(steps.len)?;
            let mut values = vec![ABSENT; steps.len];
            let name = row.labels.metric_name();
            for (step, histogram) in &row.histograms {
                evaluator
                    .count_work(histogram.positive_counts.len() + histogram.negative_counts.len() + 1)?;
                let Estimated { value, note } = of_native(histogram, *step as usize);
                values[*step as usize] = value;
                if let Some(note) = note {
                    evaluator.annotations.add(note, name, spans.native);
                }
            }
            results.push(Row::new(row.labels.clone(), true, values));
        }
        for (labels, members) in &self.classic {
            results.push(classic_row(evaluator, steps, spans.classic, labels, members, &of_classic)?);
        }
        Ok(results)
    }
}

/// Where annotations about native and about classic histograms point.
#[derive(Clone, Copy)]
pub(crate) struct Spans {
    pub native: Span,
    /// `None`: that counts had to be raised does not matter.
    pub classic: Option<Span>,
}

/// A value, and what is to be said about it.
pub(crate) struct Estimated {
    pub value: f64,
    pub note: Option<Note>,
}

fn classic_row(
    evaluator: &mut Evaluator<'_>,
    steps: &Steps,
    span: Option<Span>,
    labels: &Labels,
    members: &[(f64, Row)],
    f: impl Fn(&Buckets, usize) -> f64,
) -> Result<Row, Error> {
    evaluator.charge(steps.len)?;
    let mut values = vec![ABSENT; steps.len];
    for (step, value) in values.iter_mut().enumerate() {
        evaluator.count_work(members.len())?;
        let buckets: Vec<Bucket> = members
            .iter()
            .filter(|(_, row)| is_present(row.values[step]))
            .map(|(upper, row)| Bucket { upper: *upper, count: row.values[step] })
            .collect();
        if buckets.is_empty() {
            continue;
        }
        *value = f64::NAN;
        if let Some(buckets) = Buckets::new(buckets) {
            *value = f(&buckets, step);
            if let (Some(span), Some(raised)) = (span, buckets.raised) {
                let RaisedBuckets { lowest, highest, by_at_most } = raised;
                let time = steps.time(step);
                let raised = Raised { lowest, highest, by_at_most, count: 1, first: time, last: time };
                evaluator.annotations.add(Note::ForcedMonotonic(raised), labels.metric_name(), span);
            }
        }
    }
    Ok(Row::new(labels.clone(), true, values))
}

/// Of `histogram_quantile` and of each value of `histogram_quantiles`.
pub(crate) fn native_quantile(q: f64, histogram: &Histogram) -> Estimated {
    let native::Estimate { value, nans } = native::quantile(q, histogram);
    let note = match nans {
        Nans::None => None,
        Nans::Decide => Some(Note::QuantileIsNan),
        Nans::Skew => Some(Note::QuantileIsSkewed),
    };
    Estimated { value, note }
}

pub(crate) fn native_fraction(lower: f64, upper: f64, histogram: &Histogram) -> Estimated {
    let native::Estimate { value, nans } = native::fraction(lower, upper, histogram);
    Estimated { value, note: (nans != Nans::None).then_some(Note::FractionWithoutNans) }
}
