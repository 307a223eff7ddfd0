//! Values as people write them: `"10s"`, `"64MiB"`, one of a few words.
//!
//! Every function answers what it expected when it was given something else.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::Value;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

pub fn text(value: &Value<'_>) -> Result<String, String> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(text.to_string()),
        _ => Err("expected a text that is not empty".to_owned()),
    }
}

pub fn path(value: &Value<'_>) -> Result<PathBuf, String> {
    text(value).map(PathBuf::from).map_err(|_| "expected a path".to_owned())
}

pub fn texts(value: &Value<'_>) -> Result<Vec<String>, String> {
    let expected = || "expected a list of texts, none of them empty".to_owned();
    let Value::Array(values) = value else { return Err(expected()) };
    values.iter().map(|value| text(value.get_ref()).map_err(|_| expected())).collect()
}

pub fn flag(value: &Value<'_>) -> Result<bool, String> {
    match value {
        Value::Boolean(flag) => Ok(*flag),
        _ => Err("expected true or false".to_owned()),
    }
}

pub fn integer(value: &Value<'_>, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = match value {
        Value::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
}

/// A number that has a size: neither infinite nor NaN.
pub fn number(value: &Value<'_>) -> Result<f64, String> {
    let number = match value {
        Value::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64),
        Value::Float(number) => number.as_str().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite()).ok_or_else(|| "expected a number".to_owned())
}

/// The word's value; `words` are all that are allowed.
pub fn choice<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> Result<T, String> {
    let Value::String(text) = value else { return Err(one_of(words)) };
    words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning).ok_or_else(|| one_of(words))
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    format!("expected one of {}", words.join(", "))
}

pub fn duration(value: &Value<'_>, range: RangeInclusive<Duration>) -> Result<Duration, String> {
    let millis = if let Value::String(text) = value { with_unit(text, &DURATIONS) } else { None };
    millis.map(Duration::from_millis).filter(|found| range.contains(found)).ok_or_else(|| {
        format!(
            "expected a time from \"{}\" to \"{}\", in ms, s, m or h",
            show_duration(*range.start()),
            show_duration(*range.end())
        )
    })
}

pub fn size(value: &Value<'_>, range: RangeInclusive<u64>) -> Result<u64, String> {
    let bytes = match value {
        Value::String(text) => with_unit(text, &SIZES),
        Value::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        format!(
            "expected a size from \"{}\" to \"{}\", in B, KB, MB, GB, KiB, MiB or GiB",
            show_size(*range.start()),
            show_size(*range.end())
        )
    })
}

/// `"127.0.0.1:4433"` or `"[::1]:4433"`.
pub fn socket_addr(value: &Value<'_>) -> Result<SocketAddr, String> {
    let expected = || "expected an address and port such as \"127.0.0.1:4433\"".to_owned();
    text(value).map_err(|_| expected())?.parse().map_err(|_| expected())
}

/// Places to reach one collector at: at least one `"host:port"`.
pub fn endpoints(value: &Value<'_>) -> Result<Vec<String>, String> {
    let expected = || "expected a list of \"host:port\" with at least one entry".to_owned();
    let found = texts(value).ok().filter(|found| !found.is_empty()).ok_or_else(expected)?;
    let is_endpoint = |endpoint: &String| {
        let parts = endpoint.rsplit_once(':');
        parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    match found.iter().find(|endpoint| !is_endpoint(endpoint)) {
        Some(endpoint) => Err(format!("{}, not {endpoint:?}", expected())),
        None => Ok(found),
    }
}

/// A whole number before one of `units`.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis() as u64;
    let (unit, factor) = largest(millis, &DURATIONS);
    format!("{}{unit}", millis / factor)
}

fn show_size(bytes: u64) -> String {
    let (unit, factor) = largest(bytes, &SIZES);
    format!("{}{unit}", bytes / factor)
}

/// The largest unit that divides `value`.
fn largest<'u>(value: u64, units: &[(&'u str, u64)]) -> (&'u str, u64) {
    let fits = units.iter().filter(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    fits.max_by_key(|(_, factor)| *factor).copied().unwrap_or(
        *units.iter().min_by_key(|(_, factor)| *factor).expect("both tables of units have entries"),
    )
}
