//! What an answer consists of.

use std::borrow::Cow;

/// What [`Reader::next`](crate::Reader::next) finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    Metadata(Metadata<'a>),
    Sample(Sample<'a>),
    /// Of protobuf only. The samples of its classic form (`_count`, `_sum`,
    /// `_bucket`) follow as samples.
    NativeHistogram(&'a NativeHistogram<'a>),
}

/// One fact of a family of metrics. It may come before the family's samples,
/// after them, or for a family without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metadata<'a> {
    Help { family: &'a str, text: &'a str },
    Type { family: &'a str, metric_type: MetricType },
    Unit { family: &'a str, unit: &'a str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
    Unknown,
}

impl MetricType {
    /// As Prometheus' metadata API writes it.
    pub fn name(self) -> &'static str {
        match self {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            MetricType::Histogram => "histogram",
            MetricType::GaugeHistogram => "gaugehistogram",
            MetricType::Summary => "summary",
            MetricType::Info => "info",
            MetricType::StateSet => "stateset",
            MetricType::Unknown => "unknown",
        }
    }
}

/// A name and a value, escapes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    pub name: Cow<'a, str>,
    pub value: Cow<'a, str>,
}

/// One value of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    /// As they stand in the answer, each name once, without `__name__`. A
    /// value may be empty, which means that the label is absent.
    pub labels: &'a [Label<'a>],
    /// Every NaN is the ordinary one: a target cannot write a staleness marker.
    pub value: f64,
    /// Milliseconds since the epoch, when the target says a time.
    pub time_unix_ms: Option<i64>,
    pub exemplar: Option<Exemplar<'a>>,
}

/// What led to a value, for example a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    pub labels: &'a [Label<'a>],
    pub value: f64,
    pub time_unix_ms: Option<i64>,
}

/// A histogram with exponential buckets, as it stands in the message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NativeHistogram<'a> {
    pub name: Cow<'a, str>,
    pub labels: Vec<Label<'a>>,
    pub time_unix_ms: Option<i64>,
    pub is_gauge: bool,
    /// Buckets grow by `2^(2^-schema)`.
    pub schema: i32,
    pub count: f64,
    pub sum: f64,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub positive_spans: Vec<Span>,
    /// Absolute counts, one for each bucket of the spans.
    pub positive_counts: Vec<f64>,
    pub negative_spans: Vec<Span>,
    pub negative_counts: Vec<f64>,
}

/// A run of buckets that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// From the end of the span before, of the first one from index zero.
    pub offset: i32,
    pub length: u32,
}
