//! Classic histograms: counters with an `le` label, cumulative up to it.

use std::collections::HashMap;

use lm_model::Labels;

use crate::engine::Error;
use crate::eval::Evaluator;
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
    /// Whether counts had to be raised.
    pub is_forced_monotonic: bool,
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
        let mut is_forced_monotonic = false;
        let mut before = buckets[0].count;
        for bucket in &mut buckets[1..] {
            if almost_equal(before, bucket.count) {
                bucket.count = before;
            } else if bucket.count < before {
                bucket.count = before;
                is_forced_monotonic = true;
            } else {
                before = bucket.count;
            }
        }
        Some(Buckets { buckets, is_forced_monotonic })
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

/// Applies `f(buckets, step)` to every histogram among `rows`.
pub(crate) fn map(
    evaluator: &mut Evaluator<'_>,
    rows: Vec<Row>,
    steps: &Steps,
    mut f: impl FnMut(&Buckets, usize) -> f64,
) -> Result<Vec<Row>, Error> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut histograms: Vec<(Labels, Vec<(f64, Row)>)> = Vec::new();
    for row in rows {
        let le = row.labels.get(BUCKET_LABEL).unwrap_or("");
        let Some(upper) = text::bucket_bound(le) else {
            evaluator.annotations.warn(format!(
                "bucket label \"le\" is missing or has a malformed value of {le:?} for metric name {:?}",
                row.labels.metric_name()
            ));
            continue;
        };
        let mut builder = row.labels.to_builder();
        builder.remove(BUCKET_LABEL);
        let labels = builder.build();
        let place = *places.entry(labels.clone()).or_insert_with(|| {
            histograms.push((labels, Vec::new()));
            histograms.len() - 1
        });
        histograms[place].1.push((upper, row));
    }
    let mut results = Vec::with_capacity(histograms.len());
    for (labels, members) in histograms {
        evaluator.charge(steps.len)?;
        let mut values = vec![ABSENT; steps.len];
        let mut is_forced_monotonic = false;
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
                is_forced_monotonic |= buckets.is_forced_monotonic;
                *value = f(&buckets, step);
            }
        }
        if is_forced_monotonic {
            evaluator.annotations.info(format!(
                "input to histogram_quantile needed to be fixed for monotonicity (see \
                 https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) \
                 for metric name {:?}",
                labels.metric_name()
            ));
        }
        results.push(Row::new(labels, true, values));
    }
    Ok(results)
}
