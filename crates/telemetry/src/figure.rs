//! Figures: what is counted and measured, as of now.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of a histogram of times. The last bucket has none.
pub const BOUNDS_SECONDS: [f64; 8] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0];

/// The same as label values, the last bucket's too.
const BOUNDS: [&str; BOUNDS_SECONDS.len() + 1] =
    ["0.001", "0.005", "0.025", "0.1", "0.5", "2.5", "10", "60", "+Inf"];

/// One figure, as of now. A name that ends in `_total` is a counter, any other
/// number a gauge. The number of label values is bounded by the code.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Histogram(Snapshot),
}

/// A histogram of times with the bounds of [`BOUNDS_SECONDS`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// In each bucket alone; the last one is everything above.
    pub counts: [u64; BOUNDS_SECONDS.len() + 1],
    pub sum: Duration,
}

impl Figure {
    pub fn new(name: &'static str, help: &'static str, value: f64) -> Figure {
        Figure { name, help, labels: Vec::new(), value: Value::Number(value) }
    }

    pub fn histogram(name: &'static str, help: &'static str, snapshot: Snapshot) -> Figure {
        Figure { name, help, labels: Vec::new(), value: Value::Histogram(snapshot) }
    }

    /// With one more label.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Figure {
        self.labels.push((name, value.into()));
        self
    }

    /// Its series: what follows the name, the bucket's bound, and the number.
    pub(crate) fn series(&self) -> Vec<(&'static str, Option<&'static str>, f64)> {
        let snapshot = match &self.value {
            Value::Number(number) => return vec![("", None, *number)],
            Value::Histogram(snapshot) => snapshot,
        };
        let mut total = 0;
        let mut series: Vec<_> = BOUNDS
            .into_iter()
            .zip(snapshot.counts)
            .map(|(bound, count)| {
                total += count;
                ("_bucket", Some(bound), total as f64)
            })
            .collect();
        series.push(("_sum", None, snapshot.sum.as_secs_f64()));
        series.push(("_count", None, total as f64));
        series
    }

    /// Its series as they are stored: name, labels, number.
    pub fn samples(&self) -> impl Iterator<Item = (Cow<'static, str>, Vec<(&'static str, &str)>, f64)> {
        self.series().into_iter().map(|(suffix, bound, number)| {
            let name = match suffix {
                "" => Cow::Borrowed(self.name),
                suffix => Cow::Owned(format!("{}{suffix}", self.name)),
            };
            let mut labels: Vec<(&'static str, &str)> =
                self.labels.iter().map(|(name, value)| (*name, &value[..])).collect();
            if let Some(bound) = bound {
                labels.push(("le", bound));
            }
            (name, labels, number)
        })
    }
}

/// Counts times; any thread may.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, time: Duration) {
        let at = BOUNDS_SECONDS.partition_point(|bound| *bound < time.as_secs_f64());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Snapshot {
        let mut counts = [0; BOUNDS_SECONDS.len() + 1];
        for (to, from) in counts.iter_mut().zip(&self.counts) {
            *to = from.load(Ordering::Relaxed);
        }
        Snapshot { counts, sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)) }
    }
}

type Source = Box<dyn Fn(&mut Vec<Figure>) + Send + Sync>;

/// Everybody who has figures. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Telemetry {
    sources: Arc<Mutex<Vec<Source>>>,
}

impl Telemetry {
    /// `source` is asked at every look; it must not wait.
    pub fn add(&self, source: impl Fn(&mut Vec<Figure>) + Send + Sync + 'static) {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(source));
    }

    /// Everything, as of now.
    pub fn collect(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            source(&mut figures);
        }
        figures
    }

    /// Everything in the text format of Prometheus, see [`crate::CONTENT_TYPE`].
    pub fn text(&self) -> String {
        crate::text::write(self.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 500, 501, 120_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [2, 1, 0, 0, 1, 1, 0, 0, 1]);
        assert_eq!(snapshot.sum, Duration::from_millis(121_004));
    }

    #[test]
    fn a_histogram_is_stored_as_its_series() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(2));
        let figure = Figure::histogram("a_seconds", "Takes.", histogram.snapshot()).with("x", "y");
        let samples: Vec<_> = figure.samples().collect();
        assert_eq!(samples.len(), BOUNDS_SECONDS.len() + 3);
        assert_eq!(samples[0], ("a_seconds_bucket".into(), vec![("x", "y"), ("le", "0.001")], 0.0));
        assert_eq!(samples[8], ("a_seconds_bucket".into(), vec![("x", "y"), ("le", "+Inf")], 1.0));
        assert_eq!(samples[9], ("a_seconds_sum".into(), vec![("x", "y")], 0.002));
        assert_eq!(samples[10], ("a_seconds_count".into(), vec![("x", "y")], 1.0));
    }
}
