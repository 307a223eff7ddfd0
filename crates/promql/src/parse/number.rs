//! Numbers and durations, which PromQL takes for each other: `1h30m` is 5400.

/// Largest duration in milliseconds: what Prometheus' nanoseconds hold, about
/// 292 years.
pub(super) const DURATION_MILLIS_MAX: i64 = i64::MAX / 1_000_000;

/// The value of a number, or a duration's in seconds.
///
/// # Errors
///
/// A message.
pub(super) fn parse(text: &str) -> Result<f64, String> {
    let bad = || format!("bad number or duration syntax: {text:?}");
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return integer(digits, 16).ok_or_else(bad);
    }
    if text.ends_with(|c: char| "smhdwy".contains(c)) {
        let millis = duration_millis(text).ok_or_else(bad)?;
        let in_range = millis.filter(|millis| *millis <= DURATION_MILLIS_MAX);
        return in_range
            .map(|ms| ms as f64 / 1000.0)
            .ok_or_else(|| format!("duration {text} is out of range"));
    }
    let is_octal =
        text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if is_octal && let Some(value) = integer(&text[1..], 8) {
        return Ok(value);
    }
    let plain = without_separators(text).ok_or_else(bad)?;
    // Rust would take words such as `infinity` here.
    if plain.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')) {
        return Err(bad());
    }
    plain.parse().map_err(|_| bad())
}

fn integer(digits: &str, radix: u32) -> Option<f64> {
    let digits = without_separators(digits.strip_prefix('_').unwrap_or(digits))?;
    i64::from_str_radix(&digits, radix).ok().map(|value| value as f64)
}

/// Underscores may stand between digits.
fn without_separators(text: &str) -> Option<String> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_between = at > 0 && is_digit(bytes.get(at - 1)) && is_digit(bytes.get(at + 1));
        if *byte == b'_' && !is_between {
            return None;
        }
    }
    (!text.is_empty()).then(|| text.replace('_', ""))
}

/// `1h30m`: units in falling order, each once. The inner `None`: out of range.
fn duration_millis(text: &str) -> Option<Option<i64>> {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let (mut rest, mut total, mut next_unit) = (text, Some(0i64), 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let number = rest[..digits].parse::<i64>().ok();
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit =
            UNITS.iter().position(|(name, _)| *name == &rest[..unit_end]).filter(|at| *at >= next_unit)?;
        next_unit = unit + 1;
        total = number.and_then(|n| n.checked_mul(UNITS[unit].1)).and_then(|ms| total?.checked_add(ms));
        rest = &rest[unit_end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations() {
        for (text, expected) in [
            ("1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1_000", 1000.0),
            ("0x1F", 31.0),
            ("0755", 493.0),
            ("089", 89.0),
            ("1h30m", 5400.0),
            ("1ms", 0.001),
            ("1y2w3d4h5m6s7ms", 33_019_506.007),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in
            ["1h1h", "1m1h", "1x", "1__0", "_1", "0x", "1e", "1.2.3", "5m5", "99999999999y", "1_", "1smd"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
