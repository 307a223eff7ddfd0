//! `ExportMetricsServiceRequest` as JSON: names in camel case, numbers of 64
//! bits as texts or numbers.

use std::borrow::Cow;

use serde_json::Value;

use super::translate::Translation;
use super::{Attribute, DELTA, Kind, Malformed, Metric, NO_VALUE, Point};

pub fn read(body: &[u8], to: &mut Translation<'_, '_, '_>) -> Result<(), Malformed> {
    let request: Value = serde_json::from_slice(body).map_err(|error| Malformed::Json(error.to_string()))?;
    if !request.is_object() {
        return Err(Malformed::Json("it is no object".to_owned()));
    }
    for resource in list(&request, "resourceMetrics") {
        to.begin_resource(&attributes(&resource["resource"]));
        for scope in list(resource, "scopeMetrics") {
            for metric in list(scope, "metrics") {
                read_metric(metric, to)?;
            }
        }
        to.end_resource();
    }
    Ok(())
}

fn read_metric(from: &Value, to: &mut Translation<'_, '_, '_>) -> Result<(), Malformed> {
    const DATA: [&str; 5] = ["gauge", "sum", "histogram", "exponentialHistogram", "summary"];
    let Some((which, data)) = DATA.into_iter().find_map(|which| Some((which, from.get(which)?))) else {
        return Ok(());
    };
    let is_delta = match &data["aggregationTemporality"] {
        Value::String(name) => name == "AGGREGATION_TEMPORALITY_DELTA",
        number => number.as_u64() == Some(DELTA),
    };
    let is_monotonic = data["isMonotonic"].as_bool().unwrap_or(false);
    let kind = match which {
        "gauge" => Kind::Gauge,
        "sum" => Kind::Sum { is_monotonic, is_delta },
        "histogram" => Kind::Histogram { is_delta },
        "exponentialHistogram" => Kind::Exponential,
        _ => Kind::Summary,
    };
    let metric = Metric {
        name: text(&from["name"]),
        description: text(&from["description"]),
        unit: text(&from["unit"]),
        kind,
    };
    to.begin_metric(&metric);
    for point in list(data, "dataPoints") {
        to.point(&metric, &read_point(point)?);
    }
    Ok(())
}

fn read_point(from: &Value) -> Result<Point<'_>, Malformed> {
    let mut point = Point {
        attributes: attributes(from),
        time_unix_nano: unsigned(&from["timeUnixNano"])?,
        count: unsigned(&from["count"])?,
        is_stale: unsigned(&from["flags"])? & NO_VALUE != 0,
        ..Point::default()
    };
    for key in ["asDouble", "asInt"] {
        if let Some(value) = from.get(key) {
            point.value = number(value)?;
        }
    }
    point.sum = from.get("sum").map(number).transpose()?;
    point.bounds = list(from, "explicitBounds").iter().map(number).collect::<Result<_, _>>()?;
    point.counts = list(from, "bucketCounts").iter().map(unsigned).collect::<Result<_, _>>()?;
    for of in list(from, "quantileValues") {
        point.quantiles.push((number(&of["quantile"])?, number(&of["value"])?));
    }
    Ok(point)
}

/// The elements of a list; what is none has none.
fn list<'v>(from: &'v Value, key: &str) -> &'v [Value] {
    from[key].as_array().map_or(&[][..], |list| &list[..])
}

fn text(from: &Value) -> Cow<'_, str> {
    from.as_str().unwrap_or_default().into()
}

/// Absent is zero.
fn number(from: &Value) -> Result<f64, Malformed> {
    let read = match from {
        Value::Null => Some(0.0),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match &text[..] {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    };
    read.ok_or_else(|| Malformed::Json(format!("a number is expected, not {}", shown(from))))
}

fn unsigned(from: &Value) -> Result<u64, Malformed> {
    let read = match from {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    read.ok_or_else(|| Malformed::Json(format!("a number from zero is expected, not {}", shown(from))))
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(64).collect()
}

fn attributes(of: &Value) -> Vec<Attribute<'_>> {
    list(of, "attributes").iter().map(|pair| (text(&pair["key"]), any_value(&pair["value"]))).collect()
}

/// An `AnyValue` as text; lists as JSON writes them.
fn any_value(from: &Value) -> Cow<'_, str> {
    let Some((kind, value)) = from.as_object().and_then(|object| object.iter().next()) else {
        return Cow::Borrowed("");
    };
    match (&kind[..], value) {
        ("arrayValue" | "kvlistValue", value) => plain(kind, value).to_string().into(),
        (_, Value::String(text)) => text.as_str().into(),
        (_, other) => other.to_string().into(),
    }
}

/// A list without the names of its values' kinds.
fn plain(kind: &str, value: &Value) -> Value {
    let inner = |value: &Value| match value.as_object().and_then(|object| object.iter().next()) {
        Some((kind, value)) => plain(kind, value),
        None => Value::Null,
    };
    match kind {
        "arrayValue" => list(value, "values").iter().map(inner).collect(),
        "kvlistValue" => {
            let pairs = list(value, "values").iter();
            Value::Object(
                pairs.map(|pair| (text(&pair["key"]).into_owned(), inner(&pair["value"]))).collect(),
            )
        }
        "intValue" => match value.as_str().and_then(|text| text.parse::<i64>().ok()) {
            Some(number) => number.into(),
            None => value.clone(),
        },
        _ => value.clone(),
    }
}
