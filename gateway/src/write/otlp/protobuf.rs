//! `ExportMetricsServiceRequest` of `opentelemetry/proto/collector/metrics/v1`.
//!
//! ```text
//! Request { resource_metrics 1 }
//!   ResourceMetrics { resource 1 { attributes 1 }, scope_metrics 2 { metrics 2 } }
//!     Metric { name 1, description 2, unit 3, gauge 5, sum 7, histogram 9, exponential 10, summary 11 }
//!       each { data_points 1, aggregation_temporality 2, is_monotonic 3 }
//! ```

use std::borrow::Cow;
use std::fmt::Write as _;

use lm_exposition::wire::{Broken, Fields, Value};

use super::translate::Translation;
use super::{Attribute, DELTA, Kind, Malformed, Metric, NO_VALUE, Point};

/// Attributes of attributes: deeper ones are left out.
const DEPTH_MAX: u32 = 8;
/// Attributes of a resource or a point that are looked at, and what all texts
/// of a list of values may be.
const ATTRIBUTES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 4096;

pub fn read(body: &[u8], to: &mut Translation<'_, '_, '_>) -> Result<(), Malformed> {
    let mut fields = Fields(body);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            resource_metrics(value.bytes()?, to)?;
        }
    }
    Ok(())
}

fn resource_metrics(message: &[u8], to: &mut Translation<'_, '_, '_>) -> Result<(), Broken> {
    let mut attributes = Vec::new();
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            let mut resource = Fields(value.bytes()?);
            while let Some((number, value)) = resource.next()? {
                if number == 1 {
                    attribute(value.bytes()?, &mut attributes)?;
                }
            }
        }
    }
    to.begin_resource(&attributes);
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        if number != 2 {
            continue;
        }
        let mut scope = Fields(value.bytes()?);
        while let Some((number, value)) = scope.next()? {
            if number == 2 {
                metric(value.bytes()?, to)?;
            }
        }
    }
    to.end_resource();
    Ok(())
}

fn metric(message: &[u8], to: &mut Translation<'_, '_, '_>) -> Result<(), Broken> {
    let (mut name, mut description, mut unit) = ("", "", "");
    let mut data = None;
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => description = value.text()?,
            3 => unit = value.text()?,
            5 | 7 | 9 | 10 | 11 => data = Some((number, value.bytes()?)),
            _ => {}
        }
    }
    let Some((number, data)) = data else { return Ok(()) };
    let (mut is_delta, mut is_monotonic) = (false, false);
    let mut fields = Fields(data);
    while let Some((number, value)) = fields.next()? {
        match number {
            2 => is_delta = value.unsigned()? == DELTA,
            3 => is_monotonic = value.unsigned()? != 0,
            _ => {}
        }
    }
    let kind = match number {
        5 => Kind::Gauge,
        7 => Kind::Sum { is_monotonic, is_delta },
        9 => Kind::Histogram { is_delta },
        10 => Kind::Exponential,
        _ => Kind::Summary,
    };
    let of = Metric { name: name.into(), description: description.into(), unit: unit.into(), kind };
    to.begin_metric(&of);
    let mut fields = Fields(data);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            let message = value.bytes()?;
            let point = match kind {
                Kind::Gauge | Kind::Sum { .. } => number_point(message)?,
                Kind::Histogram { .. } => histogram_point(message)?,
                Kind::Exponential => Point::default(),
                Kind::Summary => summary_point(message)?,
            };
            to.point(&of, &point);
        }
    }
    Ok(())
}

fn number_point(message: &[u8]) -> Result<Point<'_>, Broken> {
    let mut point = Point::default();
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            7 => attribute(value.bytes()?, &mut point.attributes)?,
            3 => point.time_unix_nano = fixed(value)?,
            4 => point.value = value.exact_double()?,
            6 => point.value = fixed(value)? as i64 as f64,
            8 => point.is_stale = value.unsigned()? & NO_VALUE != 0,
            _ => {}
        }
    }
    Ok(point)
}

fn histogram_point(message: &[u8]) -> Result<Point<'_>, Broken> {
    let mut point = Point::default();
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            9 => attribute(value.bytes()?, &mut point.attributes)?,
            3 => point.time_unix_nano = fixed(value)?,
            4 => point.count = fixed(value)?,
            5 => point.sum = Some(value.exact_double()?),
            // Packed or not, both are numbers of eight bytes.
            6 => value.each_fixed(|bits| point.counts.push(bits))?,
            7 => value.each_fixed(|bits| point.bounds.push(f64::from_bits(bits)))?,
            10 => point.is_stale = value.unsigned()? & NO_VALUE != 0,
            _ => {}
        }
    }
    Ok(point)
}

fn summary_point(message: &[u8]) -> Result<Point<'_>, Broken> {
    let mut point = Point::default();
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            7 => attribute(value.bytes()?, &mut point.attributes)?,
            3 => point.time_unix_nano = fixed(value)?,
            4 => point.count = fixed(value)?,
            5 => point.sum = Some(value.exact_double()?),
            6 => {
                let (mut quantile, mut of) = (0.0, 0.0);
                let mut fields = Fields(value.bytes()?);
                while let Some((number, value)) = fields.next()? {
                    match number {
                        1 => quantile = value.exact_double()?,
                        2 => of = value.exact_double()?,
                        _ => {}
                    }
                }
                point.quantiles.push((quantile, of));
            }
            8 => point.is_stale = value.unsigned()? & NO_VALUE != 0,
            _ => {}
        }
    }
    Ok(point)
}

fn fixed(value: Value<'_>) -> Result<u64, Broken> {
    value.exact_double().map(f64::to_bits)
}

/// `KeyValue { key 1, value 2 }`.
fn attribute<'a>(message: &'a [u8], to: &mut Vec<Attribute<'a>>) -> Result<(), Broken> {
    let (mut key, mut text) = ("", Cow::Borrowed(""));
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => key = value.text()?,
            2 => text = any_value(value.bytes()?)?,
            _ => {}
        }
    }
    if to.len() < ATTRIBUTES_MAX {
        to.push((key.into(), text));
    }
    Ok(())
}

/// `AnyValue { string 1, bool 2, int 3, double 4, array 5, kvlist 6, bytes 7 }`
/// as text; lists as JSON writes them.
fn any_value(message: &[u8]) -> Result<Cow<'_, str>, Broken> {
    let mut text = Cow::Borrowed("");
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next()? {
        text = match number {
            1 => value.text()?.into(),
            2 => (value.unsigned()? != 0).to_string().into(),
            3 => value.signed()?.to_string().into(),
            4 => value.exact_double()?.to_string().into(),
            5 | 6 => {
                let mut shown = String::new();
                list(number == 6, value.bytes()?, DEPTH_MAX, &mut shown)?;
                shown.into()
            }
            7 => data_encoding::BASE64.encode(value.bytes()?).into(),
            _ => continue,
        };
    }
    Ok(text)
}

/// `ArrayValue { values 1 }` or `KeyValueList { values 1 }`.
fn list(is_map: bool, message: &[u8], depth: u32, to: &mut String) -> Result<(), Broken> {
    let (open, close) = if is_map { ('{', '}') } else { ('[', ']') };
    to.push(open);
    let mut fields = Fields(message);
    let mut is_first = true;
    while let Some((number, value)) = fields.next()? {
        if number != 1 || depth == 0 || to.len() > TEXT_BYTES_MAX {
            continue;
        }
        if !std::mem::replace(&mut is_first, false) {
            to.push(',');
        }
        let mut of = value.bytes()?;
        if is_map {
            let (mut key, mut inner) = ("", &[][..]);
            let mut pair = Fields(of);
            while let Some((number, value)) = pair.next()? {
                match number {
                    1 => key = value.text()?,
                    2 => inner = value.bytes()?,
                    _ => {}
                }
            }
            let _ = write!(to, "{}:", serde_json::Value::from(key));
            of = inner;
        }
        element(of, depth - 1, to)?;
    }
    to.push(close);
    Ok(())
}

/// A value within a list.
fn element(message: &[u8], depth: u32, to: &mut String) -> Result<(), Broken> {
    let mut fields = Fields(message);
    let mut is_empty = true;
    while let Some((number, value)) = fields.next()? {
        is_empty = false;
        let _ = match number {
            1 => write!(to, "{}", serde_json::Value::from(value.text()?)),
            2 => write!(to, "{}", value.unsigned()? != 0),
            3 => write!(to, "{}", value.signed()?),
            4 => write!(to, "{}", serde_json::Value::from(value.exact_double()?)),
            5 | 6 => {
                list(number == 6, value.bytes()?, depth, to)?;
                Ok(())
            }
            7 => write!(to, "\"{}\"", data_encoding::BASE64.encode(value.bytes()?)),
            _ => Ok(()),
        };
    }
    if is_empty {
        to.push_str("null");
    }
    Ok(())
}
