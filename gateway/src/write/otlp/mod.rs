//! OpenTelemetry metrics over OTLP/HTTP, as Prometheus stores them.
//!
//! ```text
//! protobuf.rs ─┐
//!              ├─▶ Metric, Point ─▶ translate.rs (names.rs) ─▶ Sink
//! json.rs ─────┘                      delta.rs: sums of differences
//! ```
//!
//! Both readers borrow from the body and hand over one point at a time.

mod delta;
mod json;
mod names;
mod protobuf;
mod translate;

use std::borrow::Cow;

pub use delta::Deltas;
pub use translate::{Rejected, Translation};

/// Name and value of an attribute, the value as text.
pub type Attribute<'a> = (Cow<'a, str>, Cow<'a, str>);

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

/// Why a body is no request of OTLP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the body is no ExportMetricsServiceRequest of protobuf")]
    Protobuf,
    #[error("the body is no ExportMetricsServiceRequest: {0}")]
    Json(String),
}

impl From<lm_exposition::wire::Broken> for Malformed {
    fn from(_: lm_exposition::wire::Broken) -> Self {
        Malformed::Protobuf
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Sum { is_monotonic: bool, is_delta: bool },
    Histogram { is_delta: bool },
    Exponential,
    Summary,
}

/// A metric without its points.
#[derive(Clone, Debug)]
pub struct Metric<'a> {
    pub name: Cow<'a, str>,
    pub description: Cow<'a, str>,
    pub unit: Cow<'a, str>,
    pub kind: Kind,
}

/// One point of a metric.
#[derive(Clone, Debug, Default)]
pub struct Point<'a> {
    pub attributes: Vec<Attribute<'a>>,
    pub time_unix_nano: u64,
    /// Of a gauge or sum.
    pub value: f64,
    pub count: u64,
    /// Of a histogram or summary; some have none.
    pub sum: Option<f64>,
    /// Of a histogram: one count more than bounds.
    pub bounds: Vec<f64>,
    pub counts: Vec<u64>,
    /// `(quantile, value)` of a summary.
    pub quantiles: Vec<(f64, f64)>,
    /// There is no value: the series has ended.
    pub is_stale: bool,
}

/// The bit of a point's flags that says so.
const NO_VALUE: u64 = 1;

/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: u64 = 1;

/// Reads a body point by point into `to`.
///
/// # Errors
///
/// When it is none. What stands before the mistake has been handed over.
pub fn read(encoding: Encoding, body: &[u8], to: &mut Translation<'_, '_, '_>) -> Result<(), Malformed> {
    match encoding {
        Encoding::Protobuf => protobuf::read(body, to),
        Encoding::Json => json::read(body, to),
    }
}

#[cfg(test)]
mod tests;
