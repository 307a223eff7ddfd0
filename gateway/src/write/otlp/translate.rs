//! Points as samples: what each kind of point is among Prometheus' series.
//!
//! Of a resource, `service.name` (with its namespace) becomes `job` and
//! `service.instance.id` becomes `instance` on every series; the other
//! attributes stand on one series `target_info`, for joins.

use std::borrow::Cow;

use lm_model::{METRIC_NAME, Timestamp, stale_nan};

use super::super::remote_write::{DESCRIBED_MAX, MetricText};
use super::super::sink::Sink;
use super::delta::Deltas;
use super::{Attribute, Kind, Metric, Point, names};

const NAMESPACE: &str = "service.namespace";
const SERVICE: &str = "service.name";
const INSTANCE: &str = "service.instance.id";

/// Labels of our own making, sorted by name, each once.
type Made = Vec<(String, String)>;

/// Takes the points of one request.
pub struct Translation<'s, 'a, 't> {
    sink: &'s mut Sink<'a, 't>,
    deltas: &'s mut Deltas,
    /// Whose deltas these are.
    writer: u64,
    metadata: &'s mut Vec<MetricText>,
    /// When the request came: the time of points that have none.
    now_unix_nano: u64,
    job: String,
    instance: String,
    target: Made,
    latest: Option<Timestamp>,
    /// Of the metric at hand.
    name: String,
    rejected: Rejected,
}

/// Points that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Exponential histograms.
    pub exponential: u64,
    /// Bounds and counts that do not belong together.
    pub odd: u64,
    /// Deltas of before what was added up.
    pub old_deltas: u64,
}

impl<'s, 'a, 't> Translation<'s, 'a, 't> {
    pub fn new(
        sink: &'s mut Sink<'a, 't>,
        deltas: &'s mut Deltas,
        writer: u64,
        metadata: &'s mut Vec<MetricText>,
        now: Timestamp,
    ) -> Self {
        Translation {
            sink,
            deltas,
            writer,
            metadata,
            now_unix_nano: u64::try_from(now.as_nanos()).unwrap_or(0),
            job: String::new(),
            instance: String::new(),
            target: Vec::new(),
            latest: None,
            name: String::new(),
            rejected: Rejected::default(),
        }
    }

    pub fn rejected(&self) -> Rejected {
        self.rejected
    }

    pub(super) fn begin_resource(&mut self, attributes: &[Attribute<'_>]) {
        let get = |wanted: &str| {
            attributes.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| &value[..])
        };
        self.job = match (get(NAMESPACE), get(SERVICE)) {
            ("", service) | (_, service @ "") => service.to_owned(),
            (namespace, service) => format!("{namespace}/{service}"),
        };
        self.instance = get(INSTANCE).to_owned();
        let others = |(name, _): &&Attribute<'_>| ![NAMESPACE, SERVICE, INSTANCE].contains(&&name[..]);
        self.target = labels(attributes.iter().filter(others));
        self.latest = None;
    }

    pub(super) fn end_resource(&mut self) {
        let Some(time) = self.latest else { return };
        let is_known = !self.job.is_empty() || !self.instance.is_empty();
        if is_known && !self.target.is_empty() {
            let target = std::mem::take(&mut self.target);
            self.emit("target_info", &target, None, time, 1.0);
        }
    }

    pub(super) fn begin_metric(&mut self, metric: &Metric<'_>) {
        let is_counter = matches!(metric.kind, Kind::Sum { is_monotonic: true, .. });
        let is_gauge = matches!(metric.kind, Kind::Gauge);
        self.name = names::metric(&metric.name, &metric.unit, is_counter, is_gauge);
        let kind = match metric.kind {
            Kind::Gauge | Kind::Sum { is_monotonic: false, .. } => "gauge",
            Kind::Sum { .. } => "counter",
            Kind::Histogram { .. } | Kind::Exponential => "histogram",
            Kind::Summary => "summary",
        };
        if self.metadata.len() < DESCRIBED_MAX {
            self.metadata.push(MetricText {
                name: self.name.clone(),
                kind,
                help: metric.description.clone().into_owned(),
                unit: metric.unit.clone().into_owned(),
            });
        }
    }

    pub(super) fn point(&mut self, metric: &Metric<'_>, point: &Point<'_>) {
        let nano = if point.time_unix_nano == 0 { self.now_unix_nano } else { point.time_unix_nano };
        let time = Timestamp::from_millis((nano / 1_000_000) as i64);
        self.latest = self.latest.max(Some(time));
        let own = labels(point.attributes.iter());
        let name = std::mem::take(&mut self.name);
        match metric.kind {
            Kind::Gauge => self.emit(&name, &own, None, time, value(point, point.value)),
            Kind::Sum { is_delta, .. } => {
                let delta = is_delta.then_some(nano);
                self.add(&name, &own, None, time, value(point, point.value), delta);
            }
            Kind::Histogram { is_delta } => {
                self.histogram(&name, &own, point, time, is_delta.then_some(nano))
            }
            Kind::Exponential => self.rejected.exponential += 1,
            Kind::Summary => self.summary(&name, &own, point, time),
        }
        self.name = name;
    }

    /// As a classic histogram: buckets that hold all below them, too.
    fn histogram(&mut self, name: &str, own: &Made, point: &Point<'_>, time: Timestamp, delta: Option<u64>) {
        let is_odd = !point.counts.is_empty() && point.counts.len() != point.bounds.len() + 1;
        if is_odd && !point.is_stale {
            self.rejected.odd += 1;
            return;
        }
        let bucket = format!("{name}_bucket");
        let mut below = 0u64;
        for (bound, count) in point.bounds.iter().zip(&point.counts) {
            below = below.saturating_add(*count);
            let le = bound.to_string();
            self.add(&bucket, own, Some(("le", &le)), time, value(point, below as f64), delta);
        }
        let count = value(point, point.count as f64);
        self.add(&bucket, own, Some(("le", "+Inf")), time, count, delta);
        if let Some(sum) = point.sum {
            self.add(&format!("{name}_sum"), own, None, time, value(point, sum), delta);
        }
        self.add(&format!("{name}_count"), own, None, time, count, delta);
    }

    fn summary(&mut self, name: &str, own: &Made, point: &Point<'_>, time: Timestamp) {
        for (quantile, of) in &point.quantiles {
            let quantile = quantile.to_string();
            self.emit(name, own, Some(("quantile", &quantile)), time, value(point, *of));
        }
        self.emit(&format!("{name}_sum"), own, None, time, value(point, point.sum.unwrap_or(0.0)));
        self.emit(&format!("{name}_count"), own, None, time, value(point, point.count as f64));
    }

    fn emit(&mut self, name: &str, own: &Made, more: Option<(&str, &str)>, time: Timestamp, value: f64) {
        self.add(name, own, more, time, value, None);
    }

    /// `delta`: the exact time of a difference, which is added up first.
    fn add(
        &mut self,
        name: &str,
        own: &Made,
        more: Option<(&str, &str)>,
        time: Timestamp,
        value: f64,
        delta: Option<u64>,
    ) {
        let mut pairs = Vec::with_capacity(own.len() + 4);
        pairs.push((METRIC_NAME, name));
        pairs.extend(more);
        pairs.extend(
            [("job", &self.job[..]), ("instance", &self.instance[..])]
                .iter()
                .filter(|(_, of)| !of.is_empty()),
        );
        // What was put there first stands.
        let given = pairs.len();
        for (name, value) in own {
            if !pairs[..given].iter().any(|(known, _)| *known == &name[..]) {
                pairs.push((&name[..], &value[..]));
            }
        }
        let value = match delta.filter(|_| !lm_model::is_stale(value)) {
            None => value,
            Some(nano) => {
                pairs.sort_unstable();
                let key = self.sink.key(&pairs);
                match self.deltas.add(self.writer, key, nano, value) {
                    Some(sum) => sum,
                    None => {
                        self.rejected.old_deltas += 1;
                        return;
                    }
                }
            }
        };
        self.sink.sample(&mut pairs, time, value);
    }
}

/// A point without a value ends its series.
fn value(point: &Point<'_>, value: f64) -> f64 {
    if point.is_stale { stale_nan() } else { value }
}

/// Attributes as labels. Values of attributes that get one name are joined, in
/// the order of the attributes' own names.
fn labels<'a, 'b: 'a>(attributes: impl Iterator<Item = &'a Attribute<'b>>) -> Made {
    let mut sorted: Vec<&Attribute<'_>> = attributes.collect();
    sorted.sort_unstable();
    let mut made: Made = Vec::with_capacity(sorted.len());
    for (name, value) in sorted {
        let name = names::label(name);
        match made.iter_mut().find(|(known, _)| *known == name) {
            Some((_, joined)) => {
                joined.push(';');
                joined.push_str(value);
            }
            None => made.push((name, Cow::clone(value).into_owned())),
        }
    }
    made.sort_unstable();
    made
}
