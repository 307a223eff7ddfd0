//! Delimited `io.prometheus.client.MetricFamily` messages, as `metrics.proto`
//! of Prometheus' client_model describes them.
//!
//! ```text
//! length, MetricFamily { name 1, help 2, type 3, metric 4 (repeated), unit 5 }
//!   Metric { label 1, gauge 2, counter 3, summary 4, untyped 5, timestamp_ms 6, histogram 7 }
//! ```
//!
//! One metric at a time is taken apart, into as many samples as the text
//! formats have of it.

mod histogram;

use std::borrow::Cow;

use self::histogram::{HistogramParts, read_histogram};
use crate::entry::{Entry, Exemplar, Label, Metadata, MetricType, NativeHistogram, Sample};
use crate::wire::{Broken, Fields, Value, take_delimited};
use crate::{Error, Limits, Place, number};

/// Reads families.
pub struct ProtobufReader<'a> {
    rest: &'a [u8],
    family_count: usize,
    limits: Limits,
    family: Family<'a>,
    /// Facts of the family that were not handed out yet.
    facts: Vec<Fact>,
    /// What is left of the family's message.
    fields: Fields<'a>,
    metric: Metric<'a>,
    /// Of the current sample, where it is not the family's.
    name: String,
    exemplar_labels: Vec<Label<'a>>,
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: u64,
}

#[derive(Clone, Copy)]
enum Fact {
    Help,
    Type,
    Unit,
}

/// One metric, as samples that wait to be handed out.
#[derive(Default)]
struct Metric<'a> {
    /// The metric's own first, then the bound of the current sample.
    labels: Vec<Label<'a>>,
    own_labels: usize,
    time_unix_ms: Option<i64>,
    native: Option<NativeHistogram<'a>>,
    points: Vec<Point<'a>>,
    next_point: usize,
}

/// One sample of a metric.
struct Point<'a> {
    suffix: &'static str,
    /// `le` or `quantile`.
    bound: Option<(&'static str, f64)>,
    value: f64,
    exemplar: Option<&'a [u8]>,
}

impl<'a> Point<'a> {
    fn new(suffix: &'static str, value: f64) -> Self {
        Point { suffix, bound: None, value, exemplar: None }
    }
}

/// Types as the messages number them.
mod kind {
    pub const COUNTER: u64 = 0;
    pub const GAUGE: u64 = 1;
    pub const SUMMARY: u64 = 2;
    pub const UNTYPED: u64 = 3;
    pub const HISTOGRAM: u64 = 4;
    pub const GAUGE_HISTOGRAM: u64 = 5;
}

/// What comes next; its parts are in the reader.
enum Step {
    Fact(Fact),
    Native,
    Point,
}

impl<'a> ProtobufReader<'a> {
    pub fn new(bytes: &'a [u8], limits: Limits) -> Self {
        ProtobufReader {
            rest: bytes,
            family_count: 0,
            limits,
            family: Family::default(),
            facts: Vec::new(),
            fields: Fields(&[]),
            metric: Metric::default(),
            name: String::new(),
            exemplar_labels: Vec::new(),
        }
    }

    pub fn next(&mut self) -> Result<Option<Entry<'_>>, Error> {
        let Some(step) = self.step()? else { return Ok(None) };
        let family = self.family.name;
        Ok(Some(match step {
            Step::Fact(Fact::Help) => Entry::Metadata(Metadata::Help { family, text: self.family.help }),
            Step::Fact(Fact::Unit) => Entry::Metadata(Metadata::Unit { family, unit: self.family.unit }),
            Step::Fact(Fact::Type) => {
                Entry::Metadata(Metadata::Type { family, metric_type: self.metric_type()? })
            }
            Step::Native => {
                Entry::NativeHistogram(self.metric.native.as_ref().expect("step() found a native histogram"))
            }
            Step::Point => self.sample()?,
        }))
    }

    fn step(&mut self) -> Result<Option<Step>, Error> {
        loop {
            if let Some(fact) = self.facts.pop() {
                return Ok(Some(Step::Fact(fact)));
            }
            if self.metric.next_point < self.metric.points.len() {
                return Ok(Some(Step::Point));
            }
            match self.fields.next() {
                Ok(Some((4, value))) => {
                    let metric = value.bytes().map_err(|Broken| self.broken())?;
                    self.read_metric(metric)?;
                    if self.metric.native.is_some() {
                        return Ok(Some(Step::Native));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) if self.rest.is_empty() => return Ok(None),
                Ok(None) => self.read_family()?,
                Err(Broken) => return Err(self.broken()),
            }
        }
    }

    fn place(&self) -> Place {
        Place::Family(self.family_count)
    }

    fn broken(&self) -> Error {
        self.malformed("not the message of a family of metrics, or cut")
    }

    fn malformed(&self, what: impl Into<String>) -> Error {
        Error::malformed(self.place(), what)
    }

    /// Reads what a family is, metrics aside.
    fn read_family(&mut self) -> Result<(), Error> {
        self.family_count += 1;
        let message = take_delimited(&mut self.rest).map_err(|Broken| self.broken())?;
        let read = || {
            let (mut family, mut fields, mut metrics) = (Family::default(), Fields(message), 0_usize);
            while let Some((number, value)) = fields.next()? {
                match number {
                    1 => family.name = value.text()?,
                    2 => family.help = value.text()?,
                    3 => family.kind = value.unsigned()?,
                    4 => metrics += 1,
                    5 => family.unit = value.text()?,
                    _ => {}
                }
            }
            Ok((family, metrics))
        };
        let (family, metrics) = read().map_err(|Broken| self.broken())?;
        self.family = family;
        if metrics == 0 {
            return Ok(());
        }
        if self.family.name.is_empty() {
            return Err(self.malformed("the family has no name"));
        }
        self.metric_type()?;
        self.fields = Fields(message);
        // Handed out from the end: help, type, unit.
        if !self.family.unit.is_empty() {
            self.facts.push(Fact::Unit);
        }
        self.facts.extend([Fact::Type, Fact::Help]);
        Ok(())
    }

    fn metric_type(&self) -> Result<MetricType, Error> {
        Ok(match self.family.kind {
            kind::COUNTER => MetricType::Counter,
            kind::GAUGE => MetricType::Gauge,
            kind::SUMMARY => MetricType::Summary,
            kind::UNTYPED => MetricType::Unknown,
            kind::HISTOGRAM => MetricType::Histogram,
            kind::GAUGE_HISTOGRAM => MetricType::GaugeHistogram,
            kind => return Err(self.malformed(format!("{kind} is no type of metrics"))),
        })
    }

    /// Takes a metric apart.
    fn read_metric(&mut self, message: &'a [u8]) -> Result<(), Error> {
        let limit = self.limits.line_bytes_max;
        if message.len() >= limit {
            return Err(Error::TooLarge { place: self.place(), of: "bytes of one metric", limit });
        }
        let metric = &mut self.metric;
        metric.labels.clear();
        metric.points.clear();
        (metric.next_point, metric.time_unix_ms, metric.native) = (0, None, None);
        let body_field = match self.family.kind {
            kind::GAUGE => 2,
            kind::COUNTER => 3,
            kind::SUMMARY => 4,
            kind::UNTYPED => 5,
            _ => 7,
        };
        let (mut fields, mut body) = (Fields(message), &[][..]);
        loop {
            match fields.next() {
                Ok(Some((1, value))) => {
                    let metric = &mut self.metric;
                    let labels_max = self.limits.labels_max;
                    add_label(value, &mut metric.labels, labels_max).map_err(|fault| self.fault(fault))?;
                }
                Ok(Some((6, value))) => {
                    // Zero and absent cannot be told apart, as upstream.
                    let time = value.signed().map_err(|Broken| self.broken())?;
                    self.metric.time_unix_ms = Some(time).filter(|time| *time != 0);
                }
                Ok(Some((number, value))) if number == body_field => {
                    body = value.bytes().map_err(|Broken| self.broken())?;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Broken) => return Err(self.broken()),
            }
        }
        self.metric.own_labels = self.metric.labels.len();
        match body_field {
            7 => self.read_histogram_body(body),
            4 => read_summary(body, &mut self.metric.points).map_err(|Broken| self.broken()),
            _ => read_simple(body, &mut self.metric.points).map_err(|Broken| self.broken()),
        }
    }

    fn read_histogram_body(&mut self, body: &'a [u8]) -> Result<(), Error> {
        let HistogramParts { count, sum, buckets, native } =
            read_histogram(body, self.limits.native_buckets_max).map_err(|fault| self.fault(fault))?;
        let points = &mut self.metric.points;
        points.extend([Point::new("_count", count), Point::new("_sum", sum)]);
        let has_infinity = buckets.iter().any(|bucket| bucket.upper_bound == f64::INFINITY);
        points.extend(buckets.into_iter().map(|bucket| Point {
            suffix: "_bucket",
            bound: Some(("le", bucket.upper_bound)),
            value: bucket.count,
            exemplar: bucket.exemplar,
        }));
        if !has_infinity {
            points.push(Point { bound: Some(("le", f64::INFINITY)), ..Point::new("_bucket", count) });
        }
        self.metric.native = native.map(|native| NativeHistogram {
            name: Cow::Borrowed(self.family.name),
            labels: self.metric.labels.clone(),
            time_unix_ms: self.metric.time_unix_ms,
            is_gauge: self.family.kind == kind::GAUGE_HISTOGRAM,
            count,
            sum,
            ..native
        });
        Ok(())
    }

    /// Hands out the next point.
    fn sample(&mut self) -> Result<Entry<'_>, Error> {
        let metric = &mut self.metric;
        let point = &metric.points[metric.next_point];
        metric.next_point += 1;
        metric.labels.truncate(metric.own_labels);
        if let Some((name, bound)) = point.bound {
            let value = Cow::Owned(number::write(bound));
            metric.labels.push(Label { name: Cow::Borrowed(name), value });
        }
        self.name.clear();
        self.name.push_str(self.family.name);
        self.name.push_str(point.suffix);
        let (value, exemplar) = (point.value, point.exemplar);
        let exemplar = match exemplar {
            None => None,
            Some(message) => {
                self.exemplar_labels.clear();
                let read = read_exemplar(message, &mut self.exemplar_labels, self.limits.labels_max);
                Some(read.map_err(|fault| self.fault(fault))?)
            }
        };
        Ok(Entry::Sample(Sample {
            name: &self.name,
            labels: &self.metric.labels,
            value,
            time_unix_ms: self.metric.time_unix_ms,
            exemplar: exemplar.map(|(value, time_unix_ms)| Exemplar {
                labels: &self.exemplar_labels,
                value,
                time_unix_ms,
            }),
        }))
    }

    fn fault(&self, fault: Fault) -> Error {
        let place = self.place();
        match fault {
            Fault::Broken => self.broken(),
            Fault::Malformed(what) => self.malformed(what),
            Fault::Labels => Error::TooLarge { place, of: "labels", limit: self.limits.labels_max },
            Fault::Buckets => {
                Error::TooLarge { place, of: "native buckets", limit: self.limits.native_buckets_max }
            }
        }
    }
}

/// What is wrong with a part of a metric.
enum Fault {
    Broken,
    Malformed(&'static str),
    Labels,
    Buckets,
}

impl From<Broken> for Fault {
    fn from(_: Broken) -> Self {
        Fault::Broken
    }
}

fn add_label<'a>(value: Value<'a>, into: &mut Vec<Label<'a>>, labels_max: usize) -> Result<(), Fault> {
    let (mut name, mut text, mut fields) = ("", "", Fields(value.bytes()?));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
    }
    if into.len() == labels_max {
        return Err(Fault::Labels);
    }
    if name.is_empty() || name == "__name__" {
        return Err(Fault::Malformed("a label has no name, or the metric's"));
    }
    if into.iter().any(|label| label.name == name) {
        return Err(Fault::Malformed("a label is there twice"));
    }
    into.push(Label { name: Cow::Borrowed(name), value: Cow::Borrowed(text) });
    Ok(())
}

/// `Gauge`, `Counter` and `Untyped`: value 1, and a counter's exemplar 2.
fn read_simple<'a>(body: &'a [u8], points: &mut Vec<Point<'a>>) -> Result<(), Broken> {
    let (mut point, mut fields) = (Point::new("", 0.0), Fields(body));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => point.value = value.double()?,
            2 => point.exemplar = Some(value.bytes()?),
            _ => {}
        }
    }
    points.push(point);
    Ok(())
}

/// `Summary`: count 1, sum 2, quantiles 3 (quantile 1, value 2).
fn read_summary<'a>(body: &'a [u8], points: &mut Vec<Point<'a>>) -> Result<(), Broken> {
    points.extend([Point::new("_count", 0.0), Point::new("_sum", 0.0)]);
    let mut fields = Fields(body);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => points[0].value = value.unsigned()? as f64,
            2 => points[1].value = value.double()?,
            3 => {
                let (mut point, mut quantile) = (Point::new("", 0.0), 0.0);
                let mut fields = Fields(value.bytes()?);
                while let Some((number, value)) = fields.next()? {
                    match number {
                        1 => quantile = value.double()?,
                        2 => point.value = value.double()?,
                        _ => {}
                    }
                }
                point.bound = Some(("quantile", quantile));
                points.push(point);
            }
            _ => {}
        }
    }
    Ok(())
}

/// `Exemplar`: labels 1, value 2, time 3 (seconds 1, nanoseconds 2).
fn read_exemplar<'a>(
    message: &'a [u8],
    labels: &mut Vec<Label<'a>>,
    labels_max: usize,
) -> Result<(f64, Option<i64>), Fault> {
    let (mut exemplar_value, mut time, mut fields) = (0.0, None, Fields(message));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => add_label(value, labels, labels_max)?,
            2 => exemplar_value = value.double()?,
            3 => {
                let (mut seconds, mut nanos, mut fields) = (0, 0, Fields(value.bytes()?));
                while let Some((number, value)) = fields.next()? {
                    match number {
                        1 => seconds = value.signed()?,
                        2 => nanos = value.signed()?,
                        _ => {}
                    }
                }
                time = Some(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000));
            }
            _ => {}
        }
    }
    Ok((exemplar_value, time))
}
